# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is on a server of an app, and what the record of its deployments says: each line of that is a JSON object."""

from __future__ import annotations

import json
from collections.abc import Iterable
from posixpath import basename
from typing import Any

Entry = dict[str, Any]

UNITS = "/etc/systemd/system/"


def entries(lines: Iterable[str]) -> list[Entry]:
    """Read the record; a line that a killed run left incomplete is no entry."""
    found = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and {"action", "outcome", "to"} <= set(entry):
            found.append(entry)
    return found


def summary(lines: Iterable[str], current: str = "") -> dict[str, Any]:
    """Return the releases that served (the newest last), those that a rollback withdrew, and the one to go back to.

    `current` is the release in use. A killed run may have changed it without a word in the record.
    """
    served: list[str] = []
    withdrawn: list[str] = []
    for entry in entries(lines):
        if entry["outcome"] != "online":
            continue
        release = entry["to"]
        if entry["action"] == "rollback":
            withdrawn.append(entry["from"])
            # What came after the release that serves again is no way back any more.
            served = served[: served.index(release)] if release in served else served
        withdrawn = [name for name in withdrawn if name != release]
        served = [*(name for name in served if name != release), release]
    return {"served": served, "withdrawn": withdrawn, "previous": _previous(served, current)}


def _previous(served: list[str], current: str) -> str:
    if current not in served:
        return served[-1] if served else ""
    if current != served[-1]:
        # The way back was begun already.
        return current
    return served[-2] if len(served) > 1 else ""


def on_server(lines: Iterable[str], app: str) -> dict[str, Any]:
    """Read what the role django_app has looked at (scripts/look.sh.j2)."""
    seen: dict[str, list[list[str]]] = {}
    for line in lines:
        kind, *words = line.split() or [""]
        seen.setdefault(kind, []).append(words)
    root = f"/srv/{app}"
    releases = f"{root}/releases/"
    links = {path: basename(target[-1]) if target else "" for path, *target in seen.get("path", [])}
    current = links.get(f"{root}/current", "")
    below = {path.removeprefix(releases) for path in links if path.startswith(releases)}
    finished = sorted(path.removesuffix("/.release.json") for path in below if path.endswith("/.release.json"))
    units = {path.removeprefix(UNITS) for path in links if path.startswith(UNITS)}
    units = {unit for unit in units if basename(unit).startswith(f"django-{app}-")}
    account, *groups = seen["account"][0] or [""]
    return {
        "exists": root in links,
        "current": current,
        "next": links.get(f"{root}/next", ""),
        "finished": finished,
        "unfinished": sorted({path for path in below if "/" not in path} - {*finished, current}),
        "timers": sorted(unit for unit in units if unit.endswith(".timer") and "/" not in unit),
        "running_timers": [name for name, *state in seen.get("timer", []) if state == ["active", "enabled"]],
        # What a schedule starts is none, unless it is started at boot still.
        "workers": sorted(
            {
                basename(unit)
                for unit in units
                if unit.endswith(".service") and ("/" in unit or f"{unit.removesuffix('.service')}.timer" not in units)
            }
        ),
        "has_uv": seen["uv"] != [[]],
        "python": " ".join(seen["python"][0]),
        "machine": " ".join(seen["machine"][0]),
        "media": seen.get("media", [[]])[0],
        "account": account,
        "groups": groups,
        **summary((line for line in lines if line.startswith("{")), current),
    }


def outdated(finished: Iterable[str], served: list[str], keep: int) -> list[str]:
    """Return the releases to remove: all but the newest `keep` that served, of which the last two always stay."""
    kept = served[-max(keep, 2) :]
    return sorted(set(finished) - set(kept))
