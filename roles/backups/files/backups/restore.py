# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring back what a repository holds: first beside what is there, then in its place.

Nothing is removed: what was there before stays beside it, under another name. Where a site has several hosts, somebody
else calls the steps on each of them: fetch, hold, swap, end.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
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

Told = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What is asked: the whole cluster or some of its databases, and the directories of these names."""

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
        if snapshot is None:
            told["brings"].append(f"{saved.name}: nothing, because no version is as old as that; {saved.path} stays")
            continue
        told["brings"].append(f"{saved.name}: files as of {snapshot['time'][:19]} from repository {repository.name}")
        if files := sum(len(names) for _folder, _folders, names in os.walk(saved.path)):
            told["replaces"].append(f"{saved.path} ({files} files)")
        told["problems"] += _too_little_room(_folder_for(saved.path, "x").parent, _size_of(repository, snapshot))


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


def _snapshot(repository: Repository, saved: Saved, moment: datetime | None) -> dict[str, Any] | None:
    """Return the newest version of that time; what an app has besides its uploads was not always saved."""
    found = [
        snapshot
        for snapshot in media.snapshots(repository, saved)
        if moment is None or datetime.fromisoformat(snapshot["time"]) <= moment
    ]
    if not found and saved.name == saved.account:
        raise Failure(f"{saved.name}: repository {repository.name} has no version of its files that is as old as that")
    return found[-1] if found else None


def _size_of(repository: Repository, snapshot: dict[str, Any]) -> int:
    said = media.restic(repository, "stats", "--no-lock", "--json", "--mode=restore-size", snapshot["id"], limit=HOUR)
    return int(json.loads(said)["total_size"])


# --- Doing it ---


def restore(settings: Settings, request: Request) -> bool:
    """Do all of it, and let nothing write only while it takes its place."""

    def act(told: Told) -> None:
        _fetch(settings, request, told)
        with _held(request):
            _swap(settings, request, told)

    return _noted(act, {})


def fetch(settings: Settings, request: Request) -> bool:
    """Bring it beside what is there."""
    return _noted(lambda told: _fetch(settings, request, told), {})


def swap(settings: Settings, request: Request) -> bool:
    """Let what was fetched take its place."""
    return _noted(lambda told: _swap(settings, request, told), records.read(RESULT))


def end(settings: Settings) -> bool:
    """Start what was stopped, and remove what was fetched and has taken no place."""
    release()
    if settings.cluster:
        _sweep(settings.cluster)
    for saved in settings.saved:
        _sweep_directory(saved.path)
    return True


def _noted(act: Callable[[Told], None], before: Told) -> bool:
    """Act, and keep as JSON what became of it, together with what an earlier step has told."""
    started = time.time()
    told: Told = {"done": [], "kept": [], **before, "ok": False, "reason": ""}
    # What was fetched may have been swapped by then.
    unfinished = {key: value for key, value in told.items() if key != "fetched"}
    records.write(RESULT, {**unfinished, "reason": "it was interrupted; run it again"})
    try:
        act(told)
        told["ok"] = True
    except (Failure, ValueError, OSError) as problem:
        told["reason"] = str(problem)
        say(told["reason"])
    told["seconds"] = round(time.time() - started + before.get("seconds", 0), 1)
    records.write(RESULT, told)
    return bool(told["ok"])


def _fetch(settings: Settings, request: Request, told: Told) -> None:
    repository = settings.repository(request.repository)
    stamp = time.strftime("%Y%m%dT%H%M%S")
    directories = {saved.name: _fetch_files(repository, saved, request, stamp) for saved in _chosen(settings, request)}
    cluster = settings.cluster
    if cluster and (request.cluster or request.databases):
        _sweep(cluster)
        asked = json.dumps({"repository": repository.name, "moment": request.moment, "stamp": stamp})
        names = [] if request.cluster else request.databases
        for name in names or [""]:
            until = run("runuser", "-u", "postgres", "--", PROGRAM, "stage", asked, name, limit=12 * HOUR, shown=True)
            last = until.strip().splitlines()[-1]
            told["done"].append(f"{name or 'all databases'}, up to the last transaction, {last}")
    told["fetched"] = {"stamp": stamp, "directories": {name: path for name, path in directories.items() if path}}


def _swap(settings: Settings, request: Request, told: Told) -> None:
    if "fetched" not in told:
        raise Failure("nothing was fetched that could take the place of anything")
    fetched = told.pop("fetched")
    stamp, cluster = fetched["stamp"], settings.cluster
    if cluster and request.cluster:
        told["kept"] += _swap_cluster(cluster, stamp)
    elif cluster:
        for name in request.databases:
            told["kept"] += _swap_database(cluster, name, stamp)
    for saved in _chosen(settings, request):
        if staged := fetched["directories"].get(saved.name):
            told["kept"] += _swap_directory(saved.path, Path(staged), stamp)
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
    locks = Path(f"{data}-locks")
    os.environ["PGBACKREST_LOCK_PATH"] = str(locks)
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
        shutil.rmtree(locks, ignore_errors=True)
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


def _folder_for(path: Path, stamp: str) -> Path:
    """Return where a directory comes first: on the file system on which it is to be."""
    return path / f".restored-{stamp}" if path.is_mount() else path.with_name(f".{path.name}.restored-{stamp}")


def _sweep_directory(path: Path) -> None:
    for left in _folder_for(path, "").parent.glob(f"{_folder_for(path, '').name}*"):
        shutil.rmtree(left)


def _fetch_files(repository: Repository, saved: Saved, request: Request, stamp: str) -> str:
    """Bring a directory back beside the one in use, and return where it is; nothing, where there is no version."""
    _sweep_directory(saved.path)
    with records.alone(media.LOCK):
        snapshot = _snapshot(repository, saved, request.time())
        if snapshot is None:
            return ""
        folder = _folder_for(saved.path, stamp)
        folder.mkdir(mode=0o700, parents=True)
        media.restic(
            repository, "restore", "--no-lock", snapshot["id"], "--target", str(folder), limit=12 * HOUR, shown=True
        )
    staged = folder / str(snapshot["paths"][0]).lstrip("/")
    _own(staged, saved.account)
    return str(staged)


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
    folder = _folder_for(path, stamp)
    if path.is_mount():
        old = path / f".replaced-{stamp}"
        old.mkdir(mode=0o700)
        _move_contents(path, old)
        _move_contents(staged, path)
    else:
        old = path.with_name(f"{path.name}.replaced-{stamp}")
        if path.exists():
            path.rename(old)
        staged.rename(path)
    shutil.rmtree(folder)
    if old.exists() and not any(old.iterdir()):
        old.rmdir()
    return [str(old)] if old.exists() else []


def _move_contents(source: Path, target: Path) -> None:
    """Move what is in a directory that cannot be moved itself, but nothing that restores have put there."""
    for entry in list(source.iterdir()):
        if not re.fullmatch(r"\.re(stored|placed)-\d{8}T\d{6}", entry.name):
            entry.rename(target / entry.name)


# --- Who writes, waits ---


@contextmanager
def _held(request: Request) -> Iterator[None]:
    try:
        hold(request)
        yield
    finally:
        release()


def hold(request: Request) -> bool:
    """Let nothing write until `release`. What is stopped is noted: if this run is killed, a later one starts it."""
    before = records.read(HELD)
    units = sorted({*before.get("units", []), *_running(request.units)})
    flags = sorted({*before.get("flags", []), *_missing(request.flags)})
    records.write(HELD, {"units": units, "flags": flags})
    for flag in flags:
        Path(flag).touch(mode=0o644)
    if units:
        run("systemctl", "stop", *units, limit=10 * MINUTE)
    return True


def release() -> None:
    held = records.read(HELD)
    if units := held.get("units"):
        run("systemctl", "start", *units, limit=10 * MINUTE)
    for flag in held.get("flags", []):
        Path(flag).unlink(missing_ok=True)
    HELD.unlink(missing_ok=True)


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
