# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every restore drill needs: an empty directory with room in it, and a second look where a backup came between."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from programs import HOUR, Failure, run

Backups = TypeVar("Backups")
Found = TypeVar("Found")
# A drill must not fill a disk that others write to.
MARGIN = 1 << 30


@contextmanager
def scratch(folder: Path) -> Iterator[None]:
    """Have it empty before the block, whatever a drill left behind that was killed, and after it."""
    clear(folder)
    try:
        yield
    finally:
        clear(folder)


def clear(folder: Path) -> None:
    for path in folder.iterdir():
        # A restored directory may be one that allows nobody to remove anything.
        run("chmod", "--recursive", "u+rwX", "--", str(path), limit=HOUR)
        run("rm", "--recursive", "--force", "--", str(path), limit=HOUR)


def check_room(folder: Path, size: int) -> None:
    free, needed = shutil.disk_usage(folder).free, size + MARGIN
    if free < needed:
        raise Failure(
            f"{folder} has {free >> 20} MB of room and needs {needed >> 20} MB: "
            "make room, or set backups_drill_directory to another disk"
        )


def check_age(what: str, made: float, hours: int) -> None:
    age = (time.time() - made) / HOUR
    if age > hours:
        raise Failure(f"the newest backup of {what} is {age:.0f} hours old, and {hours} are allowed")


def twice(look: Callable[[Backups], Found], backups: Callable[[], Backups]) -> Found:
    """Look again after a failure if backups came or went meanwhile: what it needed may have been removed rightly."""
    before = backups()
    try:
        return look(before)
    except Failure:
        after = backups()
        if after == before:
            raise
    return look(after)


def some(names: list[str]) -> str:
    """Name them, but not thousands."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if names[3:] else "")
