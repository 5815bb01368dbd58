"""Values of settings as JSON, whatever they are, without running code of the project that reading them could start."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import hashlib
import json
import math
import pathlib
import re
import uuid
from typing import Any, Dict, FrozenSet, List, Tuple

DEPTH = 12
LENGTH = 1 << 16
ITEMS = 10_000
# Longer ones cannot be written in decimal by every version of Python.
BITS = 4096


class Serialiser:
    """Goes by the type of a value: isinstance would evaluate a lazy one. What JSON cannot say becomes <its type>."""

    def __init__(self, *, exact: bool = False) -> None:
        # Exact values are not for reading, only for telling whether they are the same: nothing is left out or cut.
        self.exact = exact
        self.left = ITEMS

    def value(self, value: Any, above: FrozenSet[int] = frozenset()) -> Any:
        kind = type(value)
        if value is None or kind is bool:
            return value
        if is_lazy(kind):
            return "<lazy>"
        if issubclass(kind, enum.Enum):
            return self.value(value.value, above)
        if issubclass(kind, str):
            return self.text(str.__str__(value))
        if issubclass(kind, (dict, list, tuple, set, frozenset)):
            return self.container(value, kind, above)
        return self.scalar(value, kind)

    def text(self, value: str) -> str:
        if self.exact or len(value) <= LENGTH:
            return value
        return f"{value[:LENGTH]}… ({len(value)} characters)"

    def scalar(self, value: Any, kind: type) -> Any:  # noqa: C901, PLR0911
        if issubclass(kind, int):
            number = int.__int__(value)
            return number if number.bit_length() <= BITS else f"<int of {number.bit_length()} bits>"
        if issubclass(kind, float):
            return finite(float.__float__(value))
        if kind is decimal.Decimal:
            return finite(float(value))
        if kind is dt.timedelta:
            return finite(value.total_seconds())
        if kind in (dt.datetime, dt.date, dt.time):
            return value.isoformat()
        if issubclass(kind, pathlib.PurePath):
            return self.text(str(value))
        if kind is re.Pattern:
            return self.value(value.pattern)
        if kind is uuid.UUID:
            return str(value)
        if issubclass(kind, (bytes, bytearray)):
            return self.binary(bytes(value))
        if issubclass(kind, type) or kind.__name__ in ("function", "builtin_function_or_method"):
            return f"<{name_of(value)}>"
        return f"<{name_of(kind)}>"

    def binary(self, value: bytes) -> str:
        digest = hashlib.sha256(value).hexdigest() if self.exact else ""
        return f"<{len(value)} bytes{digest}>"

    def container(self, value: Any, kind: type, above: FrozenSet[int]) -> Any:
        if id(value) in above:
            return "<cycle>"
        if len(above) >= DEPTH:
            return f"<{name_of(kind)}, too deep>"
        inside = above | {id(value)}
        if issubclass(kind, dict):
            return {self.key(name): self.value(item, inside) for name, item in self.some(dict.items(value))}
        if issubclass(kind, (set, frozenset)):
            base: Any = set if issubclass(kind, set) else frozenset
            items = [self.value(item, inside) for item in self.some(base.__iter__(value))]
            return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
        base = list if issubclass(kind, list) else tuple
        return [self.value(item, inside) for item in self.some(base.__iter__(value))]

    def some(self, items: Any) -> List[Any]:
        """Return the items, as long as the setting has not had too many."""
        taken = []
        for item in items:
            if self.left <= 0 and not self.exact:
                break
            self.left -= 1
            taken.append(item)
        return taken

    def key(self, key: Any) -> str:
        plain = self.value(key)
        return plain if isinstance(plain, str) else json.dumps(plain)


def is_lazy(kind: type) -> bool:
    """Tell whether a type is one of Django's promises, which are evaluated by looking at them."""
    return any(
        base.__module__ == "django.utils.functional" and base.__name__ in ("Promise", "LazyObject")
        for base in kind.__mro__
    )


def finite(number: float) -> Any:
    return number if math.isfinite(number) else str(number)


def name_of(thing: Any) -> str:
    """Return the dotted path of a class or a function."""
    parts = (getattr(thing, "__module__", None), getattr(thing, "__qualname__", None))
    return ".".join(part for part in parts if isinstance(part, str) and part != "builtins")


def serialise(value: Any) -> Any:
    try:
        return Serialiser().value(value)
    except Exception:  # an object of the project may do anything
        return f"<{name_of(type(value))}>"


def fingerprint(value: Any) -> str:
    """Return the same for the same value in two processes, and nothing of the value."""
    try:
        text = json.dumps(Serialiser(exact=True).value(value), sort_keys=True)
    except Exception:
        text = name_of(type(value))
    return hashlib.sha256(text.encode()).hexdigest()


def read(settings: Any) -> Tuple[Dict[str, Any], List[str]]:
    """Return the settings by name, not yet serialised, and the names that the project sets itself."""
    values = {}
    for name in dir(settings):
        if name.isupper():
            try:
                values[name] = getattr(settings, name)
            except Exception:  # noqa: S112  # Django 6.1 has names that raise instead of being absent
                continue
    return values, sorted(name for name in values if settings.is_overridden(name))
