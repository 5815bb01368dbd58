"""Repositories that are gone, hang, are full or damaged, and runs that are killed: nothing is lost, and it is said."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from typing import Any

import pytest
from remote import (
    EPHEMERAL,
    MEDIA,
    REPOSITORIES,
    RUNNING,
    UNITS,
    archived,
    backups,
    converge,
    eventually,
    postgres,
    recover,
    recovered,
    sql,
    write,
)

testinfra_hosts = ["ansible://server1"]
PORTS = {"store": 8443, "cellar": 22}
INSIDE = {"store": "/srv/s3/backups/server1", "cellar": "/srv/keeper/server1"}
# Inserts ten rows a second until it is stopped, and writes down how many and how long the slowest took.
LOAD = """
import json, subprocess, time
psql = subprocess.Popen(["psql", "-XAtq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
rows, slowest = 0, 0.0
while True:
    began = time.time()
    psql.stdin.write("INSERT INTO load DEFAULT VALUES RETURNING 1;\\n")
    assert psql.stdout.readline() == "1\\n"
    rows, slowest = rows + 1, max(slowest, time.time() - began)
    print(json.dumps({"rows": rows, "slowest": slowest}), flush=True)
    time.sleep(0.1)
"""


@pytest.fixture(scope="module", autouse=True)
def something_to_save(host: Any) -> None:
    assert eventually(host, f"! {RUNNING}", 120)
    sql(host, "CREATE TABLE IF NOT EXISTS orders (text text)")
    sql(host, "DROP TABLE IF EXISTS load; CREATE TABLE load (at timestamptz DEFAULT now())")
    host.check_output(f"head -c 20M /dev/urandom > {MEDIA}/film.mp4")
    host.check_output("systemctl start backups-media backups-postgres@diff")


@pytest.fixture
def cut(host: Any) -> Iterator[Any]:
    """Let packets to repositories vanish."""

    def cut(*repositories: str) -> None:
        ports = ", ".join(str(PORTS[name]) for name in repositories)
        chain = "type filter hook output priority 0;"
        rules = f"table ip cut {{ chain out {{ {chain} tcp dport {{ {ports} }} drop; }}; }}"
        host.check_output(f"nft 'add table ip cut; delete table ip cut; {rules}'")

    yield cut
    host.run("nft delete table ip cut")


@pytest.fixture
def widen(host: Any) -> Iterator[Any]:
    """Make the way to the repositories narrow, so that a backup is not over between two looks, until this is called."""
    ports = ", ".join(map(str, PORTS.values()))
    rule = f"tcp dport {{ {ports} }} limit rate over 1 mbytes/second drop"
    host.check_output(f"nft 'table ip narrow {{ chain out {{ type filter hook output priority 0; {rule}; }}; }}'")

    def widen() -> None:
        host.run("nft delete table ip narrow")

    yield widen
    widen()


@pytest.fixture
def load(host: Any) -> Iterator[Any]:
    """Visitors who write; ended, they tell how they fared."""
    run = "systemd-run --quiet --collect --unit=load --property=User=postgres"
    host.check_output(f"{run} --property=StandardOutput=truncate:/tmp/load python3 -c {shlex.quote(LOAD)}")

    def end() -> dict[str, Any]:
        host.check_output("systemctl stop load")  # fails if it ended by itself
        told: dict[str, Any] = json.loads(host.check_output("tail -n 1 /tmp/load"))
        print(told)
        return told

    yield end
    host.run("systemctl stop load")


def reason(host: Any, job: str, repository: str) -> str:
    """Return what the record of a job says about a repository."""
    record = json.loads(host.check_output(f"cat /var/lib/backups/*/{job}.json"))
    return str(record["repositories"][repository]["reason"])


def there_is(cellar: Any, repository: str, wal: str, seconds: int) -> bool:
    """Whether a piece of the log reaches one repository in time."""
    return eventually(cellar, f"ls {INSIDE[repository]}/postgres/archive/main/*/*/{wal}-*", seconds)


def works_again(host: Any) -> None:
    assert archived(host, write(host, "works again"), 90)
    assert eventually(host, f"! {RUNNING}", 120)
    host.check_output("systemctl start backups-postgres@diff backups-media && systemctl start backups-watch")


def test_while_all_repositories_are_gone_no_write_fails_or_waits_and_none_is_lost(
    host: Any, cut: Any, load: Any
) -> None:
    cut(*REPOSITORIES)
    began = time.monotonic()
    host.check_output(f"systemctl start --no-block {UNITS}")
    wal = write(host, "while all are gone")
    assert not archived(host, wal, 20)
    host.check_output(
        "find /var/lib/postgresql/*/main/pg_wal/archive_status -name '*.ready' -exec touch -d '-1 hour' {} +"
    )
    assert host.run("systemctl start backups-watch").rc == 1
    assert "WAL has been waiting" in host.check_output("journalctl --no-pager -u backups-watch")
    time.sleep(max(0, 60 - (time.monotonic() - began)))
    host.check_output("nft delete table ip cut")
    assert archived(host, write(host, "when they are back"), 90)
    fared = load()
    assert fared["rows"] > 300
    assert fared["slowest"] < 5
    assert archived(host, write(host, "and after it"))
    for repository in REPOSITORIES:
        assert recovered(host, repository, "SELECT count(*) FROM load") == str(fared["rows"])
    assert eventually(host, f"! {RUNNING}", 240)


def test_a_store_that_hangs_holds_back_no_other_and_costs_no_more_disk_than_allowed(host: Any, cellar: Any) -> None:
    cellar.check_output("systemctl kill --signal=STOP s3")
    try:
        assert there_is(cellar, "cellar", write(host, "while it hangs, the first"), 30)
        assert there_is(cellar, "cellar", write(host, "while it hangs, the second"), 30)
        insert = "INSERT INTO orders VALUES ('while it hangs {}'); SELECT pg_switch_wal();\n"
        inserts = "".join(map(insert.format, range(24)))
        host.check_output(f"cd / && runuser -u postgres -- psql -XAtq <<'END'\n{inserts}END")
        waiting = "[ $(ls /var/lib/postgresql/*/main/pg_wal/archive_status/*.ready | wc -l) -le 21 ]"
        assert eventually(host, waiting, 60)
        assert "no restore can go further from: store" in host.check_output("cat /var/log/postgresql/*.log")
        assert host.run("systemctl start backups-watch").rc == 1
        assert "WAL was dropped" in host.check_output("journalctl --no-pager -u backups-watch")
    finally:
        cellar.check_output("systemctl kill --signal=CONT s3")
    assert sql(host, "SELECT count(*) FROM orders WHERE text LIKE 'while it hangs %'") == "24"
    assert archived(host, write(host, "after it hung"), 120)
    assert eventually(host, f"! {RUNNING}", 120)
    count = "SELECT count(*) FROM orders WHERE text LIKE 'while it hangs%' OR text = 'after it hung'"
    assert recovered(host, "cellar", count) == "27"
    host.run("systemctl start backups-watch")  # starts the backup that closes the gap, if that was not done yet
    assert eventually(host, f"! {RUNNING} && systemctl start backups-watch", 120)
    assert recovered(host, "store", count) == "27"


def test_a_full_disk_is_named_and_everything_goes_on_when_there_is_room(host: Any, cellar: Any) -> None:
    host.check_output(f"head -c 20M /dev/urandom > {MEDIA}/film.mp4")
    cellar.run("cat /dev/zero > /srv/keeper/filler")
    try:
        assert host.run("systemctl start backups-postgres@full backups-media").rc == 1
        wal = write(host, "while it is full")
        assert not archived(host, wal, 5)
        assert there_is(cellar, "store", wal, 30)
    finally:
        cellar.check_output("rm /srv/keeper/filler")
    assert "no space left on device" in reason(host, "media", "cellar")
    print(reason(host, "full", "cellar"))
    assert "the log does not get there" in reason(host, "full", "cellar")
    assert reason(host, "media", "store") == reason(host, "full", "store") == ""
    works_again(host)
    # By what was there before, which the newest backup builds on, and by the log of that time.
    assert "while it is full" in recovered(host, "cellar", "SELECT text FROM orders")


@pytest.mark.parametrize("repository", REPOSITORIES)
def test_a_backup_that_was_killed_leaves_nothing_in_the_way_of_the_next(
    host: Any, cellar: Any, widen: Any, repository: str
) -> None:
    host.check_output(f"head -c 20M /dev/urandom > {MEDIA}/film.mp4")
    locked = f"ls {INSIDE[repository]}/media/locks/* {INSIDE[repository]}/media/locks/*/*"
    saving = f"ls -d {INSIDE[repository]}/postgres/backup/main/*/pg_data"
    for name, far_enough in (("backups-media", locked), ("backups-postgres@full", saving)):
        before = cellar.run(f"{far_enough} 2>/dev/null | sort > /tmp/before; cat /tmp/before").stdout
        host.check_output(f"systemctl start --no-block {name}")
        assert eventually(cellar, f"{far_enough} 2>/dev/null | sort | comm -13 /tmp/before - | grep -q .", 120), before
        host.check_output(f"systemctl kill --signal=KILL {name}")
        assert eventually(host, f"systemctl is-failed --quiet {name}", 10)
    widen()
    host.check_output("systemctl start backups-media backups-postgres@full")
    assert host.check_output(f"backups restic @{repository} list locks --no-lock") == ""


def test_a_damaged_backup_is_named_and_an_older_one_still_brings_everything_back(host: Any, cellar: Any) -> None:
    before = sql(host, "SELECT clock_timestamp()")
    assert archived(host, write(host, "before the damage"))
    host.check_output("systemctl start backups-postgres@full")
    newest = cellar.check_output(f"ls -d {INSIDE['cellar']}/postgres/backup/main/*F | tail -n 1")
    file = cellar.check_output(f"find {newest}/bundle -type f -size +100k | head -n 1")
    cellar.check_output(f"truncate --size=-100 {file}")
    damaged = recover(host, "cellar", "SELECT 1")
    assert damaged.rc == 1
    label = newest.rpartition("/")[2]
    assert f"refused: backup {label} cannot be read from repository cellar" in damaged.stderr
    assert recovered(host, "cellar", "SELECT count(*) FROM load", before)
    host.check_output("systemctl start backups-postgres@full")
    assert recovered(host, "cellar", "SELECT count(*) FROM load")


def test_a_mistake_in_a_key_is_found_before_anything_in_use_is_changed(host: Any) -> None:
    private = {"name": "cellar", "private_key": (EPHEMERAL / "sftp").read_text()}
    state = "sha256sum /etc/pgbackrest.conf /etc/backups*/* /etc/backups/repositories/* /var/lib/backups/*/created*"
    before = host.run(state).stdout
    wrong = {"name": "store", "access_key": "canary-access-key", "secret_key": "wrong"}
    said = converge(fails=True, backups_credentials=[wrong, private])
    assert "The repository store cannot be used" in said
    assert "403" in said
    said = converge(fails=True, backups_encryption_key="another-key-that-is-long-enough-01234567")
    assert "The repository store cannot be used" in said
    assert "it was made with another backups_encryption_key" in said
    assert host.run(state).stdout == before
    assert archived(host, write(host, "nothing has happened"))


def test_what_is_taken_off_the_list_is_forgotten_on_the_server_and_kept_where_it_is(host: Any, cellar: Any) -> None:
    variables = host.ansible.get_variables()
    kept = cellar.check_output("find /srv/keeper/server1 -type f | sort | sha256sum")
    converge(
        backups_repositories=variables["backups_repositories"][:1],
        backups_credentials=variables["backups_credentials"][:1],
        backups_retention_count=2,
    )
    assert host.check_output("ls /etc/backups/repositories").split() == ["store.conf", "store.crt", "store.json"]
    assert cellar.check_output("find /srv/keeper/server1 -type f | sort | sha256sum") == kept

    for _ in range(2):
        host.check_output("systemctl start backups-postgres@full backups-media")
    assert [kind for kind, _ in backups(host)].count("full") == 2
    tags = [one["tags"] for one in json.loads(host.check_output("backups restic snapshots --json"))]
    assert sorted(tags) == [["hostname"]] * 2 + [["shop"]] * 2

    converge()
    assert archived(host, write(host, "with both again"))
    assert recovered(host, "cellar", "SELECT count(*) FROM load")
    assert postgres(host, "pgbackrest --stanza=main check") == ""
