# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The background processes of an app: what is wrong with their description, and their commands for systemd."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

NAME = re.compile(r"[a-z][a-z0-9_-]*\Z")
# What systemd looks up, or an absolute path. It gives a meaning to other characters at the beginning.
PROGRAM = re.compile(r"(\w[\w.+-]*|/[\w./+-]+)\Z")
OPERATOR = re.compile(r"[();<>|&]+\Z")
PLAIN = re.compile(r"[\w@+=:,./-]+\Z")


def words(command: str) -> list[str]:
    """Split as a shell does; what would make several commands of it, or lead it into a file, is a word of its own."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    return list(lexer)


def exec_start(command: str) -> str:
    """Write the command so that systemd finds the same words in it, and expands nothing."""
    quoted = (word if PLAIN.match(word) else json.dumps(word, ensure_ascii=False) for word in words(command))
    return " ".join(quoted).replace("%", "%%").replace("$", "$$")


def command_problem(command: str) -> str:
    """Say why the command cannot work, or nothing."""
    try:
        found = words(command)
    except ValueError as error:
        return f"{command!r} cannot be split into words: {error}"
    operators = [word for word in found if OPERATOR.match(word)]
    if operators:
        return f"{command!r} runs without a shell, which {operators[0]} would need; quote it, or run a script"
    if not found or not PROGRAM.match(found[0]):
        return f"{command!r} must begin with the name of a program, such as celery or python, or with its absolute path"
    return ""


def problems(workers: Iterable[Mapping[str, Any]], schedules: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say everything that is wrong with the workers of an app, whose units have the names of its schedules, too."""
    found = []
    taken = [schedule["name"] for schedule in schedules]
    for worker in workers:
        name = worker["name"]
        if not NAME.match(name):
            found.append(
                f"{name!r} cannot be a name; use a lower-case letter, then lower-case letters, digits, - and _"
            )
        if name in taken:
            found.append(f"there is another worker or schedule {name!r}; choose another name")
        taken.append(name)
        found += [f"{name}: {text}" for text in [command_problem(worker["command"])] if text]
        if int(worker.get("stop_timeout", 1)) < 1:
            found.append(f"{name}: stop_timeout must be at least 1, not {worker['stop_timeout']}")
    return found
