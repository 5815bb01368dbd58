# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Backups of PostgreSQL, by pgBackRest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import records
from programs import HOUR, MINUTE, Failure, reason, run, say
from settings import Repository, Settings

# What comes of the log on its way to each repository: see backups-archive.
SPOOL = Path("/var/spool/pgbackrest")


def pgbackrest(
    *arguments: str, repository: Repository | None = None, limit: float = MINUTE, shown: bool = False
) -> str:
    chosen = [f"--repo={repository.number}"] if repository else []
    level = ["--log-level-console=info"] if shown else []
    return run("pgbackrest", "--stanza=main", *chosen, *level, *arguments, limit=limit, shown=shown)


def create(settings: Settings, revision: str) -> bool:
    """Make the repositories.

    Where there is one already with another key, or of another cluster, it fails and changes nothing there.
    """
    try:
        pgbackrest("stanza-create", limit=2 * MINUTE, shown=True)
    except Failure as failure:
        numbers = ", ".join(f"{repository.number} {repository.name}" for repository in settings.repositories)
        say(f"one of the repositories cannot be used: {failure}. Their numbers: {numbers}")
        return False
    # The first backup is still to come.
    for stamp in (*records.DATABASES.glob("created-*"), records.DATABASES / "full"):
        stamp.unlink(missing_ok=True)
    (records.DATABASES / f"created-{revision}").touch()
    return True


def info(repository: Repository) -> dict[str, Any]:
    """Return what is in a repository: {"backup": [...], "archive": [...]}, the oldest first."""
    said = pgbackrest("--output=json", "info", repository=repository)
    answer: dict[str, Any] = json.loads(said, strict=False)[0]  # with a wrong key it shows bytes without a meaning
    if answer["status"]["code"] not in (0, 2):  # 2: no backup yet
        raise Failure(_trouble(answer))
    return answer


def _trouble(answer: dict[str, Any]) -> str:
    said = [repository["status"]["message"].partition("\n")[0] for repository in answer.get("repo", [])]
    if any("unable to load info file" in line for line in said):
        said.append("it is damaged, or was made with another key")
    return "; ".join([answer["status"]["message"], *said])


def save(settings: Settings, kind: str) -> bool:
    """Make a backup (full, diff, incr) in each repository; one that fails does not keep the others from their turn."""
    job = records.Job(records.DATABASES, kind)
    with records.alone(records.DATABASES / "lock"):  # the engine would refuse a second one at the same time
        for repository in settings.repositories:
            with job.attempt(repository.name) as figures:
                # One that does not answer is found out at once: a backup would try for minutes.
                pgbackrest("repo-get", "backup/main/backup.info", repository=repository)
                _backup(kind, repository)
                newest = info(repository)["backup"][-1]
                figures |= {"label": newest["label"], "bytes": newest["info"]["repository"]["delta"]}
    return job.end()


def _backup(kind: str, repository: Repository) -> None:
    try:
        pgbackrest(f"--type={kind}", "backup", repository=repository, limit=6 * HOUR, shown=True)
    except Failure as failure:
        # It waits for its log, and only who hands that over knows why it does not come.
        refused = sorted((SPOOL / repository.name / "archive/main/out").glob("*.error"))
        why = f"; the log does not get there: {reason(refused[0].read_text())}" if refused else ""
        raise Failure(f"{failure}{why}") from None
