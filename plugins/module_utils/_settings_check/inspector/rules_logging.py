"""Where errors are written. It is told from LOGGING alone: to configure logging would open its files."""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Dict, Iterable, List, NamedTuple

from .registry import Context, Finding, finding, rule
from .values import imported, installed, is_a, items, may_write_in, value

REQUEST = "django.request"
MAIL = "django.utils.log.AdminEmailHandler"
FILE_HANDLERS = frozenset(
    (
        "logging.FileHandler",
        "logging.handlers.RotatingFileHandler",
        "logging.handlers.TimedRotatingFileHandler",
        "logging.handlers.WatchedFileHandler",
    )
)
# They report errors by themselves, not by way of LOGGING.
REPORTERS = ("bugsnag", "elasticapm", "honeybadger", "newrelic", "opbeat", "raven", "rollbar")


class State(NamedTuple):
    """What dictConfig makes of one logger."""

    handlers: List[Any]  # descriptions, or handlers that are already there
    level: int = logging.NOTSET
    propagate: bool = True
    disabled: bool = False


def level_number(given: Any) -> int:
    found = logging.getLevelName(given.upper()) if isinstance(given, str) else given
    return found if isinstance(found, int) else logging.NOTSET


def applied(before: State, description: Dict[str, Any], handlers: Dict[str, Any]) -> State:
    """Configure one logger as dictConfig does: what is not mentioned stays, except for handlers."""
    level, propagate = description.get("level"), description.get("propagate")
    return State(
        [handlers[name] for name in description.get("handlers") or () if name in handlers],
        before.level if level is None else level_number(level),
        before.propagate if propagate is None else bool(propagate),
    )


def configured(states: Dict[str, State], config: Dict[str, Any]) -> Dict[str, State]:
    """Do what dictConfig does to the loggers that a failed request is told to."""
    filters = config.get("filters") or {}
    handlers = {
        name: dict(handler, filters=[filters.get(each, each) for each in handler.get("filters") or ()])
        for name, handler in (config.get("handlers") or {}).items()
    }
    loggers = {name if name != "root" else "": each for name, each in (config.get("loggers") or {}).items()}
    if config.get("root"):
        loggers[""] = config["root"]
    after = {}
    for name, state in states.items():
        if name in loggers:
            after[name] = applied(state, loggers[name] or {}, handlers)
        elif any(parent and name.startswith(parent + ".") for parent in loggers):
            after[name] = State([])
        elif name and config.get("disable_existing_loggers", True):
            after[name] = state._replace(disabled=True)
        else:
            after[name] = state
    return after


def lets_pass(context: Context, each: Any) -> bool:
    """Whether a filter lets an error pass; one that is not Django's is taken to."""
    kind = each.get("()") if isinstance(each, dict) else type(each)
    name = kind if isinstance(kind, str) else getattr(kind, "__name__", "")
    if name.endswith("RequireDebugTrue"):
        return bool(value(context, "DEBUG"))
    return not (name.endswith("RequireDebugFalse") and value(context, "DEBUG"))


def writes_errors(context: Context, handler: Any) -> bool:
    """Whether an error that comes to this handler ends up anywhere."""
    if isinstance(handler, logging.Handler):
        return handler.level <= logging.ERROR and not isinstance(handler, logging.NullHandler)
    kind = handler.get("class") or handler.get("()")
    if is_a(kind, "logging.NullHandler") or level_number(handler.get("level") or 0) > logging.ERROR:
        return False
    if kind == MAIL and not items(context, "ADMINS"):
        return False
    if handler.get("filename") == os.devnull:
        return False
    return all(lets_pass(context, each) for each in handler["filters"])


def is_told(context: Context, states: Dict[str, State], config: Dict[str, Any]) -> bool:
    """Follow an error from its logger to the last handler."""
    chain = [states[name] for name in (REQUEST, "django", "")]
    level = next((state.level for state in chain if state.level), logging.NOTSET)
    own_filters = ((config.get("loggers") or {}).get(REQUEST) or {}).get("filters") or ()
    filters = config.get("filters") or {}
    passed = all(lets_pass(context, filters.get(each, each)) for each in own_filters)
    if chain[0].disabled or level > logging.ERROR or not passed:
        return False
    reached = []
    for state in chain:
        reached += state.handlers
        if not state.propagate:
            break
    # Without any handler, Python writes to stderr by itself.
    return not reached or any(writes_errors(context, each) for each in reached)


def reports_elsewhere(context: Context) -> bool:
    sentry = sys.modules.get("sentry_sdk")
    if sentry is not None:
        client = sentry.get_client() if hasattr(sentry, "get_client") else sentry.Hub.current.client
        if client is not None and getattr(client, "dsn", None):
            return True
    listed = [str(each) for each in items(context, "MIDDLEWARE")]
    return any(installed(context, each) or any(path.startswith(each + ".") for path in listed) for each in REPORTERS)


def original(context: Context) -> Dict[str, Any]:
    config = context.seen.get("logging")
    if config is None:
        config = value(context, "LOGGING")
    return config if isinstance(config, dict) else {}


@rule("logging")
def errors_logged_nowhere(context: Context) -> Iterable[Finding]:
    from django.utils.log import DEFAULT_LOGGING

    config = original(context)
    by_itself = context.seen.get("logging_config", "logging.config.dictConfig") != "logging.config.dictConfig"
    if by_itself or config.get("incremental") or reports_elsewhere(context):
        return
    # Settings may have added handlers of their own, such as by logging.basicConfig().
    states = {name: State(list(logging.getLogger(name).handlers)) for name in ("", "django", REQUEST)}
    states[""] = states[""]._replace(level=logging.WARNING)
    states = configured(states, DEFAULT_LOGGING)
    if config:
        states = configured(states, config)
    if not is_told(context, states, config):
        yield finding("errors_logged_nowhere", "LOGGING")


def obstacle(path: str, *, may_make_folders: bool) -> str:
    """Why a file cannot be opened for writing."""
    folder = os.path.dirname(path)
    if os.path.isdir(path):
        return "is a folder"
    if os.path.exists(path):
        return "" if os.access(path, os.W_OK) else "may not be written to by this account"
    if not os.path.isdir(folder):
        return "" if may_make_folders else "cannot be made: its folder does not exist"
    return "" if may_write_in(folder) else "cannot be made: this account may not write into its folder"


@rule("logging")
def log_file_unwritable(context: Context) -> Iterable[Finding]:
    handlers = original(context).get("handlers")
    for name, handler in (handlers if isinstance(handlers, dict) else {}).items():
        given, kind = handler.get("filename"), handler.get("class")
        if not isinstance(given, (str, os.PathLike)) or "://" in str(given) or not isinstance(kind, str):
            continue
        # What is in there is no file: nothing can be told of it from here.
        path = os.path.abspath(os.fspath(given))
        if path.startswith(("/dev/", "/proc/")):
            continue
        standard = kind in FILE_HANDLERS
        if not standard and not issubclass_of_file_handler(kind):
            continue
        reason = obstacle(path, may_make_folders=not standard)
        if reason:
            yield finding("log_file_unwritable", f"LOGGING.handlers.{name}.filename", f"{path} {reason}", path)


def issubclass_of_file_handler(path: str) -> bool:
    found = imported(path)
    return isinstance(found, type) and issubclass(found, logging.FileHandler)
