"""What the applications, and strangers, get from PostgreSQL."""

from __future__ import annotations

import time
from typing import Any

import pytest
import testinfra

testinfra_hosts = ["postgres1"]
CANARIES = [f"canary-{user}-postgres-password" for user in ("shop", "blog", "pooler")]
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


@pytest.fixture
def client(request: pytest.FixtureRequest) -> Any:
    inventory = request.config.getoption("--ansible-inventory")
    return testinfra.get_host("ansible://client1", ansible_inventory=inventory)


@pytest.fixture
def address(host: Any) -> str:
    return str(host.check_output("hostname -I").split()[0])


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


def test_the_listed_clients_get_in_with_tls_only(client: Any, address: str) -> None:
    tls = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert ask(client, tls, to=f"host={address} dbname=shop sslmode=require") == "TLSv1.3"
    assert "no encryption" in ask(client, tls, to=f"host={address} dbname=shop sslmode=disable")


def test_another_address_is_refused(host: Any, address: str) -> None:
    assert "no pg_hba.conf entry" in ask(host, "SELECT 1", to=f"host={address} dbname=shop sslmode=require")


def test_the_pooler_can_look_up_applications_but_no_administrator(client: Any, address: str) -> None:
    target = f"host={address} dbname=shop sslmode=require"
    password = "canary-pooler-postgres-password"
    answer = ask(client, "SELECT * FROM pgbouncer.get_auth('shop')", "pgbouncer", target, password=password)
    assert answer.startswith("shop|SCRAM-SHA-256$4096:")
    assert ask(client, "SELECT * FROM pgbouncer.get_auth('postgres')", "pgbouncer", target, password=password) == ""
    assert "permission denied" in ask(client, "SELECT * FROM pg_authid", "pgbouncer", target, password=password)
    assert "permission denied" in ask(client, "SELECT * FROM pgbouncer.get_auth('shop')", to=target)


def test_a_query_that_takes_too_long_is_cancelled_and_logged(host: Any) -> None:
    started = time.monotonic()
    assert "statement timeout" in ask(host, "SELECT pg_sleep(20), 'runaway'")
    assert time.monotonic() - started < 10
    assert ask(host, "SELECT pg_sleep(0.7), 'dawdler'") == "|dawdler"
    assert host.run("grep -E 'duration: .*dawdler' /var/log/postgresql/*-main.log").rc == 0


def test_damage_on_the_disk_would_be_noticed(host: Any) -> None:
    assert administrate(host, "SHOW data_checksums") == "on"


def test_the_settings_of_the_site_are_in_force(host: Any) -> None:
    assert administrate(host, "SHOW shared_preload_libraries") == "pg_stat_statements"
    assert administrate(host, "SHOW max_connections") == "100"
    assert int(administrate(host, "SELECT setting::bigint * 8 FROM pg_settings WHERE name = 'shared_buffers'")) > 131072
    assert administrate(host, "SELECT count(*) FROM pg_settings WHERE pending_restart") == "0"


def test_no_password_is_on_the_disk_or_in_a_log(host: Any) -> None:
    for canary in CANARIES:
        assert host.run(f"grep -rlI -- {canary} /etc /var/lib /var/log /run /tmp /root").stdout == ""
        assert canary not in host.check_output("journalctl --no-pager")
    assert host.run("grep -r 'SCRAM-SHA-256' /var/log").stdout == ""
