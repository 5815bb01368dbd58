# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role django_app finds on a server."""

from __future__ import annotations

from typing import Any, Callable

from ..module_utils import _deployments


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"app_on_server": _deployments.on_server, "outdated_releases": _deployments.outdated}
