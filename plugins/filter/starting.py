# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the playbook init asks on the way to a first inventory."""

from __future__ import annotations

from typing import Any, Callable

from ..module_utils import _starting


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "start": _starting.started,
            "start_problems": _starting.problems,
            "start_request": _starting.request,
        }
