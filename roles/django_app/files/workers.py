"""Start the workers of an app that have to be started, stop those that are gone, and see whether they live.

Runs on the server, with a JSON object on standard input: the units `wanted`, with their commands; those of them to
`restart`, because they run something else than is described; the `unlisted` ones; and whether to `act`. Writes another:
whether something `changed`, which units are still `finishing` a task, and what is to be said of those that are `dead`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

UNITS = Path("/etc/systemd/system")
# So old a worker must become to count as alive: what cannot be imported has died by then.
SETTLED_SECONDS = 3
# So long the deployment waits for one to stop; a task under way may take longer.
PATIENCE_SECONDS = 5
PROPERTIES = "Id,ActiveState,SubState,UnitFileState,NeedDaemonReload,ExecMainStartTimestampMonotonic"

Shown = dict[str, str]


def systemctl(action: str, *words: str) -> str:
    return subprocess.run(["systemctl", action, *words], check=True, stdout=subprocess.PIPE, text=True).stdout


def each(action: str, units: Iterable[str]) -> bool:
    """Do it with all units at once, and return whether there are any."""
    names = list(units)
    if names:
        systemctl(*action.split(), *names)
    return bool(names)


def look(units: list[str]) -> dict[str, Shown]:
    """Return what systemd knows of each unit, and in one word what it is doing."""
    jobs = dict(line.split()[1:3] for line in systemctl("list-jobs", "--no-legend", "--plain").splitlines())
    paragraphs = systemctl("show", f"--property={PROPERTIES}", *units).strip().split("\n\n")
    shown = [dict(line.split("=", 1) for line in paragraph.splitlines()) for paragraph in paragraphs]
    return {unit["Id"]: {**unit, "state": state(unit, jobs.get(unit["Id"], ""))} for unit in shown}


def state(unit: Shown, job: str) -> str:
    coming = job in ("start", "restart")
    if unit["ActiveState"] == "deactivating" or job == "stop":
        return "finishing" if coming else "stopping"
    if coming:
        return "starting"
    if unit["SubState"] == "running":
        age = time.monotonic() - int(unit["ExecMainStartTimestampMonotonic"]) / 1_000_000
        return "alive" if age >= SETTLED_SECONDS else "young"
    return "stopped" if unit["ActiveState"] in ("inactive", "failed") else "dead"  # to be tried again


def watch(wanted: list[str], unlisted: list[str]) -> dict[str, Shown]:
    """Wait until it is known which workers live and which do not."""
    patience = time.monotonic() + PATIENCE_SECONDS
    while True:
        units = look([*wanted, *unlisted])
        states = {unit["state"] for unit in units.values()}
        late = time.monotonic() > patience
        if "young" not in states and (late or not states & {"starting", "stopping", "finishing"}):
            return units
        time.sleep(0.25)


def last_words(unit: str, command: str) -> list[str]:
    read = ["journalctl", f"--unit={unit}", "--lines=20", "--output=cat", "--no-pager", "--quiet"]
    lines = subprocess.run(read, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [f"{unit} ({command}):", *(f"    {line}" for line in lines)]


def remove(unit: str) -> None:
    path = UNITS / unit
    if not path.with_suffix(".timer").exists():  # else it has become a schedule
        path.unlink(missing_ok=True)


def main() -> None:
    request = json.load(sys.stdin)
    wanted, unlisted = list(request["wanted"]), request["unlisted"]
    units = look([*wanted, *unlisted])

    def those(names: list[str], *states: str) -> list[str]:
        return [name for name in names if units[name]["state"] in states]

    enable = [name for name in wanted if units[name]["UnitFileState"] != "enabled"]
    news = [name for name in wanted if name in request["restart"] or units[name]["NeedDaemonReload"] == "yes"]
    start = sorted({*news, *those(wanted, "stopping", "stopped", "dead")})
    disable = [name for name in unlisted if units[name]["UnitFileState"] == "enabled"]
    stop = those(unlisted, "finishing", "starting", "young", "alive", "dead")
    changed = bool(enable or start or disable or stop or those(unlisted, "stopped"))
    finishing: list[str] = []
    dead: list[str] = []
    if request["act"]:
        if changed:
            systemctl("daemon-reload")
        each("enable --quiet", enable)
        # Without waiting: a task may take long.
        each("restart --no-block", start)
        each("disable --quiet", disable)
        each("stop --no-block", stop)
        units = watch(wanted, unlisted)
        # Not before it has stopped: systemd would forget how long that may take.
        for name in those(unlisted, "stopped"):
            remove(name)
        if those(unlisted, "stopped"):
            systemctl("daemon-reload")
        finishing = those([*wanted, *unlisted], "finishing", "stopping", "starting")
        for name in those(wanted, "dead", "stopped"):
            dead += last_words(name, request["wanted"][name])
    json.dump({"changed": changed, "finishing": finishing, "dead": dead}, sys.stdout)


if __name__ == "__main__":
    main()
