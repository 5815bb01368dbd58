# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the description of the apps to what each role is told. Roles know nothing of each other; this module does."""

from __future__ import annotations

import difflib
import json
import re
import secrets as randomness
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import _store
from ._apps import App, checked, is_elsewhere, is_git, plain
from ._hosts import Place, alone
from ._settings_check import expect, verdict

POSTGRES_SOCKETS = "/run/postgresql"
POOLER_SOCKETS = "/run/pgbouncer"
REDIS_SOCKET = "/run/redis/redis-server.sock"
REDIS_TUNNEL_SOCKET = "/run/redis-tunnel/redis.sock"
INTERNAL_TLS = "/etc/internal-tls"
# nginx of an app host is to answer to this name, whichever host it is.
INTERNAL_NAME = "django-app"
INTERNAL_PORT = 8443
STATE = "/srv"
HEALTH_PATH = "/-/health"

# What an app needs that its own requirements may not name, and the modules by which one sees that they do.
FALLBACK_PACKAGES: dict[str, tuple[str, list[str]]] = {
    "gunicorn": ("gunicorn>=26.1", ["gunicorn"]),
    # Django prefers psycopg where it finds both, which a project on psycopg2 was never tried with.
    "psycopg": ("psycopg[binary]", ["psycopg", "psycopg2"]),
    "django-redis": ("django-redis", ["django_redis"]),
}
# gunicorn has served ASGI itself since then.
ASGI_PACKAGES = ["gunicorn>=26.1"]

# What nginx tells the app of a request to the site (roles/nginx_tls/templates/groundwork.conf.j2).
PROXY_HEADERS = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "$host", "X-Forwarded-Port": "443"}
# What an app says to nginx in the same words.
SITE_OPTIONS = (
    "hsts_seconds",
    "hsts_include_subdomains",
    "hsts_preload",
    "resource_policy",
    "compress_pages",
    "requests_per_second",
    "concurrent_requests",
)
# What is the affair of the host that has the app, where nginx for visitors is on another one.
INTERNAL_SITE_OPTIONS = (
    "name",
    "domains",
    "path",
    "upstream",
    "routes",
    "static_url",
    "static_root",
    "media_url",
    "media_root",
    "media_private",
    "protected_url",
    "protected_root",
    "max_body_size",
    "timeout",
)
OF_APP_HOST = ("upstream", "static_root", "media_root", "media_private", "protected_url", "protected_root")
# Connections that no pool may use: PostgreSQL's own reserve, backups, migrations, an operator at 3 a.m.
UNPOOLED_CONNECTIONS = 20
# A Django process with its libraries takes 100 to 250 MB; all processes together get half of the memory.
PROCESS_MEGABYTES = 200

Secrets = dict[str, Any]


# What a secret is made of: how many random bytes a new one has, and how many characters one must have at least.
APP_SECRETS = {"secret_key": (64, 32), "database_password": (32, 16), "redis_password": (32, 16)}
BACKUPS_SECRETS = {"backups_encryption_key": (48, 32)}
# Where PostgreSQL is on a host of its own.
POOLER_SECRETS = {"pooler_password": (32, 16)}
SITE_SECRETS = {**BACKUPS_SECRETS, **POOLER_SECRETS}
# By which hosts come to the one that keeps their backups.
STORE_KEYS = "backups_store_keys"
REPOSITORY_SECRETS = ["private_key", "access_key", "secret_key"]


def new_secrets(
    given: Mapping[str, Any], names: list[str], *, several_hosts: bool = False, saved: Sequence[str] = ()
) -> Secrets:
    """Return a new random secret for each that is missing, and nothing else.

    `names` are those of the apps; `saved` are the hosts that keep their backups on another one.
    """
    of_site = SITE_SECRETS if several_hosts else BACKUPS_SECRETS
    given = plain(given)
    new: Secrets = {
        name: randomness.token_urlsafe(size) for name, (size, _least) in of_site.items() if not given.get(name)
    }
    apps = given.get("apps") or {}
    missing = {
        name: {
            secret: randomness.token_urlsafe(size)
            for secret, (size, _least) in APP_SECRETS.items()
            if not (apps.get(name) or {}).get(secret)
        }
        for name in names
    }
    missing = {name: secrets for name, secrets in missing.items() if secrets}
    keys = {host: _store.private_key() for host in saved if not (given.get(STORE_KEYS) or {}).get(host)}
    return {**new, **({STORE_KEYS: keys} if keys else {}), **({"apps": missing} if missing else {})}


def secret_names(secrets: Mapping[str, Any], where: str = "") -> list[str]:
    """Name secrets without telling them."""
    names: list[str] = []
    for key, value in secrets.items():
        names += secret_names(value, f"{where}{key}.") if isinstance(value, Mapping) else [f"{where}{key}"]
    return names


def secret_problems(stored: Any, given: Any, names: list[str]) -> list[str]:
    """Say what is wrong with the file of the secrets, and with all secrets that are given; never a secret itself.

    What is not understood must not pass for missing: a new secret would take its place.
    """
    stored, given = plain(stored), plain(given)
    unknown = _unknown(stored, ["django_secrets"], "the file of the secrets")
    if unknown or not isinstance(given, dict):
        return unknown or ["django_secrets: must be a dictionary"]
    found = _unknown(given, [*SITE_SECRETS, "backups_credentials", STORE_KEYS, "apps"], "django_secrets")
    found += _bad_credentials(given.get("backups_credentials", {}), "django_secrets.backups_credentials")
    found += _bad_keys(given.get(STORE_KEYS, {}), f"django_secrets.{STORE_KEYS}")
    for name, (_size, least) in SITE_SECRETS.items():
        found += _bad_secret(given, name, least, "django_secrets")
    apps = given.get("apps", {})
    if not isinstance(apps, dict):
        return [*found, "django_secrets.apps: must be a dictionary with the name of an app for each key"]
    strangers = [name for name in apps if name not in names]
    for name in names:
        close = difflib.get_close_matches(name, strangers, n=1, cutoff=0.7) if name not in apps else []
        found += [f"django_secrets.apps: there is no app {stranger!r}; did you mean {name}?" for stranger in close]
    for name, secrets in apps.items():
        found += _bad_app_secrets(secrets, f"django_secrets.apps.{name}")
    return found


def _unknown(mapping: Any, known: list[str], where: str) -> list[str]:
    if not isinstance(mapping, dict):
        return [f"{where}: must be a dictionary"]
    return [f"{where}: unknown key {key!r}; there are: {', '.join(known)}" for key in mapping if key not in known]


def _bad_credentials(credentials: Any, where: str) -> list[str]:
    """Say what is not a dictionary; the role `backups` knows the rest."""
    if not isinstance(credentials, dict):
        return [f"{where}: must be a dictionary with the name of a repository for each key"]
    return [
        problem
        for name, each in credentials.items()
        for problem in _unknown(each, REPOSITORY_SECRETS, f"{where}.{name}")
    ]


def _bad_keys(keys: Any, where: str) -> list[str]:
    if not isinstance(keys, dict):
        return [f"{where}: must be a dictionary with the name of a host for each key"]
    return [problem for host, key in keys.items() for problem in _bad_key(str(key), f"{where}.{host}")]


def _bad_key(key: str, where: str) -> list[str]:
    try:
        _store.public_key(key)
    except ValueError as error:
        return [f"{where}: {error}"]
    return []


def _bad_app_secrets(secrets: Any, where: str) -> list[str]:
    found = _unknown(secrets, [*APP_SECRETS, "secret_key_fallbacks"], where)
    if not isinstance(secrets, dict):
        return found
    for name, (_size, least) in APP_SECRETS.items():
        found += _bad_secret(secrets, name, least, where)
    fallbacks = secrets.get("secret_key_fallbacks", [])
    # The environment carries them with commas between them. A part of a key would be a key, too.
    good = isinstance(fallbacks, list) and all(
        isinstance(key, str) and len(key) > 1 and "," not in key for key in fallbacks
    )
    return found if good else [*found, f"{where}.secret_key_fallbacks: must be a list of former keys without commas"]


def _bad_secret(secrets: dict[str, Any], name: str, least: int, where: str) -> list[str]:
    value = secrets.get(name, "x" * least)
    if isinstance(value, str) and len(value) >= least:
        return []
    return [f"{where}.{name}: must be a text of at least {least} characters (in quotes, if it has only digits)"]


def processes(cpus: int, memory_mb: int, apps: int) -> int:
    """Processes for each app: gunicorn's 2 x cores + 1, at least 2, within an equal share of half the memory."""
    fit = memory_mb // 2 // PROCESS_MEGABYTES // apps
    return max(2, min(2 * cpus + 1, fit))


def pool_size(max_connections: int, pools: int, threads: int) -> int:
    """Server connections for each pool: an equal share, but never more than there are threads to use them."""
    share = (max_connections - UNPOOLED_CONNECTIONS) // pools
    return max(1, min(share, threads))


def wired(apps: dict[str, App], secrets: Secrets, host: Mapping[str, Any], here: Place) -> dict[str, Any]:
    """Return what each role is told for the checked `apps`.

    Of the host it takes `cpus` and `memory_mb`; `max_connections` are those of its PostgreSQL, `store_keys` and
    `store_port` belong to SSH on the host that keeps its backups.
    """
    share = {**host, "apps": len(apps)}
    complete = [_wired_app(name, app, secrets["apps"][name], share, here) for name, app in apps.items()]
    return {
        "apps": complete,
        "runs": sorted(here.runs),
        "by_itself": here.by_itself,
        "postgres_host": here.postgres,
        "redis_host": here.redis,
        **_postgres(complete, secrets, here),
        **_pgbouncer(complete, secrets, here),
        **_redis(complete, secrets, here),
        **_internal_tls(list(apps), here),
        **_firewall(here),
        **_nginx(complete, here),
        **_backups(complete, secrets, here, host),
    }


def _backups(apps: list[App], secrets: Secrets, here: Place, host: Mapping[str, Any]) -> dict[str, Any]:
    """Databases are saved where they are, and files on the hosts that have them."""
    databases = here.postgres == here.host
    media = [saved for app in apps if "app" in here.runs for saved in _saved(app, first=here.host == here.apps[0])]
    credentials = [{"name": name, **each} for name, each in secrets.get("backups_credentials", {}).items()]
    repositories = []
    if here.host in here.saved:
        address, name = here.addresses[here.backup], here.backup
        repositories = [_store.repository(here.host, address, host["store_keys"], host["store_port"], name)]
        credentials.append({"name": name, "private_key": secrets[STORE_KEYS][here.host]})
    return {
        "saves": databases or bool(media),
        # Where it does not answer, nobody knows the keys by which its clients would recognise it.
        "store_away": here.backup if repositories and not host["store_keys"] else "",
        "backups_postgres": databases,
        "backups_media": media,
        "backups_encryption_key": secrets["backups_encryption_key"],
        "backups_repositories": repositories,
        "backups_credentials": credentials,
        "backups_store_clients": [
            {"name": host, "public_key": _store.public_key(secrets[STORE_KEYS][host])}
            for host in here.saved
            if here.host == here.backup
        ],
    }


def _saved(app: App, *, first: bool) -> list[dict[str, str]]:
    """The directories of an app to save; those that all app hosts have in common are saved by the first."""
    name, elsewhere = app["name"], app["media_storage"] == "elsewhere"
    kinds = {
        name: "media_root" if first and not elsewhere else "",
        f"{name}-protected": "protected_root" if first else "",
        f"{name}-data": "data_root",
    }
    return [{"name": key, "path": app[kind], "account": name} for key, kind in kinds.items() if kind]


def _tls(name: str) -> dict[str, str]:
    """The files that the role internal_tls makes on a host."""
    return {
        "certificate": f"{INTERNAL_TLS}/{name}.crt",
        "key": f"{INTERNAL_TLS}/{name}.key",
        "ca": f"{INTERNAL_TLS}/ca.crt",
    }


def _postgres(apps: list[App], secrets: Secrets, here: Place) -> dict[str, Any]:
    clients = here.others(here.apps) if here.postgres == here.host else []
    return {
        "postgres_databases": [
            {"name": app["name"], "owner": app["name"], "extensions": app["database_extensions"]} for app in apps
        ],
        "postgres_roles": [
            {"name": app["name"], "password": secrets["apps"][app["name"]]["database_password"]} for app in apps
        ],
        "postgres_listen_addresses": [here.address] if clients else [],
        "postgres_clients": _networks(clients),
        "postgres_tls": _tls("postgres") if clients else None,
        "postgres_pooler_password": secrets["pooler_password"] if clients else None,
    }


def _pgbouncer(apps: list[App], secrets: Secrets, here: Place) -> dict[str, Any]:
    away = here.away("postgres")
    server = here.addresses[here.postgres] if away else POSTGRES_SOCKETS
    return {
        "pgbouncer_databases": [{"name": app["name"], "host": server, "pool_size": app["pool_size"]} for app in apps],
        "pgbouncer_server_tls": _tls("pgbouncer") if away else None,
        "pgbouncer_auth_password": secrets["pooler_password"] if away else None,
    }


def _redis(apps: list[App], secrets: Secrets, here: Place) -> dict[str, Any]:
    clients = here.others(here.apps) if here.redis == here.host else []
    away = here.away("redis")
    return {
        "redis_users": [
            {
                "name": app["name"],
                "password": secrets["apps"][app["name"]]["redis_password"],
                "key_prefix": app["redis_prefix"],
            }
            for app in apps
        ],
        "redis_bind": [here.address] if clients else [],
        "redis_tls": _tls("redis") if clients else None,
        "redis_tunnel_host": here.addresses[here.redis] if away else None,
        "redis_tunnel_tls": _tls("redis-tunnel") if away else None,
    }


def _internal_tls(apps: list[str], here: Place) -> dict[str, Any]:
    """The keys of this host, one for each service that talks to another host, and the names it is known by."""
    server, client = {"usage": ["server"]}, {"usage": ["client"]}
    certificates: list[dict[str, Any]] = []
    if here.postgres == here.host and here.others(here.apps):
        certificates.append({"name": "postgres", **server})
    if here.redis == here.host and here.others(here.apps):
        certificates.append({"name": "redis", **server})
    if here.away("postgres"):
        # The apps themselves migrate, past the pool.
        certificates.append({"name": "pgbouncer", **client})
        certificates += [{"name": name, "group": _tls_group(name), **client} for name in apps]
    if here.away("redis"):
        certificates.append({"name": "redis-tunnel", **client})
    serves, asks = "app" in here.runs and here.apart, "web" in here.runs and here.apart
    if serves or asks:
        certificates.append({"name": "nginx", "usage": ["server"] * serves + ["client"] * asks})
    known_by = [INTERNAL_NAME] if serves else []
    return {
        "internal_tls_certificates": certificates,
        "internal_tls_names": [here.address, *known_by] if certificates else [],
    }


def _tls_group(app: str) -> str:
    return f"{app}-tls"


def _firewall(here: Place) -> dict[str, Any]:
    """What other hosts of the site may reach here."""
    doors = [
        (5432, here.others(here.apps) if here.postgres == here.host else []),
        (6379, here.others(here.apps) if here.redis == here.host else []),
        (INTERNAL_PORT, here.others(here.web) if here.apart and "app" in here.runs else []),
    ]
    return {
        "ports": [port for port, clients in doors if clients],
        "hardening_firewall_web": "web" in here.runs,
        "hardening_firewall_open": [{"port": port, "from": clients} for port, clients in doors if clients],
    }


def _networks(addresses: list[str]) -> list[str]:
    return [f"{address}/{128 if ':' in address else 32}" for address in addresses]


def _wired_app(name: str, app: App, secrets: Secrets, host: Mapping[str, Any], here: Place) -> App:
    count = app["processes"] or processes(host["cpus"], host["memory_mb"], host["apps"])
    prefix = f"{name}:" if app["redis_prefix"] is None else app["redis_prefix"]
    servers = [
        *(_extra_server(name, app, extra) for extra in app["extra_servers"]),
        # The last to change over, so that the site stays as it is where another one cannot.
        _server(name, {**app, "processes": count}),
    ]
    server = servers[-1]["server"]
    asgi = "asgi" in [each["server"] for each in servers]
    first = here.host == here.apps[0]
    complete = {
        **app,
        "name": name,
        "server": server,
        "servers": servers,
        "processes": count,
        "pool_size": pool_size(
            host["max_connections"],
            host["apps"] * len(here.apps),
            sum(each["processes"] for each in servers) * app["threads"],
        ),
        "redis_prefix": prefix,
        "packages": [*app["packages"], *_lacking(app["packages"], ASGI_PACKAGES if asgi else [])],
        "fallback_packages": _fallback_packages(app["packages"]),
        "socket": f"/run/gunicorn-{name}.sock",
        "root": f"{STATE}/{name}",
        "files": [{**file, "template": _absolute(file["template"])} for file in app["files"]],
        "source": app["source"] if is_git(app["source"]) else _absolute(app["source"]),
        "source_key": app["source_key"] and _absolute(app["source_key"]),
        "media_root": f"{STATE}/{name}/media",
        "data_root": f"/var/lib/django/{name}",
        "static_root": f"{STATE}/{name}/static",
        "protected_root": f"{STATE}/{name}/protected",
        "environment_file": f"/etc/django/{name}.env",
        "maintenance_flag": f"/etc/nginx/maintenance/{name}.on",
        "groups": [
            "pgbouncer",
            "redis-tunnel" if here.away("redis") else "redis",
            *([_tls_group(name)] if here.away("postgres") else []),
        ],
        # What is to happen once for all hosts happens on the first.
        "schedules": app["schedules"] if first else [],
        "workers": [_without_once(worker) for worker in app["workers"] if first or not worker["once"]],
        # Besides what the app demands, what its settings have to fit.
        "settings_check": {
            **app["settings_check"],
            "application": app["application"],
            "server": server,
            "workers": count,
            "pooler": "transaction",
            # gunicorn believes whoever comes by a unix socket.
            "url_scheme": "https",
            "proxy_headers": PROXY_HEADERS,
            "public_urls": [f"https://{domain}" for domain in app["domains"]],
        },
        "url": f"https://{app['domains'][0]}{app['path']}/",
        "probe_path": app["path"] + (app["health_path"] or HEALTH_PATH),
        "units": _units(name, app),
    }
    complete["writable_paths"] = [complete[f"{kind}_root"] for kind in ("media", "protected", "data")]
    complete["environment"] = environment(complete, secrets, here)
    complete["migrate_environment"] = migrate_environment(complete, secrets, here)
    return complete


def _extra_server(name: str, app: App, extra: dict[str, Any]) -> dict[str, Any]:
    server = _server(f"{name}-{extra['name']}", {**extra, "timeout": extra["timeout"] or app["timeout"]})
    # One for WebSockets alone has no first page.
    health_path = HEALTH_PATH if server["server"] == "asgi" else ""
    return {**server, "path": extra["path"], "health_path": health_path}


def _server(name: str, of: dict[str, Any]) -> dict[str, Any]:
    """What gunicorn is told of one server of an app."""
    kind = of["server"] or ("asgi" if of["application"].partition(":")[0].split(".")[-1] == "asgi" else "wsgi")
    return {
        "name": name,
        "application": of["application"],
        "server": kind,
        "processes": of["processes"],
        "timeout": of["timeout"],
        "socket": f"/run/gunicorn-{name}.sock",
        "health_path": of.get("health_path", ""),
    }


def _without_once(worker: App) -> App:
    return {key: value for key, value in worker.items() if key != "once"}


def _units(name: str, app: App) -> list[str]:
    """Return the units that run code of the app."""
    servers = [name, *(f"{name}-{extra['name']}" for extra in app["extra_servers"])]
    serving = [f"gunicorn-{each}@{one}.{kind}" for each in servers for one in "ab" for kind in ("service", "socket")]
    workers = [f"django-{name}-{worker['name']}.service" for worker in app["workers"]]
    scheduled = [f"django-{name}-{each['name']}.{kind}" for each in app["schedules"] for kind in ("timer", "service")]
    return serving + workers + scheduled


def _lacking(asked: list[str], requirements: list[str]) -> list[str]:
    """Return the requirements of which the app asks for no version of its own."""
    named = {_project(requirement) for requirement in asked}
    return [requirement for requirement in requirements if _project(requirement) not in named]


def _fallback_packages(asked: list[str]) -> list[dict[str, Any]]:
    wanted = _lacking(asked, list(FALLBACK_PACKAGES))
    return [
        {"name": requirement, "modules": modules}
        for project, (requirement, modules) in FALLBACK_PACKAGES.items()
        if project in wanted
    ]


def _project(requirement: str) -> str:
    name = requirement
    for end in "[<>=!~; @":
        name = name.split(end)[0]
    return name.strip().lower().replace("_", "-")


def environment(app: App, secrets: Secrets, here: Place) -> dict[str, str]:
    """The names that Django projects in the wild read, so that most need no word about them."""
    key, hosts = secrets["secret_key"], ",".join(app["domains"])
    redis = REDIS_TUNNEL_SOCKET if here.away("redis") else REDIS_SOCKET
    socket = f"{app['name']}:{quote(secrets['redis_password'], safe='')}@{redis}"
    generated = {
        "SECRET_KEY": key,
        "DJANGO_SECRET_KEY": key,
        "SECRET_KEY_FALLBACKS": ",".join(secrets.get("secret_key_fallbacks", [])),
        # "0" is false for every parser of booleans that the usual libraries have, and an integer too.
        "DEBUG": "0",
        "DJANGO_DEBUG": "0",
        "ALLOWED_HOSTS": hosts,
        "DJANGO_ALLOWED_HOSTS": hosts,
        "CSRF_TRUSTED_ORIGINS": ",".join(f"https://{domain}" for domain in app["domains"]),
        "DJANGO_SERVER": app["server"],
        # Under ASGI a kept connection belongs to a thread that may never come back.
        "CONN_MAX_AGE": "0" if app["server"] == "asgi" else "60",
        "SECURE_HSTS_SECONDS": str(app["hsts_seconds"]),
        "SECURE_HSTS_INCLUDE_SUBDOMAINS": str(int(app["hsts_include_subdomains"])),
        "SECURE_HSTS_PRELOAD": str(int(app["hsts_preload"])),
        "STATIC_URL": app["static_url"],
        "MEDIA_URL": app["media_url"],
        # What Django's setting of that name is for.
        **({"FORCE_SCRIPT_NAME": app["path"]} if app["path"] else {}),
        "MEDIA_ROOT": app["media_root"],
        "PROTECTED_ROOT": app["protected_root"],
        "DATA_DIR": app["data_root"],
        # django-redis and redis-py read the first form, django-environ's cache() the second.
        "REDIS_URL": f"unix://{socket}",
        "CACHE_URL": f"redis://{socket}",
        "CELERY_BROKER_URL": f"redis+socket://{socket}",
        "CACHE_KEY_PREFIX": app["redis_prefix"].rstrip(":"),
        **database(app["name"], secrets["database_password"], POOLER_SOCKETS, 6432),
    }
    return {**generated, **_aliases(app, generated), **{key: str(value) for key, value in app["env"].items()}}


def migrate_environment(app: App, secrets: Secrets, here: Place) -> dict[str, str]:
    """Straight to PostgreSQL, and quick to give up: behind a migration that waits for a lock, everybody waits."""
    away = here.away("postgres")
    server = here.addresses[here.postgres] if away else POSTGRES_SOCKETS
    direct = database(app["name"], secrets["database_password"], server, 5432)
    options = {"PGOPTIONS": "-c lock_timeout=2s -c statement_timeout=0"}
    if away:
        files = _tls(app["name"])
        options["PGSSLMODE"] = "verify-full"
        options |= {"PGSSLROOTCERT": files["ca"], "PGSSLCERT": files["certificate"], "PGSSLKEY": files["key"]}
    return {**direct, **_aliases(app, direct), **options}


def _aliases(app: App, generated: Mapping[str, str]) -> dict[str, str]:
    return {theirs: generated[ours] for theirs, ours in app["env_from"].items() if ours in generated}


def database(name: str, password: str, host: str, port: int) -> dict[str, str]:
    parts = {"NAME": name, "USER": name, "PASSWORD": password, "HOST": host, "PORT": str(port)}
    # A socket as ?host= is understood by libpq, dj-database-url and django-environ alike; one as a quoted host is not.
    url = f"postgres://{name}:{quote(password, safe='')}@:{port}/{name}?host={host}"
    return {
        "DATABASE_URL": url,
        **{f"DB_{key}": value for key, value in parts.items()},
        **{f"POSTGRES_{'DB' if key == 'NAME' else key}": value for key, value in parts.items()},
    }


def problems(apps: dict[str, Any], app_hosts: int = 1) -> list[str]:
    """Say everything that is wrong with the description of the apps; nothing is wrong with an empty list."""
    try:
        complete = checked(apps)
    except ValueError as error:
        return str(error).splitlines()
    found = [problem for name, app in complete.items() for problem in _check_problems(name, app)]
    found += [
        f"django_apps.{name}.media_storage: host keeps the uploads of {app_hosts} hosts apart; say shared (one "
        "directory that you mount on all of them) or elsewhere (the project keeps them in an object storage)"
        for name, app in complete.items()
        if app_hosts > 1 and app["media_storage"] == "host"
    ]
    return found + _unknown_variables(complete)


def _check_problems(name: str, app: App) -> list[str]:
    demanded = app["settings_check"]
    found = [
        *expect.check_options(demanded["expect"], {}),
        *verdict.check_ids(demanded["ignore"], demanded["severity"]),
    ]
    return [f"django_apps.{name}.settings_check.{problem}" for problem in found]


def _unknown_variables(complete: dict[str, App]) -> list[str]:
    secrets = new_secrets({}, list(complete))
    host = {"cpus": 1, "memory_mb": 1024, "max_connections": 100}
    generated = {key for app in wired(complete, secrets, host, alone(""))["apps"] for key in app["environment"]}
    there_are = ", ".join(sorted(generated))
    return [
        f"django_apps.{name}.env_from: {ours!r} is not a generated variable; there are: {there_are}"
        for name, app in complete.items()
        for ours in app["env_from"].values()
        if ours not in generated
    ]


def unreadable(lookups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Turn what pack.py says of repositories into words."""
    sources = [(lookup["app"]["key"], lookup["app"]["value"]["source"], lookup["stdout"]) for lookup in lookups]
    return [
        f"django_apps.{name}.source: git cannot read {re.sub('//[^/@]+@', '//', source)}: {json.loads(answer)['error']}"
        for name, source, answer in sources
        if "error" in json.loads(answer)
    ]


def misspelt(names: list[str], specifications: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Find variables that look like a role's own but are not: the specification of a role cannot see them."""
    known = {option: role for role, options in specifications.items() for option in options}
    found = []
    for name in sorted(set(names) - set(known)):
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.85)
        if close:
            found.append(f"{name}: the role {known[close[0]]} has no such variable; did you mean {close[0]}?")
    return found


def _site(app: App) -> dict[str, Any]:
    files = {key: _absolute(app["certificate"][key]) for key in ("certificate", "key") if app["certificate"].get(key)}
    site = {
        "name": app["name"],
        "domains": app["domains"],
        "redirect_domains": app["redirect_domains"],
        "path": app["path"],
        "upstream": app["socket"],
        "routes": [
            {"path": app["path"] + server["path"], "upstream": server["socket"], "timeout": server["timeout"]}
            for server in app["servers"]
            if "path" in server
        ],
        **_files(app, "static"),
        **_files(app, "media"),
        "media_private": (not is_elsewhere(app["media_url"]) and app["media_private"]) or None,
        **(
            {"protected_url": app["protected_url"], "protected_root": app["protected_root"]}
            if app["protected_url"]
            else {}
        ),
        "max_body_size": app["max_body_size"],
        "timeout": app["timeout"],
        "maintenance_page": app["maintenance_page"] and _absolute(app["maintenance_page"]),
        # An app that tells by its front page whether it is well has no path of its own for that.
        "health_path": None if app["health_path"] == "/" else app["probe_path"],
        "monitors": app["monitors"],
        "certificate": {"mode": app["certificate"].get("mode", "selfsigned"), **files},
        **{key: app[key] for key in SITE_OPTIONS},
    }
    return {key: value for key, value in site.items() if value is not None}


def _files(app: App, kind: str) -> dict[str, str]:
    """Where nginx finds files of a kind, unless they are on another server."""
    url = app[f"{kind}_url"]
    return {} if is_elsewhere(url) else {f"{kind}_url": url, f"{kind}_root": app[f"{kind}_root"]}


def _nginx(apps: list[App], here: Place) -> dict[str, Any]:
    """What visitors are served here, and what the web servers of other hosts are."""
    serves, asks = "app" in here.runs and here.apart, "web" in here.runs and here.apart
    # The certificate of a domain has the name of its first site.
    apps = sorted(apps, key=lambda app: app["path"])
    sites = [_site(app) for app in apps] if "web" in here.runs else []
    if asks:
        there = {"upstreams": [_endpoint(here.addresses[host]) for host in here.apps]}
        sites = [
            {key: value for key, value in {**site, **there}.items() if key not in OF_APP_HOST}
            | {
                "routes": [
                    {key: value for key, value in route.items() if key != "upstream"} for route in site["routes"]
                ]
            }
            for site in sites
        ]
    internal = [{**_internal_site(app), "internal": True} for app in apps] if serves else []
    return {
        "nginx_tls_sites": sites + internal,
        "nginx_tls_upstream_tls": {**_tls("nginx"), "name": INTERNAL_NAME} if asks else None,
        "nginx_tls_internal": {**_tls("nginx"), "port": INTERNAL_PORT} if serves else None,
    }


def _internal_site(app: App) -> dict[str, Any]:
    site = _site(app)
    return {key: site[key] for key in INTERNAL_SITE_OPTIONS if key in site}


def _endpoint(address: str) -> str:
    return f"[{address}]:{INTERNAL_PORT}" if ":" in address else f"{address}:{INTERNAL_PORT}"


def _absolute(path: str) -> str:
    """Roles look for files in places of their own; a path in an inventory is seen from where one stands."""
    return str(Path(path).expanduser().absolute())
