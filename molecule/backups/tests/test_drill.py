"""A drill restores the newest backups, compares them with what lives, and fails where they would not bring it back."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

KEY = "canary-backups-encryption-key-0123456789"
SECRETS = (KEY, *(hashlib.sha256(f"{label}:{KEY}".encode()).hexdigest() for label in ("postgres", "media")))
REPOSITORIES = "/var/backups/groundwork"
BACKUPS = f"{REPOSITORIES}/postgres/backup/main"
SCRATCH = "/var/lib/backups/drill"
MEDIA = "/srv/shop/media"
KEPT = "/root/kept"
RUNNING = "systemctl is-active backups-media backups-postgres@full | grep -q activating"


def postgres(host: Any, command: str) -> str:
    return str(host.check_output(f"cd / && runuser -u postgres -- {command}"))


def sql(host: Any, statement: str) -> str:
    return postgres(host, f'psql -XAtqc "{statement}"')


def record(host: Any, engine: str) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(host.check_output(f"cat /var/lib/backups/{engine}/drill.json"))
    return result["repositories"]["local"]


def drill(host: Any, engine: str) -> str:
    """Drill, and return why it failed, or an empty text. It leaves nothing behind."""
    started = time.time()
    succeeded = host.run(f"systemctl start backups-drill-{engine}").rc == 0
    assert host.check_output(f"find {SCRATCH}/{engine} -mindepth 1") == ""
    result = record(host, engine)
    assert result["finished"] > started - 1
    assert result["ok"] is succeeded
    return str(result["reason"])


def full_backups(host: Any) -> list[dict[str, Any]]:
    found = json.loads(postgres(host, "pgbackrest --output=json info"))[0]["backup"]
    return [backup for backup in found if backup["type"] == "full"]


def pieces(host: Any) -> list[str]:
    """Return the pieces of the log that are in the repository."""
    return sorted(host.check_output(f"find {REPOSITORIES}/postgres/archive -name '{24 * '?'}-*'").split())


def named(path: str) -> str:
    """Return the name of a piece of the log, without its checksum."""
    return path.rpartition("/")[2][:24]


def write_a_piece(host: Any) -> None:
    """Fill a piece of the log, and wait until it is in the repository."""
    piece = sql(host, "INSERT INTO invoices VALUES (1); SELECT pg_walfile_name(pg_switch_wal())")
    for _ in range(80):
        if any(piece in path for path in pieces(host)):
            return
        time.sleep(0.25)
    raise AssertionError(piece)


@contextmanager
def missing(host: Any, path: str) -> Iterator[None]:
    host.check_output(f"mv {path} {KEPT}")
    try:
        yield
    finally:
        host.check_output(f"mv {KEPT} {path}")


@contextmanager
def flipped(host: Any, path: str) -> Iterator[None]:
    """Change four bytes in the middle, and not its time."""
    middle = int(host.check_output(f"stat -c %s {path}")) // 2
    flip = f"printf '\\001\\002\\003\\004' | dd of={path} bs=1 seek={middle} conv=notrunc status=none"
    host.check_output(f"cp -a {path} {KEPT} && {flip} && touch -r {KEPT} {path}")
    try:
        yield
    finally:
        host.check_output(f"cp -a {KEPT} {path} && rm {KEPT}")


@contextmanager
def another_key(host: Any, file: str, before: str) -> Iterator[None]:
    host.check_output(f"cp -a {file} {KEPT} && sed -i 's/{before}.*/{before}guess/' {file}")
    try:
        yield
    finally:
        host.check_output(f"cp -a {KEPT} {file} && rm {KEPT}")


@pytest.fixture(scope="module", autouse=True)
def something_to_save(host: Any) -> None:
    """Have two full backups, with pieces of the log between and after them, and one of the media."""
    host.check_output(f"while {RUNNING}; do sleep 0.2; done")
    sql(host, "CREATE TABLE invoices (id int)")
    for _ in range(3):
        write_a_piece(host)
    host.check_output(f"mkdir -p {MEDIA}/closed {MEDIA}/deep && echo 1 > '{MEDIA}/deep/[a] *\\?.txt'")
    host.check_output(f"cd {MEDIA} && echo 1 > closed/1.txt && chmod 555 closed && chown www-data closed")
    host.check_output(f"cd {MEDIA} && head -c 2000000 /dev/urandom > photo.jpg && echo 1 > changing && echo 1 > going")
    host.check_output("mkdir /srv/elsewhere && echo 1 > /srv/elsewhere/older.txt")
    host.check_output("systemctl start backups-postgres@full backups-media")
    for _ in range(2):
        write_a_piece(host)


def test_a_healthy_server_passes_and_its_database_notices_nothing(host: Any) -> None:
    started = sql(host, "SELECT pg_postmaster_start_time()")
    before = pieces(host)
    insert = "runuser -u postgres -- psql -qc 'INSERT INTO invoices VALUES (2)' || echo failed"
    host.check_output("systemctl start --no-block backups-drill-postgres")
    drilling = "systemctl is-active backups-drill-postgres | grep -q activating"
    assert host.check_output(f"cd /; while {drilling}; do {insert}; sleep 0.1; done") == ""
    assert record(host, "postgres")["ok"]
    assert record(host, "postgres")["until"]
    assert record(host, "postgres")["bytes"] > 1_000_000
    assert record(host, "postgres")["label"] == full_backups(host)[-1]["label"]
    assert host.check_output(f"ls -A {SCRATCH}/postgres") == ""
    assert sql(host, "SELECT pg_postmaster_start_time()") == started

    # The restored cluster began a timeline of its own, of which nobody else hears.
    timeline = sql(host, "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)")
    archived = host.check_output(f"find {REPOSITORIES}/postgres/archive -type f -printf '%f\n'").split()
    assert len(pieces(host)) > len(before)
    of_another = {name for name in archived if name.endswith(".history") or name[:8] > timeline}
    assert of_another == {"archive.info", "archive.info.copy"}


def test_the_log_is_not_fetched_in_the_background_where_two_fetchers_can_meet(host: Any) -> None:
    look = "while kill -0 $drill 2>/dev/null; do pgrep -f 'archive-get[:]async' || true; done"
    assert host.check_output(f"systemctl start backups-drill-postgres & drill=$!; {look}; wait $drill") == ""


def test_healthy_media_pass_whatever_became_of_them_since(host: Any) -> None:
    host.check_output(f"cd {MEDIA} && echo 2 > changing && rm going && echo 2 > new && mv /srv/elsewhere elsewhere")
    assert drill(host, "media") == ""
    assert record(host, "media")["bytes"] > 2_000_000


def test_a_file_of_the_newest_backup_with_flipped_bytes_is_found(host: Any) -> None:
    label = full_backups(host)[-1]["label"]
    with flipped(host, f"{BACKUPS}/{label}/bundle/1"):
        assert f"invalid checksum '{label}/" in drill(host, "postgres")


def test_a_file_of_an_older_backup_with_flipped_bytes_is_found(host: Any) -> None:
    label = full_backups(host)[-2]["label"]
    with flipped(host, f"{BACKUPS}/{label}/bundle/1"):
        assert f"invalid checksum '{label}/" in drill(host, "postgres")


def test_a_piece_of_the_log_with_flipped_bytes_is_found(host: Any) -> None:
    piece = pieces(host)[-2]
    with flipped(host, piece):
        assert piece.rpartition("/")[2] in drill(host, "postgres")


def test_a_missing_piece_of_the_log_is_found(host: Any) -> None:
    stop = full_backups(host)[-1]["archive"]["stop"]
    after = [path for path in pieces(host) if named(path) > stop]
    with missing(host, after[0]):
        assert "the next one is missing or damaged" in drill(host, "postgres")


def test_a_hole_in_the_log_before_the_newest_backup_is_found(host: Any) -> None:
    older, newest = (backup["archive"] for backup in full_backups(host)[-2:])
    between = [path for path in pieces(host) if older["stop"] < named(path) < newest["start"]]
    with missing(host, between[1]):
        assert f"before {named(between[2])}" in drill(host, "postgres")


def test_an_older_backup_without_its_own_log_is_found(host: Any) -> None:
    older = full_backups(host)[-2]
    start = older["archive"]["start"]
    with missing(host, next(path for path in pieces(host) if named(path) == start)):
        assert f"{older['label']} is worth nothing" in drill(host, "postgres")


def test_damage_that_the_backup_took_along_is_found(host: Any) -> None:
    sql(host, "CREATE TABLE damaged AS SELECT generate_series(1, 9) AS id; CHECKPOINT")
    table = sql(host, "SELECT current_setting('data_directory') || '/' || pg_relation_filepath('damaged')")
    # The transaction that wrote the last row, on disk; what PostgreSQL has in memory stays whole.
    host.check_output(f"printf '\377\377\377\376' | dd of={table} bs=1 seek=7904 conv=notrunc status=none")
    host.check_output("systemctl start backups-postgres@diff")
    try:
        assert "public.damaged" in drill(host, "postgres")
    finally:
        sql(host, "DROP TABLE damaged")


def test_another_key_of_the_databases_is_found(host: Any) -> None:
    with another_key(host, "/etc/pgbackrest.conf", "cipher-pass="):
        assert "was made with another key" in drill(host, "postgres")


def test_another_key_of_the_media_is_found(host: Any) -> None:
    with another_key(host, "/etc/backups-media.key", ""):
        assert "wrong password or no key found" in drill(host, "media")


@pytest.mark.parametrize(("engine", "account"), [("postgres", "postgres"), ("media", "root")])
def test_an_old_backup_is_found(host: Any, engine: str, account: str) -> None:
    assert host.run(f"cd / && runuser -u {account} -- faketime -f +27h backups drill-{engine}").rc == 1
    assert "is 27 hours old, and 26 are allowed" in record(host, engine)["reason"]


def test_without_room_nothing_is_written(host: Any) -> None:
    host.check_output(f"mount -t tmpfs -o size=64m,uid=postgres,mode=700 tmpfs {SCRATCH}/postgres")
    try:
        assert "has 64 MB of room and needs" in drill(host, "postgres")
    finally:
        host.check_output(f"umount {SCRATCH}/postgres")


def test_a_file_that_no_backup_holds_is_found(host: Any) -> None:
    host.check_output(f"echo 1 > {MEDIA}/forgotten.txt")
    host.check_output(f"backups restic backup --quiet --tag shop --exclude forgotten.txt {MEDIA}")
    assert drill(host, "media").endswith(f"which lacks them: {MEDIA}/forgotten.txt")
    host.check_output("systemctl start backups-media")


def test_a_file_that_was_altered_is_found(host: Any) -> None:
    with flipped(host, f"{MEDIA}/photo.jpg"):
        assert f"{MEDIA}/photo.jpg was altered without a newer time" in drill(host, "media")


def test_a_file_that_was_cut_short_is_found(host: Any) -> None:
    with flipped(host, f"{MEDIA}/photo.jpg"):
        host.check_output(f"truncate -s 10 {MEDIA}/photo.jpg && touch -r {KEPT} {MEDIA}/photo.jpg")
        assert f"altered without a newer time: {MEDIA}/photo.jpg" in drill(host, "media")


def test_a_damaged_piece_of_the_media_is_found(host: Any) -> None:
    pack = host.check_output(f"find {REPOSITORIES}/media/data -type f -size +1M").split()[0]
    with flipped(host, pack):
        assert pack.rpartition("/")[2][:8] in drill(host, "media")


def test_what_a_killed_drill_had_restored_is_removed(host: Any) -> None:
    host.check_output("systemctl start --no-block backups-drill-postgres")
    host.check_output(f"timeout 60 sh -c 'until [ -e {SCRATCH}/postgres/data/postmaster.pid ]; do sleep 0.1; done'")
    host.check_output("systemctl kill -s KILL backups-drill-postgres")
    host.check_output("while systemctl is-active backups-drill-postgres | grep -q ing; do sleep 0.1; done")
    assert host.run("systemctl is-failed backups-drill-postgres").rc == 0
    assert host.check_output(f"find {SCRATCH}/postgres -mindepth 1") == ""
    assert host.run(f"pgrep -f {SCRATCH}/postgres").rc == 1


@pytest.mark.parametrize("engine", ["postgres", "media"])
def test_when_everything_is_mended_the_next_drill_passes(host: Any, engine: str) -> None:
    assert drill(host, engine) == ""


@pytest.mark.parametrize("engine", ["postgres", "media"])
def test_every_drill_has_its_next_time_and_a_sandbox(host: Any, engine: str) -> None:
    timers = json.loads(host.check_output("systemctl list-timers --output=json"))
    assert [timer for timer in timers if timer["unit"] == f"backups-drill-{engine}.timer" and timer["next"]]
    assert host.run(f"systemd-analyze security --threshold=20 backups-drill-{engine}.service").rc == 0


def test_no_drill_has_told_a_key(host: Any) -> None:
    said = host.check_output("journalctl --no-pager -u 'backups-drill-*'; cat /var/lib/backups/*/drill.json")
    assert "restore command end" in said
    assert [secret for secret in SECRETS if secret in said] == []


SLOW = """\
#!/bin/sh
case "$*" in *"archive-get 0"*) ! mkdir /tmp/waited 2>/dev/null || sleep 65 ;; esac
exec /usr/bin/pgbackrest "$@"
"""


def test_a_log_that_is_long_on_its_way_is_waited_for(host: Any) -> None:
    place = "/usr/local/bin/pgbackrest"
    host.check_output(f"cat >{place} <<'END'\n{SLOW}END\nchmod 755 {place}")
    started = time.monotonic()
    try:
        assert drill(host, "postgres") == ""
    finally:
        host.check_output(f"rm -rf {place} /tmp/waited")
    assert time.monotonic() - started > 65
