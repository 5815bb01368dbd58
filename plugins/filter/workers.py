# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role django_app asks about the workers of an app."""

from __future__ import annotations

from typing import Any, Callable

from ..module_utils import _workers


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"exec_start": _workers.exec_start, "worker_problems": _workers.problems}
