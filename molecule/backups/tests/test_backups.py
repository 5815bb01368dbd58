"""A backup counts when it was restored; whoever has only the disk of the backups has nothing."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

KEY = "canary-backups-encryption-key-0123456789"
SECRETS = (KEY, *(hashlib.sha256(f"{label}:{KEY}".encode()).hexdigest() for label in ("postgres", "media")))
REPOSITORIES = "/var/backups/groundwork"
SCRATCH = "/var/tmp/scratch"
MEDIA = "/srv/shop/media"
LATE = "/root/late"
ROLE = Path(__file__).parents[3] / "roles/backups"
RUNNING = "systemctl is-active backups-media backups-postgres@full | grep -q activating"


def postgres(host: Any, command: str) -> str:
    """Run a command as the account of the database."""
    return str(host.check_output(f"cd / && runuser -u postgres -- {command}"))


def sql(host: Any, statement: str, server: str = "") -> str:
    return postgres(host, f'psql {server} -XAtqc "{statement}"')


def backups(host: Any) -> list[dict[str, Any]]:
    """Return the backups of the database, oldest first."""
    found: list[dict[str, Any]] = json.loads(postgres(host, "pgbackrest --output=json info"))[0]["backup"]
    return found


def wait_for_archive(host: Any, wal: str) -> bool:
    """Whether this piece of the log reaches the repository within 20 seconds."""
    for _ in range(80):
        if sql(host, f"SELECT last_archived_wal >= '{wal}' FROM pg_stat_archiver") == "t":
            return True
        time.sleep(0.25)
    return False


def write(host: Any, text: str) -> str:
    """Write a row, and return the piece of the log that holds it."""
    return sql(host, f"INSERT INTO orders VALUES ('{text}'); SELECT pg_walfile_name(pg_current_wal_insert_lsn())")


@pytest.fixture(scope="module", autouse=True)
def something_to_save(host: Any) -> None:
    """Write a row and files, and save both once more, as the timers would."""
    host.check_output(f"while {RUNNING}; do sleep 0.2; done")
    sql(host, "CREATE TABLE orders (text text)")
    write(host, "canary-row before the full backup")
    host.check_output(f"mkdir {MEDIA}/deep && echo canary-file > {MEDIA}/deep/ä.txt")
    host.check_output(f"install -m 600 -o www-data /usr/bin/psql {MEDIA}/photo.jpg")
    host.check_output("systemctl start backups-postgres@full backups-media")


def test_the_first_backups_were_made_without_waiting_for_the_night(host: Any) -> None:
    assert backups(host)[0]["type"] == "full"
    assert len(json.loads(host.check_output("backups restic snapshots --tag shop --json"))) == 2


def test_a_first_backup_that_ends_while_the_role_looks_is_seen(host: Any) -> None:
    """Here systemctl answers when the backup is over; before that there is no sign of it but the unit at work."""
    look = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__backups_look_script"]
    unit, made = "backups-postgres@full", "/var/lib/backups/postgres/full"
    wait = f"until [ -e {made} ] && ! systemctl is-active {unit} | grep -q ing; do sleep 0.1; done"
    late = f'#!/bin/sh\nPATH=/usr/bin\n{wait}\nexec systemctl "$@"'
    host.check_output(f"mkdir -p {LATE} && echo %s > {LATE}/systemctl && chmod +x {LATE}/systemctl", late)
    host.check_output(f"rm {made} && systemctl start --no-block {unit}")
    seen = host.check_output("PATH=%s:$PATH timeout 60 sh -c %s look %s", LATE, look, unit)
    host.check_output(f"rm -r {LATE}")
    assert "file postgres/full" in seen.splitlines()


@pytest.mark.parametrize("name", ["backups-postgres@full", "backups-postgres@diff", "backups-media"])
def test_every_backup_has_its_next_time(host: Any, name: str) -> None:
    timers = json.loads(host.check_output("systemctl list-timers --output=json"))
    assert [timer for timer in timers if timer["unit"] == f"{name}.timer" and timer["next"]]
    assert host.check_output(f"systemctl is-enabled {name}.timer") == "enabled"


def test_a_write_is_in_the_repository_before_the_timeout_is_long_over(host: Any) -> None:
    assert wait_for_archive(host, write(host, "nobody asks for this one"))


def test_the_restored_database_holds_what_was_written_after_the_last_backup_too(host: Any) -> None:
    write(host, "before the differential backup")
    host.check_output("systemctl start backups-postgres@diff")
    assert [backup["type"] for backup in backups(host)][-2:] == ["full", "diff"]
    wal = write(host, "after every backup")
    sql(host, "SELECT pg_switch_wal()")
    assert wait_for_archive(host, wal)

    version = sql(host, "SHOW server_version").split(".")[0]
    postgres(host, f"mkdir -m 700 {SCRATCH}")
    postgres(host, f"pgbackrest --stanza=main --pg1-path={SCRATCH} --archive-mode=off restore")
    host.check_output(f"touch {SCRATCH}/postgresql.conf && echo local all all peer > {SCRATCH}/pg_hba.conf")
    start = f"-o '-p 5999 -k {SCRATCH} -h \\\"\\\"' -l {SCRATCH}/log start"
    postgres(host, f'sh -c "/usr/lib/postgresql/{version}/bin/pg_ctl -w -D {SCRATCH} {start}"')
    try:
        for _ in range(80):
            if sql(host, "SELECT pg_is_in_recovery()", f"-h {SCRATCH} -p 5999") == "f":
                break
            time.sleep(0.25)
        restored = sql(host, "SELECT text FROM orders", f"-h {SCRATCH} -p 5999")
    finally:
        postgres(host, f"/usr/lib/postgresql/{version}/bin/pg_ctl -m immediate -D {SCRATCH} stop")
        host.check_output(f"rm -r {SCRATCH}")
    assert restored == sql(host, "SELECT text FROM orders")
    assert "after every backup" in restored


def test_restored_media_are_identical(host: Any) -> None:
    host.check_output(f"backups restic restore latest --tag shop --target {SCRATCH}")
    listing = r"find . -printf '%p %m %u %g %s %T@\n' | sort"
    for command in ("find . -type f -exec sha256sum {} + | sort", listing):
        assert host.check_output(f"cd {SCRATCH}{MEDIA} && {command}") == host.check_output(f"cd {MEDIA} && {command}")
    host.check_output(f"rm -r {SCRATCH}")


def test_a_file_that_cannot_be_read_does_not_keep_the_others_from_being_saved(host: Any) -> None:
    host.check_output(f"cd {MEDIA} && echo new > new.txt && touch vanishing && mount --bind /proc/1/mem vanishing")
    try:
        host.check_output("systemctl start backups-media")
    finally:
        host.check_output(f"umount {MEDIA}/vanishing && rm {MEDIA}/vanishing")
    assert host.check_output(f"backups restic dump --tag shop latest {MEDIA}/new.txt") == "new"


def test_a_missing_directory_is_reported_and_the_others_are_saved(host: Any) -> None:
    host.check_output(f"mv {MEDIA} {MEDIA}.away && echo later > '/srv/blog/media of the blog/later.txt'")
    try:
        assert host.run("systemctl start backups-media").rc != 0
    finally:
        host.check_output(f"mv {MEDIA}.away {MEDIA}")
    assert host.check_output("backups restic dump --tag blog latest '/srv/blog/media of the blog/later.txt'") == "later"
    assert f"shop: {MEDIA} is not there" in host.check_output("journalctl --no-pager -u backups-media")
    host.check_output("systemctl start backups-media")


@pytest.mark.parametrize("text", ["canary-row", "canary-file", "photo.jpg", "orders"])
def test_the_repositories_show_nothing(host: Any, text: str) -> None:
    assert host.run(f"grep -rla -- {text} {REPOSITORIES}").stdout == ""
    assert host.run(f"find {REPOSITORIES} -name '*{text}*'").stdout == ""


def test_with_another_key_nothing_can_be_read(host: Any) -> None:
    look = "env PGBACKREST_REPO1_CIPHER_PASS=guess pgbackrest --stanza=main repo-get backup/main/backup.info"
    answer = host.run(f"cd / && runuser -u postgres -- {look}")
    assert answer.rc != 0
    assert "backup" not in answer.stdout
    answer = host.run(f"echo guess | restic -r {REPOSITORIES}/media --no-cache snapshots")
    assert answer.rc != 0
    assert "wrong password" in answer.stderr


@pytest.mark.parametrize("path", ["/etc/pgbackrest.conf", "/etc/backups-media.key", REPOSITORIES])
def test_a_stranger_on_the_host_can_open_neither_keys_nor_repositories(host: Any, path: str) -> None:
    assert host.run(f"runuser -u nobody -- test -r {path}").rc == 1


def test_the_account_of_the_database_cannot_touch_the_media(host: Any) -> None:
    assert host.run("runuser -u postgres -- cat /etc/backups-media.key").rc == 1
    assert host.run(f"runuser -u postgres -- mv {REPOSITORIES}/media {REPOSITORIES}/gone").rc == 1


def test_no_key_is_in_a_process_list_the_journal_or_the_properties_of_a_unit(host: Any) -> None:
    look = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    start = "systemctl start --no-block backups-media backups-postgres@full; sleep 0.1"
    seen = host.check_output(f"{start}; while {RUNNING}; do {look} 2>/dev/null; sleep 0.05; done")
    assert "restic" in seen
    assert "pgbackrest" in seen
    seen += host.check_output("journalctl --no-pager; cat /var/log/pgbackrest/*; cat /var/log/postgresql/*.log")
    seen += host.check_output("systemctl show --all '*backups*'")
    assert [secret for secret in SECRETS if secret in seen] == []


def test_a_broken_repository_is_loud_and_the_database_goes_on(host: Any) -> None:
    host.check_output(f"mv {REPOSITORIES} {REPOSITORIES}.away")
    try:
        for name in ("backups-postgres@diff", "backups-media"):
            assert host.run(f"systemctl start {name}").rc != 0
            assert host.run(f"systemctl is-failed {name}").stdout.strip() == "failed"
        for number in range(16):
            sql(host, f"INSERT INTO orders SELECT 'while it is broken {number}'; SELECT pg_switch_wal()")
        assert sql(host, "SELECT count(*) FROM orders WHERE text LIKE 'while it is broken%'") == "16"
        waiting = "SELECT count(*) * 16 <= 64 + 16 FROM pg_ls_archive_statusdir() WHERE name LIKE '%.ready'"
        for _ in range(40):
            if sql(host, waiting) == "t":
                break
            time.sleep(0.25)
        assert sql(host, waiting) == "t"
    finally:
        host.check_output(f"mv {REPOSITORIES}.away {REPOSITORIES}")
    host.check_output("systemctl start backups-postgres@diff backups-media")
    assert wait_for_archive(host, write(host, "after it was mended"))


def test_what_no_restore_needs_any_more_goes(host: Any) -> None:
    old = [backup["label"] for backup in backups(host)]
    host.check_output("systemctl start backups-postgres@full")
    postgres(host, "faketime -f +15d pgbackrest --stanza=main expire")
    assert [backup["type"] for backup in backups(host)] == ["full"]
    assert backups(host)[0]["label"] not in old

    host.check_output(f"backups restic backup --quiet --time '2020-01-01 00:00:00' --tag shop {MEDIA}")
    host.check_output("systemctl start backups-media")
    assert '"time":"2020' not in host.check_output("backups restic snapshots --json")


@pytest.mark.parametrize("name", ["backups-postgres@full", "backups-media", "backups-watch"])
def test_the_services_are_in_a_sandbox(host: Any, name: str) -> None:
    assert host.run(f"systemd-analyze security --threshold=20 {name}.service").rc == 0
