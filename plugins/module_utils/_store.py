# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A host that keeps the backups of others: what is wrong with the description of it, and what both sides need."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

from ._apps import plain

try:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
except ImportError:  # only the control node has it, where ansible-core needs it, too
    serialization = None  # type: ignore[assignment]

HEADER = "# Managed by Ansible (groundwork.django.backups_store): changes made here are overwritten."
GROUP = "backups-store"
KEYS = "/etc/ssh/backups-store"
# Where in its directory a client may write: the directory itself is root's, or SSH would not lock anybody up in it.
REPOSITORY = "/repository"

NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}"
DIRECTORY = r"(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+"
PUBLIC_KEY = r"((?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{60,}={0,2})( .*)?"
ACCOUNT_LENGTH = 32
ALGORITHMS = ("ed25519", "ecdsa", "rsa")

Client = dict[str, Any]


def account(name: str) -> str:
    """Return the account of a client: one that no other program of the host has, and not longer than Linux takes."""
    whole = f"backups-{name}"
    if len(whole) <= ACCOUNT_LENGTH and not re.search(r"[^a-z0-9_.-]", name):
        return whole
    short = re.sub(r"[^a-z0-9_.-]", "-", name.lower())[:15]
    return f"backups-{short}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def problems(clients: list[Client], directory: str) -> list[str]:
    """Say everything that is wrong with the clients and their directory, one line each; never a key."""
    clients, found = plain(clients), []
    if not re.fullmatch(DIRECTORY, directory):
        found.append(f"backups_store_directory: {directory!r} must be an absolute path, such as /srv/backups")
    for client in clients:
        where = f"backups_store_clients, {client['name']}"
        if not re.fullmatch(NAME, client["name"]):
            found.append(f"{where}: the name must hold only letters, digits and _.-, and begin with a letter or digit")
        if not re.fullmatch(PUBLIC_KEY, client["public_key"].strip()):
            found.append(f"{where}: public_key must be the type and the key in one line, such as 'ssh-ed25519 AAAA…'")
    found += [f"backups_store_clients: there are two with the name {name}" for name in _twice(_names(clients))]
    keys = [_key(client) for client in clients]
    for key in _twice(keys):
        alike = ", ".join(client["name"] for client in clients if _key(client) == key)
        found.append(f"backups_store_clients: {alike} have the same public_key; give each a key of its own")
    return found


def _names(clients: list[Client]) -> list[str]:
    return [client["name"] for client in clients]


def _key(client: Client) -> str:
    return " ".join(client["public_key"].split()[:2])


def _twice(values: list[str]) -> list[str]:
    return sorted({value for value in values if values.count(value) > 1})


def missing(clients: list[Client], directory: str, passwd: str) -> list[dict[str, str]]:
    """The accounts that are not there yet, or lead to another directory, by what `getent passwd` says."""
    homes = {fields[0]: fields[5] for fields in (line.split(":") for line in passwd.splitlines())}
    wanted = [{"name": account(name), "home": f"{directory}/{name}"} for name in _names(clients)]
    return [each for each in wanted if homes.get(each["name"]) != each["home"]]


def files(clients: list[Client], directory: str) -> list[dict[str, Any]]:
    """The directories and keys of the clients, for the module `files`."""
    found: list[dict[str, Any]] = [
        {"path": directory, "state": "directory", "mode": "0700"},
        {"path": KEYS, "state": "directory", "purge": True},
    ]
    for client in plain(clients):
        name, home = account(client["name"]), f"{directory}/{client['name']}"
        key = f"{HEADER}\nrestrict {_key(client)} {client['name']}\n"
        found += [
            {"path": home, "state": "directory", "group": GROUP, "mode": "0750"},
            {"path": home + REPOSITORY, "state": "directory", "owner": name, "group": GROUP, "mode": "0700"},
            {"path": f"{KEYS}/{name}", "content": key},
        ]
    return found


def other_keys(written: list[str], clients: list[Client], passwd: str) -> dict[str, list[str]]:
    """Of the accounts whose files were just written: those with another key or none, and those of them with none."""
    names = {line.split(":")[0] for line in passwd.splitlines()}
    changed = [path.rpartition("/")[2] for path in written if path.startswith(f"{KEYS}/")]
    changed = [name for name in changed if name in names]
    wanted = [account(name) for name in _names(clients)]
    return {"concerned": changed, "gone": [name for name in changed if name not in wanted]}


def repository(client: str, host: str, host_keys: list[str], port: int = 22, name: str = "store") -> dict[str, Any]:
    """Return the entry of `backups_repositories` by which a client saves to a host with the role backups_store."""
    return {
        "name": name,
        "type": "sftp",
        "path": REPOSITORY,
        "host": host,
        "port": port,
        "user": account(client),
        "host_keys": plain(host_keys),
    }


def host_keys(facts: Mapping[str, Any]) -> list[str]:
    """Return the public keys of a host from its facts (subset `ssh_pub_keys`), as SSH writes them."""
    found = [f"ssh_host_key_{algorithm}_public" for algorithm in ALGORITHMS]
    return [f"{facts[f'{name}_keytype']} {facts[name]}" for name in found if name in facts]


def private_key(given: str | None = None) -> str:
    """Return the private key that is given, or a new one, in OpenSSH's format and without a passphrase."""
    if given:
        return given
    kind, nothing = serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    return Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, kind, nothing).decode()


def public_key(private: str) -> str:
    """Return the public key of a private key in OpenSSH's format."""
    try:
        key = serialization.load_ssh_private_key(f"{private.strip()}\n".encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ValueError("it is no private key in OpenSSH's format without a passphrase") from error
    kind = serialization.PublicFormat.OpenSSH
    return key.public_key().public_bytes(serialization.Encoding.OpenSSH, kind).decode()
