"""The rules, and what they are given."""

from __future__ import annotations

from typing import Any, Callable, Dict, FrozenSet, Iterable, List, NamedTuple, Tuple

Finding = Dict[str, str]


class Context(NamedTuple):
    """What a rule may look at."""

    settings: Any
    # Names that the project sets itself.
    explicit: FrozenSet[str]
    django: Tuple[int, int]
    # What the module was asked to check, and what it was told of the servers around.
    options: Dict[str, Any]
    # What loading the project brought about.
    seen: Dict[str, Any]


Rule = Callable[[Context], Iterable[Finding]]

RULES: List[Tuple[str, Rule]] = []


def rule(group: str) -> Callable[[Rule], Rule]:
    """Have a function run whenever its group of checks is asked for."""

    def register(function: Rule) -> Rule:
        RULES.append((group, function))
        return function

    return register


def finding(identity: str, setting: str = "", message: str = "", subject: str = "", severity: str = "") -> Finding:
    """Without a message and a severity, they are what the catalogue says. Never a secret value."""
    given = {"id": identity, "setting": setting, "message": message, "object": subject, "severity": severity}
    return {name: value for name, value in given.items() if value}
