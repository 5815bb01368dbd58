# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether PostgreSQL can hand over its log and has lost none of it, and whether there are new backups."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import records
from programs import HOUR, MINUTE, run, say
from settings import Cluster, Settings

PATIENCE = 5 * MINUTE
KINDS = ("full", "diff", "incr")


def look(settings: Settings) -> bool:
    found = [*problems(settings), *drill_problems()]
    for problem in found:
        say(problem)
    if settings.cluster and dropped() and not _waiting(settings.cluster):
        run("systemctl", "start", "--no-block", "backups-postgres@diff.service")
    return not found


def problems(settings: Settings) -> list[str]:
    """Say what no other unit tells."""
    found = []
    if settings.cluster:
        found += [*_waiting(settings.cluster), *_gap(), *_old(settings, "databases", records.DATABASES, KINDS)]
    if settings.saved:
        found += _old(settings, "media", records.FILES, ["media"])
    return found


def drill_problems() -> list[str]:
    """Say what the drills found, for as long as that has not changed: a failed unit is forgotten at the next boot."""
    last = {
        "databases": records.read(records.DATABASES / "drill.json"),
        "media": records.read(records.FILES / "drill.json"),
    }
    return [
        f"the last drill of the {what} failed: {records.reason(record)}"
        for what, record in last.items()
        if record.get("ok") is False
    ]


def _waiting(cluster: Cluster) -> list[str]:
    since = oldest_waiting(cluster)
    if since is None or time.time() - since < PATIENCE:
        return []
    minutes = int((time.time() - since) / MINUTE)
    return [f"WAL has been waiting for {minutes} minutes: see PostgreSQL's log and /var/log/pgbackrest"]


def oldest_waiting(cluster: Cluster) -> float | None:
    """Return since when a finished piece of the log has waited to get into the repositories."""
    return min(_times(_ready(cluster)), default=None)


def bytes_waiting(cluster: Cluster) -> int:
    total = 0
    for path in _ready(cluster):
        with contextlib.suppress(FileNotFoundError):
            total += (cluster.data / "pg_wal" / path.stem).stat().st_size
    return total


def _ready(cluster: Cluster) -> Iterator[Path]:
    return (cluster.data / "pg_wal/archive_status").glob("*.ready")


def _times(paths: Iterable[Path]) -> Iterator[float]:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # or no longer there
            yield path.stat().st_mtime


def dropped() -> float | None:
    """Return when a piece of the log was dropped, unless a later backup closed the gap: it has all that it needs."""
    when = max(_times([records.DATABASES / "gap"]), default=None)
    if when is None or max(_times(records.DATABASES / kind for kind in KINDS), default=0) > when:
        return None
    return when


def _gap() -> Iterator[str]:
    if when := dropped():
        shown = time.strftime("%F at %T", time.localtime(when))
        yield f"WAL was dropped on {shown}: no restore can go further until the next backup"


def _old(settings: Settings, what: str, folder: Path, jobs: Iterable[str]) -> Iterator[str]:
    created = max(_times(folder.glob("created-*")), default=None)
    if created is None:
        return  # there are no repositories yet
    results = [records.read(folder / f"{job}.json").get("repositories", {}) for job in jobs]
    for repository in settings.repositories:
        newest = max((result.get(repository.name, {}).get("succeeded", 0) for result in results), default=0)
        hours = (time.time() - (newest or created)) / HOUR
        if hours > settings.newest_hours:
            there_is = (
                f"the newest backup of the {what} is {hours:.0f} hours old" if newest else f"no backup of the {what}"
            )
            yield f"repository {repository.name}: {there_is}"
