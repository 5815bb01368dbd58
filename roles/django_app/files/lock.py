# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take the lock of an app's deployments, or give it back; runs on the server.

    lock.py take|leave FILE     with a JSON object on standard input: run, by, host, running

A lock belongs to a run of ansible-playbook, and is void as soon as that is dead. The server knows by the connection
that the run came through; a run on the same control node knows at once, by the ids of the processes there (running).
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any


def process(pid: int) -> tuple[str, int, str]:
    """Return the name of a process, its parent, and when it started, by /proc/PID/stat."""
    head, tail = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)
    fields = tail.split()
    return head.partition("(")[2], int(fields[1]), fields[19]


def connection() -> list[Any]:
    """Return the process that stands for the control node here: its connection, or the run itself."""
    pid = os.getpid()
    while pid > 1:
        name, parent, start = process(pid)
        if name.startswith(("sshd", "ansible-playboo")):
            return [pid, start]
        pid = parent
    return [0, ""]


def is_alive(owner: dict[str, Any], mine: dict[str, Any]) -> bool:
    if owner["host"] == mine["host"] and owner["run"] not in mine["running"]:
        return False
    pid, start = owner["connection"]
    try:
        return process(pid)[2] == start
    except FileNotFoundError:
        return False


def main() -> None:
    action, path = sys.argv[1:]
    mine = json.load(sys.stdin)
    with Path(path).open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        text = file.read()
        owner = json.loads(text) if text else None
        ours = owner is not None and (owner["host"], owner["run"]) == (mine["host"], mine["run"])
        if action == "take" and owner and not ours and is_alive(owner, mine):
            sys.exit(
                f"{owner['by']} is deploying it (process {owner['run']} on {owner['host']}); wait until that has ended"
            )
        if action == "take" or ours:
            file.truncate(0)
        if action == "take":
            kept = {name: mine[name] for name in ("run", "by", "host")}
            file.write(json.dumps({**kept, "connection": connection()}))


if __name__ == "__main__":
    main()
