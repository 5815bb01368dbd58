# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role nginx_tls checks about addresses."""

from __future__ import annotations

from typing import Any, Callable

from ..module_utils._apps import is_network


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"is_network": is_network}
