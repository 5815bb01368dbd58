# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A second cluster, beside the running one, that is brought back from a repository: for restores and for drills."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from postgres import info, pgbackrest
from programs import HOUR, Failure, reason, run
from settings import Cluster, Repository

# Reachable by nobody but the account of the database, by a socket in a directory of its own. It recovers without
# visitors, whatever limits the original had; with archiving on, but nowhere to, so that what it writes about its
# new timeline waits for the archive of the cluster that it may become.
CONFIGURATION = """\
data_directory = '{data}'
hba_file = '{runtime}/pg_hba.conf'
ident_file = '{runtime}/pg_ident.conf'
unix_socket_directories = '{runtime}'
listen_addresses = ''
port = 5432
hot_standby = off
archive_mode = on
archive_command = ''
autovacuum = off
shared_buffers = 128MB
max_connections = 20
max_prepared_transactions = {prepared}
lc_messages = 'C'
log_timezone = 'UTC'
log_line_prefix = '%m '
"""
# What the engine wrote for the recovery; a cluster that goes on must not find it again.
RECOVERY_SETTINGS = (
    "restore_command", "recovery_target", "recovery_target_time", "recovery_target_timeline", "recovery_target_action",
)  # fmt: skip
NOT_THERE = 1
# Also the first piece of log may be long on its way.
MOST = 6 * HOUR


@dataclass(frozen=True)
class Source:
    """What to bring back: the newest state, or that of a moment; everything, or one database alone."""

    repository: Repository
    moment: datetime | None = None
    database: str | None = None


@dataclass(frozen=True)
class Recovered:
    """A running cluster that has recovered and takes writes."""

    original: Cluster
    data: Path
    runtime: Path
    until: str
    """The time of the last transaction in it, or an empty text where there was none after the backup."""

    def sql(self, statement: str, database: str = "postgres", limit: float = HOUR) -> str:
        """Return what a statement gives, a line for each row, with tabs between the columns."""
        server = ["-h", str(self.runtime), database]
        return run("psql", "-XAtq", "-F\t", "-v", "ON_ERROR_STOP=1", "-c", statement, *server, limit=limit).rstrip("\n")

    def forget_the_recovery(self) -> None:
        for name in RECOVERY_SETTINGS:
            self.sql(f"ALTER SYSTEM RESET {name}")

    def stop(self) -> None:
        """Stop it cleanly, so that it can go on elsewhere or its pages can be checked."""
        run(self.original.program("pg_ctl"), "stop", "-w", "-t", "600", "-m", "fast", "-D", str(self.data), limit=HOUR)


@contextmanager
def recovered(cluster: Cluster, source: Source, data: Path) -> Iterator[Recovered]:
    """Bring it back into the directory `data`, which must not exist yet, and run it until the block ends.

    The directory stays. Its tablespaces, if it has any, go into another one beside it with `-tablespaces` at its end.

    Raises:
        Failure: Why it cannot be brought back, or that the log ends before it should.

    """
    _restore(source, data)
    there_is = _newest_log(source.repository)  # now: while this recovers, the original goes on writing
    with tempfile.TemporaryDirectory(prefix="backups-") as name:
        runtime = Path(name)
        log = runtime / "log"
        _configure(cluster, data, runtime)
        options = ["-o", f"-c config_file={runtime}/postgresql.conf"]
        try:
            try:
                start = [cluster.program("pg_ctl"), "start", "-w", "-t", str(MOST), "-s"]
                run(*start, "-D", str(data), "-l", str(log), *options, limit=MOST)
                _wait(data, runtime)
            except Failure:
                raise Failure(f"it does not start from repository {source.repository.name}: {_why(log)}") from None
            said = log.read_text(errors="replace")
            _check_the_end(source, said, there_is)
            last = re.findall(r"last completed transaction was at log time (.+)", said)
            yield Recovered(cluster, data, runtime, last[-1] if last else "")
        finally:
            if (data / "postmaster.pid").exists():
                run(cluster.program("pg_ctl"), "stop", "-w", "-m", "immediate", "-D", str(data), accepted=(0, 1))


def _restore(source: Source, data: Path) -> None:
    backup = backup_for(source)
    data.mkdir(mode=0o700)
    label = backup["label"]
    arguments = [f"--pg1-path={data}", f"--tablespace-map-all={data}-tablespaces", f"--set={label}"]
    # Any other failure than "there is no such piece of log" must end the recovery, and not pass for the end of the log.
    fetch = f'pgbackrest --stanza=main --repo={source.repository.number} --pg1-path={data} archive-get %f "%p"'
    arguments += [f"--recovery-option=restore_command={fetch} || {{ [ $? -eq {NOT_THERE} ] && exit 1; exit 255; }}"]
    if source.moment:
        arguments += ["--type=time", f"--target={source.moment.isoformat(sep=' ')}", "--target-action=promote"]
        arguments += [f"--target-timeline={timeline_at(source.repository, source.moment, backup)}"]
    if source.database:
        arguments += [f"--db-include={source.database}"]
    try:
        pgbackrest(*arguments, "restore", repository=source.repository, limit=MOST, shown=True)
    except Failure as failure:
        name = source.repository.name
        raise Failure(f"backup {label} cannot be read from repository {name}, an older one may be: {failure}") from None


def backup_for(source: Source) -> dict[str, Any]:
    """Return the newest backup that had ended by that moment."""
    backups = info(source.repository)["backup"]
    if not backups:
        raise Failure(f"there is no backup of the databases in repository {source.repository.name}")
    moment = source.moment.timestamp() if source.moment else float("inf")
    fitting = [backup for backup in backups if backup["timestamp"]["stop"] <= moment]
    if not fitting:
        oldest = datetime.fromtimestamp(backups[0]["timestamp"]["stop"], UTC).isoformat(sep=" ")
        raise Failure(f"the oldest moment that repository {source.repository.name} can bring back is {oldest}")
    newest: dict[str, Any] = fitting[-1]
    return newest


def timeline_at(repository: Repository, moment: datetime, backup: dict[str, Any]) -> str:
    """Return the timeline that was written at that moment: each restore begins a new one, and notes it in the archive.

    So what was written before an earlier restore, and undone by it, can be reached, too.
    """
    archive = json.loads(pgbackrest("--output=json", "repo-ls", "archive/main", repository=repository))
    newest = max((name for name, entry in archive.items() if entry["type"] == "path"), key=_cluster_number)
    files = json.loads(pgbackrest("--output=json", "repo-ls", f"archive/main/{newest}", repository=repository))
    begun = [
        int(name.removesuffix(".history"), 16)
        for name, entry in files.items()
        if name.endswith(".history") and entry["time"] <= moment.timestamp()
    ]
    return f"{max([*begun, int(backup['archive']['stop'][:8], 16)]):#x}"


def _cluster_number(name: str) -> int:
    """`17-2` is the second cluster that has written to this archive."""
    return int(name.partition("-")[2] or 0)


def _configure(cluster: Cluster, data: Path, runtime: Path) -> None:
    known = run(cluster.program("pg_controldata"), str(data))
    prepared = re.search(r"max_prepared_xacts setting: *(\d+)", known)
    text = CONFIGURATION.format(data=data, runtime=runtime, prepared=prepared.group(1) if prepared else 0)
    (runtime / "postgresql.conf").write_text(text)
    (runtime / "pg_hba.conf").write_text("local all postgres peer\n")
    (runtime / "pg_ident.conf").touch()


def _wait(data: Path, runtime: Path) -> None:
    """Wait until it has recovered; pg_ctl only waits for the beginning of that."""
    until = time.monotonic() + MOST
    while time.monotonic() < until:
        if run("pg_isready", "-h", str(runtime), accepted=(0, 1, 2)).endswith("accepting connections\n"):
            return
        if not (data / "postmaster.pid").exists():
            raise Failure("it has ended")
        time.sleep(0.5)
    raise Failure("it has not recovered within 6 hours")


def _why(log: Path) -> str:
    """Return why a cluster did not start, and how far it came."""
    if not log.exists():
        return "it has said nothing"
    lines = log.read_text(errors="replace").splitlines()
    last = [line.partition("log time ")[2] for line in lines if "last completed transaction was at log time" in line]
    why = reason("\n".join(line for line in lines if "not accepting connections" not in line))  # which answers _wait
    return f"{why}; the last transaction that it found was at {last[-1]}" if last else why


def _newest_log(repository: Repository) -> str | None:
    archives = info(repository)["archive"]
    return archives[-1]["max"] if archives else None


def _check_the_end(source: Source, said: str, there_is: str | None) -> None:
    """The end of the recovery must be the end of the log, and not a hole in it."""
    if source.moment:
        return  # PostgreSQL itself fails if it does not get there
    fetched = re.findall(r'restored log file "([0-9A-F]{24})" from archive', said)
    if there_is and (not fetched or fetched[-1] < there_is):
        reached = fetched[-1] if fetched else "its beginning"
        raise Failure(
            f"the log in repository {source.repository.name} goes to {there_is}, but leads only to {reached}: "
            "the next one is missing or damaged"
        )


def remove(data: Path) -> None:
    """Remove it, as far as that can be done: what led here says more, and the next run tries again."""
    for directory in (data, Path(f"{data}-tablespaces")):
        shutil.rmtree(directory, ignore_errors=True)
