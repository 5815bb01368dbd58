# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Reads every copy of the media, restores a sample of the newest, and compares it with what lives."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import records
from drill import check_age, check_room, scratch, some, twice
from media import restic
from programs import HOUR, WORDS, Failure
from settings import Repository, Saved, Settings

SAMPLE_FILES = 500
SAMPLE_BYTES = 500_000_000
START = datetime(1970, 1, 1, tzinfo=UTC)
# What restic prints instead of bytes that are no UTF-8.
UNNAMEABLE = "\ufffd"
# What stands for more than itself in a pattern, and what makes it plain.
SPECIAL, PLAIN = re.compile(r"([\\*?[])"), r"\\\1"
COMPLAINTS = re.compile(
    r"^(?:error|pack|tree|load|download|.*\bfailed\b|.*does not exist).*", re.IGNORECASE | re.MULTILINE
)

Snapshot = dict[str, Any]


@dataclass
class Listed:
    """What a snapshot holds."""

    paths: set[str] = field(default_factory=set)
    sample: list[dict[str, Any]] = field(default_factory=list)
    """Files, chosen at random."""
    altered: list[str] = field(default_factory=list)
    """Files that have another size now, though no newer time."""


def drill(settings: Settings) -> bool:
    """Drill with each repository; one that fails does not keep the others from their turn."""
    job = records.Job(records.FILES, "drill")
    folder = settings.drill_directory / "media"
    for repository in settings.repositories:
        with job.attempt(repository.name) as figures:
            figures.update(
                twice(partial(_drill, settings, repository, folder), partial(_snapshots, repository, folder))
            )
    return job.end()


def _restic(repository: Repository, folder: Path, command: str, *arguments: str, **options: Any) -> str:
    """Run it without the locks that would keep a backup from its work, and with no memory of earlier looks."""
    return restic(repository, command, "--no-lock", f"--cache-dir={folder}/cache", *arguments, **options)


def _snapshots(repository: Repository, folder: Path) -> dict[str, Snapshot]:
    """Return the newest one of each name."""
    with scratch(folder):
        found = json.loads(_restic(repository, folder, "snapshots", "--json"))
    return {tag: it for it in sorted(found, key=lambda it: _microseconds(it["time"])) for tag in it.get("tags") or []}


def _drill(settings: Settings, repository: Repository, folder: Path, snapshots: dict[str, Snapshot]) -> records.Record:
    for saved in settings.saved:
        if saved.name not in snapshots:
            raise Failure(f"there is no backup of {saved.name}")
        check_age(saved.name, _microseconds(snapshots[saved.name]["time"]) / 1e6, settings.newest_hours)
    restored = []
    with scratch(folder):
        check_room(folder, SAMPLE_BYTES * len(settings.saved))
        _check_repository(repository, folder)
        for saved in settings.saved:
            snapshot = snapshots[saved.name]
            listed = _list(repository, snapshot, folder)
            if listed.altered:
                raise Failure(f"{saved.name} was altered without a newer time: {some(listed.altered)}")
            missing = list(_missing(saved, listed.paths, _microseconds(snapshot["time"])))
            if missing:
                raise Failure(f"{saved.name} had these before its newest backup, which lacks them: {some(missing)}")
            _check_sample(repository, snapshot, listed.sample, folder)
            restored += [file["size"] for file in listed.sample]
    return {"bytes": sum(restored), "files": len(restored)}


def _microseconds(time: str) -> int:
    """Return a time as the number of microseconds since 1970."""
    return (datetime.fromisoformat(time) - START) // timedelta(microseconds=1)


def _check_repository(repository: Repository, folder: Path) -> None:
    """Read all of it: a part says nothing about the rest."""
    said = _restic(repository, folder, "check", "--read-data", limit=6 * HOUR, shown=True, accepted=(0, 1))
    if "no errors were found" not in said:
        raise Failure("; ".join(COMPLAINTS.findall(said) or said.splitlines()[-1:])[:WORDS])


def _list(repository: Repository, snapshot: Snapshot, folder: Path) -> Listed:
    listed = Listed()
    listing = folder / "listing"
    _restic(repository, folder, "ls", "--json", snapshot["id"], limit=HOUR, into=listing)
    files = 0
    with listing.open(encoding="utf-8") as lines:
        for line in lines:
            node = json.loads(line)
            if "type" not in node:
                continue
            listed.paths.add(_known_as(node["path"]))
            if node["type"] != "file" or UNNAMEABLE in node["path"]:
                continue
            node.setdefault("size", 0)
            if _unchanged(node) and Path(node["path"]).stat().st_size != node["size"]:
                listed.altered.append(node["path"])
            # Each file has the same chance to be among the chosen ones, however many there are.
            files += 1
            place = len(listed.sample) if len(listed.sample) < SAMPLE_FILES else random.randrange(files)  # noqa: S311
            listed.sample[place : place + 1] = [node] if place < SAMPLE_FILES else []
    room = SAMPLE_BYTES
    for file in list(listed.sample):
        if file["size"] > room:
            listed.sample.remove(file)
        else:
            room -= file["size"]
    return listed


def _known_as(path: str) -> str:
    """Return a name as restic prints it."""
    return re.sub(f"{UNNAMEABLE}+", UNNAMEABLE, os.fsencode(path).decode(errors="replace"))


def _unchanged(node: dict[str, Any]) -> bool:
    """Whether the file lives with the time that it had when it was saved."""
    try:
        now = Path(node["path"]).lstat()
    except OSError:
        return False
    return stat.S_ISREG(now.st_mode) and now.st_mtime_ns // 1000 == _microseconds(node["mtime"])


def _missing(saved: Saved, listed: set[str], began: int) -> Iterator[str]:
    """Yield what is older than a snapshot, by the time at which it got its place, and not in it.

    A directory that came later may well bring older files along.
    """
    waiting = [str(saved.path)]
    while waiting:
        path = waiting.pop()
        with suppress(OSError):  # it may be gone by now
            known = path == str(saved.path) or _known_as(path) in listed
            is_directory = Path(path).is_dir() and (path == str(saved.path) or not Path(path).is_symlink())
            if is_directory and known:
                waiting += [entry.path for entry in os.scandir(path)]
            now = Path(path).lstat()
            saveable = is_directory or stat.S_ISREG(now.st_mode) or stat.S_ISLNK(now.st_mode)
            if not known and saveable and now.st_ctime_ns // 1000 < began:
                yield path


def _check_sample(repository: Repository, snapshot: Snapshot, sample: list[dict[str, Any]], folder: Path) -> None:
    if not sample:
        return
    target = folder / "files"
    only = [f"--include={SPECIAL.sub(PLAIN, file['path'])}" for file in sample]
    said = ""
    try:
        _restic(repository, folder, "restore", snapshot["id"], f"--target={target}", *only, limit=HOUR)
    except Failure as failure:
        said = str(failure)  # perhaps only that nobody but root may give files away
    for file in sample:
        path, restored = Path(file["path"]), target / file["path"].lstrip("/")
        if not restored.is_file() or restored.stat().st_size != file["size"]:
            raise Failure(f"{path} cannot be restored: {said}")
        if _unchanged(file) and not _same(path, restored) and _unchanged(file):
            raise Failure(f"{path} was altered without a newer time: it is not what was saved")


def _same(living: Path, restored: Path) -> bool:
    with suppress(FileNotFoundError), living.open("rb") as one, restored.open("rb") as other:
        return hashlib.file_digest(one, "sha256").digest() == hashlib.file_digest(other, "sha256").digest()
    return True
