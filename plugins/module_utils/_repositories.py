# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where backups go: what is wrong with the description of it, and what the engines need to get there."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ._apps import plain

FOLDER = "/etc/backups/repositories"
KNOWN_HOSTS = f"{FOLDER}/known_hosts"

# What each type needs, and what it must look like, because it ends up in files with a grammar.
WORD = r"[A-Za-z0-9_.-]+"
KEY = r"\S+"
PEM = r"-----BEGIN [A-Z ]*{}-----\n(?s:.*)-----END [A-Z ]*{}-----\s*"
NEEDED: dict[str, dict[str, str]] = {
    "directory": {},
    "sftp": {"host": WORD, "user": WORD, "host_keys": r"[a-z0-9@.-]+ [A-Za-z0-9+/=]+"},
    "s3": {"endpoint": rf"{WORD}(:[0-9]+)?", "bucket": WORD},
}
SECRETS: dict[str, dict[str, str]] = {
    "directory": {},
    "sftp": {"private_key": PEM.format("PRIVATE KEY", "PRIVATE KEY")},
    "s3": {"access_key": KEY, "secret_key": KEY},
}
OPTIONAL = {"region": WORD, "ca_certificate": PEM.format("CERTIFICATE", "CERTIFICATE")}
LOOKS = {
    "host_keys": "the type and the key, such as 'ssh-ed25519 AAAA…', for each",
    "endpoint": "a host name, and :PORT if it is not 443; without https://",
    "private_key": "the whole text of the file, from -----BEGIN to -----END",
    "ca_certificate": "the whole text of the file, from -----BEGIN to -----END",
}

Repository = dict[str, Any]


def problems(repositories: list[Repository], credentials: list[Repository]) -> list[str]:
    """Say everything that is wrong with them; never a secret."""
    repositories, credentials = plain(repositories), plain(credentials)
    names = [repository["name"] for repository in repositories]
    found = [] if names else ["backups_repositories: is empty; without one there are no backups"]
    found += [f"backups_repositories: there are two with the name {name}" for name in _twice(names)]
    found += [f"backups_credentials: there are two with the name {name}" for name in _twice(_names(credentials))]
    found += [
        f"backups_credentials: there is no repository {name!r}; there are: {', '.join(names) or 'none'}"
        for name in _names(credentials)
        if name not in names
    ]
    secrets = {each["name"]: each for each in credentials}
    for repository in repositories:
        name, kind = repository["name"], repository["type"]
        where = f"backups_repositories, {name}"
        found += _shapes(where, repository, {"name": WORD, "path": rf"(/{WORD})+", **NEEDED[kind]}, required=True)
        found += _shapes(where, repository, OPTIONAL, required=False)
        found += _shapes(f"backups_credentials, {name}", secrets.get(name, {}), SECRETS[kind], required=True)
    return found


def _names(entries: list[Repository]) -> list[str]:
    return [entry["name"] for entry in entries]


def _twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})


def _shapes(where: str, entry: Repository, shapes: dict[str, str], *, required: bool) -> Iterator[str]:
    for key, shape in shapes.items():
        value = entry.get(key)
        if not value:
            if required:
                yield f"{where}: {key} is missing, which a repository of its type needs"
        elif not all(re.fullmatch(shape, text) for text in (value if isinstance(value, list) else [value])):
            shown = "" if key in LOOKS or where.startswith("backups_credentials") else f" {value!r}"
            looks = LOOKS.get(key, "an absolute path" if key == "path" else "a single word")
            yield f"{where}: {key}{shown} must be {looks}" + (" of letters, digits and _.-" if shown else "")


def complete(repositories: list[Repository], credentials: list[Repository]) -> list[Repository]:
    """Return them with their numbers, secrets, files and defaults."""
    secrets = {each["name"]: each for each in plain(credentials)}
    return [
        {
            "port": 22,
            "region": "us-east-1",
            **repository,
            **secrets.get(repository["name"], {}),
            "number": number,
            "key_file": f"{FOLDER}/{repository['name']}.key",
            "ca_file": f"{FOLDER}/{repository['name']}.crt" if repository.get("ca_certificate") else "",
        }
        for number, repository in enumerate(plain(repositories), 1)
    ]


def named(repositories: list[Repository]) -> list[Repository]:
    """What the program on the server is told of complete repositories."""
    return [{key: repository[key] for key in ("name", "number")} for repository in repositories]


def files(repositories: list[Repository], owner: str) -> list[dict[str, Any]]:
    """The files by which complete repositories are reached; `owner` is the account of the engine for databases."""
    known = "".join(line for repository in repositories for line in _known_hosts(repository))
    found: list[dict[str, Any]] = [{"path": KNOWN_HOSTS, "content": known}] if known else []
    for repository in repositories:
        if repository["type"] == "directory":
            # Sticky: no engine can remove what belongs to the other.
            found.append({"path": repository["path"], "state": "directory", "group": owner, "mode": "1771"})
        if repository["ca_file"]:
            found.append({"path": repository["ca_file"], "content": repository["ca_certificate"].strip() + "\n"})
        if repository["type"] == "sftp":
            key = repository["private_key"].strip() + "\n"
            # Theirs and nobody else's, or SSH refuses it; root may read it all the same.
            found.append(
                {"path": repository["key_file"], "content": key, "owner": owner, "mode": "0400", "diff": False}
            )
    return found


def _known_hosts(repository: Repository) -> Iterator[str]:
    if repository["type"] == "sftp":
        host, port = repository["host"], int(repository["port"])
        name = host if port == 22 else f"[{host}]:{port}"  # noqa: PLR2004 - the port of SSH
        for key in repository["host_keys"]:
            yield f"{name} {key}\n"


def media_access(repository: Repository) -> str:
    """The variables and arguments by which the engine for files comes into a complete repository, as JSON."""
    kind, path = repository["type"], f"{repository['path']}/media"
    if kind == "directory":
        variables, arguments = {"RESTIC_REPOSITORY": path}, []
    elif kind == "sftp":
        account = f"{repository['user']}@{repository['host']}"
        options = (
            "-F none -o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes -o GlobalKnownHostsFile=none "
            f"-o UserKnownHostsFile={KNOWN_HOSTS} -o ConnectTimeout=30 -o ServerAliveInterval=15"
        )
        command = f"ssh {options} -i {repository['key_file']} -p {repository['port']} {account} -s sftp"
        variables, arguments = {"RESTIC_REPOSITORY": f"sftp:{account}:{path}"}, ["-o", f"sftp.command={command}"]
    else:
        variables = {
            "RESTIC_REPOSITORY": f"s3:https://{repository['endpoint']}/{repository['bucket']}{path}",
            "AWS_ACCESS_KEY_ID": repository["access_key"],
            "AWS_SECRET_ACCESS_KEY": repository["secret_key"],
            "AWS_DEFAULT_REGION": repository["region"],
        }
        arguments = ["--cacert", repository["ca_file"]] if repository["ca_file"] else []
    return json.dumps({"environment": variables, "arguments": arguments}, indent=1) + "\n"


def archive_files(repositories: list[Repository], configuration: str) -> list[dict[str, Any]]:
    """The configuration of the engine for databases, for each repository alone: the log goes to each by itself."""
    found: list[dict[str, Any]] = []
    for name in (repository["name"] for repository in repositories):
        others = rf"# --- Where the backups are: (?!{re.escape(name)} ).*?(?=# --- )"
        content = re.sub(others, "", configuration, flags=re.DOTALL)
        path = f"{FOLDER}/{name}.conf"
        found.append({"path": path, "content": content, "group": "postgres", "mode": "0640", "diff": False})
    return found


def file_below(path: str, folder: str) -> dict[str, str]:
    """A file of the control node, to be written into a folder of the server as it is."""
    return {"path": f"{folder}/{Path(path).name}", "content": Path(path).read_text()}


def media_files(repositories: list[Repository]) -> list[dict[str, Any]]:
    return [
        {
            "path": f"{FOLDER}/{repository['name']}.json",
            "content": media_access(repository),
            "mode": "0600",
            "diff": False,
        }
        for repository in repositories
    ]
