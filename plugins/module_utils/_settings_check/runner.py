# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Runs the inspector in the project's own interpreter, as the account of its service, and leaves no process behind."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

# Ansible brings along only what is imported by name.
from . import inspector
from .inspector import (
    bootstrap,
    live,
    records,
    registry,
    rules_data,
    rules_files,
    rules_logging,
    rules_mail,
    rules_names,
    rules_request,
    rules_security,
    rules_source,
    rules_types,
    serialise,
    stages,
    values,
)

RULES = (
    rules_data,
    rules_files,
    rules_logging,
    rules_mail,
    rules_names,
    rules_request,
    rules_security,
    rules_source,
    rules_types,
)
# In an order in which each can be imported.
MODULES = (inspector, registry, records, serialise, values, *RULES, live, stages)
PACKAGE = "groundwork_inspector"

PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
CHUNK = 1 << 16
# How long the end of processes that were killed is waited for.
PATIENCE = 2.0


@dataclasses.dataclass
class Account:
    """Who runs the service."""

    name: str
    uid: int
    gid: int
    groups: list[int]
    home: str
    shell: str


@dataclasses.dataclass
class Outcome:
    """What the inspector told, and how it ended."""

    records: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    stage: str = "start"
    # Seconds in each stage.
    timing: dict[str, float] = dataclasses.field(default_factory=dict)
    done: bool = False
    timed_out: bool = False
    # As in subprocess: negative for a signal.
    status: int | None = None
    # The end of what the project has printed.
    printed: str = ""
    # Processes of the project that could not be ended.
    left: list[int] = dataclasses.field(default_factory=list)

    def of(self, kind: str) -> list[Any]:
        return [record[kind] for record in self.records if kind in record]


def run(  # noqa: PLR0913, PLR0917
    python: str, config: dict[str, Any], environment: dict[str, str], account: Account, timeout: float, chdir: str
) -> Outcome:
    """Have the project inspected. Raises OSError where the interpreter cannot be started."""
    begun = time.monotonic()
    with adopting() as stray, program(config) as source:
        # run_command can neither change the account nor clear the environment, and knows no deadline.
        process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            [python, "-B", "-"],
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=chdir,
            start_new_session=True,
            **switch(account),
        )
        outcome = Outcome()
        try:
            listen(process, outcome, begun, begun + timeout)
        finally:
            # It was not waited for yet, so that its number is nobody else's.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            outcome.status = process.wait()
            for pipe in (process.stdout, process.stderr):
                if pipe:
                    pipe.close()
            outcome.left = end(stray)
    return outcome


def switch(account: Account) -> dict[str, Any]:
    if os.geteuid() == account.uid:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": account.groups}


@contextlib.contextmanager
def program(config: dict[str, Any]) -> Iterator[IO[bytes]]:
    """Hand the sources and the configuration over in memory: neither is an argument of a process or in a file."""
    names = {module: module.__name__.replace(inspector.__name__, PACKAGE) for module in MODULES}
    sources = {name: source_of(module) for module, name in names.items()}
    text = json.dumps({"package": PACKAGE, "sources": sources, "config": config})
    with os.fdopen(os.memfd_create("inspector"), "w+b") as file:
        file.write(f"{source_of(bootstrap)}\n\nstart({text!r})\n".encode())
        file.seek(0)
        yield file


def source_of(module: Any) -> str:
    """Return the text of a module, also where Ansible has packed it into an archive."""
    source: str = module.__spec__.loader.get_source(module.__name__)
    return source


# --- Listening ---


def listen(process: subprocess.Popen[bytes], outcome: Outcome, begun: float, deadline: float) -> None:
    """Note what the inspector tells until it has told all, ends, or has had its time."""
    told, printed = b"", b""
    clock = Clock(outcome, begun)
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdout, process.stderr):
            if pipe:
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe, selectors.EVENT_READ)
        while not outcome.done:
            outcome.timed_out = time.monotonic() >= deadline
            # Looked at before the pipes are: what it said last is read still.
            ended = has_ended(process)
            ready = selector.select(0 if ended else max(0.0, min(0.1, deadline - time.monotonic())))
            for key, _events in ready:
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    *lines, told = (told + chunk).split(b"\n")
                    for line in lines:
                        clock.note(line)
                else:
                    printed = (printed + chunk)[-CHUNK:]
            if outcome.timed_out or (ended and not ready):
                break
            if not selector.get_map() and not ended:
                # It has closed all that it could be heard through.
                time.sleep(0.01)
    clock.stop()
    outcome.printed = printed.decode(errors="replace")


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Clock:
    """Notes records, and how long the stages took that they tell of."""

    def __init__(self, outcome: Outcome, begun: float) -> None:
        self.outcome = outcome
        self.since = begun

    def note(self, line: bytes) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            # Printed by something that runs before the inspector, such as sitecustomize.
            return
        if not isinstance(record, dict):
            return
        self.outcome.records.append(record)
        if "stage" in record:
            self.stop()
            self.outcome.stage = record["stage"]
        # After an error it has nothing more to tell.
        self.outcome.done = self.outcome.done or "done" in record or "error" in record

    def stop(self) -> None:
        now, timing, stage = time.monotonic(), self.outcome.timing, self.outcome.stage
        timing[stage] = round(timing.get(stage, 0.0) + now - self.since, 3)
        self.since = now


# --- Leaving nothing behind ---


@contextlib.contextmanager
def adopting() -> Iterator[set[int]]:
    """Become the parent of all that the project leaves behind, also of what has left its process group."""
    libc = ctypes.CDLL(None)
    before = ctypes.c_int(0)
    libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield children()
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def children() -> set[int]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of the program is in parentheses, and may hold anything.
            parent = path.read_text(errors="replace").rpartition(")")[2].split()[1]
            if int(parent) == os.getpid():
                found.add(int(path.parent.name))
    return found


def end(others: set[int]) -> list[int]:
    """End what was adopted, but for the children that there were before; return what would not end."""
    deadline = time.monotonic() + PATIENCE
    while True:
        stray = children() - others
        if not stray or time.monotonic() > deadline:
            return sorted(stray)
        for pid in stray:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        for pid in stray:
            with contextlib.suppress(ChildProcessError):
                # Those of a child appear here when it has ended.
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.002)
