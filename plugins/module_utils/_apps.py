# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The description of the apps, `django_apps`: what it may say, and what is wrong with it."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from . import _workers

App = dict[str, Any]

NAME = re.compile(r"[a-z][a-z0-9_]{0,30}\Z")
LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
DOMAIN = re.compile(rf"(?=.{{1,253}}\Z){LABEL}(\.{LABEL})+\Z")
DOTTED = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
SETTINGS = re.compile(rf"{DOTTED}\Z")
APPLICATION = re.compile(rf"{DOTTED}:[A-Za-z_]\w*\Z")
VARIABLE = re.compile(r"[A-Za-z_]\w*\Z")
FOLDER = re.compile(r"\w[\w.@+-]*(/\w[\w.@+-]*)*\Z", re.ASCII)
HEALTH_PATH = re.compile(r"(/(?!\.\.?(/|\Z))[\w.~@+-]+)+/?\Z", re.ASCII)
SITE_PATH = re.compile(r"((/(?!\.\.?(/|\Z))[\w.~-]+)+)?\Z", re.ASCII)
GIT_URL = re.compile(r"([a-z][a-z+]*://|[\w.-]+@[\w.-]+:)")
SSH_URL = re.compile(r"(git\+)?ssh://|[\w.-]+@[\w.-]+:(?!//)")

A_YEAR = 31536000

# An app's name is also the name of an account, a database role and a Redis user.
RESERVED = frozenset(
    "root daemon bin sys sync games man lp mail news uucp proxy backup list irc nobody messagebus sshd "
    "postgres pgbouncer redis nginx default public none template0 template1 replication".split()
)

# What belongs to a domain, and is the same for all apps on it.
OF_DOMAIN = (
    "domains",
    "redirect_domains",
    "certificate",
    "hsts_seconds",
    "hsts_include_subdomains",
    "hsts_preload",
    "resource_policy",
)

# In the format of an argument specification, plus the prose for the README, which is generated from this.
OPTIONS: dict[str, dict[str, Any]] = {
    "domains": {
        "type": "list",
        "elements": "str",
        "required": True,
        "description": "Host names of the site, in lower case. The first is the canonical one.",
    },
    "redirect_domains": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "Host names that lead to the same page of the canonical one. The certificate is for them, too.",
    },
    "path": {
        "type": "str",
        "default": "",
        "description": "Path of the domains that the app is below, such as `/blog`; other apps may be beside it. "
        "`health_path` and the paths of `extra_servers` are below it, too.",
    },
    "source": {
        "type": "str",
        "required": True,
        "description": "URL of a git repository, or a directory on the control node.",
    },
    "version": {
        "type": "str",
        "description": "Branch, tag or commit. Required for a git repository.",
    },
    "source_key": {
        "type": "str",
        "description": "File on the control node with the private key for a repository by SSH; may be vaulted.",
    },
    "application": {
        "type": "str",
        "required": True,
        "description": "The WSGI or ASGI callable, such as `config.wsgi:application`.",
    },
    "settings": {
        "type": "str",
        "required": True,
        "description": "The settings module, such as `config.settings.production`.",
    },
    "server": {
        "type": "str",
        "choices": ["wsgi", "asgi"],
        "description": "Kind of `application`. Default: `asgi` where its module is called `asgi`, else `wsgi`.",
    },
    "directory": {
        "type": "str",
        "default": ".",
        "description": "Folder inside the source that holds `manage.py`, or from which `settings` is imported.",
    },
    "requirements": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "Requirement files, or a lock. Default: the first of `uv.lock`, `pylock.toml`, `poetry.lock`, "
        "`Pipfile.lock`, `requirements.txt`, `requirements/prod*.txt`, `requirements-prod*.txt`, `pyproject.toml`.",
    },
    "extras": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "Extras of the project to install, such as `postgres`.",
    },
    "dependency_groups": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "Groups of dependencies to install besides the main ones, such as `production`.",
    },
    "python": {
        "type": "str",
        "default": "/usr/bin/python3",
        "description": "The Python that runs the app, which is on the host or named like one of `apt_packages`.",
    },
    "packages": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "More packages from PyPI. gunicorn, psycopg and django-redis need no mention: they come along "
        "where the project's requirements bring neither them nor, for psycopg, psycopg2.",
    },
    "package_indexes": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "URLs of package indexes in place of PyPI, with their passwords; `https://pypi.org/simple/` may "
        "be the last of them. A package comes from the first that has it.",
    },
    "wheels_only": {
        "type": "bool",
        "default": True,
        "description": "Install ready-made packages only. To build others, name compilers in `apt_packages`.",
    },
    "send_packages": {
        "type": "bool",
        "default": False,
        "description": "Get the packages on the control node, with `uv`, and send them along: for a host that reaches "
        "no package index and no git host.",
    },
    "apt_packages": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "Debian packages that the app needs at run time or to be built.",
    },
    "build_commands": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "Commands to run in a new release before its static files are collected, such as "
        "`npm ci && npm run build`. They know no secrets of the app.",
    },
    "files": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "description": "Files that the project expects beside its code, such as a `local_settings.py`.",
        "options": {
            "path": {"type": "str", "required": True, "description": "Where it belongs, relative to `source`."},
            "template": {
                "type": "str",
                "required": True,
                "description": "Jinja template on the control node; may be vaulted. It sees the environment of the "
                "app: `{{ environment.DATABASE_URL }}`.",
            },
        },
    },
    "env": {
        "type": "dict",
        "default": {},
        "description": "More environment variables. They win over the generated ones.",
    },
    "env_from": {
        "type": "dict",
        "default": {},
        "description": "Other names for generated variables: `{MY_DB_URL: DATABASE_URL}`.",
    },
    "settings_overlay": {
        "type": "bool",
        "default": True,
        "description": "Correct settings that are unfit for production, in a generated module on top of `settings`.",
    },
    "settings_overrides": {
        "type": "dict",
        "default": {},
        "description": "Settings to replace, whatever the project says. Needs `settings_overlay`.",
    },
    "settings_check": {
        "type": "dict",
        "default": {},
        "description": "What `django_settings_check` is to demand of a release before it may serve, and of `verify`.",
        "options": {
            "fail_on": {
                "type": "str",
                "choices": ["error", "warning", "notice", "never"],
                "default": "error",
                "description": "The least severe finding that keeps a release from serving.",
            },
            "ignore": {
                "type": "list",
                "elements": "str",
                "default": [],
                "description": "Ids of findings that you accept, such as `email_no_timeout` or `security.W019`.",
            },
            "severity": {
                "type": "dict",
                "default": {},
                "description": "Another severity for a finding: `{static_not_hashed: error}`.",
            },
            "expect": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "description": "What settings must be: `[{setting: SESSION_COOKIE_AGE, max: 86400}]`.",
            },
        },
    },
    "schedules": {
        "type": "list",
        "elements": "dict",
        "default": [{"name": "clearsessions", "command": "clearsessions", "on_calendar": "daily"}],
        "description": "Management commands to run on a schedule.",
        "options": {
            "name": {"type": "str", "required": True, "description": "Name of the schedule and its unit."},
            "command": {"type": "str", "required": True, "description": "The management command with its arguments."},
            "on_calendar": {"type": "str", "required": True, "description": "When, in systemd's notation."},
        },
    },
    "workers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "description": "Processes that run in the background all the time, such as those of Celery.",
        "options": {
            "name": {"type": "str", "required": True, "description": "Name of the worker and its unit."},
            "command": {
                "type": "str",
                "required": True,
                "description": "Program and arguments, without a shell. It is looked for in the virtualenv first.",
            },
            "once": {
                "type": "bool",
                "default": False,
                "description": "Run it on one host only, where the app has several; celery beat needs it.",
            },
            "stop_timeout": {
                "type": "int",
                "default": 60,
                "description": "Seconds that a task may take to finish when the worker is stopped.",
            },
            "stop_signal": {
                "type": "str",
                "choices": ["SIGTERM", "SIGINT"],
                "default": "SIGTERM",
                "description": "The signal at which it finishes its task and ends. Huey needs `SIGINT`.",
            },
        },
    },
    "extra_servers": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "description": "More servers of the app, each for a path of its own: one for WebSockets, or for slow requests.",
        "options": {
            "name": {
                "type": "str",
                "required": True,
                "description": "Name of the server; its units are named after it.",
            },
            "path": {"type": "str", "required": True, "description": "What its paths begin with, such as `/ws/`."},
            "application": {"type": "str", "required": True, "description": "The callable, as for the app itself."},
            "server": {
                "type": "str",
                "choices": ["wsgi", "asgi"],
                "description": "Kind of `application`. Default as for the app itself.",
            },
            "processes": {"type": "int", "default": 2, "description": "gunicorn processes."},
            "timeout": {
                "type": "int",
                "description": "Seconds after which a stuck process is replaced. Default: that of the app.",
            },
        },
    },
    "processes": {
        "type": "int",
        "description": "gunicorn processes. Default: from the processors and memory of the host, shared by its apps.",
    },
    "threads": {"type": "int", "default": 4, "description": "Threads in each process (WSGI only)."},
    "timeout": {"type": "int", "default": 30, "description": "Seconds after which a stuck process is replaced."},
    "max_body_size": {"type": "str", "default": "25m", "description": "Largest request body, in nginx' notation."},
    "maintenance_page": {
        "type": "str",
        "description": "HTML file on the control node, for visitors during maintenance. Default: a plain page.",
    },
    "health_path": {
        "type": "str",
        "default": "",
        "description": "Path that tells whether the app is well. nginx opens it to `monitors` only, unless it is `/`. "
        "Default: `/-/health`, which the server adds to the app.",
    },
    "monitors": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "Who may ask for `health_path`: IP addresses and networks, such as `192.0.2.0/24`.",
    },
    "static_url": {
        "type": "str",
        "description": "Whole path of the static files, or their URL (`https://cdn.example.com/`) where the project "
        "sends them to another server. Default: `/static/`, or that below `path`.",
    },
    "media_url": {
        "type": "str",
        "description": "Path or URL of the uploads, likewise. Default: `/media/`, or that below `path`.",
    },
    "media_private": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "Folders of the uploads that nginx gives to nobody, such as `invoices`: the app itself sends "
        "what is in them to whom it may.",
    },
    "protected_url": {
        "type": "str",
        "description": "Path such as `/protected/` that the app answers with in `X-Accel-Redirect`, for nginx to "
        "send a file of `/srv/APP/protected` (`PROTECTED_ROOT`) that not everybody may see.",
    },
    "media_storage": {
        "type": "str",
        "choices": ["host", "shared", "elsewhere"],
        "default": "host",
        "description": "Where uploads are: in a directory of the `host`; in one that you mount at `/srv/APP/media` on "
        "all app hosts (`shared`, by NFS for instance); or `elsewhere`, such as an object storage, where the project "
        "itself keeps them.",
    },
    "certificate": {
        "type": "dict",
        "default": {"mode": "selfsigned"},
        "description": "Where the certificate comes from.",
        "options": {
            "mode": {
                "type": "str",
                "choices": ["selfsigned", "acme", "files"],
                "default": "selfsigned",
                "description": "`selfsigned`; `acme`, which gets one from Let's Encrypt or another CA, renews it, "
                "and means that you agree to its terms; or `files` on the control node.",
            },
            "certificate": {"type": "str", "description": "With `files`: the PEM file, with its chain."},
            "key": {"type": "str", "description": "With `files`: the PEM file of its key; may be vaulted."},
        },
    },
    "hsts_seconds": {
        "type": "int",
        "default": 3600,
        "description": "How long browsers insist on HTTPS. Starts low; raise it once everything works. 0 is off.",
    },
    "hsts_include_subdomains": {
        "type": "bool",
        "default": False,
        "description": "Browsers insist on it for all subdomains too, also for those on other servers.",
    },
    "hsts_preload": {
        "type": "bool",
        "default": False,
        "description": "Browsers may know it before the first visit. **There is no quick way back.** "
        "Needs `hsts_include_subdomains`, and `hsts_seconds` of at least 31536000.",
    },
    "resource_policy": {
        "type": "str",
        "choices": ["same-origin", "same-site", "cross-origin"],
        "default": "same-site",
        "description": "Whose pages may show static files, uploads and answers of the app. Newsletters in web mail and "
        "widgets need `cross-origin`.",
    },
    "compress_pages": {
        "type": "bool",
        "default": False,
        "description": "Compress pages. Safe only where they hold no secret but Django's CSRF token (BREACH).",
    },
    "requests_per_second": {
        "type": "int",
        "default": 50,
        "description": "Requests that the app gets from one address, without static files and uploads; four times as "
        "many at once. 0 is no limit.",
    },
    "concurrent_requests": {
        "type": "int",
        "default": 128,
        "description": "Requests from one address at a time, WebSockets among them. 0 is no limit.",
    },
    "database_extensions": {
        "type": "list",
        "elements": "str",
        "default": [],
        "description": "PostgreSQL extensions that only a superuser may create.",
    },
    "backup_before_migrating": {
        "type": "bool",
        "default": False,
        "description": "Save the databases before a deployment migrates, and stop it where that fails.",
    },
    "redis_prefix": {
        "type": "str",
        "description": "What the app's keys begin with. Default: its name and a colon. Empty: anything.",
    },
    "keep_releases": {"type": "int", "default": 5, "description": "How many releases stay on the host."},
}


def is_git(source: str) -> bool:
    return GIT_URL.match(source) is not None


def checked(apps: dict[str, Any]) -> dict[str, App]:
    """Return the apps with all defaults filled in, or raise ValueError with every problem there is."""
    problems: list[str] = []
    complete: dict[str, App] = {}
    if not isinstance(apps, dict) or not apps:
        raise ValueError("django_apps must be a dictionary with a key for each app")
    for name, app in plain(apps).items():
        if not isinstance(app, dict):
            problems.append(f"django_apps.{name}: must be a dictionary, not {app!r}")
            continue
        result = ArgumentSpecValidator(_spec_only(OPTIONS)).validate(_given(app))
        unknown = _unknown_keys(name, app, OPTIONS) + _mistaken_workers(name, app)
        problems += unknown or [f"django_apps.{name}: {text}" for text in result.error_messages]
        problems += _name_problems(name)
        if not unknown and not result.error_messages:
            complete[name] = _with_urls(result.validated_parameters)
            problems += [f"django_apps.{name}.{text}" for text in _app_problems(complete[name])]
    problems += _shared_domains(complete)
    if problems:
        raise ValueError("\n".join(problems))
    return complete


def plain(value: Any) -> Any:
    """Copy what came out of a template, which carries the whole template engine along, into ordinary containers."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return value


def _with_urls(app: App) -> App:
    urls = {f"{kind}_url": app[f"{kind}_url"] or f"{app['path']}/{kind}/" for kind in ("static", "media")}
    return {**app, **urls}


def _given(app: App) -> App:
    """What the user really gave: an empty value in YAML is no value."""
    return {key: value for key, value in app.items() if value is not None}


def _spec_only(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    spec = {}
    for key, option in options.items():
        # The validator fills in the defaults of nested options where the default of the whole stands: in a copy.
        spec[key] = {word: copy(value) for word, value in option.items() if word != "description"}
        if "options" in option:
            spec[key]["options"] = _spec_only(option["options"])
    return spec


def _unknown_keys(where: str, given: App, options: dict[str, dict[str, Any]]) -> list[str]:
    problems = []
    for key in given:
        if key in options:
            continue
        close = difflib.get_close_matches(str(key), options, n=1)
        hint = f"did you mean {close[0]}?" if close else f"allowed are: {', '.join(options)}"
        problems.append(f"django_apps.{where}: unknown key {key!r}; {hint}")
    return problems


def _mistaken_workers(name: str, app: App) -> list[str]:
    """Catch who means what gunicorn calls workers."""
    if not str(app.get("workers")).isdigit():
        return []
    hint = 'lists background processes; the number of gunicorn\'s processes is "processes"'
    return [f"django_apps.{name}.workers: {hint}"]


def _name_problems(name: str) -> list[str]:
    if not NAME.match(str(name)):
        rule = "a lower-case letter, then up to 30 lower-case letters, digits or _"
        return [f"django_apps.{name}: {name!r} cannot be the name of an account and a database; use {rule}"]
    if name in RESERVED:
        return [f"django_apps.{name}: the name {name!r} belongs to the system; choose another"]
    return []


def _app_problems(app: App) -> list[str]:
    problems = []
    if not app["domains"]:
        problems.append("domains: give at least one host name")
    problems += [
        f"domains: {domain!r} is no host name; use lower case without scheme or port, such as shop.example.com"
        for domain in app["domains"]
        if not DOMAIN.match(domain)
    ]
    problems += [
        f"redirect_domains: {domain!r} is no host name; use lower case without scheme or port"
        for domain in app["redirect_domains"]
        if not DOMAIN.match(domain)
    ]
    if not APPLICATION.match(app["application"]):
        problems.append(f"application: {app['application']!r} must look like config.wsgi:application")
    problems += [f"extra_servers: {text}" for text in _server_problems(app["extra_servers"])]
    if not SETTINGS.match(app["settings"]):
        problems.append(
            f"settings: {app['settings']!r} must be a dotted module name such as config.settings.production"
        )
    if app["settings_overrides"] and not app["settings_overlay"]:
        problems.append("settings_overrides: has no effect while settings_overlay is false")
    problems += [
        f"{key}: must be at least 1, not {app[key]}"
        for key in ("processes", "threads", "timeout", "keep_releases")
        if app[key] is not None and app[key] < 1
    ]
    problems += [
        f"{key}: must be at least 0, not {app[key]}"
        for key in ("hsts_seconds", "requests_per_second", "concurrent_requests")
        if app[key] < 0
    ]
    if app["hsts_preload"] and not (app["hsts_include_subdomains"] and app["hsts_seconds"] >= A_YEAR):
        problems.append(
            f"hsts_preload: needs hsts_include_subdomains: true and hsts_seconds of at least {A_YEAR}, not "
            f"{app['hsts_seconds']}; for months, nobody can then visit any subdomain without HTTPS, whatever you change"
        )
    if app["health_path"] not in ("", "/") and not HEALTH_PATH.match(app["health_path"]):
        problems.append(
            f"health_path: {app['health_path']!r} must be a path of letters, digits and ._~@+-, as /healthz/ is"
        )
    problems += [
        f"monitors: {monitor!r} is no IP address or network such as 192.0.2.7 or 192.0.2.0/24"
        for monitor in app["monitors"]
        if not is_network(monitor)
    ]
    problems += [
        f"package_indexes: entry {number} is no URL such as https://user:password@pypi.example.com/simple/"
        for number, url in enumerate(app["package_indexes"], 1)
        if not re.match(r"https?://\S+\Z", url)
    ]
    problems += [
        f"packages: entry {number} has a login in its URL, which everybody on the host could read for a while; "
        "give an index in package_indexes, or leave the login to the git of the control node with send_packages: true"
        for number, package in enumerate(app["packages"], 1)
        if re.search(r"https?://[^/@\s]+@", package)
    ]
    if not app["python"].startswith("/"):
        problems.append(f"python: {app['python']!r} must be an absolute path such as /usr/bin/python3.13")
    problems += _url_problems(app)
    problems += [
        f"media_private: {folder!r} must be a folder of the uploads, as invoices or orders/invoices is"
        for folder in app["media_private"]
        if not FOLDER.match(folder)
    ]
    problems += [
        f"{key}: {name!r} cannot be the name of an environment variable"
        for key in ("env", "env_from")
        for name in app[key]
        if not VARIABLE.match(str(name))
    ]
    if app["source_key"] is not None and not SSH_URL.match(app["source"]):
        problems.append("source_key: is for a repository by SSH, such as git@git.example.com:shop.git")
    problems += _file_problems(app)
    problems += [f"workers: {text}" for text in _workers.problems(app["workers"], app["schedules"])]
    return problems + _source_problems(app) + _certificate_problems(app["certificate"])


def _url_problems(app: App) -> Iterator[str]:
    if not SITE_PATH.match(app["path"]):
        yield f"path: {app['path']!r} must begin with / and not end with it, as /blog does; without it, the app is at /"
        return
    for key in ("static_url", "media_url"):
        if not (_is_path(app[key]) or is_elsewhere(app[key])):
            yield f"{key}: must begin and end with /, or be a URL such as https://cdn.example.com/static/"
    if app["protected_url"] is not None and not _is_path(app["protected_url"]):
        yield f"protected_url: {app['protected_url']!r} must begin and end with /, as /protected/ does"


def _server_problems(servers: list[dict[str, Any]]) -> Iterator[str]:
    given = [server["name"] for server in servers]
    yield from (f"more than one has the name {name!r}" for name in sorted(set(given)) if given.count(name) > 1)
    for server in servers:
        if not re.fullmatch(r"[a-z][a-z0-9]{0,20}", server["name"]):
            yield f"{server['name']!r} cannot be a name; use a lower-case letter, then lower-case letters and digits"
        if not _is_path(server["path"]):
            yield f"{server['name']}: path must begin and end with /, as /ws/ does, not {server['path']!r}"
        if not APPLICATION.match(server["application"]):
            yield f"{server['name']}: application {server['application']!r} must look like config.asgi:application"
        yield from (
            f"{server['name']}: {key} must be at least 1, not {server[key]}"
            for key in ("processes", "timeout")
            if server[key] is not None and server[key] < 1
        )


def _file_problems(app: App) -> list[str]:
    """Say which files on the control node are missing, and which cannot be written on the host."""
    given = [(key, app[key]) for key in ("maintenance_page", "source_key") if app[key] is not None]
    given += [("files", file["template"]) for file in app["files"]]
    outside = [file["path"] for file in app["files"] if re.match(r"/|(.*/)?\.{0,2}(/|\Z)", file["path"])]
    return [
        *(text for key, path in given for text in _missing_file(key, path)),
        *(f"files: {path!r} must be the path of a file inside of source" for path in outside),
    ]


def _is_path(url: str) -> bool:
    return re.match(r"/([\w.-]+/)+\Z", url) is not None


def is_elsewhere(url: str) -> bool:
    return re.match(r"https://[\w.-]+(:\d+)?/([\w.-]+/)*\Z", url) is not None


def is_network(text: str) -> bool:
    """Tell whether nginx takes this for an address, or for a network with nothing set behind its prefix."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    # Python knows network masks and scopes, too.
    return re.fullmatch(r"[0-9A-Fa-f.:]+(/[0-9]+)?", text) is not None


def _source_problems(app: App) -> list[str]:
    if is_git(app["source"]):
        return (
            [] if app["version"] else ["version: is required when source is a git repository; name a tag or a commit"]
        )
    source = Path(app["source"]).expanduser()
    if not source.is_dir():
        return [f"source: {app['source']!r} is neither a directory on the control node nor the URL of a git repository"]
    place = source / app["directory"]
    module = place / app["settings"].replace(".", "/")
    # Without a manage.py anywhere, the project gets one. Then its settings may come with a package.
    if place.is_dir() and (
        any(path.exists() for path in (place / "manage.py", module, module.with_suffix(".py")))
        or not any(path for pattern in ("manage.py", "*/manage.py", "*/*/manage.py") for path in source.glob(pattern))
    ):
        return []
    return [f"directory: there is neither manage.py nor {app['settings']} in {place}; name the folder that holds them"]


def _certificate_problems(certificate: dict[str, Any]) -> list[str]:
    given = [key for key in ("certificate", "key") if certificate.get(key)]
    if certificate.get("mode", "selfsigned") != "files":
        return [f"certificate.{key}: needs certificate.mode: files" for key in given]
    missing = [key for key in ("certificate", "key") if key not in given]
    problems = [f"certificate.{key}: is required with certificate.mode: files" for key in missing]
    return problems + [text for key in given for text in _missing_file(f"certificate.{key}", certificate[key])]


def _missing_file(key: str, path: str) -> list[str]:
    return [] if Path(path).expanduser().is_file() else [f"{key}: there is no file {path!r} on the control node"]


def _shared_domains(apps: dict[str, App]) -> list[str]:
    """Say what keeps apps from being on one domain together."""
    problems = []
    for number, (name, app) in enumerate(apps.items()):
        given = _all_domains(app)
        found = [f"domains: {domain} is listed already" for domain in sorted(set(given)) if given.count(domain) > 1]
        found += _taken_paths(app)
        for other, theirs in list(apps.items())[:number]:
            found += _apart(app, other, theirs) if set(given) & set(_all_domains(theirs)) else []
        problems += [f"django_apps.{name}.{text}" for text in found]
    return problems


def _all_domains(app: App) -> list[str]:
    return [*app["domains"], *app["redirect_domains"]]


def _apart(app: App, other: str, theirs: App) -> Iterator[str]:
    """Say what two apps on one domain do not agree on, or what both want."""
    common = next((domain for domain in _all_domains(app) if domain in _all_domains(theirs)), "")
    if app["path"] == theirs["path"]:
        yield f"domains: {common} is already a domain of {other}; give one of them a path, such as /blog"
        return
    yield from (
        f"{key}: must be the same as for {other}, which is on {common} too"
        for key in OF_DOMAIN
        if app[key] != theirs[key]
    )
    taken = {url: key for key, url in _paths(theirs)}
    yield from (
        f"{key}: {url} is already {taken[url]} of {other}, on {common} too" for key, url in _paths(app) if url in taken
    )


def _taken_paths(app: App) -> Iterator[str]:
    """Say which paths of an app are in each other's way."""
    taken: dict[str, str] = {}
    for key, url in _paths(app):
        if url in taken:
            yield f"{key}: {url} is already {taken[url]}"
        taken[url] = key


def _paths(app: App) -> Iterator[tuple[str, str]]:
    """Return the keys that give the app a path of its domains, and that path."""
    yield "path", f"{app['path']}/"
    yield from ((key, app[key]) for key in ("static_url", "media_url", "protected_url") if app[key])
    yield from ((f"extra_servers.{server['name']}", app["path"] + server["path"]) for server in app["extra_servers"])
    if app["health_path"] not in ("", "/"):
        yield "health_path", app["path"] + app["health_path"]
