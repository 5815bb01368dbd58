# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Copies of directories and files, by restic."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import records
from programs import HOUR, MINUTE, Failure, run, say
from settings import FOLDER, Repository, Saved, Settings

KEY = FOLDER.parent / "backups-media.key"
CACHE = "/var/cache/backups-media"
# Something vanished while it was read, and everything else is saved.
INCOMPLETE = 3
# For what works with the repositories for long: a backup removes what a restore may be reading.
LOCK = records.FILES / "lock"


def _access(repository: Repository) -> tuple[dict[str, str], list[str]]:
    """Return the variables and the arguments by which restic comes into a repository."""
    access = json.loads((FOLDER / "repositories" / f"{repository.name}.json").read_text())
    own = {"RESTIC_PASSWORD_FILE": str(KEY), "RESTIC_CACHE_DIR": CACHE}
    return {**own, **access["environment"]}, access["arguments"]


def restic(
    repository: Repository,
    *arguments: str,
    limit: float = MINUTE,
    shown: bool = False,
    accepted: tuple[int, ...] = (0,),
    into: Path | None = None,
) -> str:
    environment, access = _access(repository)
    command = ["restic", *access, *arguments]
    return run(*command, limit=limit, shown=shown, environment=environment, accepted=accepted, into=into)


def become_restic(repository: Repository, arguments: list[str]) -> NoReturn:
    environment, access = _access(repository)
    os.execvpe("restic", ["restic", *access, *arguments], {**os.environ, **environment})


def create(settings: Settings, revision: str) -> bool:
    """Make the repositories. One that is there is opened only, so that a wrong key is found out."""
    unusable = [problem for repository in settings.repositories for problem in _open_or_make(repository)]
    if unusable:
        say("; ".join(unusable))
        return False
    # The first backup is still to come.
    for stamp in (*records.FILES.glob("created-*"), records.FILES / "media"):
        stamp.unlink(missing_ok=True)
    (records.FILES / f"created-{revision}").touch()
    return True


def _open_or_make(repository: Repository) -> Iterator[str]:
    """Say why neither can be done."""
    try:
        restic(repository, "cat", "config")
    except Failure as failure:
        try:
            restic(repository, "init", limit=2 * MINUTE)
        except Failure:  # that there is one already says less than why it could not be opened
            yield f"repository {repository.name} cannot be used: {failure}"


def snapshots(repository: Repository, saved: Saved) -> list[dict[str, Any]]:
    """Return the versions of something in a repository, the oldest first."""
    found: list[dict[str, Any]] = json.loads(
        restic(repository, "snapshots", "--no-lock", "--json", "--tag", saved.name)
    )
    return sorted(found, key=lambda snapshot: str(snapshot["time"]))


def save(settings: Settings) -> bool:
    """Save everything in each repository; one that fails does not keep the others from their turn."""
    job = records.Job(records.FILES, "media")
    with records.alone(LOCK):
        for repository in settings.repositories:
            with job.attempt(repository.name) as figures:
                figures["bytes"] = _save_in(settings, repository)
    return job.end()


def _save_in(settings: Settings, repository: Repository) -> int:
    """Save everything in one repository, and return how many bytes were added."""
    restic(repository, "cat", "config")  # one that does not answer is found out at once
    restic(repository, "unlock")  # only what a run left behind that was killed
    faults = {saved: _fault(saved.path) for saved in settings.saved}
    added = sum(_save(repository, saved) for saved, fault in faults.items() if not fault)
    _forget(settings, repository)
    restic(repository, "check", "--quiet", limit=HOUR)
    if any(faults.values()):
        raise Failure("; ".join(f"{saved.name}: {saved.path} {fault}" for saved, fault in faults.items() if fault))
    return added


def _fault(path: Path) -> str:
    """Say why it cannot be saved, or nothing. What root cannot read restic leaves out, and says nothing."""
    if not path.exists():
        return "is not there"
    return "" if os.access(path, os.R_OK) else "cannot be read by root; on NFS that takes the option no_root_squash"


def _save(repository: Repository, saved: Saved) -> int:
    """Save one directory or file, and return how many bytes were added."""
    said = restic(
        repository, "backup", "--json", "--quiet", "--tag", saved.name, "--", str(saved.path),
        limit=6 * HOUR, accepted=(0, INCOMPLETE),
    )  # fmt: skip
    summaries = [json.loads(line) for line in said.splitlines() if '"summary"' in line]
    return sum(summary["data_added"] for summary in summaries)


def _forget(settings: Settings, repository: Repository) -> None:
    """Remove what is older than wanted, within each name, whatever else changed about it."""
    days = f"--keep-within={settings.retention_days}d"
    keep = f"--keep-last={settings.retention_count}" if settings.retention_count else days
    restic(repository, "forget", "--quiet", "--group-by=tags", keep, "--prune", limit=6 * HOUR)


def by_hand(settings: Settings, arguments: list[str]) -> NoReturn:
    """Become restic, in the first repository or in the one that the first argument names: @store."""
    chosen = arguments.pop(0)[1:] if arguments and arguments[0].startswith("@") else None
    try:
        repository = settings.repository(chosen)
    except ValueError as error:
        sys.exit(str(error))
    become_restic(repository, arguments)
