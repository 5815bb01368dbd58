# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One database as a file that any newer PostgreSQL can load: to move data elsewhere, and no backup."""

from __future__ import annotations

import os
import re
import shutil
import time
from pathlib import Path

import records
from programs import DAY, HOUR, Failure, run
from settings import Cluster, Settings

FOLDER = records.DATABASES / "dumps"
KEPT = 7 * DAY
# A name that is also safe as a part of a path and of a command.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def write(settings: Settings, names: list[str]) -> bool:
    if settings.cluster is None:
        raise Failure("there is no PostgreSQL on this server whose databases could be dumped")
    if os.geteuid() == 0:
        os.execvp("runuser", ["runuser", "-u", "postgres", "--", "/usr/local/sbin/backups", "dump", *names])
    os.umask(0o077)
    FOLDER.mkdir(exist_ok=True)
    with records.alone(FOLDER / "lock"):
        for path in FOLDER.iterdir():
            if path.suffix == ".part" or (path.suffix == ".dump" and path.stat().st_mtime < time.time() - KEPT):
                path.unlink()
        for name in names:
            _tell(name, _dump(settings.cluster, name))
    print(f"In {KEPT // DAY} days the next dump removes them.")
    return True


def _dump(cluster: Cluster, name: str) -> Path:
    size = _size(cluster, name)
    free = shutil.disk_usage(FOLDER).free
    if free < size:
        raise Failure(
            f"{FOLDER} has {free / 1e6:.0f} MB left; the database {name} has {size / 1e6:.0f} MB, of which a dump may "
            "take as much"
        )
    path = FOLDER / f"{name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.dump"
    part = path.with_suffix(".part")
    try:
        run(
            cluster.program("pg_dump"), "-p", str(cluster.port), "--format=custom", f"--file={part}", name,
            limit=6 * HOUR,
        )  # fmt: skip
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _size(cluster: Cluster, name: str) -> int:
    if not NAME.fullmatch(name):
        raise Failure(f"{name}: a dump is made of databases with letters, digits and _.- in their names only")
    question = "SELECT pg_database_size(datname) FROM pg_database WHERE datname = :'name'"
    size = run("psql", "-XAtq", "-p", str(cluster.port), "-v", f"name={name}", given=question).strip()
    if not size:
        raise Failure(f"there is no database {name}")
    return int(size)


def _tell(name: str, path: Path) -> None:
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    print(f"  copy it:  scp root@{os.uname().nodename}:{path} .")
    print(f"  load it:  createdb {name} && pg_restore --no-owner --no-privileges --exit-on-error -d {name} {path.name}")
