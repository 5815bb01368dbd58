# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Programs that may hang, and what they say when they fail."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

MINUTE = 60
HOUR = 60 * MINUTE
DAY = 24 * HOUR
# pgBackRest and PostgreSQL name the reason in such lines; where there is none, the last line tells it.
REASONS = ("ERROR: ", "FATAL: ", "PANIC: ", "Fatal: ")
WORDS = 600


class Failure(Exception):  # noqa: N818 - no error of this program, but the news that it has for the operator
    """What went wrong, in words for the operator."""


def run(  # noqa: PLR0913 - none of them is needed
    *command: str,
    limit: float = MINUTE,
    shown: bool = False,
    environment: Mapping[str, str] | None = None,
    given: str | None = None,
    accepted: tuple[int, ...] = (0,),
    into: Path | None = None,
) -> str:
    """Return what a program prints.

    It ends with all that it started after `limit` seconds. With `shown`, what it prints goes to the log, too; with
    `into`, into a file alone.

    Raises:
        Failure: It needs more time, or ends with a status that is not `accepted`.

    """
    with into.open("wb") if into else contextlib.nullcontext(subprocess.PIPE) as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if given is not None else subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT if shown else subprocess.PIPE,
            env={**os.environ, **(environment or {})},
            cwd="/",
            text=True,
            errors="replace",
            start_new_session=True,
        )
    late = threading.Event()
    timer = threading.Timer(limit, _end, [process, late])
    timer.start()
    try:
        printed, complaints = _shown(process) if shown else process.communicate(given)
    finally:
        timer.cancel()
        if process.poll() is None:
            _kill(process)
    status = process.wait()
    if late.is_set():
        said = reason(complaints if complaints.strip() else printed or "")
        raise Failure(f"{command[0]} had no answer within {limit:.0f} seconds" + (f": {said}" if said else ""))
    if status not in accepted:
        raise Failure(
            reason(complaints if complaints.strip() else printed or "") or f"{command[0]} ended with {status}"
        )
    return printed or ""


def _shown(process: subprocess.Popen[str]) -> tuple[str, str]:
    printed = ""
    for line in process.stdout or []:
        print(line, end="", file=sys.stderr, flush=True)
        printed += line
    return printed, ""


def _end(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    _kill(process)


def _kill(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def reason(said: str) -> str:
    """Return of what a program said the part that tells why it failed."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    telling = [line[line.index(word) + len(word) :].strip() for line in lines for word in REASONS if word in line]
    return "; ".join(telling or lines[-1:])[:WORDS]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
