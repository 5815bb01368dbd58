# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What became of each job, kept as JSON for reports; a last success outlives later failures."""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from programs import Failure, say
from settings import STATE

Record = dict[str, Any]
DATABASES = STATE / "postgres"
FILES = STATE / "media"


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Wait for whoever else holds this lock, and let others wait."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


class Job:
    """One run of a job, which has a result of its own in each repository.

    The record is {"finished", "ok", "repositories": {name: {"ok", "reason", "finished", "succeeded", "seconds", ...}}}
    with times in seconds since 1970. `succeeded`, and the figures of that success, stay when a later run fails.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.name = name
        self.results: dict[str, Record] = {}
        self.before = read(folder / f"{name}.json").get("repositories", {})

    @contextmanager
    def attempt(self, repository: str) -> Iterator[Record]:
        """Keep what becomes of the block; its figures go into the dictionary that it gets. A Failure ends it only."""
        started = time.time()
        figures: Record = {}
        try:
            yield figures
        except Failure as failure:
            say(f"{self.name}: repository {repository}: {failure}")
            self.results[repository] = {**self.before.get(repository, {}), "ok": False, "reason": str(failure)}
        else:
            figures |= {"ok": True, "reason": "", "succeeded": time.time(), "seconds": round(time.time() - started, 1)}
            self.results[repository] = figures
        self.results[repository]["finished"] = time.time()

    def end(self) -> bool:
        """Write the record, and return whether all went well."""
        ok = all(result["ok"] for result in self.results.values())
        write(self.folder / f"{self.name}.json", {"finished": time.time(), "ok": ok, "repositories": self.results})
        if ok:
            (self.folder / self.name).touch()  # by which the role sees that the first one was made
        return ok


def read(path: Path) -> Record:
    """Return a record; an empty one where there is none that can be read."""
    try:
        record: Record = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return record


def reason(record: Record) -> str:
    """Return why a job failed, in all repositories."""
    failed = {name: each for name, each in record.get("repositories", {}).items() if not each["ok"]}
    return "; ".join(f"repository {name}: {each['reason']}" for name, each in failed.items()) or record.get(
        "reason", ""
    )


def write(path: Path, record: Record) -> None:
    """Write it whole or not at all. Everybody may read it: it holds no secret."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps(record, indent=1) + "\n")
    new.chmod(0o644)
    new.replace(path)
