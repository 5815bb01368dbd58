# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Brings the newest state of PostgreSQL back beside the running cluster, and compares the two."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import records
from drill import check_age, check_room, scratch, some, twice
from postgres import info, pgbackrest
from programs import HOUR, MINUTE, WORDS, Failure, run
from recover import Recovered, Source, recovered
from settings import Cluster, Repository, Settings

# The first row of each table that has one, by the place and the transaction that nothing but an update changes. A table
# that is locked, or full of dead rows, is not worth waiting for.
FIRST_ROWS = r"""
\set ON_ERROR_STOP off
SELECT format('SELECT %L, ctid, xmin FROM ONLY %I.%I LIMIT 1', format('%I.%I', nspname, relname), nspname, relname)
FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
WHERE relkind IN ('r', 'm') AND relpersistence = 'p' AND nspname <> 'information_schema' AND nspname !~ '^pg_'
\gexec
"""
PATIENT = "-c synchronize_seqscans=off -c jit=off"  # which needs memory that is both written and executed
IMPATIENT = f"{PATIENT} -c lock_timeout=5s -c statement_timeout=60s"
# By a mark of its own in the log, which must come back, and must be in the repository before.
MARK = "SELECT lsn, pg_walfile_name(lsn) FROM pg_create_restore_point('backups-drill') AS lsn; SELECT pg_switch_wal()"
SIZE = "SELECT sum(pg_database_size(oid))::bigint FROM pg_database"
PIECE_SIZE = "SELECT setting FROM pg_settings WHERE name = 'wal_segment_size'"
DATABASES = "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate"
PIECE = re.compile(r"[0-9A-F]{16}/([0-9A-F]{24})-[0-9a-f]{40}(\.\w+)?")

Rows = dict[tuple[str, str], str]


def drill(settings: Settings) -> bool:
    """Drill with each repository; one that fails does not keep the others from their turn."""
    if settings.cluster is None:
        return True
    job = records.Job(records.DATABASES, "drill")
    folder = settings.drill_directory / "postgres"
    # What hands over the log of the running cluster must not wait for the drill.
    os.environ |= {
        "PGBACKREST_LOCK_PATH": str(folder / "lock"),
        "PGBACKREST_LOG_LEVEL_FILE": "off",
        "PGOPTIONS": PATIENT,
    }
    for repository in settings.repositories:
        with job.attempt(repository.name) as figures:
            figures.update(
                twice(partial(_drill, settings, settings.cluster, repository, folder), partial(_backups, repository))
            )
    return job.end()


def _backups(repository: Repository) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = info(repository)["backup"]
    return found


def _drill(
    settings: Settings, cluster: Cluster, repository: Repository, folder: Path, backups: list[dict[str, Any]]
) -> records.Record:
    if not backups:
        raise Failure("there is no backup of PostgreSQL")
    newest = backups[-1]
    check_age("PostgreSQL", newest["timestamp"]["stop"], settings.newest_hours)
    living = ["-p", str(cluster.port)]
    rows = _first_rows(living, IMPATIENT)
    lsn, piece = _psql(living, MARK)[0].split("\t")
    _wait_for(piece, repository)
    with scratch(folder):
        check_room(folder, max(newest["info"]["size"], int(_psql(living, SIZE)[0])) * 11 // 10)
        _check_repository(repository)
        with recovered(cluster, Source(repository), folder / "data") as copy:
            figures = {"label": newest["label"], "bytes": int(copy.sql(SIZE)), "until": copy.until}
            if copy.sql(f"SELECT pg_last_wal_replay_lsn() >= '{lsn}'") != "t":
                raise Failure(f"what was recovered ends before {lsn}, though {piece} with it is in the repository")
            _check_tables(cluster, copy)
            _check_rows(rows, living, copy)
            _check_pages(cluster, copy)
        _check_log(repository, piece, int(_psql(living, PIECE_SIZE)[0]))
    return figures


def _psql(server: list[str], script: str, options: str = PATIENT, database: str = "postgres") -> list[str]:
    environment = {"PGOPTIONS": options, "PGDATABASE": database}
    command = ["psql", "-XAtq", "-F\t", "-v", "ON_ERROR_STOP=1", *server]
    return run(*command, given=script, limit=HOUR, environment=environment).splitlines()


def _first_rows(server: list[str], options: str = PATIENT) -> Rows:
    found: Rows = {}
    for database in _psql(server, DATABASES):
        for line in _psql(server, FIRST_ROWS, options, database):
            table, row = line.split("\t", 1)
            found[database, table] = row
    return found


def _wait_for(piece: str, repository: Repository) -> None:
    until = time.monotonic() + 5 * MINUTE
    while time.monotonic() < until:
        archives = info(repository)["archive"]
        if archives and (archives[-1]["max"] or "") >= piece:
            return
        time.sleep(1)
    raise Failure(f"PostgreSQL's log does not get into the repository: {piece} is not there after 5 minutes")


def _check_rows(before: Rows, living: list[str], copy: Recovered) -> None:
    """A table whose first row was there before the drill, and still is, cannot have been empty in between."""
    restored = _first_rows(["-h", str(copy.runtime)])
    missing = [table for table in before if table not in restored]
    if missing:
        now = _first_rows(living, IMPATIENT)
        missing = [table for table in missing if now.get(table) == before[table]]
    if missing:
        names = [f"{table} of {database}" for database, table in missing]
        raise Failure(f"tables that have rows come back without any that can be read: {some(names)}")


def _check_tables(cluster: Cluster, copy: Recovered) -> None:
    """Read every row, and see that the entries of every index are in order."""
    server = ["-h", str(copy.runtime)]
    check = [cluster.program("pg_amcheck"), "--all", "--install-missing", *server]
    try:
        damaged = " ".join(run(*check, limit=6 * HOUR, accepted=(0, 2)).split())
    except Failure as failure:
        raise Failure(f"what comes back cannot be read: {failure}") from None
    if damaged:
        raise Failure(f"what comes back is damaged: {damaged}"[:WORDS])


def _check_pages(cluster: Cluster, copy: Recovered) -> None:
    """Compare them with their checksums, where they have any, which needs a clean stop."""
    with_checksums = copy.sql("SHOW data_checksums") == "on"
    copy.stop()
    if with_checksums:
        run(cluster.program("pg_checksums"), "--check", "-D", str(copy.data), limit=6 * HOUR)


def _check_repository(repository: Repository) -> None:
    """Read all of it, older backups too. The engine's exit status is 0 even when something is damaged."""
    options = ["--output=text", "--verbose", "--log-level-console=info"]
    said = pgbackrest(*options, "verify", repository=repository, limit=6 * HOUR)
    if not re.search(r"^status: ok$", said, re.MULTILINE):
        files = sorted(set(re.findall(r"P0*[1-9]\d* +INFO: (.+)", said)))  # from its helpers; P00 leads them
        invalid = sorted(set(re.findall(r"^ *backup: ([^,]+), status: (?!valid)", said, re.MULTILINE)))
        useless = f"; backups that are damaged: {some(invalid)}" if invalid else ""
        raise Failure(f"verify finds: {some(files) or said[-WORDS:]}{useless}")


def _check_log(repository: Repository, until: str, size: int) -> None:
    """Look for holes in the log since the oldest backup, up to this piece, which verify does not see.

    Where pieces were dropped, because a repository could not take them, the log has one that is known.
    """
    known = info(repository)
    cluster = known["archive"][-1]
    backups = [backup for backup in known["backup"] if backup["database"]["id"] == cluster["database"]["id"]]
    pieces = _pieces(repository, cluster["id"])
    for backup in backups:
        for end in ("start", "stop"):
            if backup["archive"][end] not in pieces:
                raise Failure(f"backup {backup['label']} is worth nothing without {backup['archive'][end]} of the log")
    gap = records.DATABASES / "gap"
    dropped = gap.stat().st_mtime if gap.exists() else 0
    holes = [
        f"after {last} and before {following}"
        for last, following in _holes(sorted(pieces), (1 << 32) // size)
        if following <= until and last >= backups[0]["archive"]["start"] and pieces[last] > dropped
    ]
    if holes:
        raise Failure(f"pieces of the log are missing, so no restore can reach their time: {some(holes)}")


def _pieces(repository: Repository, cluster: str) -> dict[str, float]:
    """Return the pieces of the log and since when they are in the repository."""
    list_all = ["--output=json", "--recurse", "repo-ls", f"archive/main/{cluster}"]
    listed = json.loads(pgbackrest(*list_all, repository=repository, limit=10 * MINUTE))
    found = {PIECE.fullmatch(name): entry for name, entry in listed.items()}
    return {name[1]: entry["time"] for name, entry in found.items() if name}


def _holes(pieces: list[str], in_a_file: int) -> Iterator[tuple[str, str]]:
    """Yield the neighbours of each hole in a timeline; a piece is named by timeline, file of 4 GB, and number in it."""

    def number(piece: str) -> int:
        return int(piece[8:16], 16) * in_a_file + int(piece[16:], 16)

    for last, following in pairwise(pieces):
        if last[:8] == following[:8] and number(following) > number(last) + 1:
            yield last, following
