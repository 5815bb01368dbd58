"""The stages in which a project is loaded and looked at; each one tells what it found before the next one begins."""

from __future__ import annotations

import contextlib
import importlib
import logging.config
import os
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Set, Tuple

from . import live, registry, serialise
from .records import Emit, Record, name_error, skipping, text_of

DICT_CONFIG = "logging.config.dictConfig"
WARNINGS = 200
LENGTH = 1000


class Loaded:
    """What came of loading the project."""

    def __init__(self) -> None:
        self.values: Dict[str, Any] = {}
        self.overridden: List[str] = []
        self.logging: Any = {}
        self.logging_config: Any = None
        self.queries = False
        self.threads: List[str] = []
        self.finished = False


class Enough(BaseException):
    """The settings were read, and nothing more is wanted."""


def main(config: Dict[str, Any], emit: Emit) -> None:
    """Tell all that there is to tell, and say at the end that this was all."""
    prepare(config)
    emit({"stage": "django"})
    try:
        import django
    except BaseException as error:
        emit({"error": describe(error, config["chdir"])})
        return
    emit({"facts": {"django_version": django.get_version(), "python_version": sys.version.split()[0]}})
    emit({"stage": "settings"})
    loading = Loading(config, emit)
    try:
        loading.run()
    except Enough:
        emit({"done": True})
        return
    except BaseException as error:
        problem = describe(error, config["chdir"])
        problem["settings_module"] = os.environ.get("DJANGO_SETTINGS_MODULE", "")
        emit({"error": problem})
        return
    look(config, emit, loading)
    emit({"done": True})


def prepare(config: Dict[str, Any]) -> None:
    """Make the interpreter one that gunicorn has begun to load an application in."""
    sys.argv = ["gunicorn", *([config["application"]] if config["application"] else [])]
    # Where the program gunicorn is, then what it puts before that.
    for path in [str(Path(sys.executable).parent), config["chdir"], *map(os.path.abspath, config["pythonpath"])]:
        if path not in sys.path:
            sys.path.insert(0, path)


class Loading:
    """Loads the project as its service does, but for its logging: that would make files."""

    def __init__(self, config: Dict[str, Any], emit: Emit) -> None:
        import django
        from django.conf import settings

        self.config = config
        self.emit = emit
        self.settings = settings
        self.setup = django.setup
        self.loaded = Loaded()
        self.warnings: List[Dict[str, Any]] = []
        self.configured: Any = None

    def run(self) -> None:
        import django

        application = self.config["application"]
        if not application and self.config["settings"]:
            os.environ["DJANGO_SETTINGS_MODULE"] = self.config["settings"]
        django.setup = self.set_up
        for name in ("dictConfig", "fileConfig"):
            setattr(logging.config, name, self.note_logging)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            warnings.showwarning = self.note_warning
            if application:
                self.import_application(application)
            self.set_up()

    def import_application(self, application: str) -> None:
        module, _colon, name = application.partition(":")
        found = getattr(importlib.import_module(module), name or "application", None)
        if not callable(found):
            # As when it is not there at all.
            raise AttributeError(f"{module} has no callable {name or 'application'}")  # noqa: TRY004

    def set_up(self, set_prefix: bool = True) -> None:  # noqa: FBT002  # the signature of Django
        """Stand in for django.setup, which the application calls."""
        if self.loaded.finished:
            return
        self.tell_module()
        self.read_settings()
        self.tell_module()
        if self.config["fingerprints"]:
            prints = {name: serialise.fingerprint(value) for name, value in self.loaded.values.items()}
            self.emit({"fingerprints": prints})
        if self.config["only_settings"]:
            raise Enough
        self.emit({"stage": "setup"})
        self.settings.LOGGING_CONFIG = None
        bound_waiting(self.config)
        with noting_queries(self.loaded):
            self.setup(set_prefix=set_prefix)
        self.loaded.finished = True
        here = threading.current_thread()
        others = [thread for thread in threading.enumerate() if thread is not here and not thread.daemon]
        self.loaded.threads = [thread.name for thread in others]

    def tell_module(self) -> None:
        self.emit({"facts": {"settings_module": self.module()}})

    def module(self) -> str:
        configured = self.settings.configured and getattr(self.settings, "SETTINGS_MODULE", None)
        return str(configured or os.environ.get("DJANGO_SETTINGS_MODULE", ""))

    def read_settings(self) -> None:
        # Before anybody asks for connections: that adds defaults to DATABASES.
        # This loads them; what warns from here on is only the reading of all of them.
        self.settings.is_overridden("DEBUG")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            values, overridden = serialise.read(self.settings)
        self.loaded.values, self.loaded.overridden = values, overridden
        self.loaded.logging, self.loaded.logging_config = values.get("LOGGING"), values.get("LOGGING_CONFIG")
        if self.configured is not None:
            # The settings have called it themselves, in place of Django.
            self.loaded.logging, self.loaded.logging_config = self.configured, DICT_CONFIG
        file = getattr(sys.modules.get(self.module()), "__file__", None) or ""
        told = {name: serialise.serialise(value) for name, value in values.items()}
        self.emit({"facts": {"settings_file": file}})
        self.emit({"settings": told, "overridden": overridden})

    def note_logging(self, config: Any = None, *_arguments: Any, **_options: Any) -> None:
        if isinstance(config, dict):
            self.configured = config

    def note_warning(  # noqa: PLR0913, PLR0917  # the signature of warnings.showwarning
        self,
        message: Any,
        category: Any,
        filename: str,
        lineno: int,
        file: Any = None,  # noqa: ARG002
        line: Any = None,  # noqa: ARG002
    ) -> None:
        if len(self.warnings) < WARNINGS:
            noted = {"message": str(message)[:LENGTH], "filename": filename, "lineno": lineno}
            self.warnings.append({"category": category.__name__, **noted})


def bound_waiting(config: Dict[str, Any]) -> None:
    """Have libpq give up long before the deadline, unless the service sets another time itself."""
    os.environ.setdefault("PGCONNECT_TIMEOUT", str(max(2, int(min(5, config["timeout"] / 4)))))


@contextlib.contextmanager
def noting_queries(loaded: Loaded) -> Iterator[None]:
    """Tell whether a database is asked for, and from here on never let SQLite make one, nor a cache its folder."""
    from django.core.cache.backends.filebased import FileBasedCache
    from django.db.backends.base.base import BaseDatabaseWrapper as Wrapper

    connect = Wrapper.connect
    ensure = Wrapper.ensure_connection

    def guarded(self: Any, *arguments: Any, **options: Any) -> Any:
        live.refuse_to_create(self)
        return connect(self, *arguments, **options)

    def noted(self: Any) -> Any:
        loaded.queries = True
        return ensure(self)

    # Django's own checks look at each cache, and that makes its folder.
    FileBasedCache._createdir = lambda _self: None  # noqa: SLF001
    Wrapper.connect = guarded
    Wrapper.ensure_connection = noted
    try:
        yield
    finally:
        Wrapper.ensure_connection = ensure


def look(config: Dict[str, Any], emit: Emit, loading: Loading) -> None:
    """Check what was loaded, one group after the other."""
    effective_databases(emit, loading)
    context = make_context(config, loading)
    checks = set(config["checks"])
    emit({"stage": "rules"})
    run_rules(context, emit, checks - {"request", "static"})
    seen: Set[Tuple[str, str, str]] = set()
    if "django" in checks:
        emit({"stage": "django_checks"})
        run_django_checks(emit, [], seen)
    for group in ("request", "static"):
        if group in checks:
            emit({"stage": group})
            run_rules(context, emit, {group})

    def check_again(aliases: List[str]) -> None:
        if "django" in checks:
            run_django_checks(emit, aliases, seen)

    live.run(config, emit, check_again)


def effective_databases(emit: Emit, loading: Loading) -> None:
    """Tell the databases once more, with the defaults that Django adds when they are used."""
    from django.db import connections

    with contextlib.suppress(Exception):
        emit({"settings": {"DATABASES": serialise.serialise(connections.settings)}, "overridden": []})
    emit({"facts": {"aliases": {"databases": aliases("DATABASES", loading), "caches": aliases("CACHES", loading)}}})


def aliases(setting: str, loading: Loading) -> List[str]:
    with contextlib.suppress(Exception):
        return [str(alias) for alias in getattr(loading.settings, setting)]
    return []


def make_context(config: Dict[str, Any], loading: Loading) -> registry.Context:
    import django

    loaded = loading.loaded
    seen = {
        "warnings": loading.warnings,
        "queries_in_ready": loaded.queries,
        "threads": loaded.threads,
        "logging": loaded.logging,
        "logging_config": loaded.logging_config,
        "expected_settings": config["settings"],
        "settings_module": loading.module(),
        "settings_explained": explain(config, loading.module()),
    }
    return registry.Context(loading.settings, frozenset(loaded.overridden), django.VERSION[:2], config, seen)


def explain(config: Dict[str, Any], module: str) -> str:
    """Tell why it is this module and no other."""
    files = ", ".join(config["environment_files"])
    if "DJANGO_SETTINGS_MODULE" not in config["known"]:
        return f"DJANGO_SETTINGS_MODULE is not in {files or 'the environment'}"
    if config["module_given"] == module:
        return f"{files or 'the environment'} sets DJANGO_SETTINGS_MODULE"
    return f"{config['application']} does not heed DJANGO_SETTINGS_MODULE, which is {config['module_given']}"


def run_rules(context: registry.Context, emit: Emit, groups: Set[str]) -> None:
    for group, function in registry.RULES:
        if group in groups:
            with skipping(emit, function.__name__):
                for found in function(context):
                    emit({"finding": found})


def run_django_checks(emit: Emit, aliases: List[str], seen: Set[Tuple[str, str, str]]) -> None:
    """Run what `check --deploy` runs; seen are the messages of a former run, which are not told again."""
    from django.core import checks
    from django.core.checks.registry import registry as registered

    try:
        messages = checks.run_checks(include_deployment_checks=True, databases=aliases)
    except (Exception, SystemExit):
        # One that raises ends them all.
        messages = []
        for check in registered.get_checks(include_deployment_checks=True):
            if "database" in getattr(check, "tags", ()) and not aliases:
                continue
            with skipping(emit, f"{check.__module__}.{check.__name__}"):
                messages.extend(check(app_configs=None, databases=aliases))
    for message in messages:
        found = describe_message(message)
        key = (found["id"], found["message"], found["object"])
        if key not in seen:
            seen.add(key)
            emit({"finding": found})


def describe_message(message: Any) -> Record:
    return {
        "id": str(message.id or "unnamed"),
        "source": "django",
        "level": int(message.level),
        "message": str(message.msg),
        "hint": str(message.hint or ""),
        "object": name_object(message.obj),
        "silenced": bool(message.is_silenced()),
    }


def name_object(thing: Any) -> str:
    if thing is None:
        return ""
    meta = getattr(thing, "_meta", None)
    try:
        return str(meta.label if isinstance(thing, type) and meta else thing)[:LENGTH]
    except Exception:
        return serialise.name_of(type(thing))


def describe(error: BaseException, chdir: str) -> Record:
    """Tell of an error what a person needs who mends it, without the values that a traceback shows."""
    described: Record = {"type": type(error).__name__, "message": text_of(error), "cause": []}
    described["file"], described["line"], described["missing"] = locate(error, chdir)
    cause = error.__cause__
    while cause is not None and len(described["cause"]) < 5:  # noqa: PLR2004
        described["cause"].append(name_error(cause))
        cause = cause.__cause__
    if isinstance(error, ImportError):
        described["module"] = error.name or ""
    return described


def locate(error: BaseException, chdir: str) -> Tuple[str, Optional[int], str]:
    """Return the last line of the project that led to the error, and the variable that it lacks."""
    chdir = os.path.realpath(chdir)
    places: List[Tuple[str, Optional[int]]] = []
    missing = ""
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.insert(0, (code.co_filename, trace.tb_lineno))
        is_environment = code.co_name == "__getitem__" and Path(code.co_filename).name in (
            "os.py",
            "<frozen os>",
        )
        missing = str(error.args[0]) if is_environment and isinstance(error, KeyError) and error.args else ""
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        places.insert(0, (error.filename, error.lineno))
    for filename, line in places:
        if is_of_project(filename, chdir):
            return os.path.relpath(os.path.realpath(filename), chdir), line, missing
    return "", None, missing


def is_of_project(filename: str, chdir: str) -> bool:
    # What has no file is called <frozen os> or <string>.
    path = "" if filename.startswith("<") else os.path.realpath(filename)
    return path.startswith(f"{chdir}/") and not path.startswith(f"{sys.prefix}/")
