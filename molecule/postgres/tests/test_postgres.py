"""What the applications, and strangers, get from PostgreSQL."""

from __future__ import annotations

import time
from typing import Any

import pytest

CANARIES = [f"canary-{user}-postgres-password" for user in ("shop", "blog")]
SOCKET = "/run/postgresql"


def ask(host: Any, sql: str, user: str = "shop", to: str = "", *, password: str = "") -> str:
    """Run one statement as an application would, and return the answer."""
    target = to or f"host={SOCKET} dbname={user}"
    login = f"PGPASSWORD={password or f'canary-{user}-postgres-password'}"
    answer = host.run(
        f"cd /; HOME=/ {login} setpriv --reuid=nobody --regid=nogroup --clear-groups "
        f"psql -XAtq -v ON_ERROR_STOP=1 -c %s %s",
        sql,
        f"{target} user={user}",
    )
    return str(answer.stdout + answer.stderr).strip()


def administrate(host: Any, sql: str, database: str = "postgres") -> str:
    return str(host.check_output("cd /; runuser -u postgres -- psql -XAtq -d %s -c %s", database, sql))


def test_an_application_owns_its_database_and_keeps_its_data(host: Any) -> None:
    assert ask(host, f"CREATE TABLE kept_{time.time_ns()} AS SELECT 'Hi'::citext AS word; SELECT 'done'") == "done"
    host.check_output("systemctl restart postgresql@*-main")
    tables = ask(host, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'kept%'").split()
    assert ask(host, f"SELECT word FROM {tables[-1]} WHERE word = 'hI'") == "Hi"


def test_an_application_cannot_open_the_database_of_another(host: Any) -> None:
    assert "no pg_hba.conf entry" in ask(host, "SELECT 1", "blog", f"host={SOCKET} dbname=shop")
    assert administrate(host, "SELECT has_database_privilege('blog', 'shop', 'CONNECT, TEMPORARY')") == "f"


@pytest.mark.parametrize(
    "statement", ["CREATE ROLE x", "CREATE DATABASE x", "TABLE pg_authid", "COPY (SELECT 1) TO '/tmp/x'"]
)
def test_an_application_is_no_administrator(host: Any, statement: str) -> None:
    assert "ERROR" in ask(host, statement)


def test_a_wrong_password_is_refused(host: Any) -> None:
    assert "password authentication failed" in ask(host, "SELECT 1", password="wrong-password-wrong")


@pytest.mark.parametrize("user", ["postgres", "pgbouncer"])
def test_a_stranger_cannot_be_the_administrator_or_the_pooler(host: Any, user: str) -> None:
    assert "failed for user" in ask(host, "SELECT 1", user, f"host={SOCKET} dbname=shop")


def test_no_port_is_open(host: Any) -> None:
    assert "postgres" not in host.check_output("ss -Htlnp")


def test_a_query_that_takes_too_long_is_cancelled_and_logged(host: Any) -> None:
    started = time.monotonic()
    assert "statement timeout" in ask(host, "SELECT pg_sleep(20), 'runaway'")
    assert time.monotonic() - started < 10
    dawdler = f"dawdler {time.time_ns()}"
    assert ask(host, f"SELECT pg_sleep(0.7), '{dawdler}'") == f"|{dawdler}"
    assert host.run(f"grep -E 'duration: .*{dawdler}' /var/log/postgresql/*-main.log").rc == 0


def test_what_an_application_can_set_for_itself_stays_as_it_is(host: Any) -> None:
    said = administrate(host, "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = 'shop'")
    assert (ask(host, "SHOW timezone") == "Asia/Tokyo") is (said == "undone by hand")


def test_damage_on_the_disk_would_be_noticed(host: Any) -> None:
    assert administrate(host, "SHOW data_checksums") == "on"


def test_the_settings_of_the_site_are_in_force(host: Any) -> None:
    assert administrate(host, "SHOW shared_preload_libraries") == "pg_stat_statements"
    assert administrate(host, "SHOW max_connections") == "100"
    assert int(administrate(host, "SELECT setting::bigint * 8 FROM pg_settings WHERE name = 'shared_buffers'")) > 131072
    assert administrate(host, "SELECT count(*) FROM pg_settings WHERE pending_restart") == "0"


def test_the_server_is_locked_up_and_can_do_all_that_it_should(host: Any) -> None:
    unit = "postgresql@17-main.service"
    assert host.run(f"systemd-analyze security --threshold=20 {unit}").rc == 0
    assert host.run(f"systemd-analyze verify {unit} 2>&1").stdout == ""
    assert host.check_output("ps -o user= -p $(cat /run/postgresql/17-main.pid)") == "postgres"
    # A query that is compiled, one in several processes, files and programs of the administrator, tablespaces.
    compiled = "SET jit = on; SET jit_above_cost = 0; SELECT sum(n) FROM generate_series(1, 3) AS n"
    assert administrate(host, compiled) == "6"
    shared = "SET debug_parallel_query = on; SELECT count(*) > 0 FROM pg_class"
    assert administrate(host, shared) == "t"
    administrate(host, "COPY (SELECT 'there') TO PROGRAM 'cat > /tmp/copied'")
    assert host.check_output("cat /tmp/copied") == "there"
    host.check_output("install -d -o postgres -m 700 /srv/space")
    for statement in (
        "CREATE TABLESPACE space LOCATION '/srv/space'",
        "CREATE TABLE spacious TABLESPACE space AS SELECT 1",
        "DROP TABLE spacious",
        "DROP TABLESPACE space",
    ):
        administrate(host, statement)
    # But not who may connect, as it could with its account alone.
    hba = "/etc/postgresql/17/main/pg_hba.conf"
    refused = host.run("cd /; runuser -u postgres -- psql -qc %s", f"COPY (SELECT 'local all all trust') TO '{hba}'")
    assert "Read-only file system" in refused.stderr


def test_no_password_is_on_the_disk_or_in_a_log(host: Any) -> None:
    for canary in CANARIES:
        assert host.run(f"grep -rlI -- {canary} /etc /var/lib /var/log /run /tmp /root").stdout == ""
        assert canary not in host.check_output("journalctl --no-pager")
    assert host.run("grep -r 'SCRAM-SHA-256' /var/log").stdout == ""
