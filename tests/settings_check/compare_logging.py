"""Compares what a rule makes of LOGGING with what Python does, for configurations at random.

Run by the interpreter that has Django: compare_logging.py FOLDER SEED NUMBER. Prints how many lose errors.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import logging
import logging.config
import random
import sys
import types
from typing import Any, Dict, List

sys.path.insert(0, sys.argv[1])
FILTERS = {name: {"()": f"django.utils.log.{name}"} for name in ("RequireDebugTrue", "RequireDebugFalse")}
CLASSES = ("sink.Sink", "sink.Sink", "logging.NullHandler", "django.utils.log.AdminEmailHandler")
HANDLERS = ("first", "second", "third")
written: List[str] = []


class Sink(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        written.append(record.getMessage())


def configuration(chance: random.Random) -> Dict[str, Any]:
    def some(**choices: List[Any]) -> Dict[str, Any]:
        return {name: chance.choice(values) for name, values in choices.items() if chance.random() < 0.4}

    def logger() -> Dict[str, Any]:
        handlers: Dict[str, Any] = {}
        if chance.random() < 0.7:
            handlers["handlers"] = chance.sample(HANDLERS, chance.randint(0, 2))
        return {**handlers, **some(level=["INFO", "ERROR", "CRITICAL", "NOTSET"], filters=[[each] for each in FILTERS])}

    config: Dict[str, Any] = {"version": 1, "filters": FILTERS}
    config["handlers"] = {
        name: {
            "class": chance.choice(CLASSES),
            **some(level=["DEBUG", "ERROR", "CRITICAL", 50], filters=[[each] for each in FILTERS]),
        }
        for name in HANDLERS
    }
    names = [name for name in ("django", "django.request", "django.server", "shop") if chance.random() < 0.4]
    config["loggers"] = {name: {**logger(), **some(propagate=[True, False])} for name in names}
    if chance.random() < 0.5:
        root = logger()
        if chance.random() < 0.8:
            config["root"] = root
        else:
            config["loggers"][""] = root
    return {**config, **some(disable_existing_loggers=[True, False, False])}


def forget() -> None:
    logging.root.manager.loggerDict.clear()
    logging.root.handlers[:], logging.root.filters[:] = [], []
    logging.root.setLevel(logging.WARNING)
    logging.getLogger("django.request")


def python_writes(config: Dict[str, Any]) -> bool:
    from django.utils.log import DEFAULT_LOGGING

    forget()
    for each in (DEFAULT_LOGGING, config):
        logging.config.dictConfig(copy.deepcopy(each))
    written.clear()
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        logging.getLogger("django.request").error("it fails")
    forget()
    return bool(written or stderr.getvalue())


def main(seed: str, number: str) -> None:
    import django
    from django.conf import settings
    from inspector.registry import Context
    from inspector.rules_logging import errors_logged_nowhere

    sink: Any = types.ModuleType("sink")
    sink.Sink = Sink
    sys.modules["sink"] = sink
    settings.configure(DEBUG=False, ADMINS=[], LOGGING_CONFIG=None, SECRET_KEY="x")
    django.setup()
    chance, lost = random.Random(seed), 0  # noqa: S311
    for count in range(int(number)):
        config = configuration(chance)
        context = Context(settings, frozenset(), django.VERSION[:2], {}, {"logging": config})
        nowhere, expected = bool(list(errors_logged_nowhere(context))), not python_writes(config)
        assert nowhere == expected, f"number {count}: {json.dumps(config)}"
        lost += expected
    print(lost)


if __name__ == "__main__":
    main(*sys.argv[2:])
