# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the author of a playbook expects of the settings, and of the secrets among them.

Settings are compared as the inspector serialised them: tuples are lists, paths are texts, durations are seconds.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Callable

from .inspector.registry import Finding, finding
from .redact import is_secret_path, redact

# Below this, Ansible's own masking would put stars into half of what it prints.
SHORTEST_SECRET = 8
SHOWN = 80

# What tells nothing of a value that Ansible would log.
_FOR_SECRETS = ("present", "overridden", "type", "min_length")
# Where a secret would stand, if somebody expected one.
_VALUES = ("equals", "one_of", "contains")
_TYPES = {
    type(None): "null",
    bool: "bool",
    int: "int",
    float: "float",
    str: "str",
    list: "list",
    dict: "dict",
}
# As Ansible reads them.
_BOOLEANS = {
    **dict.fromkeys(("y", "yes", "on", "1", "true", "t"), True),
    **dict.fromkeys(("n", "no", "off", "0", "false", "f"), False),
}


class _Absent:
    """The value of what is not set."""


_ABSENT = _Absent()
# What the inspector says of a translated text: evaluating it is left to Django.
_LAZY = "<lazy>"


def check_options(
    expect: Sequence[Mapping[str, Any]], secrets: Mapping[str, Any], patterns: Sequence[str] = ()
) -> list[str]:
    """Say everything that is wrong with the options themselves."""
    found = [
        f"expect[{index}]: {problem}"
        for index, expectation in enumerate(expect)
        for problem in _problems(expectation, patterns)
    ]
    for path, value in secrets.items():
        if not _is_text(value):
            found.append(f"secrets: {path} must be a text; compare a part of it by its own path")
        elif len(str(value)) < SHORTEST_SECRET:
            found.append(
                f"secrets: {path} is shorter than {SHORTEST_SECRET} characters; Ansible would mask it everywhere"
            )
    return found


def evaluate(
    expect: Sequence[Mapping[str, Any]],
    settings: Mapping[str, Any],
    overridden: Collection[str],
    patterns: Sequence[str] = (),
) -> list[Finding]:
    """Return a finding for each expectation that the settings do not meet."""
    found = []
    for expectation in expect:
        path = expectation["setting"]
        actual = _at(settings, path.split("."))
        is_overridden = path.split(".")[0] in overridden
        failed = [
            _required(name, expected)
            for name, expected in _given(expectation).items()
            if not _holds(name, expected, actual, is_overridden)
        ]
        if failed:
            message = f"{path}{_shown(path, actual, patterns)} must {' and '.join(failed)}"
            if expectation.get("msg"):
                message = f"{expectation['msg']} ({message})"
            severity = expectation.get("severity") or "error"
            found.append({**finding("expectation", path, message), "source": "expect", "severity": severity})
    return found


def compare_secrets(secrets: Mapping[str, Any], settings: Mapping[str, Any]) -> list[Finding]:
    """Return a finding for each secret that is not what the playbook has, without showing either."""
    found = []
    for path, expected in secrets.items():
        actual = _at(settings, path.split("."))
        if actual is _ABSENT:
            message = f"{path} is not set, but secrets has a value for it"
        elif not _is_text(actual):
            message = f"{path} is of the type {_type_of(actual)}, but secrets has a text for it"
        elif not hmac.compare_digest(_bytes(actual), _bytes(expected)):
            message = f"{path} is not the value that secrets has for it"
        else:
            continue
        found.append({**finding("secret_differs", path, message), "source": "expect"})
    return found


def _is_text(value: Any) -> bool:
    """A number can be a secret, and YAML takes one without quotes for a number."""
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _bytes(value: Any) -> bytes:
    return str(value).encode(errors="surrogatepass")


# --- options ----------------------------------------------------------------


def _given(expectation: Mapping[str, Any]) -> dict[str, Any]:
    """Ansible fills in null for what is not given, so null itself cannot be expected by its value."""
    return {name: expectation[name] for name in _WORDS if expectation.get(name) is not None}


def _problems(expectation: Mapping[str, Any], patterns: Sequence[str]) -> Iterator[str]:
    path, given = expectation["setting"], _given(expectation)
    if not given:
        yield f"no predicate; give one of {', '.join(_WORDS)}"
    if is_secret_path(path, patterns) and not set(given) <= set(_FOR_SECRETS):
        yield f"{path} is secret; use present, type or min_length, or the option secrets"
        return
    for name in _VALUES:
        if name in given and redact("", given[name], patterns) != given[name]:
            yield f"{name} has a secret in it, which Ansible would log; use the option secrets"
    if "regex" in given:
        try:
            re.compile(given["regex"])
        except re.error as error:
            yield f'regex "{given["regex"]}" does not compile: {error.msg}'


# --- values -----------------------------------------------------------------


def _at(value: Any, parts: Sequence[str]) -> Any:
    """Follow a dotted path. The key of a dictionary can have dots itself, as the names of loggers do."""
    if not parts:
        return value
    if isinstance(value, list):
        is_index = re.fullmatch(r"[0-9]{1,9}", parts[0]) and int(parts[0]) < len(value)
        return _at(value[int(parts[0])], parts[1:]) if is_index else _ABSENT
    if isinstance(value, Mapping):
        for length in range(1, len(parts) + 1):
            key = ".".join(parts[:length])
            found = _at(value[key], parts[length:]) if key in value else _ABSENT
            if found is not _ABSENT:
                return found
    return _ABSENT


def _type_of(value: Any) -> str:
    return _TYPES.get(type(value), type(value).__name__)


def _same(actual: Any, expected: Any) -> bool:
    """Compare as JSON does, where true is not 1."""
    if isinstance(actual, bool) or isinstance(expected, bool):
        return actual is expected
    if isinstance(actual, Mapping) and isinstance(expected, Mapping):
        return actual.keys() == expected.keys() and all(_same(item, expected[key]) for key, item in actual.items())
    if isinstance(actual, (list, tuple)) and isinstance(expected, (list, tuple)):
        return len(actual) == len(expected) and all(map(_same, actual, expected))
    return bool(actual == expected)


def _equals(actual: Any, expected: Any) -> bool:
    return _same(actual, _converted(expected, type(actual)))


def _converted(expected: Any, kind: type) -> Any:
    """Turn the text that a template made of a number or a boolean into one again."""
    if not isinstance(expected, str):
        return expected
    if kind is bool:
        return _BOOLEANS.get(expected.strip().lower(), expected)
    if kind not in (int, float):
        return expected
    try:
        return kind(expected)
    except ValueError:
        return expected


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _contains(actual: Any, expected: Any) -> bool:
    if isinstance(actual, list):
        return any(_equals(item, expected) for item in actual)
    if isinstance(actual, (str, Mapping)):
        return isinstance(expected, str) and expected in actual
    return False


_TESTS: dict[str, Callable[[Any, Any], bool]] = {
    "equals": _equals,
    "one_of": lambda actual, allowed: any(_equals(actual, value) for value in allowed),
    "min": lambda actual, least: _is_number(actual) and actual >= least,
    "max": lambda actual, most: _is_number(actual) and actual <= most,
    "regex": lambda actual, pattern: isinstance(actual, str) and bool(re.search(pattern, actual)),
    "contains": _contains,
    "min_length": lambda actual, least: isinstance(actual, (str, list, Mapping)) and len(actual) >= least,
    "type": lambda actual, name: _type_of(actual) == name,
}
# All predicates, and what comes before the expected value in "DEBUG is True, must be False".
_WORDS = {
    "equals": "be",
    "one_of": "be one of",
    "min": "be at least",
    "max": "be at most",
    "regex": "match",
    "contains": "contain",
    "min_length": "have at least the length",
    "type": "be of the type",
    "present": "",
    "overridden": "",
}
_YES_OR_NO = {
    ("present", True): "be set",
    ("present", False): "not be set",
    ("overridden", True): "be set by the project itself",
    ("overridden", False): "be left to Django",
}


def _holds(name: str, expected: Any, actual: Any, is_overridden: bool) -> bool:
    if name == "present":
        return (actual is not _ABSENT) is expected
    if actual is _ABSENT:
        return False
    if name == "overridden":
        return is_overridden is expected
    return actual != _LAZY and _TESTS[name](actual, expected)


# --- words ------------------------------------------------------------------


def _required(name: str, expected: Any) -> str:
    if not _WORDS[name]:
        return _YES_OR_NO[name, expected]
    if isinstance(expected, float) and expected.is_integer():
        expected = int(expected)
    return f"{_WORDS[name]} {expected if name == 'type' else _short(expected)}"


def _shown(path: str, actual: Any, patterns: Sequence[str]) -> str:
    if actual is _ABSENT:
        return " is not set,"
    if actual == _LAZY:
        return " is a lazy text, which cannot be compared,"
    return "" if is_secret_path(path, patterns) else f" is {_short(actual, patterns)},"


def _short(value: Any, patterns: Sequence[str] = ()) -> str:
    text = repr(redact("", value, patterns))
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
