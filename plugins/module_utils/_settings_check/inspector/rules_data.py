"""Databases, caches and sessions, as far as the settings tell."""

from __future__ import annotations

import os
import socket
from typing import Any, Dict, Iterable, Iterator, Tuple

from .registry import Context, Finding, finding, rule
from .values import entries, installed, is_a, items, several_workers, value

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
DUMMY = "django.core.cache.backends.dummy.DummyCache"
CACHED_SESSIONS = "django.contrib.sessions.backends.cached_db"
STALE = "Each worker goes on with its own, older copy of a session: carts and messages get lost"
FILES = ("sqlite3", "spatialite")
# These let a server, or whoever stands between, talk without TLS.
OPEN_MODES = (None, "", "disable", "allow", "prefer")


def engine(database: Dict[str, Any]) -> str:
    return str(database.get("ENGINE") or "").rpartition(".")[2]


def options(database: Dict[str, Any]) -> Dict[str, Any]:
    found = database.get("OPTIONS")
    return found if isinstance(found, dict) else {}


def is_postgresql(database: Dict[str, Any]) -> bool:
    # Packages that build on it have modules such as django_prometheus.db.backends.postgresql.
    name = str(database.get("ENGINE") or "").lower()
    return "postgres" in name or "postgis" in name


def servers(context: Context) -> Iterator[Tuple[str, Dict[str, Any]]]:
    for alias, database in entries(context, "DATABASES"):
        if engine(database) not in (*FILES, "dummy", ""):
            yield alias, database


def is_kept(database: Dict[str, Any]) -> bool:
    age = database.get("CONN_MAX_AGE", 0)
    return age is None or (isinstance(age, (int, float)) and age != 0)


@rule("settings")
def database_sqlite(context: Context) -> Iterable[Finding]:
    for alias, database in entries(context, "DATABASES"):
        read_only = any(word in str(database.get("NAME")) for word in ("mode=ro", "immutable=1"))
        if engine(database) in FILES and several_workers(context) and not read_only:
            severity = "" if alias == "default" else "warning"
            yield finding("database_sqlite", f"DATABASES.{alias}.ENGINE", severity=severity)


def address(database: Dict[str, Any]) -> Tuple[str, str]:
    return str(database.get("HOST") or ""), str(database.get("PORT") or "")


@rule("settings")
def pooled(context: Context) -> Iterable[Finding]:
    if context.options.get("pooler") != "transaction":
        return
    databases = dict(entries(context, "DATABASES"))
    through = address(databases.get("default", {}))
    for alias, database in databases.items():
        # One at another address is not known to be pooled.
        if not is_postgresql(database) or address(database) != through:
            continue
        # A text has its own finding, and counts as true.
        if not database.get("DISABLE_SERVER_SIDE_CURSORS"):
            yield finding("pooled_server_side_cursors", f"DATABASES.{alias}.DISABLE_SERVER_SIDE_CURSORS")
        if options(database).get("prepare_threshold") is not None:
            yield finding("pooled_prepared_statements", f"DATABASES.{alias}.OPTIONS.prepare_threshold")


@rule("settings")
def kept_connections(context: Context) -> Iterable[Finding]:
    for alias, database in servers(context):
        if not is_kept(database):
            continue
        if context.options.get("server") == "asgi":
            yield finding("asgi_persistent_connections", f"DATABASES.{alias}.CONN_MAX_AGE")
        if not database.get("CONN_HEALTH_CHECKS"):
            yield finding("no_connection_health_checks", f"DATABASES.{alias}.CONN_HEALTH_CHECKS")


def is_remote(host: str) -> bool:
    """Whether the way to it leads over a network; PostgreSQL takes several, and the path of a socket."""
    local = ("", "localhost", "::1", socket.gethostname().lower())
    hosts = [each.strip().lower() for each in host.split(",")]
    return any(each not in local and not each.startswith(("/", "@", "127.")) for each in hosts)


@rule("settings")
def database_no_tls(context: Context) -> Iterable[Finding]:
    for alias, database in entries(context, "DATABASES"):
        given = options(database)
        # A service names a file of libpq's own, which may say it.
        if not is_postgresql(database) or given.get("service"):
            continue
        mode = given.get("sslmode") or os.environ.get("PGSSLMODE")
        # With the certificates of the system, libpq verifies unless it is told not to.
        verified = given.get("sslrootcert") == "system" and not mode
        if is_remote(str(database.get("HOST") or "")) and mode in OPEN_MODES and not verified:
            yield finding("database_no_tls", f"DATABASES.{alias}.OPTIONS.sslmode")


def session_cache(context: Context) -> Tuple[str, str]:
    """The engine of the sessions, as Django's own class of it, and the alias of its cache; both empty without."""
    middleware = any(str(each).endswith(".SessionMiddleware") for each in items(context, "MIDDLEWARE"))
    if not middleware and not installed(context, "django.contrib.sessions"):
        return "", ""
    name, alias = str(value(context, "SESSION_ENGINE")), str(value(context, "SESSION_CACHE_ALIAS", "default"))
    for known in ("django.contrib.sessions.backends.cache", CACHED_SESSIONS):
        # Django's own are told by their names, which spares an import.
        own = not name.startswith("django.contrib.sessions.")
        if name == known or (own and is_a(name + ".SessionStore", known + ".SessionStore")):
            return known, alias
    return "", ""


@rule("settings")
def caches(context: Context) -> Iterable[Finding]:
    store, store_alias = session_cache(context)
    for alias, cache in entries(context, "CACHES"):
        backend, setting = cache.get("BACKEND"), f"CACHES.{alias}.BACKEND"
        if several_workers(context) and is_a(backend, LOCMEM, DUMMY):
            if store and alias == store_alias:
                # The database has them as well, so nobody is logged out, but what is read may be old.
                in_database = store == CACHED_SESSIONS
                message = STALE if in_database else ""
                severity = "warning" if in_database else ""
                yield finding("session_in_process_memory", "SESSION_ENGINE", message, severity=severity)
            # One fault is told once.
            if alias == "default" or not (store and alias == store_alias):
                severity = "" if alias == "default" else "warning"
                yield finding("cache_not_shared", setting, subject=str(backend), severity=severity)
        shared = any(word in str(backend).lower() for word in ("redis", "memcached", "valkey"))
        if shared and not cache.get("KEY_PREFIX") and not cache.get("KEY_FUNCTION"):
            yield finding("cache_no_key_prefix", f"CACHES.{alias}.KEY_PREFIX")
