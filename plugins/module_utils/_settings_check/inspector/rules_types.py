"""Settings of the wrong type: texts, mostly, as the environment gives them."""

from __future__ import annotations

from typing import Any, Iterable

from .registry import Context, Finding, finding, rule
from .values import entries, value

# A lazy object is none of them, and is not looked into. A stray comma makes a tuple.
NOT_BOOL = (str, bytes, list, tuple, dict, set, frozenset)
DATABASE_BOOLS = ("ATOMIC_REQUESTS", "AUTOCOMMIT", "CONN_HEALTH_CHECKS", "DISABLE_SERVER_SIDE_CURSORS")
# Django or Python convert these, or only ask whether something is in them.
HARMLESS = frozenset(
    ("EMAIL_PORT", "FIRST_DAY_OF_WEEK", "INTERNAL_IPS", "SECURE_HSTS_SECONDS", "SECURE_REFERRER_POLICY")
)


def described(kind: type) -> str:
    return "a text" if kind is str else "a " + kind.__name__


def is_bool(given: Any) -> bool:
    return not issubclass(type(given), NOT_BOOL)


@rule("settings")
def types(context: Context) -> Iterable[Finding]:
    from django.conf import global_settings

    for name in sorted(context.explicit):
        default, own = getattr(global_settings, name, None), value(context, name)
        kind = type(own)
        if isinstance(default, bool) and not is_bool(own):
            message = f"{name} is {described(kind)}, not a bool, and counts as {'true' if own else 'false'}"
            yield finding("type_bool", name, message)
        elif type(default) in (int, list) and issubclass(kind, (str, bytes)) and name not in HARMLESS:
            wanted = "a list" if isinstance(default, list) else "a number"
            yield finding("type_mismatch", name, f"{name} is {described(kind)}, but Django needs {wanted}")


@rule("settings")
def types_of_databases(context: Context) -> Iterable[Finding]:
    for alias, database in entries(context, "DATABASES"):
        for name in DATABASE_BOOLS:
            if not is_bool(database.get(name)):
                setting = f"DATABASES.{alias}.{name}"
                yield finding("type_bool", setting, f"{setting} is {described(type(database[name]))}, not a bool")
        age = database.get("CONN_MAX_AGE")
        if age is not None and not isinstance(age, (int, float)):
            setting = f"DATABASES.{alias}.CONN_MAX_AGE"
            yield finding("type_conn_max_age", setting, f"{setting} is {described(type(age))}, not a number")
