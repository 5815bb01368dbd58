# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring back what a repository holds: first beside what is there, then in its place.

Nothing is removed: what was there before stays beside it, under another name.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import media
import records
from postgres import SPOOL, info
from programs import HOUR, MINUTE, Failure, run, say
from recover import Source, backup_for, recovered, remove
from settings import STATE, Cluster, Repository, Saved, Settings

PROGRAM = "/usr/local/sbin/backups"
HELD = STATE / "restore-held.json"
RESULT = STATE / "restore.json"
# On top of what is brought back: the log that comes with it, and a database that goes on meanwhile.
ROOM = 1.2
ATTEMPTS = 10


@dataclass(frozen=True)
class Request:
    """What is asked: the whole cluster or some of its databases, and the media of these names, as of the accounts."""

    repository: str | None
    moment: str | None
    cluster: bool
    databases: list[str]
    media: list[str]
    units: list[str]
    """Those that write to them, to be stopped meanwhile."""
    flags: list[str]
    """Files that exist meanwhile, by which the web server sees that visitors have to wait."""

    def time(self) -> datetime | None:
        return datetime.fromisoformat(self.moment).astimezone() if self.moment else None


def requested(text: str) -> Request:
    return Request(**json.loads(text))


# --- What would be done ---


def plan(settings: Settings, request: Request) -> bool:
    """Print as JSON what a restore would bring, what it would take the place of, and why it cannot be done."""
    told: dict[str, list[str]] = {"brings": [], "replaces": [], "problems": []}
    try:
        _plan(settings, request, told)
    except (Failure, ValueError) as problem:
        told["problems"].append(str(problem))
    print(json.dumps(told))
    return True


def _plan(settings: Settings, request: Request, told: dict[str, list[str]]) -> None:
    repository = settings.repository(request.repository)
    if request.moment:
        told["brings"].append(f"the state of {request.time():%F %T %z}")
    if settings.cluster and (request.cluster or request.databases):
        _plan_databases(settings.cluster, repository, request, told)
    for saved in _chosen(settings, request):
        snapshot = _snapshot(repository, saved, request.time())
        told["brings"].append(f"{saved.name}: files as of {snapshot['time'][:19]} from repository {repository.name}")
        needed = _size_of(repository, snapshot)
        if saved.path.exists():
            files = sum(len(names) for _folder, _folders, names in os.walk(saved.path))
            told["replaces"].append(f"{saved.path} ({files} files)")
        if saved.path.is_mount():
            told["problems"].append(
                f"{saved.path} is a file system of its own: restore beside it by hand (backups restic)"
            )
        told["problems"] += _too_little_room(saved.path.parent, needed)


def _plan_databases(cluster: Cluster, repository: Repository, request: Request, told: dict[str, list[str]]) -> None:
    there = info(repository)
    version = there["db"][-1]["version"]
    if version != cluster.version:
        told["problems"].append(f"the backup is of PostgreSQL {version}, and here is {cluster.version}")
    backup = backup_for(Source(repository, request.time()))
    until = f"{request.time():%F %T %z}" if request.moment else "its end"
    what = ", ".join(request.databases) or "all databases"
    label = f"backup {backup['label']} from repository {repository.name}"
    told["brings"].append(f"{what}: {label}, and the log up to {until}")
    sizes = _sizes(cluster)
    told["replaces"] += [
        f"database {name} ({size / 1e6:.0f} MB)"
        for name, size in sizes.items()
        if request.cluster or name in request.databases
    ]
    if request.cluster and not sizes and cluster.data.exists():
        told["replaces"].append(f"{cluster.data}, which does not run")
    whole = backup["info"]["size"]
    needed = whole if request.cluster else 2 * max(sizes.get(name, whole) for name in request.databases)
    told["problems"] += _too_little_room(cluster.data.parent, needed)


def _sizes(cluster: Cluster) -> dict[str, int]:
    """Return the size of each database; nothing, where the cluster does not run."""
    statement = (
        "SELECT datname, pg_database_size(oid) FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'"
    )
    try:
        rows = [line.split("\t") for line in _sql(cluster, statement).splitlines()]
    except Failure:
        return {}
    return {name: int(size) for name, size in rows}


def _too_little_room(folder: Path, needed: float) -> Iterator[str]:
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed * ROOM:
        room = f"{folder} has room for {free / 1e9:.1f} GB"
        yield f"{room}, and {needed * ROOM / 1e9:.1f} GB are needed, because what is there stays"


def _chosen(settings: Settings, request: Request) -> list[Saved]:
    return [saved for saved in settings.saved if saved.name in request.media]


def _snapshot(repository: Repository, saved: Saved, moment: datetime | None) -> dict[str, Any]:
    found = [
        snapshot
        for snapshot in media.snapshots(repository, saved)
        if moment is None or datetime.fromisoformat(snapshot["time"]) <= moment
    ]
    if not found:
        raise Failure(f"{saved.name}: repository {repository.name} has no version of its files that is as old as that")
    return found[-1]


def _size_of(repository: Repository, snapshot: dict[str, Any]) -> int:
    said = media.restic(repository, "stats", "--no-lock", "--json", "--mode=restore-size", snapshot["id"], limit=HOUR)
    return int(json.loads(said)["total_size"])


# --- Doing it ---


def restore(settings: Settings, request: Request) -> bool:
    """Do it, and keep as JSON what became of it."""
    started = time.time()
    stamp = time.strftime("%Y%m%dT%H%M%S")
    told: dict[str, Any] = {"ok": False, "reason": "", "done": [], "kept": []}
    records.write(RESULT, {**told, "reason": "it was interrupted; run it again"})
    try:
        _restore(settings, request, stamp, told)
        told["ok"] = True
    except (Failure, ValueError, OSError) as problem:
        told["reason"] = str(problem)
        say(told["reason"])
    told["seconds"] = round(time.time() - started, 1)
    records.write(RESULT, told)
    return bool(told["ok"])


def _restore(settings: Settings, request: Request, stamp: str, told: dict[str, Any]) -> None:
    repository = settings.repository(request.repository)
    cluster = settings.cluster
    with records.alone(media.LOCK):
        staged_media = [
            (saved, _stage_media(repository, saved, request, stamp)) for saved in _chosen(settings, request)
        ]
    if cluster and (request.cluster or request.databases):
        _sweep(cluster)
        asked = json.dumps({"repository": repository.name, "moment": request.moment, "stamp": stamp})
        names = [] if request.cluster else request.databases
        for name in names or [""]:
            until = run("runuser", "-u", "postgres", "--", PROGRAM, "stage", asked, name, limit=12 * HOUR, shown=True)
            last = until.strip().splitlines()[-1]
            told["done"].append(f"{name or 'all databases'}, up to the last transaction, {last}")
    with _held(request):
        if cluster and request.cluster:
            told["kept"] += _swap_cluster(cluster, stamp)
        elif cluster:
            for name in request.databases:
                told["kept"] += _swap_database(cluster, name, stamp)
        for saved, staged in staged_media:
            told["kept"] += _swap_directory(saved.path, staged, stamp)
            told["done"].append(f"{saved.name}, its files")


def stage(settings: Settings, asked: str, name: str) -> bool:
    """Bring a cluster back beside the running one; or load one of its databases into that, under another name."""
    if settings.cluster is None:
        raise Failure("there is no cluster on this server")
    given = json.loads(asked)
    moment = datetime.fromisoformat(given["moment"]).astimezone() if given["moment"] else None
    source = Source(settings.repository(given["repository"]), moment, name or None)
    data = _staged(settings.cluster, given["stamp"])
    # What hands over the log of the running cluster must not wait for this.
    engine = Path(f"{data}-engine")
    os.environ |= {"PGBACKREST_LOCK_PATH": f"{engine}/lock", "PGBACKREST_SPOOL_PATH": f"{engine}/spool"}
    try:
        with recovered(settings.cluster, source, data) as copy:
            if name:
                _load(settings.cluster, copy.runtime, name, f"{name}_restored_{given['stamp']}")
            else:
                copy.forget_the_recovery()
                copy.stop()
            until = copy.until
    except BaseException:
        remove(data)
        raise
    finally:
        shutil.rmtree(engine, ignore_errors=True)
    if name:
        remove(data)
    print(until or "that of the backup", flush=True)
    return True


def _staged(cluster: Cluster, stamp: str) -> Path:
    return cluster.data.with_name(f"{cluster.data.name}.restored-{stamp}")


def _load(cluster: Cluster, copy: Path, name: str, new: str) -> None:
    """Load a database of the copy into the running cluster under a new name, with all that belongs to it."""
    scratch = ["-h", str(copy)]
    run("psql", *scratch, "-XAtqc", f'ALTER DATABASE "{name}" RENAME TO "{new}"', "postgres")
    live = f"-p {cluster.port}"
    dump = f"pg_dump -h '{copy}' --create --format=custom --compress=0 '{new}'"
    try:
        run(
            "bash",
            "-o",
            "pipefail",
            "-c",
            f"{dump} | pg_restore {live} --create --exit-on-error --dbname=postgres",
            limit=6 * HOUR,
        )
        run("vacuumdb", "-p", str(cluster.port), "--analyze-only", "--quiet", new, limit=6 * HOUR)
    except Failure:
        _sql_as_owner(cluster, f'DROP DATABASE IF EXISTS "{new}"')
        raise


def _sql_as_owner(cluster: Cluster, statement: str) -> str:
    return run("psql", "-XAtq", "-p", str(cluster.port), "-v", "ON_ERROR_STOP=1", "-F\t", "-c", statement, "postgres")


def _sql(cluster: Cluster, statement: str) -> str:
    """Let root ask the running cluster."""
    asked = ["psql", "-XAtq", "-p", str(cluster.port), "-v", "ON_ERROR_STOP=1", "-F\t", "-f", "-", "postgres"]
    return run("runuser", "-u", "postgres", "--", *asked, given=statement)


def _sweep(cluster: Cluster) -> None:
    """Remove what an interrupted run has left beside the cluster; never what was in use once."""
    for left in cluster.data.parent.glob(f"{cluster.data.name}.restored-*"):
        shutil.rmtree(left)
    statement = r"SELECT format('DROP DATABASE %I;', datname) FROM pg_database WHERE datname ~ '_restored_\d{8}T\d{6}$'"
    try:
        for drop in _sql(cluster, statement).splitlines():
            _sql(cluster, drop)
    except Failure:
        return  # it does not run, so nothing was loaded into it


def _swap_cluster(cluster: Cluster, stamp: str) -> list[str]:
    unit = f"postgresql@{cluster.version}-main.service"
    old = cluster.data.with_name(f"{cluster.data.name}.replaced-{stamp}")
    run("systemctl", "stop", unit, limit=10 * MINUTE)
    for noted in SPOOL.glob("*/archive"):  # what has arrived of the log that ends here
        shutil.rmtree(noted)
    kept = cluster.data.exists()
    if kept:
        cluster.data.rename(old)
    _staged(cluster, stamp).rename(cluster.data)
    try:
        run("systemctl", "start", unit, limit=10 * MINUTE)
    except Failure as failure:
        if kept:
            cluster.data.rename(_staged(cluster, stamp))
            old.rename(cluster.data)
            run("systemctl", "start", unit, limit=10 * MINUTE)
        raise Failure(f"what was restored does not start, so nothing was changed: {failure}") from None
    # The backups of the server begin anew, on the new timeline.
    for left in (
        *records.DATABASES.glob("created-*"),
        *(records.DATABASES / kind for kind in ("full", "diff", "incr", "gap")),
    ):
        left.unlink(missing_ok=True)
    return [str(old)] if kept else []


def _swap_database(cluster: Cluster, name: str, stamp: str) -> list[str]:
    new, old = f"{name}_restored_{stamp}", f"{name}_replaced_{stamp}"
    exists = name in _sizes(cluster)
    renames = [f'ALTER DATABASE "{name}" RENAME TO "{old}";'] if exists else []
    renames += [f'ALTER DATABASE "{new}" RENAME TO "{name}";']
    leave = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IN ('{name}', '{new}');"  # noqa: S608 - names of apps, which the inventory's check lets through
    for attempt in range(ATTEMPTS):
        try:
            _sql(cluster, f"{leave} BEGIN; {' '.join(renames)} COMMIT;")
            break
        except Failure:  # somebody came back between the two
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(0.5)
    return [f"database {old}"] if exists else []


# --- Directories ---


def _stage_media(repository: Repository, saved: Saved, request: Request, stamp: str) -> Path:
    """Bring a directory back beside the one in use, and return where it is."""
    for left in saved.path.parent.glob(f".{saved.path.name}.restored-*"):
        shutil.rmtree(left)
    snapshot = _snapshot(repository, saved, request.time())
    folder = saved.path.with_name(f".{saved.path.name}.restored-{stamp}")
    folder.mkdir(mode=0o700, parents=True)
    media.restic(
        repository, "restore", "--no-lock", snapshot["id"], "--target", str(folder), limit=12 * HOUR, shown=True
    )
    staged = folder / str(snapshot["paths"][0]).lstrip("/")
    _own(staged, saved.name)
    return staged


def _own(staged: Path, account: str) -> None:
    """On another server the account may have another number."""
    try:
        now = pwd.getpwnam(account)
    except KeyError:
        return
    before = staged.stat().st_uid
    if before == now.pw_uid:
        return
    for path in (staged, *staged.rglob("*")):
        found = path.lstat()
        if found.st_uid == before:
            # Uploads have the group of the directory; what the account made elsewhere has its own.
            group = staged.stat().st_gid if found.st_gid == staged.stat().st_gid else now.pw_gid
            os.chown(path, now.pw_uid, group, follow_symlinks=False)


def _swap_directory(path: Path, staged: Path, stamp: str) -> list[str]:
    old = path.with_name(f"{path.name}.replaced-{stamp}")
    kept = path.exists()
    if kept:
        path.rename(old)
    staged.rename(path)
    shutil.rmtree(path.with_name(f".{path.name}.restored-{stamp}"))
    return [str(old)] if kept else []


# --- Who writes, waits ---


@contextmanager
def _held(request: Request) -> Iterator[None]:
    """Let nothing write meanwhile. What is stopped is noted: if this run is killed, the next one starts it again."""
    before = records.read(HELD)
    units = sorted({*before.get("units", []), *_running(request.units)})
    flags = sorted({*before.get("flags", []), *_missing(request.flags)})
    records.write(HELD, {"units": units, "flags": flags})
    try:
        for flag in flags:
            Path(flag).touch(mode=0o644)
        if units:
            run("systemctl", "stop", *units, limit=10 * MINUTE)
        yield
    finally:
        if units:
            run("systemctl", "start", *units, limit=10 * MINUTE)
        for flag in flags:
            Path(flag).unlink(missing_ok=True)
        HELD.unlink()


def _running(patterns: Iterable[str]) -> Iterator[str]:
    if patterns:
        said = run(
            "systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating,reloading", *patterns
        )
        for line in said.splitlines():
            yield line.split()[0]


def _missing(flags: Iterable[str]) -> Iterator[str]:
    for flag in flags:
        if Path(flag).parent.is_dir() and not Path(flag).exists():
            yield flag
