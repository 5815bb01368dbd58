"""The command of a worker: what cannot work is refused, and what can arrives word for word."""

from __future__ import annotations

import pytest

from plugins.module_utils import _workers


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("", "must begin with the name of a program"),
        ("bin/worker --once", "must begin with the name of a program"),
        ("QUEUE=mail celery worker", "must begin with the name of a program"),
        # In a unit these would have a meaning of their own; the first runs it as root.
        ("+celery worker", "must begin with the name of a program"),
        ("-celery worker", "must begin with the name of a program"),
        ("celery worker; rm -rf /", "without a shell, which ; would need"),
        ("celery worker | tee log", "without a shell, which | would need"),
        ("celery worker >log", "without a shell, which > would need"),
        ("celery worker --name 'mail", "cannot be split into words: No closing quotation"),
    ],
)
def test_a_command_that_cannot_work_is_refused(command: str, reason: str) -> None:
    assert reason in _workers.command_problem(command)


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("celery -A config worker --queues=a,b", "celery -A config worker --queues=a,b"),
        ("/usr/bin/sleep   1", "/usr/bin/sleep 1"),
        ("x 'a  b' c\"d e\"f ''", 'x "a  b" "cd ef" ""'),
        ("x $HOME %h # no comment", 'x "$$HOME" "%%h" "#" no comment'),
        ("x it\\'s 'back\\slash' 'two\nlines'", 'x "it\'s" "back\\\\slash" "two\\nlines"'),
        ("celery worker\nUser=root", "celery worker User=root"),
    ],
)
def test_its_words_are_written_for_systemd(command: str, written: str) -> None:
    assert _workers.command_problem(command) == ""
    assert _workers.exec_start(command) == written
