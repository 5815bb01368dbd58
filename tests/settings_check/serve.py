"""Runs the rules on projects, each in a process of its own: a line of JSON in, a line out.

It stands in for the inspector's stages, and is run by the interpreter that has Django.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
import warnings
from typing import Any, Dict

sys.path.insert(0, sys.argv[1])
TOPICS = "data files logging mail names request security source types".split()


def prepare() -> None:
    """Import what every project needs, once."""
    for name in TOPICS:
        importlib.import_module("inspector.rules_" + name)
    for name in (
        "conf.global_settings",
        "contrib.staticfiles.finders",
        "contrib.staticfiles.storage",
        "core.checks",
        "core.handlers.wsgi",
        "db.backends.postgresql.base",
        "db.models",
        "db.models.sql.compiler",
        "forms",
        "middleware.csrf",
        "template.engine",
        "template.backends.django",
        "template.loader_tags",
        "test.client",
        "urls",
        "views.debug",
        "views.generic",
    ):
        importlib.import_module("django." + name)


def load(request: Dict[str, Any]) -> Dict[str, Any]:
    from django.conf import settings

    os.chdir(request["project"])
    sys.path.insert(0, request["project"])
    os.environ.update(request["environment"])
    import django

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        raw, by = settings.LOGGING, settings.LOGGING_CONFIG
        settings.LOGGING_CONFIG = None
        django.setup()
    return {
        "warnings": [
            {
                "category": each.category.__name__,
                "message": str(each.message),
                "filename": each.filename,
                "lineno": each.lineno,
            }
            for each in caught
        ],
        "logging": raw,
        "logging_config": by,
        "settings_module": settings.SETTINGS_MODULE,
        "expected_settings": request["options"].get("settings"),
        "settings_explained": "DJANGO_SETTINGS_MODULE is not set",
    }


def inspect(request: Dict[str, Any]) -> Dict[str, Any]:
    from inspector.registry import RULES, Context

    seen = load(request)
    import django
    from django.conf import settings

    options = request["options"]
    explicit = frozenset(name for name in dir(settings) if name.isupper() and settings.is_overridden(name))
    context = Context(settings, explicit, django.VERSION[:2], options, seen)
    found, skipped = [], []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for group, rule in RULES:
            if group in options["checks"]:
                try:
                    found += list(rule(context))
                except Exception:
                    skipped.append(traceback.format_exc())
    return {"findings": found, "skipped": skipped}


def answer(request: Dict[str, Any]) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            result = inspect(request)
        except BaseException:
            result = {"findings": [], "skipped": [traceback.format_exc()]}
        with os.fdopen(writing, "w") as pipe:
            pipe.write(json.dumps(result))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        print(pipe.read(), flush=True)
    os.waitpid(child, 0)


if __name__ == "__main__":
    prepare()
    for line in sys.stdin:
        answer(json.loads(line))
