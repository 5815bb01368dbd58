"""Whether the secret key in use is part of the source code."""

from __future__ import annotations

import os
import sys
import time
from typing import Dict, Iterable, Iterator

from .registry import Context, Finding, finding, rule
from .values import items, value

SKIPPED = frozenset("venv node_modules site-packages tests test __pycache__ static media".split())
LARGEST_FILE = 1_000_000
# Enough for some ten thousand files.
MOST_BYTES = 50_000_000
MOST_SECONDS = 2.0
# A shorter one may stand anywhere, and is told by Django's own check.
SHORTEST_KEY = 8


def source_files(folder: str) -> Iterator[str]:
    """Python files of the project itself."""
    for above, folders, files in os.walk(folder):
        folders[:] = [
            each
            for each in sorted(folders)
            if each not in SKIPPED
            and not each.startswith(".")
            and not os.path.exists(os.path.join(above, each, "pyvenv.cfg"))
            and os.path.join(above, each) != sys.prefix
        ]
        for name in sorted(files):
            if name.endswith(".py") and not name.startswith(("test_", "tests.py", "conftest.py")):
                yield os.path.join(above, name)


def literals(key: str) -> Iterator[bytes]:
    """How a key is written in Python."""
    for quote in "'\"":
        yield (quote + key + quote).encode("utf-8", "surrogatepass")
        escaped = key.replace("\\", "\\\\").replace(quote, "\\" + quote)
        yield (quote + escaped + quote).encode("utf-8", "surrogatepass")


def keys(context: Context) -> Dict[str, str]:
    """The setting that each key in use belongs to."""
    found = dict.fromkeys(items(context, "SECRET_KEY_FALLBACKS"), "SECRET_KEY_FALLBACKS")
    found[value(context, "SECRET_KEY")] = "SECRET_KEY"
    return {key: name for key, name in found.items() if isinstance(key, str) and len(key) >= SHORTEST_KEY}


@rule("settings")
def secret_key_in_source(context: Context) -> Iterable[Finding]:
    folder = os.path.abspath(str(context.options.get("chdir") or "."))
    private = {os.path.realpath(os.path.join(folder, name)) for name in context.options.get("private_files") or ()}
    wanted = [(name, literal) for key, name in keys(context).items() for literal in set(literals(key))]
    deadline, left = time.monotonic() + MOST_SECONDS, MOST_BYTES
    for path in source_files(folder) if wanted else ():
        try:
            if os.path.getsize(path) > LARGEST_FILE or os.path.realpath(path) in private:
                continue
            with open(path, "rb") as file:
                text = file.read()
        except OSError:
            continue
        for name in sorted({name for name, literal in wanted if literal in text}):
            yield finding("secret_key_in_source", name, subject=os.path.relpath(path, folder))
        left -= len(text)
        if left < 0 or time.monotonic() > deadline:
            raise TimeoutError(f"stopped at {os.path.relpath(path, folder)}: there are too many source files")
