"""Backups that survive the server: on another host by SFTP, and on S3-compatible storage."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
KEY = "canary-backups-encryption-key-0123456789"
SCRATCH = "/var/tmp/scratch"
MEDIA = "/srv/shop/media"
REPOSITORIES = ["store", "cellar"]
RUNNING = "systemctl is-active backups-media backups-postgres@full backups-postgres@diff | grep -q activating"
testinfra_hosts = ["ansible://server1"]


def secrets() -> list[str]:
    derived = [hashlib.sha256(f"{label}:{KEY}".encode()).hexdigest() for label in ("postgres", "media")]
    private = (EPHEMERAL / "sftp").read_text().splitlines()[2]
    return [KEY, *derived, "canary-access-key", "canary-secret-key", private]


@pytest.fixture(scope="module")
def cellar() -> Any:
    """The host that keeps the backups."""
    return testinfra.get_host("ansible://cellar1", ansible_inventory=str(EPHEMERAL / "inventory"))


def postgres(host: Any, command: str) -> str:
    """Run a command as the account of the database."""
    return str(host.check_output(f"cd / && runuser -u postgres -- {command}"))


def sql(host: Any, statement: str, server: str = "") -> str:
    return postgres(host, f'psql {server} -XAtqc "{statement}"')


def write(host: Any, text: str) -> str:
    """Write a row, finish the piece of the log that holds it, and return its name."""
    sql(host, f"INSERT INTO orders VALUES ('{text}')")
    return sql(host, "SELECT pg_walfile_name(pg_switch_wal())")


def eventually(host: Any, command: str, seconds: int) -> bool:
    for _ in range(seconds * 2):
        if host.run(command).rc == 0:
            return True
        time.sleep(0.5)
    return False


def archived(host: Any, wal: str, seconds: int = 30) -> bool:
    """Whether this piece of the log reaches all repositories in time."""
    query = f"SELECT 1 / (last_archived_wal >= '{wal}')::int FROM pg_stat_archiver"
    return eventually(host, f'cd / && runuser -u postgres -- psql -XAtqc "{query}"', seconds)


def backups(host: Any) -> list[tuple[str, int]]:
    """Return the type of each backup and the number of its repository, oldest first."""
    found = json.loads(postgres(host, "timeout 60 pgbackrest --output=json info"))[0]["backup"]
    return [(backup["type"], backup["database"]["repo-key"]) for backup in found]


@pytest.fixture(scope="module", autouse=True)
def something_to_save(host: Any) -> None:
    assert eventually(host, f"! {RUNNING}", 120)
    sql(host, "DROP TABLE IF EXISTS orders; CREATE TABLE orders (text text)")
    write(host, "canary-row before the full backup")
    host.check_output(f"echo canary-file > {MEDIA}/ä.txt && cp /usr/bin/psql {MEDIA}/photo.jpg")
    host.check_output("systemctl start backups-media backups-postgres@diff")


def test_the_first_backups_went_everywhere_without_waiting_for_the_night(host: Any) -> None:
    assert {("full", 1), ("full", 2)} <= set(backups(host))
    for repository in REPOSITORIES:
        tags = [one["tags"] for one in json.loads(host.check_output(f"backups restic @{repository} snapshots --json"))]
        assert tags.count(["shop"]) >= 2
        assert tags.count(["hostname"]) >= 2


@pytest.mark.parametrize("repository", [1, 2])
def test_each_repository_alone_brings_back_what_was_written_after_the_last_backup_too(
    host: Any, repository: int
) -> None:
    assert archived(host, write(host, f"after every backup {repository}"))
    version = sql(host, "SHOW server_version").split(".")[0]
    postgres(host, f"mkdir -m 700 {SCRATCH}")
    fetch = f"timeout 60 pgbackrest --stanza=main --repo={repository} --pg1-path={SCRATCH} --archive-mode=off"
    postgres(host, f"{fetch} restore")
    host.check_output(f"touch {SCRATCH}/postgresql.conf && echo local all all peer > {SCRATCH}/pg_hba.conf")
    start = f"-o '-p 5999 -k {SCRATCH} -h \\\"\\\"' -l {SCRATCH}/log start"
    postgres(host, f'sh -c "/usr/lib/postgresql/{version}/bin/pg_ctl -w -D {SCRATCH} {start}"')
    try:
        recovering = f"psql -h {SCRATCH} -p 5999 -XAtqc 'SELECT 1 / (NOT pg_is_in_recovery())::int'"
        assert eventually(host, f"cd / && runuser -u postgres -- {recovering}", 30)
        restored = sql(host, "SELECT text FROM orders", f"-h {SCRATCH} -p 5999")
    finally:
        postgres(host, f"/usr/lib/postgresql/{version}/bin/pg_ctl -m immediate -D {SCRATCH} stop")
        host.check_output(f"rm -r {SCRATCH}")
    assert restored == sql(host, "SELECT text FROM orders")
    assert f"after every backup {repository}" in restored


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_media_from_each_repository_are_identical(host: Any, repository: str) -> None:
    host.check_output(f"backups restic @{repository} restore latest --tag shop --target {SCRATCH}")
    host.check_output(f"diff -r {MEDIA} {SCRATCH}{MEDIA}")
    host.check_output(f"rm -r {SCRATCH}")
    assert host.check_output(f"backups restic @{repository} dump --tag hostname latest /etc/hostname") == "server1"


@pytest.mark.parametrize("text", ["canary-row", "canary-file", "photo.jpg", "orders"])
def test_the_host_that_keeps_them_sees_nothing(cellar: Any, text: str) -> None:
    assert int(cellar.check_output("find /srv/s3/backups/server1 /srv/keeper/server1 -type f | wc -l")) > 20
    assert cellar.run(f"grep -rla -- {text} /srv/s3 /srv/keeper").stdout == ""
    assert cellar.run(f"find /srv/s3 /srv/keeper -name '*{text}*'").stdout == ""


@pytest.mark.parametrize(
    "path", ["/etc/pgbackrest.conf", "/etc/backups/repositories/store.json", "/etc/backups/repositories/cellar.key"]
)
def test_a_stranger_on_the_server_can_open_no_credentials(host: Any, path: str) -> None:
    assert host.run(f"runuser -u nobody -- test -r {path}").rc == 1


def test_no_secret_is_in_a_process_list_a_log_or_a_file_for_everybody(host: Any) -> None:
    look = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    start = "systemctl start --no-block backups-media backups-postgres@diff; sleep 0.1"
    seen = host.check_output(f"{start}; while {RUNNING}; do {look} 2>/dev/null; done")
    for program in ("restic", "pgbackrest", "ssh"):
        assert program in seen
    seen += host.check_output("journalctl --no-pager; cat /var/log/pgbackrest/*; cat /var/log/postgresql/*.log")
    seen += host.check_output("systemctl show --all '*backups*'")
    host.check_output(
        "setpriv --reuid=nobody --regid=nogroup --clear-groups cp -r /etc/backups /tmp/copy 2>/dev/null; true"
    )
    seen += host.check_output("cat /tmp/copy/* /etc/systemd/system/backups* /usr/local/bin/backups-*; rm -r /tmp/copy")
    assert [secret[:12] for secret in secrets() if secret in seen] == []


@pytest.fixture
def gone(host: Any, cellar: Any) -> Iterator[None]:
    """The other host does not answer; when it does again, everything must catch up."""
    address = host.check_output("getent hosts cellar1").split()[0]
    del cellar
    host.check_output(f"ip route add blackhole {address}/32")
    yield
    host.run(f"ip route del blackhole {address}/32")


def test_while_the_other_host_is_gone_the_database_takes_every_write_and_catches_up(host: Any, gone: None) -> None:
    del gone
    for number in range(3):
        wal = write(host, f"while it is gone {number}")
    assert sql(host, "SELECT count(*) FROM orders WHERE text LIKE 'while it is gone%'") == "3"
    assert not archived(host, wal, 2)
    for name in ("backups-postgres@diff", "backups-media"):
        assert host.run(f"timeout 180 systemctl start {name}").rc == 1
        assert host.run(f"systemctl is-failed {name}").stdout.strip() == "failed"
    host.check_output(
        "find /var/lib/postgresql/*/main/pg_wal/archive_status -name '*.ready' -exec touch -d '-1 hour' {} +"
    )
    assert host.run("systemctl start backups-watch").rc == 1
    assert "WAL has been waiting" in host.check_output("journalctl --no-pager -u backups-watch")

    host.check_output("ip route del blackhole $(getent hosts cellar1 | cut -d' ' -f1)/32")
    assert archived(host, wal, 90)
    host.check_output("systemctl start backups-watch backups-postgres@diff backups-media")


def test_a_store_that_hangs_costs_no_more_disk_than_allowed_and_the_gap_is_closed_by_itself(
    host: Any, cellar: Any
) -> None:
    cellar.check_output("systemctl kill --signal=STOP s3")
    try:
        for number in range(16):
            write(host, f"while it hangs {number}")
        waiting = "[ $(ls /var/lib/postgresql/*/main/pg_wal/archive_status/*.ready | wc -l) -le 5 ]"
        assert eventually(host, waiting, 60)
        assert "backups-archive: dropped" in host.check_output("cat /var/log/postgresql/*.log")
        assert host.run("systemctl start backups-watch").rc == 1
        assert "WAL was dropped" in host.check_output("journalctl --no-pager -u backups-watch")
    finally:
        cellar.check_output("systemctl kill --signal=CONT s3")
    assert sql(host, "SELECT count(*) FROM orders WHERE text LIKE 'while it hangs%'") == "16"
    assert archived(host, write(host, "after it hung"), 120)
    assert eventually(host, f"! {RUNNING}", 120)
    host.run("systemctl start backups-watch")  # starts the backup, if that was not done yet
    assert eventually(host, f"! {RUNNING} && systemctl start backups-watch", 120)


def converge(**changes: Any) -> str:
    """Run the role with other variables, and return what it says, in one line; it must fail."""
    done = subprocess.run(
        [
            *("ansible-playbook", "--inventory", EPHEMERAL / "inventory", "--extra-vars", json.dumps(changes)),
            Path(__file__).parents[1] / "converge.yml",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout
    assert [secret[:12] for secret in secrets() if secret in done.stdout + done.stderr] == []
    return " ".join((done.stdout + done.stderr).split())


def test_a_wrong_key_is_a_clear_error_and_harms_nothing(host: Any) -> None:
    before = backups(host)
    try:
        said = converge(
            backups_credentials=[
                {"name": "store", "access_key": "canary-access-key", "secret_key": "wrong"},
                {"name": "cellar", "private_key": (EPHEMERAL / "sftp").read_text()},
            ]
        )
        assert "backups-postgres: one of the repositories cannot be used" in said
        assert "403" in said
        said = converge(backups_encryption_key="another-key-that-is-long-enough-01234567")
        assert "backups-postgres: one of the repositories cannot be used" in said
        assert "CryptoError" in said
    finally:
        subprocess.run(
            ["ansible-playbook", "--inventory", EPHEMERAL / "inventory", Path(__file__).parents[1] / "converge.yml"],
            capture_output=True,
            check=True,
        )
    assert backups(host) == before
    assert archived(host, write(host, "with the right key again"))


@pytest.mark.parametrize("name", ["backups-postgres@full", "backups-media", "backups-watch"])
def test_the_services_are_in_a_sandbox(host: Any, name: str) -> None:
    assert host.run(f"systemd-analyze security --threshold=30 {name}.service").rc == 0
