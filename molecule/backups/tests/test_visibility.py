"""Whoever watches the server learns what became of its backups, once, and can look it up."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from test_backups import MEDIA, REPOSITORIES, SECRETS, postgres, sql  # beside this file

METRICS = "/var/lib/prometheus/node-exporter/backups.prom"
NOTICES = "/root/notices"  # by the command that prepare.yml makes
STATE = "/var/lib/backups"


def metrics(host: Any) -> dict[str, float]:
    lines = host.check_output(f"grep -v '^#' {METRICS}").splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def figure(host: Any, name: str, backup: str = "media") -> float:
    return metrics(host)[f'backups_{name}{{backup="{backup}",repository="local"}}']


def subjects(host: Any) -> list[str]:
    return re.findall(r"^== \S+: (.*)$", host.check_output(f"cat {NOTICES}"), re.MULTILINE)


def start(host: Any, *names: str) -> bool:
    host.check_output("systemctl reset-failed 'backups-*'")
    return bool(host.run(f"systemctl start {' '.join(names)}").rc == 0)


def repair(host: Any) -> None:
    if start(host, "backups-watch") and all(value for name, value in metrics(host).items() if "_success{" in name):
        return
    assert start(host, "backups-postgres@diff", "backups-media")
    assert start(host, "backups-watch")


@pytest.fixture(autouse=True)
def all_is_well(host: Any) -> None:
    repair(host)
    host.check_output(f"truncate -s 0 {NOTICES}")


@pytest.fixture(scope="module", autouse=True)
def nothing_is_left(host: Any) -> Iterator[None]:
    yield
    repair(host)


@pytest.fixture
def broken(host: Any) -> Iterator[None]:
    host.check_output(f"mv {REPOSITORIES} {REPOSITORIES}.away")
    yield
    host.check_output(f"test ! -e {REPOSITORIES}.away || mv {REPOSITORIES}.away {REPOSITORIES}")


def mend(host: Any) -> None:
    host.check_output(f"mv {REPOSITORIES}.away {REPOSITORIES}")


def change(host: Any, record: str, **values: Any) -> None:
    """Write other values into what is known of the repository."""
    known = json.loads(host.check_output(f"cat {STATE}/{record}.json"))
    known["repositories"]["local"].update(values)
    host.check_output(f"cat > {STATE}/{record}.json <<'END'\n{json.dumps(known)}\nEND")


def test_prometheus_understands_the_metrics(host: Any) -> None:
    assert host.check_output(f"promtool check metrics < {METRICS} 2>&1") == ""
    assert host.check_output(f"runuser -u nobody -- cat {METRICS}")
    assert host.check_output(f"ls -A $(dirname {METRICS})") == "backups.prom"


@pytest.mark.parametrize(("backup", "unit"), [("media", "backups-media"), ("postgres-diff", "backups-postgres@diff")])
def test_a_backup_is_in_the_metrics_with_its_time_and_size(host: Any, backup: str, unit: str) -> None:
    host.check_output(f"head -c 3000000 /dev/urandom > {MEDIA}/noise")
    sql(host, "CREATE TABLE IF NOT EXISTS noise AS SELECT random() FROM generate_series(1, 100000)")
    before = time.time()
    assert start(host, unit)
    host.check_output(f"rm {MEDIA}/noise")
    assert before - 1 < figure(host, "last_success_timestamp_seconds", backup) < time.time() + 1
    assert figure(host, "last_success_size_bytes", backup) > 500_000
    assert 0 < figure(host, "last_success_duration_seconds", backup) < 60
    assert figure(host, "run_success", backup) == 1
    assert metrics(host)[f'backups_unit_success{{unit="{unit.partition("@")[0]}"}}'] == 1


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(("backup", "unit"), [("media", "backups-media"), ("postgres-diff", "backups-postgres@diff")])
def test_a_failure_is_told_once_and_so_is_its_end(host: Any, backup: str, unit: str) -> None:
    before = figure(host, "last_success_timestamp_seconds", backup)
    assert not start(host, unit)
    assert not start(host, unit)
    assert figure(host, "last_success_timestamp_seconds", backup) == before
    assert figure(host, "run_success", backup) == 0
    assert metrics(host)[f'backups_unit_success{{unit="{unit.partition("@")[0]}"}}'] == 0
    assert subjects(host) == [f"{unit} fails"]
    told = host.check_output(f"cat {NOTICES}")
    for word in ("backups1", unit, "repository local: ", f"systemctl start {unit}"):
        assert word in told
    assert [secret for secret in SECRETS if secret in told] == []

    mend(host)
    assert start(host, unit)
    assert start(host, unit)
    assert subjects(host) == [f"{unit} fails", f"{unit} is well again"]
    assert figure(host, "run_success", backup) == 1


@pytest.mark.usefixtures("broken")
def test_who_reads_no_mail_is_told_again_the_next_day(host: Any) -> None:
    assert not start(host, "backups-media")
    known = json.loads(host.check_output(f"cat {STATE}/report.json"))
    known["jobs"]["backups-media"]["told"]["time"] -= 24 * 3600
    host.check_output(f"cat > {STATE}/report.json <<'END'\n{json.dumps(known)}\nEND")
    start(host, "backups-watch")  # any job reminds of the others
    start(host, "backups-watch")
    assert subjects(host) == ["backups-media fails"] * 2


def test_a_run_that_was_killed_has_failed(host: Any) -> None:
    host.check_output("systemctl start --no-block backups-media; sleep 0.5; systemctl kill -s KILL backups-media")
    host.check_output("while systemctl is-active backups-media | grep -q activating; do sleep 0.1; done")
    assert subjects(host) == ["backups-media fails"]
    assert "it ended early: signal KILL" in host.check_output(f"cat {NOTICES}")


def test_the_command_has_the_network_of_the_server_and_the_home_of_root(host: Any) -> None:
    change(host, "media/media", succeeded=1)
    assert not start(host, "backups-watch")
    assert f"{host.check_output('readlink /proc/1/ns/net')} /root" in host.check_output(f"cat {NOTICES}")


@pytest.mark.usefixtures("broken")
def test_a_command_that_fails_or_hangs_is_in_the_log_and_is_called_again(host: Any) -> None:
    hook = "/usr/local/sbin/note"
    host.check_output(f"mv {hook} {hook}.away && printf '#!/bin/sh\\necho no route to the mail >&2; exit 1' > {hook}")
    host.check_output(f"chmod +x {hook}")
    try:
        assert not start(host, "backups-media")
        assert start(host, "backups-watch")
        log = host.check_output("journalctl --no-pager -u backups-media -u backups-watch -n 30")
        assert log.count("backups_notify_command failed") == 2
        assert "no route to the mail" in log
        host.check_output(f"printf '#!/bin/sh\\nsleep 1000' > {hook}")
        before = time.time()
        assert start(host, "backups-watch")
        assert time.time() - before < 40
    finally:
        host.check_output(f"mv {hook}.away {hook}")
    assert start(host, "backups-watch")
    assert subjects(host) == ["backups-media fails"]


@pytest.mark.parametrize(
    ("what", "records"), [("media", ["media/media"]), ("databases", ["postgres/full", "postgres/diff"])]
)
def test_the_watch_fails_when_the_newest_backup_is_old(host: Any, what: str, records: list[str]) -> None:
    host.check_output(f"rm -f {STATE}/postgres/incr.json")
    for record in records:
        change(host, record, succeeded=time.time() - 27 * 3600)
    assert not start(host, "backups-watch")
    assert not start(host, "backups-watch")
    assert f"repository local: the newest backup of the {what} is 27 hours old" in host.check_output(f"cat {NOTICES}")
    change(host, records[0], succeeded=time.time() - 25 * 3600)
    assert start(host, "backups-watch")
    assert subjects(host) == ["backups-watch fails", "backups-watch is well again"]


def test_the_watch_gives_a_new_server_the_time_for_its_first_backup(host: Any) -> None:
    host.check_output(f"mv {STATE}/media/media.json {STATE}/media/away")
    stamp = host.check_output(f"ls {STATE}/media/created-*")
    try:
        host.check_output(f"touch {stamp}")
        assert start(host, "backups-watch")
        host.check_output(f"touch -d -27hours {stamp}")
        assert not start(host, "backups-watch")
    finally:
        host.check_output(f"mv {STATE}/media/away {STATE}/media/media.json")
    assert "repository local: no backup of the media" in host.check_output(f"cat {NOTICES}")


def test_the_watch_remembers_a_drill_that_failed_and_leaves_it_to_the_drill_to_tell(host: Any) -> None:
    drill = f"{STATE}/media/drill.json"
    host.check_output(f"test ! -e {drill} || cp -p {drill} /root/drill.json")
    host.check_output(f"""echo '{{"finished": 1, "ok": false, "reason": "photo.jpg is missing"}}' > {drill}""")
    try:
        assert not start(host, "backups-watch")
    finally:
        host.check_output(f"rm {drill}; test ! -e /root/drill.json || mv /root/drill.json {drill}")
    log = host.check_output("journalctl --no-pager -u backups-watch -n 10")
    assert "the last drill of the media failed: photo.jpg is missing" in log
    assert subjects(host) == []
    assert metrics(host)['backups_drill_success{backup="media"}'] == 0


@pytest.mark.usefixtures("broken")
def test_log_that_waits_is_in_the_metrics_and_fails_after_five_minutes(host: Any) -> None:
    for number in range(3):
        sql(host, f"CREATE TABLE waiting{number} (); SELECT pg_switch_wal()")
    assert start(host, "backups-watch")
    assert metrics(host)["backups_wal_waiting_bytes"] >= 3 * 2**24
    host.check_output("touch -d -10min /var/lib/postgresql/*/main/pg_wal/archive_status/*.ready")
    assert not start(host, "backups-watch")
    assert metrics(host)["backups_wal_waiting_seconds"] >= 600
    assert "WAL has been waiting for 10 minutes" in host.check_output(f"cat {NOTICES}")
    mend(host)
    for _ in range(80):
        if start(host, "backups-watch"):
            break
        time.sleep(0.5)
    assert metrics(host)["backups_wal_waiting_seconds"] < 60
    told = subjects(host)
    # Another reason meanwhile is told, too.
    assert (set(told[:-1]), told[-1]) == ({"backups-watch fails"}, "backups-watch is well again")


def test_log_that_was_dropped_is_in_the_metrics_until_a_backup_closes_the_gap(host: Any) -> None:
    time.sleep(1)  # or the backup before is as young as the gap
    postgres(host, f"touch {STATE}/postgres/gap")
    assert not start(host, "backups-watch")
    assert metrics(host)["backups_wal_dropped"] == 1
    assert "WAL was dropped" in host.check_output(f"cat {NOTICES}")
    host.check_output("systemctl start backups-postgres@diff")  # which has begun already
    assert start(host, "backups-watch")
    assert metrics(host)["backups_wal_dropped"] == 0


def test_a_backup_at_once_ends_with_a_moment_to_which_a_restore_can_go_back(host: Any) -> None:
    said = host.check_output("backups now")
    assert "The databases are in local: " in said
    assert "The media are in local: " in said
    moment = said.splitlines()[-1].removeprefix("A restore can go back to ")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", moment)
    scratch = "/var/tmp/moment"
    restore = f"--pg1-path={scratch} --archive-mode=off --type=time '--target={moment.replace('T', ' ')}' restore"
    postgres(host, f"mkdir -m 700 {scratch}")
    postgres(host, f"pgbackrest --stanza=main {restore}")
    host.check_output(f"touch {scratch}/postgresql.conf && echo local all all peer > {scratch}/pg_hba.conf")
    version = sql(host, "SHOW server_version").split(".")[0]
    options = f"-o '-p 5999 -k {scratch} -h \\\"\\\" -c recovery_target_action=promote' -l {scratch}/log"
    control = f"/usr/lib/postgresql/{version}/bin/pg_ctl -w -D {scratch}"
    try:
        postgres(host, f'sh -c "{control} {options} start"')
        for _ in range(80):
            if sql(host, "SELECT pg_is_in_recovery()", f"-h {scratch} -p 5999") == "f":
                break
            time.sleep(0.25)
        assert "recovery stopping before commit" in host.check_output(f"cat {scratch}/log")
    finally:
        postgres(host, f"{control} -m immediate stop")
        host.check_output(f"rm -r {scratch}")


@pytest.mark.usefixtures("broken")
def test_a_backup_at_once_that_fails_says_why(host: Any) -> None:
    answer = host.run("backups now --type full")
    assert answer.rc == 1
    assert "The databases are not saved in local: " in answer.stderr
    assert "The media are not saved in local: " in answer.stderr
    assert "A restore can go back" not in answer.stdout


def test_a_dump_loads_elsewhere_and_only_root_and_postgresql_can_read_it(host: Any) -> None:
    postgres(host, "createdb source")
    postgres(host, "psql -Xq source -c 'CREATE TABLE prices AS SELECT generate_series(1, 1000) AS price'")
    old = f"{STATE}/postgres/dumps/old.dump"
    postgres(host, f"sh -c 'mkdir -p {STATE}/postgres/dumps && touch -d -8days {old}'")
    path, load = re.findall(r"^(/\S+\.dump): |load it: +(.*)$", host.check_output("backups dump source"), re.MULTILINE)
    assert host.run(f"runuser -u nobody -- cat {path[0]}").rc != 0
    assert host.check_output(f"stat -c '%U %a' {path[0]}") == "postgres 600"
    assert not host.file(old).exists
    postgres(host, "psql -Xqc 'ALTER DATABASE source RENAME TO original'")
    postgres(host, f'sh -c "cd {STATE}/postgres/dumps && {load[1]}"')
    total = "-XAtc 'SELECT count(*), sum(price) FROM prices'"
    assert postgres(host, f"psql source {total}") == postgres(host, f"psql original {total}") == "1000|500500"
    for name in ("source", "original"):
        postgres(host, f"dropdb {name}")


def test_a_dump_that_cannot_be_made_leaves_nothing_and_says_why(host: Any) -> None:
    folder = f"{STATE}/postgres/dumps"
    host.check_output("backups dump postgres")
    before = host.check_output(f"ls {folder}")
    assert "there is no database nothing" in host.run("backups dump nothing").stderr
    postgres(host, "createdb locked")
    blocker = "psql -Xq locked -c 'CREATE TABLE t ()' -c BEGIN -c 'LOCK t' -c 'SELECT pg_sleep(60)'"
    host.check_output(f"cd / && (runuser -u postgres -- {blocker} >/dev/null 2>&1 &)")
    sleeping = "psql -XAtc \"SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'\""
    tries = "for try in $(seq 200); do {} && break; sleep 0.1; done"
    host.check_output("cd / && " + tries.format(f"[ $(runuser -u postgres -- {sleeping}) = 1 ]"))
    kill = tries.format("pkill -KILL -f '[p]g_dump.*locked'")
    assert host.run(f"backups dump locked & {kill}; wait $!").rc != 0
    assert host.check_output(f"ls {folder}") == before
    postgres(host, "dropdb --force locked")
