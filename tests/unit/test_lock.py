"""Two deployments of one app at a time: one waits its turn, and a dead one is in nobody's way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

LOCK = Path(__file__).resolve().parents[2] / "roles/django_app/files/lock.py"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Any]:
    """Start processes that are named like those of a connection, and run what they are asked to."""
    shell = tmp_path / "sshd-session"
    shell.symlink_to("/bin/sh")
    started: list[subprocess.Popen[str]] = []

    def start() -> subprocess.Popen[str]:
        started.append(subprocess.Popen([shell], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ask(through: subprocess.Popen[str], action: str, file: Path, **mine: Any) -> str:
    """Return what the refusal says, or nothing."""
    mine = {"by": f"user{mine['run']}", "host": "laptop", "running": [mine["run"]], **mine}
    request = file.with_name("request.json")
    request.write_text(json.dumps(mine))
    assert through.stdin
    assert through.stdout
    through.stdin.write(f"{sys.executable} {LOCK} {action} {file} <{request} 2>&1; echo; echo END\n")
    through.stdin.flush()
    return "".join(iter(through.stdout.readline, "END\n")).strip()


def test_a_second_run_is_refused_until_the_first_has_ended(connection: Any, tmp_path: Path) -> None:
    first, second, file = connection(), connection(), tmp_path / "lock"
    assert ask(first, "take", file, run=1) == ""
    assert ask(first, "take", file, run=1) == "", "the same run may ask again"
    refusal = ask(second, "take", file, run=2, host="ci")
    assert refusal == "user1 is deploying it (process 1 on laptop); wait until that has ended"
    ask(second, "leave", file, run=2, host="ci")
    assert "user1" in ask(second, "take", file, run=2, host="ci"), "nobody gives back what is another's"
    assert ask(first, "leave", file, run=1) == ""
    assert ask(second, "take", file, run=2, host="ci") == ""


def test_the_lock_of_a_run_whose_connection_is_gone_is_void(connection: Any, tmp_path: Path) -> None:
    first, second, file = connection(), connection(), tmp_path / "lock"
    assert ask(first, "take", file, run=1) == ""
    first.kill()
    first.wait()
    assert ask(second, "take", file, run=2, host="ci") == ""


def test_on_the_same_control_node_a_dead_run_is_known_by_its_process(connection: Any, tmp_path: Path) -> None:
    shared, file = connection(), tmp_path / "lock"
    assert ask(shared, "take", file, run=1) == ""
    assert "user1" in ask(shared, "take", file, run=2, running=[1, 2])
    assert ask(shared, "take", file, run=2, running=[2]) == ""


def test_a_process_that_took_over_the_number_of_a_dead_one_does_not_hold_the_lock(
    connection: Any, tmp_path: Path
) -> None:
    through, file = connection(), tmp_path / "lock"
    owner = {"run": 1, "by": "user1", "host": "ci", "connection": [os.getpid(), "0"]}
    file.write_text(json.dumps(owner))
    assert ask(through, "take", file, run=2) == ""
