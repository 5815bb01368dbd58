"""A host that keeps the backups of others: a mistake in it is named, and both sides know what the other means."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError

from plugins.filter import backups_store
from plugins.module_utils import _repositories, _store

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "B" * 43
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "C" * 43
WEB1 = {"name": "web1", "public_key": f"{KEY} root@web1"}
WEB2 = {"name": "web2", "public_key": OTHER}
FACTS = {
    "ssh_host_key_rsa_public": "RRRR",
    "ssh_host_key_rsa_public_keytype": "ssh-rsa",
    "ssh_host_key_ed25519_public": "EEEE",
    "ssh_host_key_ed25519_public_keytype": "ssh-ed25519",
    "distribution": "Debian",
}


def problems(*clients: dict[str, Any], directory: str = "/srv/backups") -> list[str]:
    return _store.problems(list(clients), directory)


def test_good_clients_are_accepted() -> None:
    assert problems(WEB1, WEB2) == []
    assert problems() == []


@pytest.mark.parametrize("directory", ["srv/backups", "/", "/srv/back ups", "/srv/../etc", "/srv/%u"])
def test_a_directory_that_ssh_would_read_otherwise_is_refused(directory: str) -> None:
    assert problems(directory=directory)[0].startswith(f"backups_store_directory: {directory!r} must be")


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "a b", "", "-x", "web1\n"])
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    [found] = problems({**WEB1, "name": name})
    assert "the name must hold only" in found


@pytest.mark.parametrize(
    "key",
    [
        "AAAAC3",
        f"{KEY}\n{OTHER}",
        f'command="sh" {KEY}',
        "-----BEGIN OPENSSH PRIVATE KEY-----\ncanary\n-----END OPENSSH PRIVATE KEY-----\n",
        "",
    ],
)
def test_what_is_no_public_key_is_refused_and_not_shown(key: str) -> None:
    [found] = problems({**WEB1, "public_key": key})
    assert "web1: public_key must be the type and the key" in found
    assert "canary" not in found


def test_two_clients_share_neither_name_nor_key() -> None:
    assert problems(WEB1, {**WEB2, "name": "web1"}) == ["backups_store_clients: there are two with the name web1"]
    [found] = problems(WEB1, {**WEB1, "name": "web2", "public_key": KEY})
    assert "web1, web2 have the same public_key" in found
    assert "AAAA" not in found


@pytest.mark.parametrize("name", ["web1", "web1.example.com", "Web1", "WEB1", "w" * 24, "w" * 25, f"{'w' * 25}2"])
def test_an_account_has_a_name_that_linux_takes(name: str) -> None:
    found = _store.account(name)
    assert found.startswith("backups-")
    assert len(found) <= 32
    assert found == found.lower()


def test_no_two_clients_have_the_same_account() -> None:
    names = ["web1", "Web1", "WEB1", "w" * 25, "w" * 26, "w" * 27]
    assert len({_store.account(name) for name in names}) == len(names)


def test_an_account_is_made_once_and_follows_its_directory() -> None:
    passwd = "root:x:0:0:root:/root:/bin/bash\nbackups-web1:x:998:997::/srv/backups/web1:/usr/sbin/nologin\n"
    assert _store.missing([WEB1], "/srv/backups", passwd) == []
    assert _store.missing([WEB1, WEB2], "/srv/backups", passwd) == [
        {"name": "backups-web2", "home": "/srv/backups/web2"}
    ]
    assert [each["home"] for each in _store.missing([WEB1], "/mnt/disk", passwd)] == ["/mnt/disk/web1"]


def test_a_client_owns_no_directory_but_the_one_to_write_to() -> None:
    owners = {file["path"]: file.get("owner", "root") for file in _store.files([WEB1, WEB2], "/srv/backups")}
    assert [path for path, owner in owners.items() if owner != "root"] == [
        "/srv/backups/web1/repository",
        "/srv/backups/web2/repository",
    ]
    assert owners["/srv/backups/web1/repository"] == "backups-web1"


def test_a_key_is_let_in_without_what_its_comment_says() -> None:
    [file] = [file for file in _store.files([WEB1], "/srv/backups") if "content" in file]
    assert file["content"].splitlines()[1:] == [f"restrict {KEY} web1"]


def test_who_has_another_key_or_none_is_found_among_the_accounts_that_exist() -> None:
    passwd = "".join(f"backups-{name}:x:9:9::/:/\n" for name in ("web1", "web2", "web3"))
    written = ["/etc/ssh/sshd_config.d/10-backups-store.conf", "/srv/backups/web2"]
    written += [f"/etc/ssh/backups-store/{name}" for name in ("backups-web1", "backups-web2", "somebody")]
    found = _store.other_keys(written, [WEB1], passwd)
    assert found == {"concerned": ["backups-web1", "backups-web2"], "gone": ["backups-web2"]}


def test_a_client_finds_its_repository_by_an_entry_that_the_role_backups_takes() -> None:
    entry = _store.repository("web1", "store1", _store.host_keys(FACTS), port=2222)
    assert entry == {
        "name": "store",
        "type": "sftp",
        "path": "/repository",
        "host": "store1",
        "port": 2222,
        "user": "backups-web1",
        "host_keys": ["ssh-ed25519 EEEE", "ssh-rsa RRRR"],
    }
    assert _repositories.problems([entry], [{"name": "store", "private_key": _store.private_key()}]) == []


def test_a_private_key_that_is_given_stays() -> None:
    assert _store.private_key("given") == "given"
    assert _store.private_key() != _store.private_key("")


@pytest.mark.parametrize("whole", [True, False])
def test_the_public_key_is_the_one_that_openssh_finds(tmp_path: Path, *, whole: bool) -> None:
    private = _store.private_key()
    path = tmp_path / "key"
    path.write_text(private)
    path.chmod(0o600)
    said = subprocess.run(["ssh-keygen", "-y", "-f", path], capture_output=True, text=True, check=True).stdout
    found = backups_store.public_key(private if whole else private.strip())
    assert found == said.strip()
    assert problems({**WEB1, "public_key": found}) == []


def test_a_key_that_openssh_made_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-C", "root@web1", "-N", "", "-f", path], check=True)
    public = backups_store.public_key(path.read_text())
    assert f"{public} root@web1\n" == path.with_suffix(".pub").read_text()
    assert problems({**WEB1, "public_key": public}) == []


@pytest.mark.parametrize("passphrase", [True, False])
def test_what_is_no_usable_private_key_is_not_shown(tmp_path: Path, *, passphrase: bool) -> None:
    text = "canary"
    if passphrase:
        path = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "canary", "-f", path], check=True)
        text = path.read_text()
    with pytest.raises(AnsibleFilterError, match="no private key in OpenSSH's format without a passphrase") as raised:
        backups_store.public_key(text)
    assert text not in str(raised.value)
