"""What several rules need: settings, classes and paths, none of which makes a rule fail."""

from __future__ import annotations

import os
import warnings
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from .registry import Context


def value(context: Context, name: str, default: Any = None) -> Any:
    """Read a setting, also one that Django refuses to give or warns about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return getattr(context.settings, name, default)
        except Exception:  # ImproperlyConfigured, for an empty SECRET_KEY
            return default


def items(context: Context, name: str) -> List[Any]:
    """Read a setting that is a list."""
    found = value(context, name)
    return list(found) if isinstance(found, (list, tuple, set, frozenset)) else []


def entries(context: Context, name: str) -> Iterator[Tuple[str, Dict[str, Any]]]:
    """Read a setting with an alias for each of its entries, such as DATABASES."""
    found = value(context, name)
    for alias, entry in found.items() if isinstance(found, dict) else ():
        if isinstance(entry, dict):
            yield str(alias), entry


def several_workers(context: Context) -> bool:
    return int(context.options.get("workers") or 1) > 1


def installed(context: Context, app: str) -> bool:
    """Whether an app is there, by its name or by its AppConfig."""
    return any(
        isinstance(each, str) and (each + ".").startswith(app + ".") for each in items(context, "INSTALLED_APPS")
    )


def imported(path: Any) -> Any:
    """Import what a dotted path names; None if that does not work, which is for others to tell."""
    from django.utils.module_loading import import_string

    try:
        return import_string(path)
    except Exception:
        return None


def is_a(path: Any, *bases: str) -> bool:
    """Whether a dotted path names one of these classes, or one that is made of it."""
    if not isinstance(path, str) or path in bases:
        return isinstance(path, str)
    found = imported(path)
    classes = tuple(base for base in map(imported, bases) if isinstance(base, type))
    return isinstance(found, type) and issubclass(found, classes)


def first_of(paths: Iterable[Any], base: str) -> Any:
    """Import the first of these classes that is this one or made of it."""
    return next((imported(path) for path in paths if is_a(path, base)), None)


def is_inside(path: Any, folder: Any) -> bool:
    """Whether a path is a folder or something in it, with all links followed."""
    inner, outer = str(os.path.realpath(path)), str(os.path.realpath(folder))
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)


def may_write_in(folder: Any) -> bool:
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)
