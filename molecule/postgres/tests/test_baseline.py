"""The controls of dev-sec's postgres-baseline, by their numbers, asked of the running server.

Not followed, each for a reason:

postgres-06: the administrator and the pool have no password, which nobody can guess; the system accounts of the same
             names come in.
postgres-12: its ciphers are those of TLS 1.2; here at least TLS 1.3 is spoken, which has no weak ones.
postgres-13: the pool shares the socket, and logs in as each application; so they show a password instead.
postgres-14 and 15: nobody comes in from elsewhere here; the scenario internal_tls has both.
postgres-16: a collector can lose lines, log_duration writes one for each statement, log_hostname asks the DNS for each
             client; and the prefix says more, in the order of most tools.
postgres-19: pgbouncer.get_auth is the one function that may do more than who calls it, and only the pool may call it.
postgres-20: Debian lets the group adm into the directory of the logs; no log in it is for others.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

testinfra_hosts = ["postgres1"]
DATABASES = ("postgres", "shop", "blog")
CONFIGURATION = "/etc/postgresql/17/main"


def ask(host: Any, sql: str, database: str = "postgres") -> str:
    return str(host.check_output("cd /; runuser -u postgres -- psql -XAtq -d %s -c %s", database, sql))


def access(host: Any, path: str) -> tuple[str, int]:
    """Return who owns a file or directory, and what he and others may do with it."""
    owner, mode = host.check_output(f"stat -c '%U %a' {path}").split()
    return owner, int(mode, 8)


def lines(host: Any) -> list[list[str]]:
    """Return type, users and method of each line in pg_hba.conf."""
    columns = "type, array_to_string(user_name, ','), auth_method"
    return [line.split("|") for line in ask(host, f"SELECT {columns} FROM pg_hba_file_rules").splitlines()]


def test_postgres_01_it_runs_now_and_at_boot(host: Any) -> None:
    service = host.service("postgresql@17-main")
    assert service.is_running
    assert service.is_enabled


def test_postgres_02_the_version_is_a_stable_one(host: Any) -> None:
    assert ask(host, "SHOW server_version").split()[0].replace(".", "").isdigit()


def test_postgres_03_there_is_one_instance(host: Any) -> None:
    assert len(host.check_output("pgrep -f ^/usr/lib/postgresql/.*/bin/postgres").split()) == 1


@pytest.mark.parametrize("database", DATABASES)
def test_postgres_04_and_05_no_language_reaches_beyond_the_database(host: Any, database: str) -> None:
    assert set(ask(host, "SELECT lanname FROM pg_language", database).split()) == {"internal", "c", "sql", "plpgsql"}


def test_postgres_06_whoever_has_no_password_cannot_log_in_with_one(host: Any) -> None:
    without = ask(host, "SELECT usename FROM pg_shadow WHERE passwd IS NULL").split()
    assert set(without) == {"postgres", "pgbouncer"}
    leading_there = {tuple(line) for line in lines(host) if set(line[1].split(",")) & {*without, "all"}}
    assert leading_there == {("local", "postgres", "peer"), ("local", "pgbouncer", "peer")}


def test_postgres_07_passwords_are_salted_and_hashed(host: Any) -> None:
    assert ask(host, "SHOW password_encryption") == "scram-sha-256"
    hashes = ask(host, "SELECT passwd FROM pg_shadow WHERE passwd IS NOT NULL").splitlines()
    assert [digest[:14] for digest in hashes] == ["SCRAM-SHA-256$"] * 2


def test_postgres_08_one_administrator_only(host: Any) -> None:
    assert ask(host, "SELECT rolname FROM pg_roles WHERE rolsuper OR rolcreaterole OR rolcreatedb") == "postgres"


@pytest.mark.parametrize("database", DATABASES)
def test_postgres_09_nobody_else_reads_the_hashes(host: Any, database: str) -> None:
    grants = "SELECT DISTINCT grantee FROM information_schema.role_table_grants WHERE table_name = 'pg_authid'"
    assert ask(host, grants, database) == "postgres"


def test_postgres_10_the_configuration_is_its_own(host: Any) -> None:
    assert access(host, CONFIGURATION) == ("postgres", 0o700)
    for name in ("postgresql.conf", "pg_hba.conf", "conf.d/groundwork.conf"):
        assert access(host, f"{CONFIGURATION}/{name}") == ("postgres", 0o640)


def test_postgres_11_tls_is_on(host: Any) -> None:
    assert ask(host, "SHOW ssl") == "on"


def test_postgres_12_only_ciphers_of_tls_1_3(host: Any) -> None:
    assert ask(host, "SHOW ssl_min_protocol_version") == "TLSv1.3"


def test_postgres_13_nobody_is_trusted_on_the_socket(host: Any) -> None:
    assert {method for kind, _users, method in lines(host) if kind == "local"} == {"peer", "scram-sha-256"}


def test_postgres_16_the_log_tells_who_did_what_and_when(host: Any) -> None:
    session = ask(host, "CREATE TEMP TABLE audited (); SELECT pg_backend_pid()", "blog")
    log = host.check_output(f"grep -F '[{session}]' /var/log/postgresql/postgresql-17-main.log")
    who = rf"^[-\d]+ [:.\d]+ UTC \[{session}\] db=blog,user=postgres,app=\S+,client=\[local\] "
    for what in ("connection authorized", "statement: CREATE TEMP TABLE audited", "disconnection"):
        assert re.search(f"{who}LOG:  {what}", log, re.MULTILINE), what


@pytest.mark.parametrize("database", DATABASES)
def test_postgres_17_nothing_is_granted_to_everybody(host: Any, database: str) -> None:
    grants = "SELECT table_schema, table_name FROM information_schema.table_privileges WHERE grantee = 'PUBLIC'"
    assert ask(host, f"{grants} AND table_schema NOT IN ('pg_catalog', 'information_schema')", database) == ""
    assert ask(host, "SELECT has_schema_privilege('public', 'public', 'CREATE')", database) == "f"


@pytest.mark.parametrize("database", DATABASES)
def test_postgres_18_only_owners_can_pass_a_grant_on(host: Any, database: str) -> None:
    grants = "SELECT grantee, table_name FROM information_schema.table_privileges WHERE is_grantable = 'YES'"
    assert ask(host, f"{grants} AND grantee NOT IN ('postgres', grantor)", database) == ""


@pytest.mark.parametrize("database", DATABASES)
def test_postgres_19_one_function_has_the_rights_of_its_owner(host: Any, database: str) -> None:
    powerful = "SELECT oid::regprocedure, array_to_string(proconfig, ';') FROM pg_proc WHERE prosecdef"
    needed = {"pgbouncer.get_auth(text)|search_path=pg_catalog, pg_temp"} if database != "postgres" else set()
    assert set(ask(host, powerful, database).splitlines()) == needed


def test_postgres_20_data_and_logs_are_for_nobody_else(host: Any) -> None:
    assert access(host, "/var/lib/postgresql/17/main") == ("postgres", 0o700)
    assert access(host, "/var/log/postgresql/postgresql-17-main.log") == ("postgres", 0o640)


def test_lynis_dbs_1828_no_file_of_the_configuration_is_open_to_everybody(host: Any) -> None:
    assert host.check_output("find /etc/postgresql -type f -perm /o=rwx") == ""


def test_whoever_may_not_read_the_configuration_still_has_a_client(host: Any) -> None:
    login = "HOME=/ PGPASSWORD=canary-shop-postgres-password setpriv --reuid=nobody --regid=nogroup --clear-groups"
    assert host.check_output(f"cd /; {login} psql -XAtqU shop -c 'SELECT 42' shop") == "42"
