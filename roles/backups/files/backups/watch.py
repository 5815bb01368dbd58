# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether PostgreSQL can hand over its log, and has lost none of it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import records
from programs import MINUTE, run, say
from settings import Cluster, Settings

PATIENCE = 5 * MINUTE


def look(settings: Settings) -> bool:
    if settings.cluster is None:
        return True
    waiting = _waiting(settings.cluster)
    problems = [*waiting, *_gap(mendable=not waiting)]
    for problem in problems:
        say(problem)
    return not problems


def _waiting(cluster: Cluster) -> list[str]:
    since = oldest_waiting(cluster)
    if since is None or time.time() - since < PATIENCE:
        return []
    minutes = int((time.time() - since) / MINUTE)
    return [f"WAL has been waiting for {minutes} minutes: see PostgreSQL's log and /var/log/pgbackrest"]


def oldest_waiting(cluster: Cluster) -> float | None:
    """Return since when a finished piece of the log has waited to get into the repositories."""
    return min(_times((cluster.data / "pg_wal/archive_status").glob("*.ready")), default=None)


def _times(paths: Iterable[Path]) -> Iterator[float]:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # or no longer there
            yield path.stat().st_mtime


def _gap(*, mendable: bool) -> list[str]:
    """A later backup has all the log that it needs, so it closes the gap."""
    gap = records.DATABASES / "gap"
    if not gap.exists():
        return []
    dropped = gap.stat().st_mtime
    if max(_times(records.DATABASES / kind for kind in ("full", "diff", "incr")), default=0) > dropped:
        return []
    if mendable:
        run("systemctl", "start", "--no-block", "backups-postgres@diff.service")
    when = time.strftime("%F at %T", time.localtime(dropped))
    return [f"WAL was dropped on {when}: no restore can go further until the next backup"]
