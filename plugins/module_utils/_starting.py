# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From a domain and a project to a first inventory, for those who have none yet."""

from __future__ import annotations

import json
import posixpath
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from . import _apps, _hosts, _wiring
from ._project import Project, UnfitError

HOST = re.compile(r"[A-Za-z0-9:][\w.:%-]*\Z", re.ASCII)
EXAMPLE = "-e domain=shop.example.com -e source=https://git.example.com/shop.git (or a folder on this machine)"
# What others call what is generated here, where it cannot be seen what it is for.
OTHER_NAMES = {
    "SECRET_KEY": "DJANGO_SECRET APP_SECRET SECRET",
    "DATABASE_URL": "DB_URL POSTGRES_URL POSTGRESQL_URL DATABASE_URI",
    "REDIS_URL": "REDIS_CACHE_URL REDIS_LOCATION REDISCLOUD_URL REDIS_DSN",
    "CELERY_BROKER_URL": "BROKER_URL CELERY_BROKER CELERY_RESULT_BACKEND RESULT_BACKEND",
}
# These are there, too; the role django_app adds them.
ALSO_GENERATED = {"DJANGO_SETTINGS_MODULE", "STATIC_ROOT", "MEDIA_ROOT"}
# What YAML understands without quotes, wherever it stands.
PLAIN = re.compile(r"(?!.*: )[A-Za-z/]([\w./:@+=~ -]*[\w/.+~=-])?\Z", re.ASCII)
AMBIGUOUS = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}


class Start(NamedTuple):
    """An app as an inventory describes it, variables beside it, what to say of a key, and what only the user knows."""

    name: str
    app: dict[str, Any]
    variables: dict[str, Any]
    remarks: dict[str, str]
    wanted: list[str]


def problems(asked: Mapping[str, str]) -> list[str]:
    """Say what is wrong with `domain`, `source` and `host`, before anything is read."""
    domain, source, host = asked["domain"], asked["source"], asked["host"]
    missing = [name for name in ("domain", "source") if not asked[name]]
    if missing:
        return [f"{' and '.join(missing)}: not given; say for example {EXAMPLE}"]
    found = []
    if not _apps.DOMAIN.match(domain):
        likely = re.sub(r"^[a-z]+:/*", "", domain.strip().lower()).split("/")[0].split(":")[0]
        rule = "use lower case without scheme, port or path, such as shop.example.com"
        hint = f"did you mean {likely}?" if _apps.DOMAIN.match(likely) else rule
        found.append(f"domain: {domain!r} is no host name; {hint}")
    if not _apps.is_git(source) and not Path(source).expanduser().is_dir():
        found.append(f"source: {source!r} is neither a folder on this machine nor the URL of a git repository")
    if host and not HOST.match(host):
        found.append(f"host: {host!r} is neither a host name nor an address such as 203.0.113.7")
    return found


def request(asked: Mapping[str, str]) -> dict[str, Any]:
    """Return what playbooks/files/read.py is asked."""
    return {"source": _source(asked), "git": _apps.is_git(asked["source"])}


def started(found: Mapping[str, Any], asked: Mapping[str, str]) -> dict[str, Any]:
    """Return the files of a first inventory and the steps that come next; or why there can be none yet."""
    shown = re.sub(r"//[^/@]+@", "//", asked["source"])
    if "error" in found:
        return {"problems": [f"source: {shown} cannot be read: {found['error']}"]}
    try:
        start = described(found, asked)
    except UnfitError as error:
        return {"problems": [f"source: {shown} {error}"]}
    folder = asked["directory"] or asked["domain"]
    contents = {"inventory.yml": hosts_text(asked), "group_vars/all.yml": apps_text(start)}
    return {
        "problems": _wiring.problems({start.name: start.app}),
        "files": [
            {"path": f"{_absolute(folder)}/{name}", "shown": posixpath.join(folder, name), "content": content}
            for name, content in contents.items()
        ],
        "next": steps(start, asked, folder),
    }


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().resolve())


def _source(asked: Mapping[str, str]) -> str:
    """Return it as it is seen from anywhere."""
    return asked["source"] if _apps.is_git(asked["source"]) else _absolute(asked["source"])


# --- The description ----------------------------------------------------------


def described(found: Mapping[str, Any], asked: Mapping[str, str]) -> Start:
    """Return the app that a project is; or raise UnfitError with what the project lacks."""
    project, source = Project(found["texts"]), _source(asked)
    name = app_name(asked["domain"], source)
    app: dict[str, Any] = {"domains": [asked["domain"]], "source": source}
    remarks = {
        "domains": "The first is the canonical one; each must lead to the server (DNS).",
        "application": "What gunicorn serves.",
        "settings": "A module on top of them corrects what is unfit for production, unless settings_overlay is false.",
        "certificate": "Browsers warn of it. Once the domains lead to the server, {mode: acme} brings one from Let's "
        "Encrypt, and means that you agree to its terms.",
    }
    if found["kind"]:
        app["version"] = found["version"]
        remarks["version"] = {
            "tag": "The newest release. Name another one here, then run groundwork.django.deploy.",
            "branch": "A branch: each deployment brings its newest commit. A tag or a commit stays what it is.",
        }[found["kind"]]
    if project.directory != "." or project.others:
        app["directory"] = project.directory
        others = f"; there are others in {', '.join(project.others)}" if project.others else ""
        remarks["directory"] = f"The folder of manage.py{others}."
    app.update(application=project.application(), settings=project.settings)
    _add_requirements(project, app, remarks)
    variables = _add_celery(project, name, app, remarks) if project.celery() else {}
    wanted = _add_environment(project, name, app, remarks)
    app["certificate"] = {"mode": "selfsigned"}
    return Start(name, app, variables, remarks, wanted)


def app_name(domain: str, source: str) -> str:
    """Name the account and the database like the domain or, where that cannot be, like the source."""
    labels = [label for label in domain.split(".")[:-1] if label != "www"]
    project = posixpath.basename(source.rstrip("/").split(":")[-1])
    candidates = [*labels[:1], re.sub(r"\.git\Z", "", project).lower(), *labels[1:]]
    names = (re.sub(r"\W", "_", candidate)[:31].rstrip("_") for candidate in candidates)
    return next((name for name in names if _apps.NAME.match(name) and name not in _apps.RESERVED), "site")


def _add_requirements(project: Project, app: dict[str, Any], remarks: dict[str, str]) -> None:
    files = project.requirements()
    if files:
        app["requirements"] = files
    elif files is None:
        app["packages"] = [project.django()]
        remarks["packages"] = (
            "The project has no requirements.txt. Write one, with all that it imports, and remove this."
        )


def _add_celery(project: Project, name: str, app: dict[str, Any], remarks: dict[str, str]) -> dict[str, Any]:
    """Add the workers, and lead Celery to the app's own keys in Redis without a change to the project."""
    texts = project.celery_texts()
    module = re.sub(r"\.celery\Z", "", project.module(project.celery()))
    app["workers"] = [{"name": "celery", "command": f"celery -A {module} worker --loglevel INFO"}]
    if project.is_periodic():
        schedule = f"/var/lib/django/{name}/beat"
        app["workers"].append({"name": "beat", "command": f"celery -A {module} beat --schedule {schedule}"})
    if not re.search(r"(celery|kombu)\[[^\]]*redis", "\n".join(project.texts.values())):
        app["packages"] = [*app.get("packages", []), "celery[redis]"]
    options, prefix = ["CELERY_BROKER_TRANSPORT_OPTIONS"], {"global_keyprefix": f"{name}:"}
    if "RESULT_BACKEND" in texts and not re.search(r"['\"]django-(db|cache)['\"]|['\"]rpc:", texts):
        app["env_from"] = {"CELERY_RESULT_BACKEND": "CELERY_BROKER_URL"}
        options.append("CELERY_RESULT_BACKEND_TRANSPORT_OPTIONS")
    if "global_keyprefix" not in texts and re.search(r"namespace\s*=\s*['\"]CELERY['\"]", texts):
        app["settings_overrides"] = dict.fromkeys(options, prefix)
        remarks["settings_overrides"] = "Redis gives an app its own keys only, and Celery has to know how they begin."
    elif "global_keyprefix" not in texts:
        remarks["workers"] = (
            "Redis gives an app its own keys only. This Celery is not configured by Django's settings (namespace "
            f'CELERY), so its code has to set broker_transport_options to {{"global_keyprefix": "{name}:"}}.'
        )
    return {"redis_maxmemory_policy": "volatile-lru"}


def _add_environment(project: Project, name: str, app: dict[str, Any], remarks: dict[str, str]) -> list[str]:
    """Give variables the names that the project reads, and return those that only the user can give."""
    host = {"cpus": 1, "memory_mb": 1024, "max_connections": 100}
    secrets = _wiring.new_secrets({}, [name])
    # Of any app: the names are the same, whatever the project is.
    some = {"domains": app["domains"], "source": "https://localhost/", "version": "main", "settings": "settings"}
    apps = _apps.checked({name: {**some, "application": "wsgi:application"}})
    wired = _wiring.wired(apps, secrets, host, _hosts.alone(""))
    generated = set(wired["apps"][0]["environment"])
    read = project.variables()
    others = {theirs: ours for ours, words in OTHER_NAMES.items() for theirs in words.split()}
    meanings, aliases = project.meanings(), {}
    for theirs in read:
        inner = re.sub(rf"\A(DJANGO|APP|{project.package}|{name})_", "", theirs, flags=re.IGNORECASE)
        usual = others.get(theirs) or others.get(inner) or (inner if inner in generated else "")
        ours = meanings.get(theirs) or usual
        if ours and theirs not in generated:
            aliases[theirs] = ours
    aliases.update(app.pop("env_from", {}))
    if aliases:
        app["env_from"] = aliases
        remarks["env_from"] = "The project reads these variables, which have other names here."
    if project.path:
        app["env"] = {"PYTHONPATH": project.path.rstrip("/")}
        remarks["env"] = "Where the packages of the project are, seen from its manage.py."
    known = {*generated, *aliases, *ALSO_GENERATED}
    return [theirs for theirs, needed in read.items() if needed and theirs not in known]


# --- The files ----------------------------------------------------------------


def flow(value: Any) -> str:
    """Write a value as YAML, in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{flow(key)}: {flow(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    return value if PLAIN.match(value) and value.lower() not in AMBIGUOUS else json.dumps(value)


def comment(text: str, indent: int = 0) -> list[str]:
    start = f"{' ' * indent}# "
    return textwrap.wrap(text, 110, initial_indent=start, subsequent_indent=start, break_on_hyphens=False)


def hosts_text(asked: Mapping[str, str]) -> str:
    address = [f"      ansible_host: {flow(asked['host'])}"] if asked["host"] else []
    lines = [
        "---",
        "# The server, and how SSH reaches it. Begun by groundwork.django.init; from here on it is yours.",
        "",
        "all:",
        "  hosts:",
        f"    {asked['domain']}:",
        *address,
        "  vars:",
        *comment(
            "Or an account that may become root with sudo; run playbooks with -K where sudo asks for a password.", 4
        ),
        "    ansible_user: root",
        *comment("Runs take less than half of the time.", 4),
        "    ansible_ssh_pipelining: true",
    ]
    return "\n".join(lines) + "\n"


def apps_text(start: Start) -> str:
    lines = [
        "---",
        "# What the server is for. Begun by groundwork.django.init; from here on it is yours.",
        "# All that can be said of an app: https://github.com/groundwork-django/groundwork.django#keys-of-an-app",
        "",
        "django_apps:",
        *comment("The name of an account, a database and folders on the server: better not changed later.", 2),
        f"  {start.name}:",
    ]
    for key, value in start.app.items():
        lines += comment(start.remarks.get(key, ""), 4)
        if key == "workers":
            lines += [f"    {key}:", *(f"      - {flow(each)}" for each in value)]
        elif isinstance(value, dict) and len(value) > 1:
            lines += [f"    {key}:", *(f"      {flow(name)}: {flow(each)}" for name, each in value.items())]
        else:
            lines.append(f"    {key}: {flow(value)}")
    lines += _wanted_lines(start)
    for name, value in start.variables.items():
        lines += ["", *comment("Redis must not forget waiting tasks, only what may expire."), f"{name}: {flow(value)}"]
    return "\n".join(lines) + "\n"


def _wanted_lines(start: Start) -> list[str]:
    """Leave room for what only the user knows, without which the project does not start."""
    if not start.wanted:
        return []
    head = "# env:" if "env" not in start.app else "# and in env:"
    return [
        *comment("The settings need these variables, too. Give them values; secrets belong into a vaulted file.", 4),
        f"    {head}",
        *(f'    #   {name}: ""' for name in start.wanted),
    ]


def steps(start: Start, asked: Mapping[str, str], folder: str) -> list[str]:
    """Say what comes next."""
    inventory, host = posixpath.join(folder, "inventory.yml"), asked["host"] or asked["domain"]
    needs = f" Give values to {', '.join(start.wanted)}." if start.wanted else ""
    said = [
        f"Look through {posixpath.join(folder, 'group_vars/all.yml')}.{needs}",
        f"See that you get in: ssh root@{host}",
        f"Bring the server and the site: ansible-playbook -i {inventory} groundwork.django.site",
        f"For the admin, make an account: ssh -t root@{host} {start.name}-manage createsuperuser",
    ]
    return [f"{number}. {text}" for number, text in enumerate(said, 1)]
