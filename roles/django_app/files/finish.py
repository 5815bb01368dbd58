# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""End a deployment; runs on the server, as root.

    finish.py DIRECTORY     with a JSON object on standard input: entry, outdated, static_days

With the outcome "online" the release becomes the one in use, and what is out of date is removed. Whatever the outcome,
the record gets one line for people and programs, and the journal the same.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


def activate(root: Path, release: str) -> None:
    """Turn the link at once, so that it is never missing."""
    new = root / ".current.new"
    new.unlink(missing_ok=True)
    new.symlink_to(f"releases/{release}")
    new.rename(root / "current")


def record(root: Path, entry: dict[str, Any]) -> None:
    now = datetime.now(timezone.utc).astimezone()
    seconds = (now - datetime.fromisoformat(entry.pop("started")).astimezone()).total_seconds()
    line = json.dumps({"time": now.isoformat(timespec="seconds"), **entry, "seconds": round(seconds, 1)})
    with (root / "deployments.log").open("a") as log:
        log.write(line + "\n")
    subprocess.run(["logger", "-t", f"django-{entry['app']}", line], check=True)


def prune(root: Path, outdated: list[str], static_days: int) -> None:
    trash = root / "trash"
    trash.mkdir(mode=0o700, exist_ok=True)
    for release in outdated:
        (root / "releases" / release).rename(trash / release)
    # A virtualenv has thousands of files; nobody has to wait for that. The directory stays, for who comes meanwhile.
    background = ["systemd-run", "--quiet", "--no-block", "--collect", "--nice=19"]
    subprocess.run([*background, "/usr/bin/find", trash, "-mindepth", "1", "-delete"], check=True)
    # A published file is a link to the one in its release; alone, its time is that of the removal.
    old = ["-type", "f", "-links", "1", "-ctime", f"+{static_days}"]
    subprocess.run(["find", root / "static", *old, "-delete"], check=True)


def main() -> None:
    root = Path(sys.argv[1])
    if not root.exists():
        return
    told = json.load(sys.stdin)
    entry = told["entry"]
    online = entry["outcome"] == "online"
    if online and (root / "current").resolve().name != entry["to"]:
        activate(root, entry["to"])
    record(root, entry)
    if online:
        prune(root, told["outdated"], told["static_days"])


if __name__ == "__main__":
    main()
