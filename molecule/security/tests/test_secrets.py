"""Nothing that the inventory says in confidence can be found where it does not belong, also after runs that fail."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
testinfra_hosts = ["ansible://site1"]


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    else:
        yield str(value)


def inventory() -> dict[str, Any]:
    # Not by asking Ansible, whose answer would be in the log that the tests read.
    read: dict[str, Any] = yaml.safe_load((EPHEMERAL / "inventory/group_vars/app").read_text())
    return read


def backup_keys() -> list[str]:
    """Return the keys that the role `backups` makes of the one that it is given."""
    key = inventory()["django_secrets"]["backups_encryption_key"]
    return [hashlib.sha256(f"{kind}:{key}".encode()).hexdigest() for kind in ("postgres", "media")]


def canaries() -> list[str]:
    """Return every secret of the inventory, in each form in which it could leak."""
    secrets = [*texts(inventory()["django_secrets"]), "canary-sentry"]
    assert all("canary-" in secret for secret in secrets)
    secrets += backup_keys()
    key = (EPHEMERAL / "bought.key").read_text().splitlines()[1:-1]
    forms = [
        form
        for secret in secrets
        for form in (
            secret,
            json.dumps(secret)[1:-1],
            quote(secret),
            quote(secret, safe=""),
            quote_plus(secret),
            base64.b64encode(secret.encode()).decode(),
            hashlib.sha256(secret.encode()).hexdigest(),
        )
    ]
    return sorted({*forms, *key})


@pytest.fixture
def patterns(host: Any) -> Iterator[str]:
    """A file of them on the server, for root only."""
    # In a form that the search does not find on its own command line.
    text = "\n".join(canaries()).encode().hex()
    script = f"import pathlib; pathlib.Path('/root/canaries').write_bytes(bytes.fromhex('{text}'))"
    host.check_output(f'umask 077; python3 -c "{script}"')
    yield "/root/canaries"
    host.run("rm -f /root/canaries")


def leaks(text: str) -> list[str]:
    """Name the secrets in a text by their first letters."""
    return sorted({canary[:12] for canary in canaries() if canary in text})


def play(*words: str) -> subprocess.CompletedProcess[str]:
    """Converge once more, as talkatively as can be."""
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
    }
    command = ["ansible-playbook", "--inventory", str(EPHEMERAL / "inventory"), "-vvvv", "--diff", *words]
    return subprocess.run(
        [*command, "groundwork.django.site"], env=environment, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_the_canaries_are_in_use(host: Any) -> None:
    """Else nothing of what follows would mean anything."""
    found = host.check_output("cat /etc/django/guestbook.env /etc/django/bought.env")
    assert found.count("canary-") >= 8
    kept = host.check_output("cat /etc/pgbackrest.conf /etc/backups-media.key")
    assert all(key in kept for key in backup_keys())


def test_the_most_talkative_run_told_nothing() -> None:
    """Neither the first nor the second one, of which both are in the log."""
    log = (EPHEMERAL / "ansible.log").read_text()
    assert "Run PostgreSQL" in log
    assert "task path: " in log, "it was not talkative"
    assert leaks(log) == []


def test_nor_does_one_that_only_checks() -> None:
    done = play("--check")
    assert done.returncode == 0, done.stdout[-3000:]
    assert leaks(done.stdout + done.stderr) == []


AS_POSTGRES = "runuser -u postgres -- psql --quiet --command"
READ_ONLY = "ALTER ROLE postgres {} default_transaction_read_only"
# What makes a task with secrets fail, what ends that, and the tag of its role.
BREAKAGES = {
    "a database that refuses": (
        f"{AS_POSTGRES} 'ALTER ROLE guestbook PASSWORD NULL'; {AS_POSTGRES} '{READ_ONLY.format('SET')} = on'",
        f"PGOPTIONS='-c default_transaction_read_only=off' {AS_POSTGRES} '{READ_ONLY.format('RESET')}'",
        "postgres",
    ),
    **{
        f"a directory where {path} belongs": (f"mv {path} {path}.kept; mkdir -p {path}/in-it", f"rm -r {path}", tag)
        for path, tag in {
            "/etc/redis/users.acl": "redis",
            "/etc/django/guestbook.env": "django",
            "/etc/nginx/tls/bought.pem": "nginx",
            "/etc/pgbackrest.conf": "backups",
        }.items()
    },
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_nor_does_a_run_that_fails_with(host: Any, breakage: str) -> None:
    spoil, mend, tag = BREAKAGES[breakage]
    host.check_output(spoil)
    try:
        done = play("--tags", tag)
    finally:
        host.check_output(mend)
        host.run("for kept in $(find /etc -name '*.kept'); do mv $kept ${kept%.kept}; done")
    assert done.returncode == 2, done.stdout[-3000:]
    assert leaks(done.stdout + done.stderr) == []


def test_nor_does_a_release_that_cannot_be_imported(tmp_path: Path) -> None:
    apps = inventory()["django_apps"]
    broken = {name: {**app, "application": "config.nothing:application"} for name, app in apps.items()}
    # In a file, because Ansible repeats its own arguments.
    (tmp_path / "broken.json").write_text(json.dumps({"django_apps": broken}))
    done = play("--extra-vars", f"@{tmp_path}/broken.json", "--tags", "django")
    assert done.returncode == 2, done.stdout[-3000:]
    assert "config.nothing" in done.stdout
    assert leaks(done.stdout + done.stderr) == []


def test_after_all_that_the_site_is_as_it_was(host: Any) -> None:
    done = play()
    assert done.returncode == 0, done.stdout[-3000:]
    assert leaks(done.stdout + done.stderr) == []
    host.check_output("systemctl is-active nginx 'gunicorn-*@?.service'")


def test_nor_is_it_in_what_ansible_keeps() -> None:
    kept = [path for path in (EPHEMERAL / "facts").rglob("*") if path.is_file()]
    assert kept, "there is no fact cache"
    assert [path.name for path in kept if leaks(path.read_text())] == []


PLACES = {
    "the journal": "journalctl --no-pager --output=export | grep -acFf {}",
    "logs": "grep -rlaFf {} /var/log",
    "PostgreSQL's statistics": "runuser -u postgres -- psql -Atc 'SELECT query FROM pg_stat_activity' | grep -acFf {}",
    "properties of units": "systemctl show '*' | grep -acFf {}",
    "unit files": "grep -rlaFf {} /etc/systemd /run/systemd /usr/lib/systemd",
    "temporary files": "grep -rlaFf {} /tmp /var/tmp /root/.ansible",
    "histories": "cat /root/.*history 2>/dev/null | grep -acFf {}",
    "core dumps": "grep -rlaFf {} /var/lib/systemd/coredump /var/crash",
    "releases": "grep -rlaFf {} /srv",
    "backups": "grep -rlaFf {} /var/backups /var/lib/backups /var/spool",
    "what installs packages": "grep -rlaFf {} /root/.config /root/.cache /etc/pip.conf /etc/uv",
    "command lines and environments that a neighbour saw": "grep -acFf {} /var/lib/watch/seen",
}


@pytest.mark.parametrize("place", PLACES)
def test_no_secret_is_in(host: Any, patterns: str, place: str) -> None:
    found = host.run(PLACES[place].format(patterns)).stdout.strip()
    assert found in ("", "0")


def test_the_neighbour_saw_something(host: Any) -> None:
    assert "gunicorn" in host.check_output("cat /var/lib/watch/seen")


@pytest.mark.parametrize("account", ["nobody", "www-data", "guestbook", "bought", "postgres", "redis", "pgbouncer"])
def test_no_account_can_read_what_is_not_its_own(host: Any, patterns: str, account: str) -> None:
    own = {"redis": ("/etc/redis/users.acl",), "postgres": ("/etc/pgbackrest.conf", "/etc/backups/repositories/")}
    elsewhere = "--exclude-dir=proc --exclude-dir=sys --exclude-dir=dev --exclude-dir=watch"
    # From standard input: a path to what root has opened is for root only, and nothing would ever be found.
    search = f"grep -rlaIF -f - {elsewhere} / <{patterns}"
    planted = "/var/tmp/planted"
    host.check_output(f"cp {patterns} {planted} && chmod 644 {planted}")
    try:
        found = host.run(
            f"setpriv --reuid={account} --regid=$(id -g {account}) --init-groups {search}"
        ).stdout.splitlines()
    finally:
        host.check_output(f"rm {planted}")
    assert [path for path in found if not path.startswith(own.get(account, ()))] == [planted]
