"""Backups that survive the server: on another host by SFTP, and on S3-compatible storage."""

from __future__ import annotations

import json
from typing import Any

import pytest
from remote import (
    MEDIA,
    REPOSITORIES,
    RUNNING,
    archived,
    backups,
    eventually,
    recovered,
    secrets,
    sql,
    write,
)

SCRATCH = "/var/tmp/scratch"
testinfra_hosts = ["ansible://server1"]


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


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_each_repository_alone_brings_back_what_was_written_after_the_last_backup_too(
    host: Any, repository: str
) -> None:
    assert archived(host, write(host, f"after every backup {repository}"))
    restored = recovered(host, repository, "SELECT text FROM orders").splitlines()
    assert restored == sql(host, "SELECT text FROM orders").splitlines()
    assert f"after every backup {repository}" in restored


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_media_from_each_repository_are_identical(host: Any, repository: str) -> None:
    host.check_output(f"backups restic @{repository} restore latest --tag shop --target {SCRATCH}")
    host.check_output(f"diff -r {MEDIA} {SCRATCH}{MEDIA}")
    host.check_output(f"rm -r {SCRATCH}")
    assert host.check_output(f"backups restic @{repository} dump --tag hostname latest /etc/hostname") == "server1"


def test_the_host_that_keeps_them_sees_nothing(cellar: Any) -> None:
    assert int(cellar.check_output("find /srv/s3/backups/server1 /srv/keeper/server1 -type f | wc -l")) > 20
    for text in ("canary-row", "canary-file", "photo.jpg", "orders"):
        assert cellar.run(f"grep -rla -- {text} /srv/s3 /srv/keeper").stdout == ""
        assert cellar.run(f"find /srv/s3 /srv/keeper -name '*{text}*'").stdout == ""


def test_a_stranger_on_the_server_can_open_no_credentials(host: Any) -> None:
    held = ["/etc/pgbackrest.conf", *(f"/etc/backups/repositories/{name}" for name in ("store.json", "cellar.key"))]
    for path in (*held, *(f"/etc/backups/repositories/{name}.conf" for name in REPOSITORIES)):
        host.check_output(f"test -e {path}")
        assert host.run(f"runuser -u nobody -- test -r {path}").rc == 1


def test_no_secret_is_in_a_process_list_a_log_or_a_file_for_everybody(host: Any) -> None:
    stranger = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
    look = f"{stranger} cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' ' '"
    start = "systemctl start --no-block backups-media backups-postgres@diff; sleep 0.1"
    seen = host.check_output(f"{start}; while {RUNNING}; do {look} 2>/dev/null; sleep 0.05; done")
    for program in ("restic", "pgbackrest", "ssh"):
        assert program in seen
    seen += host.check_output("journalctl --no-pager; cat /var/log/pgbackrest/*; cat /var/log/postgresql/*.log")
    seen += host.check_output("systemctl show --all '*backups*'; grep -r '' /var/lib/backups")
    host.check_output(f"{stranger} cp -r /etc/backups /tmp/copy 2>/dev/null; true")
    seen += host.check_output("grep -r '' /tmp/copy /etc/systemd/system/backups* /usr/local; rm -r /tmp/copy")
    assert [secret[:12] for secret in secrets() if secret in seen] == []


@pytest.mark.parametrize("name", ["backups-postgres@full", "backups-media", "backups-watch"])
def test_the_services_are_in_a_sandbox(host: Any, name: str) -> None:
    assert host.run(f"systemd-analyze security --threshold=30 {name}.service").rc == 0
