# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A backup at once, before something risky."""

from __future__ import annotations

import time
from datetime import datetime

import records
from programs import HOUR, MINUTE, Failure, run, say
from report import RECORDS
from settings import Cluster, Settings


def save(settings: Settings, kind: str, only: str | None) -> bool:
    """Save it in all repositories, by the services that the timers start, and say what is where."""
    units = {}
    if settings.cluster and only != "media":
        units["databases"] = f"backups-postgres@{kind}"
    if settings.saved and only != "databases":
        units["media"] = "backups-media"
    if not units:
        raise Failure(f"this server saves no {only}")
    limit = 9 * HOUR * len(settings.repositories)
    if busy := [unit for unit in units.values() if _state(unit) == "activating"]:
        say(f"Waiting for {', '.join(busy)}, which has begun already")
        run("systemctl", "start", *busy, limit=limit, accepted=(0, 1))
    say(f"Saving the {' and the '.join(units)}; more about it: journalctl -fu 'backups-*'")
    started = time.time()
    run("systemctl", "start", *units.values(), limit=limit, accepted=(0, 1))
    saved = [_tell(what, unit, started) for what, unit in units.items()]
    if not all(saved):
        return False
    if settings.cluster:
        print(f"A restore can go back to {_moment(settings.cluster)}")
    return True


def _state(unit: str) -> str:
    return run("systemctl", "show", "--property=ActiveState", "--value", unit).strip()


def _tell(what: str, unit: str, started: float) -> bool:
    """Say what became of it; an older record is of another run."""
    record = records.read(RECORDS[unit])
    if record.get("finished", 0) < started:
        say(f"The {what} are not saved: see journalctl -u {unit}")
        return False
    for name, result in record["repositories"].items():
        if result["ok"]:
            print(f"The {what} are in {name}: {result['seconds']:.0f} s, {result['bytes'] / 1e6:.1f} MB more")
        else:
            say(f"The {what} are not saved in {name}: {result['reason']}")
    return bool(record["ok"])


def _moment(cluster: Cluster) -> str:
    """Return a moment after all that was saved, when the repositories have the log up to there.

    PostgreSQL recovers to a moment only if it finds a later transaction, so this makes one.
    """
    moment = datetime.now().astimezone().isoformat(timespec="milliseconds")
    sql = ("runuser", "-u", "postgres", "--", "psql", "-XAtq", "-p", str(cluster.port))
    position = ("-c", "SELECT pg_current_xact_id()", "-c", "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
    wal = run(*sql, *position, "-c", "SELECT pg_switch_wal()").split()[1]
    until = time.monotonic() + 2 * MINUTE
    while time.monotonic() < until:
        if run(*sql, "-c", "SELECT last_archived_wal FROM pg_stat_archiver").strip() >= wal:
            return moment
        time.sleep(0.25)
    raise Failure("The log that was written since does not arrive in the repositories: see PostgreSQL's log")
