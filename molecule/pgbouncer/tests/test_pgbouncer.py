"""What the applications, and strangers, get from the pool."""

from __future__ import annotations

from typing import Any

CANARIES = ("canary-shop-database-password", "canary-blog-database-password")
POOL = "/run/pgbouncer"


def psql(user: str, sql: str, password: str | None = None, database: str | None = None) -> str:
    """The command line of a client that asks the pool."""
    password = password or f"canary-{user}-database-password"
    return f"PGPASSWORD={password} psql -qtAX -h {POOL} -p 6432 -U {user} {database or user} -c '{sql}'"


def as_client(command: str, group: str = "pgbouncer") -> str:
    return f'setpriv --reuid=nobody --regid={group} --clear-groups sh -c "{command}"'


def pid(host: Any) -> str:
    return str(host.check_output("systemctl show --property=MainPID --value pgbouncer"))


def test_an_application_reads_what_it_wrote(host: Any) -> None:
    host.check_output(as_client(psql("shop", "CREATE TABLE IF NOT EXISTS colours (name text)")))
    host.check_output(as_client(psql("shop", "INSERT INTO colours VALUES (version())")))
    assert "PostgreSQL" in host.check_output(as_client(psql("shop", "SELECT name FROM colours LIMIT 1")))


def test_a_wrong_password_is_refused(host: Any) -> None:
    answer = host.run(as_client(psql("shop", "SELECT 1", password="wrong-password")))
    assert answer.rc != 0
    assert "authentication failed" in answer.stderr


def test_the_database_of_another_application_is_out_of_reach(host: Any) -> None:
    answer = host.run(as_client(psql("shop", "SELECT 1", database="blog")))
    assert answer.rc != 0


def test_the_role_of_the_pool_lets_nobody_in(host: Any) -> None:
    assert host.run(as_client(psql("pgbouncer", "SELECT 1", password="x", database="shop"))).rc != 0


def test_the_console_is_closed_to_an_application_and_survives_the_attempt(host: Any) -> None:
    before = pid(host)
    assert host.run(as_client(psql("shop", "SHOW POOLS", database="pgbouncer"))).rc != 0
    assert pid(host) == before


def test_a_stranger_on_the_host_cannot_open_the_socket(host: Any) -> None:
    answer = host.run(as_client(psql("shop", "SELECT 1"), group="nogroup"))
    assert "Permission denied" in answer.stderr


def test_an_application_cannot_read_the_password_of_the_pool(host: Any) -> None:
    assert host.run(as_client("cat /etc/pgbouncer/userlist.txt")).rc != 0


def test_no_port_is_open(host: Any) -> None:
    assert "pgbouncer" not in host.check_output("ss -Htlnp")


def test_it_does_not_run_as_the_superuser_of_the_database(host: Any) -> None:
    assert host.check_output(f"ps -o user= -p {pid(host)}") == "pgbouncer"


def test_many_clients_share_a_few_server_connections(host: Any) -> None:
    one = psql("shop", "SELECT pg_sleep(0.05), pg_backend_pid()")
    host.check_output("rm -f /tmp/answers; touch /tmp/answers; chmod 666 /tmp/answers")
    many = f"for i in $(seq 60); do {one} >> /tmp/answers & done; wait"
    host.check_output(f"setpriv --reuid=nobody --regid=pgbouncer --clear-groups sh <<'END'\n{many}\nEND")
    answers = host.check_output("cat /tmp/answers").splitlines()
    assert len(answers) == 60
    assert len(set(answers)) <= 5


def test_a_reload_leaves_an_open_transaction_alone(host: Any) -> None:
    before = pid(host)
    script = r"BEGIN;\nCREATE TEMP TABLE t ON COMMIT DROP AS SELECT 42 AS n;\n\\! sleep 2\nSELECT n FROM t;\nCOMMIT;"
    login = f"PGPASSWORD={CANARIES[0]} psql -qtAX -h {POOL} -p 6432 -U shop shop"
    answer = host.check_output(f"(sleep 1; systemctl reload pgbouncer) & printf '{script}' | {login}; wait")
    assert answer.strip() == "42"
    assert pid(host) == before


def test_after_a_restart_of_postgresql_the_next_query_works(host: Any) -> None:
    before = pid(host)
    host.check_output("systemctl restart postgresql")
    retry = f"for i in $(seq 20); do {psql('shop', 'SELECT 42')} && exit; sleep 0.1; done; exit 1"
    assert host.check_output(f"timeout 3 sh <<'END'\n{retry}\nEND") == "42"
    assert pid(host) == before


def test_a_new_password_in_postgresql_is_valid_at_once(host: Any) -> None:
    superuser = "runuser -u postgres -- psql -qtAX"
    old = host.check_output(f"{superuser} -c \"SELECT rolpassword FROM pg_authid WHERE rolname = 'blog'\"")
    host.check_output(f"{superuser} -c \"ALTER ROLE blog PASSWORD 'rotated-password'\"")
    try:
        assert host.check_output(as_client(psql("blog", "SELECT 42", password="rotated-password"))) == "42"
    finally:
        host.check_output(f"{superuser} -c \"ALTER ROLE blog PASSWORD '{old}'\"")


def test_no_password_is_on_the_disk_or_in_the_journal(host: Any) -> None:
    for canary in CANARIES:
        assert host.run(f"grep -rlI -- {canary} /etc /run /var/log /var/lib/postgresql /root").stdout == ""
        assert canary not in host.check_output("journalctl --no-pager")


def test_the_unit_is_locked_up(host: Any) -> None:
    verdict = host.check_output("systemd-analyze security --no-pager pgbouncer.service | tail -n 1")
    exposure = float(verdict.split(":")[1].split()[0])
    assert exposure <= 2.0, verdict
