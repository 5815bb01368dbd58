"""What only the databases and caches can tell: each is asked once, and nothing is left in them."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any, Callable, List, Optional, Set, Tuple

from .records import Emit, Record, name_error, skipping
from .registry import Finding, finding

NEEDS_DATABASE = {"database", "migrations", "schema"}
# As many as fit in a message.
SHOWN = 5
SECONDS = 5


def run(config: Record, emit: Emit, check_again: Callable[[List[str]], None]) -> None:
    checks = set(config["checks"])
    if "migrations" in checks:
        emit({"stage": "migrations"})
        with skipping(emit, "migrations_missing"):
            tell(emit, find_missing_migrations())
    if checks & NEEDS_DATABASE:
        emit({"stage": "database"})
        run_databases(config, emit, checks, check_again)
    if "cache" in checks:
        emit({"stage": "cache"})
        run_caches(config, emit)


def tell(emit: Emit, findings: List[Finding]) -> None:
    for found in findings:
        emit({"finding": found})


def refuse_to_create(connection: Any) -> None:
    """Raise what a missing SQLite file should raise: opening it would make it."""
    if connection.vendor != "sqlite":
        return
    from django.db.utils import OperationalError

    name = str(connection.settings_dict["NAME"])
    in_memory = connection.is_in_memory_db() or name.startswith("file:")
    if not in_memory and not Path(name).exists():
        raise OperationalError(f"{name} does not exist")


# --- Databases ---


def run_databases(config: Record, emit: Emit, checks: Set[str], check_again: Callable[[List[str]], None]) -> None:
    from django.db import connections

    found = [alias for alias in config["databases"] if alias in connections.settings]
    reachable = [alias for alias in found if ask_database(alias, config, emit, checks)]
    if "database" in checks and reachable:
        with skipping(emit, "database_checks"):
            check_again(reachable)
    for alias in found:
        connection = connections[alias]
        connection.close()
        # Django 5.1 and newer can keep a pool.
        with contextlib.suppress(Exception):
            connection.close_pool()


def ask_database(alias: str, config: Record, emit: Emit, checks: Set[str]) -> bool:
    """Tell all about one database; return whether it answers."""
    from django.db import connections, transaction

    facts: Record = {"reachable": False}
    try:
        # An engine that is not installed raises here already.
        connection = connections[alias]
        facts["vendor"] = connection.vendor
        refuse_to_create(connection)
        connection.ensure_connection()
    except (Exception, SystemExit) as error:
        told = finding("database_unreachable", f"DATABASES.{alias}", name_error(error), alias)
        emit({"facts": {"databases": {alias: facts}}})
        emit({"finding": told})
        return False
    facts["reachable"] = True
    with skipping(emit, f"database {alias}"), transaction.atomic(using=alias):
        restrict(connection)
        # Each in a savepoint: after an error, PostgreSQL answers nothing more.
        with skipping(emit, f"database {alias}: server"), transaction.atomic(using=alias):
            facts.update(ask_server(connection))
        if checks & {"migrations", "schema"}:
            with skipping(emit, f"database {alias}: migrations"), transaction.atomic(using=alias):
                look_at_migrations(connection, facts)
        if "schema" in checks:
            with skipping(emit, f"database {alias}: schema"), transaction.atomic(using=alias):
                tell(emit, find_drift(connection, facts.get("unapplied", [])))
    emit({"facts": {"databases": {alias: facts}}})
    if "database" in checks:
        tell(emit, judge_server(alias, connection, facts, config))
    if "migrations" in checks:
        tell(emit, judge_migrations(alias, facts))
    return True


def restrict(connection: Any) -> None:
    """Let the transaction change nothing, and wait for nobody; both work through a pooler, unlike PGOPTIONS."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION READ ONLY")
            cursor.execute(f"SET LOCAL statement_timeout = '{SECONDS}s'")


def ask_server(connection: Any) -> Record:
    facts: Record = {"server_version": version_of(connection)}
    if connection.vendor != "postgresql":
        return facts
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_backend_pid(), (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),"
            " (SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid())"
        )
        backend, facts["superuser"], tls = cursor.fetchone()
    # A pooler has told a number of its own.
    facts["pooled"] = connection.connection.info.backend_pid != backend
    # Of a pooled connection this tells how the pooler has reached the server, which is not asked here.
    facts["tls"] = None if facts["pooled"] else tls
    return facts


def version_of(connection: Any) -> Optional[str]:
    get = getattr(connection, "get_database_version", None)
    return ".".join(map(str, get())) if get else None


def judge_server(alias: str, connection: Any, facts: Record, config: Record) -> List[Finding]:
    setting = f"DATABASES.{alias}"
    findings = []
    if facts.get("superuser"):
        findings.append(finding("database_superuser", f"{setting}.USER", "", alias))
    # Where the kind of pooler is known, the settings tell enough.
    if facts.get("pooled") and config["pooler"] == "auto":
        if not connection.settings_dict.get("DISABLE_SERVER_SIDE_CURSORS"):
            told = "a pooler answers here, and server-side cursors are on; they fail if it pools transactions"
            name = f"{setting}.DISABLE_SERVER_SIDE_CURSORS"
            findings.append({**finding("pooled_server_side_cursors", name, told, alias), "severity": "warning"})
        if connection.settings_dict.get("OPTIONS", {}).get("prepare_threshold") is not None:
            told = "a pooler answers here, and statements are prepared; they fail if it pools transactions"
            name = f"{setting}.OPTIONS.prepare_threshold"
            findings.append({**finding("pooled_prepared_statements", name, told, alias), "severity": "warning"})
    return findings


# --- Migrations ---


def find_missing_migrations() -> List[Finding]:
    from django.apps import apps
    from django.db.migrations.autodetector import MigrationAutodetector
    from django.db.migrations.loader import MigrationLoader
    from django.db.migrations.questioner import NonInteractiveMigrationQuestioner
    from django.db.migrations.state import ProjectState

    loader = MigrationLoader(None, ignore_no_migrations=True)
    # With conflicts there is no one state to compare with, and they are told of anyway.
    if loader.detect_conflicts():
        return []
    detector = MigrationAutodetector(
        loader.project_state(),
        ProjectState.from_apps(apps),
        NonInteractiveMigrationQuestioner(specified_apps=set(), dry_run=True),
    )
    findings = []
    for label, migrations in sorted(detector.changes(graph=loader.graph).items()):
        changes = [operation.describe() for migration in migrations for operation in migration.operations]
        findings.append(finding("migrations_missing", "", f"{label}: {some(changes)}", label))
    return findings


def look_at_migrations(connection: Any, facts: Record) -> None:
    from django.db.migrations.executor import MigrationExecutor

    executor = MigrationExecutor(connection)
    conflicts = executor.loader.detect_conflicts()
    facts["conflicts"] = sorted(f"{label}.{name}" for label, names in conflicts.items() for name in names)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    facts["unapplied"] = [f"{migration.app_label}.{migration.name}" for migration, _backwards in plan]
    executor.loader.check_consistent_history(connection)


def judge_migrations(alias: str, facts: Record) -> List[Finding]:
    findings = []
    if facts.get("unapplied"):
        told = f"{len(facts['unapplied'])} not applied in {alias}: {some(facts['unapplied'])}"
        findings.append(finding("migrations_unapplied", "", told, alias))
    if facts.get("conflicts"):
        told = f"several leaves of one app: {some(facts['conflicts'])}"
        findings.append(finding("migrations_conflicting", "", told, alias))
    return findings


def find_drift(connection: Any, unapplied: List[str]) -> List[Finding]:
    """Compare the tables with the models, but for apps whose migrations are yet to be applied."""
    from django.apps import apps
    from django.db import router

    findings = []
    pending = {name.partition(".")[0] for name in unapplied}
    fold = connection.introspection.identifier_converter
    with connection.cursor() as cursor:
        tables = set(connection.introspection.table_names(cursor, include_views=True))
        for model in apps.get_models(include_auto_created=True):
            meta = model._meta  # noqa: SLF001  # public but for its name
            # A quoted name belongs to another schema.
            if meta.app_label in pending or not meta.can_migrate(connection) or '"' in meta.db_table:
                continue
            if not router.allow_migrate_model(connection.alias, model):
                continue
            lacking = compare(connection, cursor, (fold(meta.db_table), meta), tables)
            if lacking:
                findings.append(finding("schema_drift", "", f"{meta.label}: {lacking}", meta.label))
    return findings


def compare(connection: Any, cursor: Any, model: Tuple[str, Any], tables: Set[str]) -> str:
    """Return what a model lacks in the database."""
    table, meta = model
    if table not in tables:
        return f"there is no table {table}"
    fold = connection.introspection.identifier_converter
    there = {column.name for column in connection.introspection.get_table_description(cursor, table)}
    columns = [field.column for field in meta.local_concrete_fields if field.column]
    missing = [column for column in columns if fold(column) not in there]
    return f"the table {table} has no column {some(missing)}" if missing else ""


def some(names: List[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


# --- Caches ---


def run_caches(config: Record, emit: Emit) -> None:
    from django.conf import settings

    for alias in config["caches"]:
        if alias in settings.CACHES:
            problem, reachable = ask_cache(alias)
            facts = {"backend": str(settings.CACHES[alias].get("BACKEND", "")), "reachable": reachable}
            emit({"facts": {"caches": {alias: facts}}})
            if problem:
                emit({"finding": finding("cache_unreachable", f"CACHES.{alias}", problem, alias)})


def ask_cache(alias: str) -> Tuple[str, Optional[bool]]:
    """Put a value into a cache, take it out and remove it; return what went wrong, and whether it answers."""
    try:
        from django.core.cache import caches

        cache = caches[alias]
        names = {base.__name__ for base in type(cache).__mro__}
        if "DummyCache" in names:
            return "", None
        directory = Path(cache._dir) if "FileBasedCache" in names else None  # noqa: SLF001
        if directory and not directory.is_dir():
            # The service would make it.
            above = next(path for path in directory.parents if path.exists())
            can_be_made = os.access(above, os.W_OK | os.X_OK)
            return ("", None) if can_be_made else (f"{directory} does not exist and cannot be made", False)
        key, value = f"settings-check-{secrets.token_hex(16)}", secrets.token_hex(16)
        cache.set(key, value, SECONDS)
        try:
            same = cache.get(key) == value
        finally:
            cache.delete(key)
            cache.close()
    except (Exception, SystemExit) as error:
        return name_error(error), False
    # Backends can be told to keep quiet about a server that is away.
    return ("", True) if same else ("a value cannot be read again that was set just before", False)
