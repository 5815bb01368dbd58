"""What servers that keep their backups on another host can do there, and what they cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from plugins.module_utils import _store

testinfra_hosts = ["web1"]
SCENARIO = Path(__file__).parents[1]
EPHEMERAL = Path(os.environ["EPHEMERAL"])
INVENTORY = EPHEMERAL / "inventory"
WEB1, WEB2 = "backups-web1", _store.account("Web2.example.com")
KEYS = {WEB1: "/root/web1", WEB2: "/root/web2"}
CLIENTS = [
    {"name": name, "public_key": _store.public_key((EPHEMERAL / file).read_text())}
    for name, file in (("web1", "web1"), ("Web2.example.com", "web2"))
]
OPTIONS = (
    "-o BatchMode=yes -o IdentitiesOnly=yes -o StrictHostKeyChecking=yes "
    "-o UserKnownHostsFile=/etc/backups/repositories/known_hosts -o ConnectTimeout=5"
)


@pytest.fixture(scope="module")
def store() -> Any:
    return testinfra.get_host("ansible://store1", ansible_inventory=str(INVENTORY))


@pytest.fixture(scope="module", autouse=True)
def keys(host: Any) -> None:
    for path in KEYS.values():
        key = (EPHEMERAL / Path(path).name).read_text()
        host.check_output(f"install -m 600 /dev/null {path}; cat >{path} <<'END'\n{key}END")


def play(*, limit: str = "store1", fails: bool = False, **variables: Any) -> str:
    """Run the roles again, with other variables, and return what is said."""
    command = ["ansible-playbook", "--inventory", INVENTORY, "--limit", limit, "--extra-vars", json.dumps(variables)]
    done = subprocess.run([*command, SCENARIO / "converge.yml"], capture_output=True, text=True, check=False)
    assert done.returncode == (2 if fails else 0), done.stdout
    return " ".join((done.stdout + done.stderr).split())


def sftp(host: Any, account: str, *commands: str, key: str = "") -> Any:
    """Do something on the store as a server does; it ends with the first command that is refused, and then with 1.

    The status 255 of SSH would be taken for that of the connection to the test host.
    """
    lines = "\\n".join(commands)
    return host.run(
        f"printf '{lines}\\n' | timeout 20 sftp {OPTIONS} -i {key or KEYS[account]} -b - {account}@store1 || exit 1"
    )


def ssh(host: Any, words: str, account: str = WEB2) -> Any:
    """Try what is not SFTP, and return what is said."""
    key = KEYS[account]
    return host.run(
        f"timeout 20 ssh {OPTIONS} -i {key} {words.format(account=f'{account}@store1')} 2>&1 </dev/null || exit 1"
    )


# --- what it is for ---


def test_a_server_gets_back_what_it_brought(host: Any) -> None:
    host.check_output("echo canary-backup >/root/one")
    done = sftp(host, WEB2, "put /root/one /repository/one", "get /repository/one /root/two", "rm /repository/one")
    assert done.rc == 0, done.stderr
    assert host.check_output("cat /root/two") == "canary-backup"


def test_databases_and_media_are_saved_and_come_back(host: Any, store: Any) -> None:
    info = json.loads(host.check_output("cd /; runuser -u postgres -- timeout 60 pgbackrest --output=json info"))[0]
    assert [backup["type"] for backup in info["backup"]] == ["full"]
    host.check_output("cd /; runuser -u postgres -- timeout 120 pgbackrest --stanza=main check")
    assert "backup.info" in host.check_output(
        "cd /; runuser -u postgres -- timeout 60 pgbackrest repo-ls --repo=1 backup/main"
    )
    host.check_output("backups restic @store restore latest --tag shop --target /root/restored")
    assert host.check_output("cat /root/restored/srv/shop/photo.jpg") == "canary-file"
    # And nobody can read it where it lies.
    assert store.run("grep -rlI canary-file /srv/backups").stdout == ""


# --- what it is not for ---


def test_a_server_sees_nothing_but_its_own_directory(host: Any) -> None:
    for place in (".", "/", "..", "/repository/../.."):
        seen = sftp(host, WEB2, f"ls -1a {place}").stdout.split()
        assert {word.rpartition("/")[2] for word in seen if "sftp>" not in word} <= {
            ".",
            "..",
            "repository",
            "ls",
            "-1a",
            "",
        }
    for place in ("/srv/backups/web1", "../web1", "/etc/passwd"):
        assert "not found" in sftp(host, WEB2, f"ls {place}").stderr


def test_a_server_can_write_only_beneath(host: Any) -> None:
    for command in ("put /root/web2 /x", "mkdir /.ssh", "rename /repository /other", "chmod 777 /", "rm /repository"):
        assert sftp(host, WEB2, command).rc == 1, command
    assert sftp(host, WEB2, "symlink /../../web1 /repository/link", "ls /repository/link/repository").rc == 1
    assert sftp(host, WEB2, "rm /repository/link").rc == 0


def test_a_key_opens_no_account_but_its_own(host: Any) -> None:
    assert "Permission denied" in sftp(host, WEB1, "ls", key=KEYS[WEB2]).stderr
    assert "Permission denied" in sftp(host, "root", "ls", key=KEYS[WEB2]).stderr


def test_other_accounts_of_the_store_see_nothing(store: Any) -> None:
    for account in ("nobody", WEB2):
        assert store.run(f"runuser -u {account} -s /bin/sh -- ls /srv/backups").rc != 0
        assert store.run(f"runuser -u {account} -s /bin/sh -- ls /srv/backups/web1/repository").rc != 0
    # Not even with a way in: only its owner.
    assert store.check_output("stat -c '%U %a' /srv/backups/web1/repository") == f"{WEB1} 700"


@pytest.mark.parametrize(
    "words",
    [
        "{account} id",
        "-tt {account}",
        "-W localhost:22 {account}",
        "-o ExitOnForwardFailure=yes -R 9999:localhost:22 {account} true",
        "-o PreferredAuthentications=password,keyboard-interactive -o PubkeyAuthentication=no {account}",
    ],
)
def test_there_is_no_shell_no_forwarding_and_no_password(host: Any, words: str) -> None:
    done = ssh(host, words)
    assert done.rc == 1, done.stdout
    refusals = (
        "sftp connections only",
        "prohibited",
        "forwarding failed",
        "Permission denied (publickey)",
        "PTY allocation request failed",
    )
    assert any(refusal in done.stdout for refusal in refusals), done.stdout


def test_administrators_are_none_of_its_business(store: Any) -> None:
    said = store.check_output("sshd -T -C user=root,host=any,addr=127.0.0.1")
    assert "chrootdirectory none" in said
    assert "forcecommand none" in said
    # What other files say is for everybody, whether it comes before or after.
    for account in ("root", WEB1):
        assert "maxauthtries 3" in store.check_output(f"sshd -T -C user={account},host=any,addr=127.0.0.1")


# --- changes ---


@pytest.fixture
def session(host: Any, store: Any) -> Iterator[str]:
    """A connection of the second server that stays open, and what tells whether it still is."""
    host.check_output("rm -f /tmp/talk; mkfifo /tmp/talk")
    line = f"exec 9<>/tmp/talk; exec sftp {OPTIONS} -i {KEYS[WEB2]} {WEB2}@store1 <&9"
    host.check_output(f"systemd-run --quiet --collect --unit=session bash -c '{line}'")
    store.check_output(f"timeout 10 sh -c 'until pgrep --uid {WEB2}; do sleep 0.2; done'")
    yield f"pgrep --uid {WEB2}"
    host.run("systemctl stop session")


def test_who_is_off_the_list_is_out_at_once_and_what_it_stored_is_kept(host: Any, store: Any, session: str) -> None:
    assert sftp(host, WEB2, "put /root/one /repository/kept").rc == 0
    said = play(backups_store_clients=CLIENTS[:1])
    assert f"No access any more for {WEB2}. What was stored is kept in /srv/backups" in said
    assert store.run(session).rc == 1, "its connection is still open"
    assert "Permission denied" in sftp(host, WEB2, "ls").stderr
    assert sftp(host, WEB1, "ls").rc == 0
    assert store.check_output("cat /srv/backups/Web2.example.com/repository/kept") == "canary-backup"
    assert "changed=0 " in play(backups_store_clients=CLIENTS[:1])

    play()
    assert sftp(host, WEB2, "get /repository/kept /root/kept", "rm /repository/kept").rc == 0


def test_another_key_takes_the_place_of_the_old_one(host: Any, store: Any, session: str) -> None:
    other = _store.private_key()
    host.check_output(f"install -m 600 /dev/null /root/other; cat >/root/other <<'END'\n{other}END")
    play(backups_store_clients=[CLIENTS[0], {**CLIENTS[1], "public_key": _store.public_key(other)}])
    try:
        assert store.run(session).rc == 1, "its connection is still open"
        assert "Permission denied" in sftp(host, WEB2, "ls").stderr
        assert sftp(host, WEB2, "ls", key="/root/other").rc == 0
    finally:
        play()
    assert sftp(host, WEB2, "ls").rc == 0


def test_nothing_is_loaded_that_ssh_does_not_understand(store: Any) -> None:
    store.check_output("echo Nonsense yes >/etc/ssh/sshd_config.d/99-broken.conf")
    before = store.check_output("systemctl show --property=StateChangeTimestamp ssh")
    try:
        store.check_output("echo >>/etc/ssh/sshd_config.d/10-backups-store.conf")
        assert "Nonsense" in play(fails=True)
        assert store.check_output("systemctl show --property=StateChangeTimestamp ssh") == before
    finally:
        store.check_output("rm /etc/ssh/sshd_config.d/99-broken.conf")
    play()
    assert "changed=0 " in play()


def test_it_is_said_when_something_else_sets_the_accounts_free(store: Any) -> None:
    store.check_output("printf 'Match User backups-*\\nForceCommand none\\n' >/etc/ssh/sshd_config.d/00-own.conf")
    try:
        said = play(fails=True)
        assert "comes before /etc/ssh/sshd_config.d/10-backups-store.conf" in said
        assert "Missing: forcecommand internal-sftp" in said
    finally:
        store.check_output("rm /etc/ssh/sshd_config.d/00-own.conf")
    play()


def test_mistakes_are_named_before_the_server_is_touched() -> None:
    said = play(
        backups_store_directory="srv", backups_store_clients=[{"name": "../x", "public_key": "AAAA"}], fails=True
    )
    for mistake in ("'srv' must be an absolute path", "../x: the name must hold only", "../x: public_key must be"):
        assert mistake in said
    assert "Install what lets the servers in" not in said
