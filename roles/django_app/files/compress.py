# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Compress the static files of a new release; runs on the server, as root.

    compress.py STATIC PUBLISHED

Beside app.css come app.css.br and app.css.gz, as old as app.css itself, so that browsers find the same file in each
form. That is slow work, and most files are those of the last release: what was published then is taken over.
"""

from __future__ import annotations

import filecmp
import gzip
import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import brotli

KINDS = frozenset(".css .eot .html .ico .js .json .map .mjs .otf .svg .ttf .txt .wasm .webmanifest .xml".split())
# Shorter ones gain nothing.
LEAST = 256
FORMS = {".br": brotli.compress, ".gz": lambda content: gzip.compress(content, 9, mtime=0)}


def worthwhile(static: Path) -> list[Path]:
    """Find the files; a link, which the project may have set to anything, is none."""
    folders = [] if static.is_symlink() else os.walk(static)
    found = (Path(folder) / name for folder, _folders, names in folders for name in names)
    return [
        path
        for path in sorted(found)
        if path.suffix.lower() in KINDS and not path.is_symlink() and path.stat().st_size >= LEAST
    ]


def adopt(path: Path, former: Path) -> None:
    """Take over what there is of a file with the same content: its time and its compressed forms."""
    time = former.stat().st_mtime_ns
    os.utime(path, ns=(time, time))
    for form in FORMS:
        done, new = Path(f"{former}{form}"), Path(f"{path}{form}")
        if done.is_file() and not os.path.lexists(new):
            os.link(done, new)


def compress(path: Path) -> None:
    content, time = path.read_bytes(), path.stat().st_mtime_ns
    for form, function in FORMS.items():
        new = Path(f"{path}{form}")
        if not os.path.lexists(new):  # the project may compress its files itself
            new.write_bytes(function(content))
            os.utime(new, ns=(time, time))


def main() -> None:
    static, published = map(Path, sys.argv[1:])
    first: dict[bytes, Path] = {}
    twins = []
    for path in worthwhile(static):
        former = published / path.relative_to(static)
        if former.is_file() and filecmp.cmp(path, former, shallow=False):
            adopt(path, former)
        # Django publishes each file twice: with a hash in its name, and without.
        twin = first.setdefault(hashlib.sha256(path.read_bytes()).digest(), path)
        if twin != path:
            twins.append((path, twin))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compress, first.values()))
    for path, twin in twins:
        adopt(path, twin)


if __name__ == "__main__":
    main()
