# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the playbook verify says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ..module_utils import _apps, _report


def looked_for(apps: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return what playbooks/files/look.py has to know of the apps."""
    return [
        {
            "name": app["name"],
            "domain": app["domains"][0],
            "root": app["root"],
            "socket": app["socket"],
            "health_path": app["probe_path"],
        }
        for app in apps
    ]


def report(
    looked: dict[str, Any],
    place: dict[str, Any],
    apps: list[dict[str, Any]],
    settings: Mapping[str, Any],
    drift: list[str] | None,
) -> dict[str, Any]:
    return _report.report(
        _apps.plain(place), _apps.plain(apps), _apps.plain(looked), _apps.plain(settings), _apps.plain(drift)
    )


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "looked_for": looked_for,
            "drift": _report.drifted,
            "verify_report": report,
            "verify_text": _report.text,
            "verify_count": _report.count,
        }
