# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the description of the apps to what each role is told. Roles know nothing of each other; this module does."""

from __future__ import annotations

import difflib
import secrets as randomness
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ._apps import App, checked, plain
from ._settings_check import expect, verdict

POSTGRES_SOCKETS = "/run/postgresql"
POOLER_SOCKETS = "/run/pgbouncer"
REDIS_SOCKET = "/run/redis/redis-server.sock"
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
# Connections that no pool may use: PostgreSQL's own reserve, backups, migrations, an operator at 3 a.m.
UNPOOLED_CONNECTIONS = 20
# A Django process with its libraries takes 100 to 250 MB; all processes together get half of the memory.
PROCESS_MEGABYTES = 200

Secrets = dict[str, Any]


# What a secret is made of: how many random bytes a new one has, and how many characters one must have at least.
APP_SECRETS = {"secret_key": (64, 32), "database_password": (32, 16), "redis_password": (32, 16)}
BACKUPS_KEY = (48, 32)
REPOSITORY_SECRETS = ["private_key", "access_key", "secret_key"]


def complete_secrets(given: Mapping[str, Any], names: list[str]) -> Secrets:
    """Return the given secrets and, where one is missing, a new random one."""
    return _merged(plain(given), new_secrets(given, names))


def new_secrets(given: Mapping[str, Any], names: list[str]) -> Secrets:
    """Return a new random secret for each that is missing, and nothing else."""
    given = plain(given)
    new: Secrets = {}
    if not given.get("backups_encryption_key"):
        new["backups_encryption_key"] = randomness.token_urlsafe(BACKUPS_KEY[0])
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
    return {**new, "apps": missing} if missing else new


def secret_names(secrets: Mapping[str, Any], where: str = "") -> list[str]:
    """Name secrets without telling them."""
    names: list[str] = []
    for key, value in secrets.items():
        names += secret_names(value, f"{where}{key}.") if isinstance(value, Mapping) else [f"{where}{key}"]
    return names


def lacks_secrets(given: Mapping[str, Any], names: list[str]) -> bool:
    return bool(new_secrets(given, names))


def _merged(first: Secrets, second: Mapping[str, Any]) -> Secrets:
    merged = {**first}
    for key, value in second.items():
        merged[key] = _merged(merged.get(key) or {}, value) if isinstance(value, Mapping) else value
    return merged


def secret_problems(stored: Any, given: Any, names: list[str]) -> list[str]:
    """Say what is wrong with the file of the secrets, and with all secrets that are given; never a secret itself.

    What is not understood must not pass for missing: a new secret would take its place.
    """
    stored, given = plain(stored), plain(given)
    unknown = _unknown(stored, ["django_secrets"], "the file of the secrets")
    if unknown or not isinstance(given, dict):
        return unknown or ["django_secrets: must be a dictionary"]
    found = _unknown(given, ["backups_encryption_key", "backups_credentials", "apps"], "django_secrets")
    found += _bad_credentials(given.get("backups_credentials", {}), "django_secrets.backups_credentials")
    found += _bad_secret(given, "backups_encryption_key", BACKUPS_KEY[1], "django_secrets")
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


def pool_size(max_connections: int, apps: int, threads: int) -> int:
    """Server connections for each app: an equal share, but never more than it has threads to use them."""
    share = (max_connections - UNPOOLED_CONNECTIONS) // apps
    return max(1, min(share, threads))


def wired(apps: dict[str, App], secrets: Secrets, host: Mapping[str, int]) -> dict[str, Any]:
    """Return what each role is told for the checked `apps` on a host with `cpus`, `memory_mb`, `max_connections`."""
    complete = [_wired_app(name, app, secrets["apps"][name], host, len(apps)) for name, app in apps.items()]
    return {
        "apps": complete,
        "postgres_databases": [
            {"name": app["name"], "owner": app["name"], "extensions": app["database_extensions"]} for app in complete
        ],
        "postgres_roles": [{"name": name, "password": secrets["apps"][name]["database_password"]} for name in apps],
        "pgbouncer_databases": [
            {"name": app["name"], "host": POSTGRES_SOCKETS, "pool_size": app["pool_size"]} for app in complete
        ],
        "redis_users": [
            {
                "name": app["name"],
                "password": secrets["apps"][app["name"]]["redis_password"],
                "key_prefix": app["redis_prefix"],
            }
            for app in complete
        ],
        "nginx_tls_sites": [_site(app) for app in complete],
        "backups_media": [{"name": app["name"], "path": app["media_root"]} for app in complete],
        "backups_encryption_key": secrets["backups_encryption_key"],
        "backups_credentials": [
            {"name": name, **each} for name, each in secrets.get("backups_credentials", {}).items()
        ],
    }


def _wired_app(name: str, app: App, secrets: Secrets, host: Mapping[str, int], apps: int) -> App:
    count = app["processes"] or processes(host["cpus"], host["memory_mb"], apps)
    prefix = f"{name}:" if app["redis_prefix"] is None else app["redis_prefix"]
    server = app["server"] or ("asgi" if app["application"].partition(":")[0].split(".")[-1] == "asgi" else "wsgi")
    complete = {
        **app,
        "name": name,
        "server": server,
        "processes": count,
        "pool_size": pool_size(host["max_connections"], apps, count * app["threads"]),
        "redis_prefix": prefix,
        "packages": [*app["packages"], *_lacking(app["packages"], ASGI_PACKAGES if server == "asgi" else [])],
        "fallback_packages": _fallback_packages(app["packages"]),
        "socket": f"/run/gunicorn-{name}.sock",
        "root": f"{STATE}/{name}",
        "media_root": f"{STATE}/{name}/media",
        "static_root": f"{STATE}/{name}/static",
        "environment_file": f"/etc/django/{name}.env",
        "maintenance_flag": f"/etc/nginx/maintenance/{name}.on",
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
        "url": f"https://{app['domains'][0]}/",
        "units": _units(name, app),
    }
    complete["environment"] = environment(complete, secrets)
    complete["migrate_environment"] = migrate_environment(complete, secrets)
    return complete


def _units(name: str, app: App) -> list[str]:
    """Return the units that run code of the app."""
    serving = [f"gunicorn-{name}@{instance}.{kind}" for instance in "ab" for kind in ("service", "socket")]
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


def environment(app: App, secrets: Secrets) -> dict[str, str]:
    """The names that Django projects in the wild read, so that most need no word about them."""
    key, hosts = secrets["secret_key"], ",".join(app["domains"])
    socket = f"{app['name']}:{quote(secrets['redis_password'], safe='')}@{REDIS_SOCKET}"
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
        # django-redis and redis-py read the first form, django-environ's cache() the second.
        "REDIS_URL": f"unix://{socket}",
        "CACHE_URL": f"redis://{socket}",
        "CELERY_BROKER_URL": f"redis+socket://{socket}",
        "CACHE_KEY_PREFIX": app["redis_prefix"].rstrip(":"),
        **database(app["name"], secrets["database_password"], POOLER_SOCKETS, 6432),
    }
    return {**generated, **_aliases(app, generated), **{key: str(value) for key, value in app["env"].items()}}


def migrate_environment(app: App, secrets: Secrets) -> dict[str, str]:
    """Straight to PostgreSQL, and quick to give up: behind a migration that waits for a lock, everybody waits."""
    direct = database(app["name"], secrets["database_password"], POSTGRES_SOCKETS, 5432)
    return {**direct, **_aliases(app, direct), "PGOPTIONS": "-c lock_timeout=2s -c statement_timeout=0"}


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


def problems(apps: dict[str, Any]) -> list[str]:
    """Say everything that is wrong with the description of the apps; nothing is wrong with an empty list."""
    try:
        complete = checked(apps)
    except ValueError as error:
        return str(error).splitlines()
    return [problem for name, app in complete.items() for problem in _check_problems(name, app)] + _unknown_variables(
        complete
    )


def _check_problems(name: str, app: App) -> list[str]:
    demanded = app["settings_check"]
    found = [
        *expect.check_options(demanded["expect"], {}),
        *verdict.check_ids(demanded["ignore"], demanded["severity"]),
    ]
    return [f"django_apps.{name}.settings_check.{problem}" for problem in found]


def _unknown_variables(complete: dict[str, App]) -> list[str]:
    secrets = complete_secrets({}, list(complete))
    host = {"cpus": 1, "memory_mb": 1024, "max_connections": 100}
    generated = {key for app in wired(complete, secrets, host)["apps"] for key in app["environment"]}
    there_are = ", ".join(sorted(generated))
    return [
        f"django_apps.{name}.env_from: {ours!r} is not a generated variable; there are: {there_are}"
        for name, app in complete.items()
        for ours in app["env_from"].values()
        if ours not in generated
    ]


def split(groups: Mapping[str, list[str]]) -> list[str]:
    """Say which groups of the inventory put an app's services on different hosts, which this version cannot connect."""
    everywhere = sorted(groups.get("app", groups["all"]))
    return [
        f"group {group}: has {', '.join(groups[group]) or 'no host'}, the apps are on {', '.join(everywhere)}; "
        "this version runs all services of an app on one host, so give the groups the same hosts or leave them out"
        for group in ("postgres", "redis", "web", "backup")
        if group in groups and sorted(groups[group]) != everywhere
    ]


def unreadable(lookups: Sequence[Mapping[str, Any]]) -> list[str]:
    """Turn failed `git ls-remote` results into words."""
    return [
        f"django_apps.{lookup['app']['key']}.source: git cannot read {lookup['app']['value']['source']}: "
        + _reason(lookup["stderr"])
        for lookup in lookups
        if lookup["rc"] != 0
    ]


def _reason(complaint: str) -> str:
    """Pick the line of git that says why; what follows it is advice."""
    lines = complaint.strip().splitlines()
    return next((line for line in lines if line.startswith("fatal:")), (lines or ["no answer"])[-1])


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
        "upstream": app["socket"],
        "static_url": app["static_url"],
        "static_root": app["static_root"],
        "media_url": app["media_url"],
        "media_root": app["media_root"],
        "max_body_size": app["max_body_size"],
        "timeout": app["timeout"],
        "maintenance_page": app["maintenance_page"] and _absolute(app["maintenance_page"]),
        # An app that tells by its front page whether it is well has no path of its own for that.
        "health_path": None if app["health_path"] == "/" else app["health_path"] or HEALTH_PATH,
        "monitors": app["monitors"],
        "certificate": {"mode": app["certificate"].get("mode", "selfsigned"), **files},
        **{key: app[key] for key in SITE_OPTIONS},
    }
    return {key: value for key, value in site.items() if value is not None}


def _absolute(path: str) -> str:
    """Roles look for files in places of their own; a path in an inventory is seen from where one stands."""
    return str(Path(path).expanduser().absolute())
