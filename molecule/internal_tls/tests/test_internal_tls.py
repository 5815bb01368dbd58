"""What services on several hosts, and a stranger among them, get from each other."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from authority import CLIENT, SERVER, Pair, made, read

testinfra_hosts = ["app1"]
SCENARIO = Path(__file__).parents[1]
EPHEMERAL = Path(os.environ["EPHEMERAL"])
INVENTORY = EPHEMERAL / "inventory"
CA = EPHEMERAL / "internal_ca.crt"
CA_KEY = EPHEMERAL / "internal_ca.key"
FILES = "/etc/internal-tls"
POSTGRES = "'postgresql@*-main.service'"
PASSWORDS = {
    **{user: f"canary-{user}-postgres-password" for user in ("shop", "blog")},
    "pgbouncer": "canary-pooler-postgres-password",
    "redis": "canary-shop-redis-password",
}


def of(name: str) -> Any:
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=str(INVENTORY))


@pytest.fixture(scope="module")
def db() -> Any:
    return of("db1")


@pytest.fixture(scope="module")
def cache() -> Any:
    return of("redis1")


@pytest.fixture(scope="module")
def stranger() -> Any:
    return of("stranger1")


def address(host: Any) -> str:
    return str(host.ansible.get_variables()["ansible_host"])


def play(*options: str, **variables: Any) -> str:
    """Run the roles again, with other variables, and return what is said."""
    command = ["ansible-playbook", "--inventory", INVENTORY, "--extra-vars", json.dumps(variables), *options]
    done = subprocess.run([*command, SCENARIO / "converge.yml"], capture_output=True, text=True, check=False)
    return " ".join((done.stdout + done.stderr).split())


# --- what clients ask ---


def pooled(host: Any, user: str, sql: str = "SELECT 42") -> str:
    """Ask PostgreSQL as the app does, which is by way of PgBouncer on its own host."""
    login = f"PGCONNECT_TIMEOUT=3 PGPASSWORD={PASSWORDS[user]} psql -XAtq -h /run/pgbouncer -p 6432 -U {user} {user}"
    answer = host.run(f'cd /; runuser -u shop -- env {login} -c "{sql}"')
    return str(answer.stdout + answer.stderr).strip()


def direct(host: Any, user: str = "shop", sql: str = "SELECT 42", *, files: str = "", database: str = "shop") -> str:
    """Ask PostgreSQL without PgBouncer; `files` is where the client has its key and certificate, if any."""
    shown = f"sslcert={files}.crt sslkey={files}.key" if files else "sslcert=/none"
    target = f"host=db1 dbname={database} user={user} sslrootcert={FILES}/ca.crt {shown}"
    trust = "sslmode=verify-full" if files else "sslmode=require sslrootcert=/none"
    return ask(host, f"PGPASSWORD={PASSWORDS[user]} psql -XAtq -d '{target} {trust}' -c '{sql}'")


def ask(host: Any, command: str) -> str:
    answer = host.run(f"cd /; {command}")
    return str(answer.stdout + answer.stderr).strip()


def redis(host: Any, *command: str, files: str = "", server: str = "redis1", tls: bool = True) -> str:
    shown = f"--cert {files}.crt --key {files}.key --cacert {FILES}/ca.crt" if files else "--insecure"
    login = f"REDISCLI_AUTH={PASSWORDS['redis']} timeout 5 redis-cli -h {server} --user shop --no-auth-warning"
    return ask(host, f"{login} {f'--tls {shown}' if tls else ''} {' '.join(command)}")


DJANGO_CACHE = """
import redis, sys
url = "rediss://shop:{password}@{server}:6379/0?ssl_cert_reqs=required&ssl_check_hostname=true" \
    "&ssl_ca_certs=/etc/internal-tls/ca.crt&ssl_certfile={files}.crt&ssl_keyfile={files}.key"
client = redis.Redis.from_url(url)
client.set("shop:seen", "by python")
print(client.get("shop:seen").decode())
"""


def django_cache(host: Any, server: str, files: str = f"{FILES}/shop") -> str:
    """Ask Redis as django-redis does, with the URL of the role's README, from the account of the app."""
    program = DJANGO_CACHE.format(password=PASSWORDS["redis"], server=server, files=files)
    return ask(host, f"runuser -u shop -- python3 - <<'END' 2>&1 | tail -n 1\n{program}\nEND")


# --- who gets in ---


@pytest.mark.parametrize("user", ["shop", "blog"])  # one by the name of the server, one by its address
def test_an_app_gets_to_its_database_on_another_host(host: Any, user: str) -> None:
    tls = "SELECT version, client_dn FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert pooled(host, user, tls) == "TLSv1.3|/CN=pgbouncer"


def test_an_app_gets_to_its_cache_on_another_host(host: Any, cache: Any) -> None:
    for server in ("redis1", address(cache)):
        assert django_cache(host, server) == "by python"


def test_the_pooler_can_look_up_apps_but_no_administrator(host: Any) -> None:
    shown = f"{FILES}/pgbouncer"
    found = direct(host, "pgbouncer", "SELECT * FROM pgbouncer.get_auth($$shop$$)", files=shown)
    assert found.startswith("shop|SCRAM-SHA-256$4096:")
    assert direct(host, "pgbouncer", "SELECT * FROM pgbouncer.get_auth($$postgres$$)", files=shown) == ""
    assert "permission denied" in direct(host, "pgbouncer", "SELECT * FROM pg_authid", files=shown)
    assert "permission denied" in direct(host, "shop", "SELECT * FROM pgbouncer.get_auth($$shop$$)", files=shown)


# --- who does not ---


def test_a_host_that_is_no_client_is_refused(db: Any) -> None:
    assert "no pg_hba.conf entry" in direct(db, files=f"{FILES}/postgres")


@pytest.mark.parametrize("user", ["shop", "pgbouncer"])
def test_a_stranger_with_a_valid_password_is_refused_by_postgresql(stranger: Any, user: str) -> None:
    assert "connection requires a valid client certificate" in direct(stranger, user)


def test_postgres_14_and_15_of_dev_sec_hold(db: Any) -> None:
    methods = "SELECT DISTINCT type, auth_method FROM pg_hba_file_rules WHERE type <> 'local'"
    assert db.check_output(f'cd /; runuser -u postgres -- psql -XAtqc "{methods}"') == "hostssl|scram-sha-256"


def test_the_sandbox_of_postgresql_lets_it_know_the_addresses_of_its_host(db: Any) -> None:
    hba = db.check_output("ls /etc/postgresql/*/main/pg_hba.conf")
    line = "hostssl shop shop samehost scram-sha-256"
    login = f"PGPASSWORD={PASSWORDS['shop']} psql -XAtq -d 'host={address(db)} dbname=shop user=shop sslmode=require'"
    db.check_output(f"cp -a {hba} /root/hba && echo {line} >> {hba} && systemctl reload {POSTGRES}")
    try:
        tries = f"for try in $(seq 100); do {login} -c 'SELECT 42' && break; sleep 0.1; done"
        assert db.check_output(f"cd /; {tries}") == "42"
    finally:
        db.check_output(f"cp -a /root/hba {hba} && systemctl reload {POSTGRES}")


def test_a_stranger_with_a_valid_password_is_refused_by_redis(stranger: Any) -> None:
    assert "42" in redis(of("app1"), "ECHO", "42", files=f"{FILES}/shop")
    assert "42" not in redis(stranger, "ECHO", "42")
    assert "certificate required" in ask(stranger, "echo | openssl s_client -connect redis1:6379 -tls1_3 -ign_eof 2>&1")


def test_plain_text_is_refused_even_with_a_valid_password(stranger: Any, host: Any) -> None:
    for each in (stranger, host):
        target = "host=db1 dbname=shop user=shop sslmode=disable"
        assert "no encryption" in ask(each, f"PGPASSWORD={PASSWORDS['shop']} psql -XAtq -d '{target}' -c 'SELECT 42'")
        assert "42" not in redis(each, "ECHO", "42", tls=False)


def test_old_tls_is_refused(host: Any) -> None:
    shown = f"-CAfile {FILES}/ca.crt -cert {FILES}/shop.crt -key {FILES}/shop.key"
    for service in ("redis1:6379", "db1:5432 -starttls postgres"):
        assert "alert protocol version" in ask(
            host, f"openssl s_client -connect {service} {shown} -tls1_2 </dev/null 2>&1"
        )
        assert "Verify return code: 0" in ask(
            host, f"openssl s_client -connect {service} {shown} -tls1_3 </dev/null 2>&1"
        )


@pytest.fixture(scope="module")
def impostor() -> Pair:
    """A certificate that says what ours say, of another authority."""
    return made(made(), names=("db1", "redis1"))


@pytest.fixture(scope="module")
def misnamed() -> Pair:
    """A certificate of our authority, for another host."""
    return made(read(CA, CA_KEY), names=("elsewhere", "10.0.0.9"))


def put(host: Any, path: str, text: str) -> None:
    """Write into a file that may be there, and keep its owner and mode."""
    host.check_output(f"cat >>{path} </dev/null; cat >{path} <<'END'\n{text}END")


def test_a_certificate_of_another_authority_is_refused(stranger: Any, impostor: Pair) -> None:
    stranger.check_output(f"mkdir {FILES}; install -m 600 /dev/null /root/shop.key")
    put(stranger, f"{FILES}/ca.crt", CA.read_text())
    put(stranger, "/root/shop.crt", impostor.text)
    put(stranger, "/root/shop.key", impostor.key_text)
    try:
        assert "unknown ca" in direct(stranger, files="/root/shop")
        assert "42" not in redis(stranger, "ECHO", "42", files="/root/shop")
    finally:
        stranger.check_output(f"rm -r {FILES} /root/shop.*")


def test_a_certificate_without_a_password_is_not_enough(host: Any) -> None:
    target = f"host=db1 dbname=shop user=shop sslcert={FILES}/shop.crt sslkey={FILES}/shop.key sslmode=require"
    assert "password" in ask(host, f"PGPASSWORD=wrong-password-wrong psql -XAtq -d '{target}' -c 'SELECT 42'")
    assert "NOAUTH" in ask(
        host, f"redis-cli -h redis1 --tls --cacert {FILES}/ca.crt --cert {FILES}/shop.crt --key {FILES}/shop.key PING"
    )


@contextlib.contextmanager
def replaced(server: Any, name: str, other: Pair, unit: str) -> Iterator[None]:
    """Let a server show a certificate of another authority for a while."""
    ours = f"{FILES}/{name}"
    server.check_output(f"for kind in crt key; do cp -a {ours}.$kind /root/kept.$kind; done")
    try:
        put(server, f"{ours}.crt", other.text)
        put(server, f"{ours}.key", other.key_text)
        server.check_output(f"systemctl restart {unit}")
        yield
    finally:
        server.check_output(f"for kind in crt key; do mv /root/kept.$kind {ours}.$kind; done; systemctl restart {unit}")


def reconnect(host: Any) -> None:
    """Let PgBouncer forget the connections that it has."""
    host.check_output("systemctl restart pgbouncer")


@pytest.fixture(
    params=[
        ("impostor", "certificate verify failed", "unable to get local issuer certificate"),
        ("misnamed", "not present in server certificate", "mismatch"),
    ]
)
def wrong(request: pytest.FixtureRequest) -> tuple[Pair, str, str]:
    """A certificate that a server must not have, and what PgBouncer and Python say of it."""
    return request.getfixturevalue(request.param[0]), *request.param[1:]


def test_a_server_that_is_not_the_one_it_should_be_gets_no_password(
    host: Any, db: Any, cache: Any, wrong: tuple[Pair, str, str]
) -> None:
    certificate, of_pgbouncer, of_python = wrong
    with replaced(db, "postgres", certificate, POSTGRES):
        for user in ("shop", "blog"):
            reconnect(host)
            assert "42" not in pooled(host, user)
            assert of_pgbouncer in host.check_output("journalctl -u pgbouncer --no-pager -n 20")
    reconnect(host)
    assert pooled(host, "shop") == "42"
    with replaced(cache, "redis", certificate, "redis-server"):
        for server in ("redis1", address(cache)):
            assert of_python in django_cache(host, server)
    assert django_cache(host, "redis1") == "by python"


def test_no_password_leaves_an_app_that_meets_a_server_without_tls(host: Any, stranger: Any) -> None:
    """The stranger takes the address of the server's name, speaks no TLS, and writes down all that it hears."""
    listen = "import socket,sys; s=socket.create_server(('', int(sys.argv[1]))); c,_=s.accept(); c.settimeout(3)\n"
    hear = "d=c.recv(999); c.sendall(b'N' if len(d) == 8 else b'')\ntry: d+=c.recv(999)\nexcept OSError: pass\n"
    for port, ask_it in ((5432, lambda: pooled(host, "shop")), (6379, lambda: django_cache(host, "redis1"))):
        program = f"{listen}{hear}open('/root/heard', 'wb').write(d)"
        stranger.check_output(f'systemd-run -q --collect --unit=ear python3 -c "{program}" {port}; sleep 0.5')
        host.check_output(
            f"cp /etc/hosts /root/hosts; sed -i 's/^.*\\(db1\\|redis1\\)$/{address(stranger)} \\1/' /etc/hosts"
        )
        try:
            reconnect(host)
            assert "42" not in ask_it()
            assert (
                stranger.check_output("while systemctl -q is-active ear; do sleep 0.1; done; wc -c </root/heard") != "0"
            )
            assert stranger.run("grep -c canary /root/heard").stdout.strip() == "0"
        finally:
            host.check_output("cat /root/hosts >/etc/hosts; systemctl restart pgbouncer")


# --- who can read what ---


def test_the_key_of_the_authority_is_on_the_control_node_alone(db: Any, cache: Any, host: Any) -> None:
    assert {path.stat().st_mode & 0o777 for path in (CA, CA_KEY)} == {0o600}
    secret = CA_KEY.read_text().splitlines()[1]
    for each in (db, cache, host):
        assert each.run(f"grep -rlF -- {secret} /etc /root /tmp /var/log /var/tmp /var/lib").stdout == ""
        assert each.run(f"journalctl --no-pager | grep -cF -- {secret}").stdout.strip() == "0"


def test_each_key_is_its_own_and_readable_by_its_service_alone(db: Any, cache: Any, host: Any) -> None:
    keys = {}
    readers = {
        (db, "postgres"): "postgres",
        (cache, "redis"): "redis",
        (host, "pgbouncer"): "pgbouncer",
        (host, "shop"): "shop",
    }
    for (each, name), reader in readers.items():
        path = f"{FILES}/{name}.key"
        each.check_output(f"runuser -u {reader} -- cat {path}")
        for other in {"nobody", "www-data", "postgres", "redis", "pgbouncer", "shop"} - {reader}:
            if each.user(other).exists:
                assert each.run(f"runuser -u {other} -- cat {path}").rc != 0, f"{other} reads {path}"
        keys[name] = each.check_output(f"cat {path}")
    assert len(set(keys.values())) == 4


def test_pgbouncer_has_no_port(host: Any) -> None:
    assert "pgbouncer" not in host.check_output("ss -Htlnp")


def test_nothing_of_postgresql_and_redis_answers_in_plain_text(db: Any, cache: Any) -> None:
    assert "redis" in cache.check_output("ss -Htlnp")
    assert cache.check_output("ss -Htln 'sport = 6379' | wc -l") == "1"
    assert db.run("grep -E '^host(nossl)? ' /etc/postgresql/*/main/pg_hba.conf").rc == 1


# --- renewal ---


def serial(host: Any, service: str) -> str:
    """Return the serial number of the certificate that a service shows to a new client."""
    shown = f"-cert {FILES}/shop.crt -key {FILES}/shop.key"
    return ask(
        host, f"openssl s_client -connect {service} {shown} </dev/null 2>/dev/null | openssl x509 -noout -serial"
    )


def age(server: Any, name: str, *usage: Any) -> None:
    """Give a service a certificate for its own key that is near its end."""
    key = server.check_output(f"cat {FILES}/{name}.key")
    names = (server.check_output("hostname"), address(server))
    aged = made(read(CA, CA_KEY), names=names, days=(-300, 20), usage=usage, key=key)
    put(server, f"{FILES}/{name}.crt", aged.text)


SESSION = """
rm -f /tmp/talk /tmp/go
mkfifo -m 666 /tmp/talk
install -m 666 /dev/null /tmp/said
runuser -u shop -- sh -c '{login} >/tmp/said 2>&1 </tmp/talk' &
exec 9>/tmp/talk
echo "BEGIN; SET LOCAL idle_in_transaction_session_timeout = 0; SELECT 1;" >&9
for i in $(seq 3000); do test -e /tmp/go && break; sleep 0.1; done
echo "SELECT 40 + 2; COMMIT;" >&9
exec 9>&-
wait
"""


def test_a_certificate_near_its_end_is_renewed_and_no_session_is_lost(host: Any, db: Any, cache: Any) -> None:
    for server, name in ((db, "postgres"), (cache, "redis")):
        age(server, name, SERVER, CLIENT)
    age(host, "pgbouncer", CLIENT)
    db.check_output(f"systemctl reload {POSTGRES}")
    cache.check_output("systemctl restart redis-server")
    host.check_output("systemctl reload pgbouncer")
    old = {service: serial(host, service) for service in ("redis1:6379", "db1:5432 -starttls postgres")}
    process = host.check_output("systemctl show --property=MainPID --value pgbouncer")
    assert pooled(host, "shop") == "42"
    # A transaction that began before and goes on after.
    login = f"PGPASSWORD={PASSWORDS['shop']} psql -XAtq -h /run/pgbouncer -p 6432 -U shop shop"
    put(host, "/root/session", SESSION.format(login=login))
    host.check_output("systemd-run -q --collect --unit=session bash /root/session")
    host.check_output("timeout 10 sh -c 'until grep -q 1 /tmp/said; do sleep 0.1; done'")

    would = play("--check", "--limit", "db1")
    assert "postgres: it expires on " in would
    assert {service: serial(host, service) for service in old} == old
    said = play("-vvv")
    assert "postgres: it expires on " in said
    assert "failed=0" in said
    assert CA_KEY.read_text().splitlines()[1] not in said
    host.check_output("touch /tmp/go; while systemctl -q is-active session; do sleep 0.1; done")
    assert host.check_output("cat /tmp/said").split() == ["1", "42"]
    assert host.check_output("systemctl show --property=MainPID --value pgbouncer") == process
    for service, before in old.items():
        assert serial(host, service).startswith("serial=")
        assert serial(host, service) != before
    reconnect(host)
    shown = pooled(host, "shop", "SELECT client_serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    ours = int(ask(host, f"openssl x509 -noout -serial -in {FILES}/pgbouncer.crt").split("=")[1], 16)
    assert int(shown) == ours
    assert django_cache(host, "redis1") == "by python"
    assert_nothing_is_changed(play())


def assert_nothing_is_changed(said: str) -> None:
    recap = said.partition("PLAY RECAP")[2]
    assert recap.count("changed=0 ") == len(("db1", "redis1", "app1", "stranger1")), said
    assert "Sign it, on the control node" not in said


# --- certificates and authorities of others ---


def test_an_authority_of_ones_own_signs_and_its_key_may_be_vaulted(host: Any) -> None:
    root = made()
    between = made(root)
    (EPHEMERAL / "own.crt").write_text(between.text + root.text)
    (EPHEMERAL / "own.key").write_text(between.key_text)
    (EPHEMERAL / "password").write_text("canary-vault-password")
    vault = ["--vault-password-file", str(EPHEMERAL / "password")]
    subprocess.run(["ansible-vault", "encrypt", *vault, EPHEMERAL / "own.key"], check=True, capture_output=True)
    own = {
        "internal_tls_ca_certificate": str(EPHEMERAL / "own.crt"),
        "internal_tls_ca_key": str(EPHEMERAL / "own.key"),
    }
    try:
        said = play("--limit", "redis1,app1", *vault, **own)
        assert "redis: another authority issued it" in said
        assert "failed=0" in said
        assert django_cache(host, "redis1") == "by python"
    finally:
        assert "failed=0" in play("--limit", "redis1,app1")


def test_a_given_certificate_is_served_and_a_bad_one_is_refused_before_anything_is_replaced(
    host: Any, cache: Any
) -> None:
    authority, names = read(CA, CA_KEY), ("redis1", address(cache))
    given = {"name": "redis", "certificate": str(EPHEMERAL / "given.crt"), "key": str(EPHEMERAL / "given.key")}

    def bring(pair: Pair) -> str:
        pair.save(EPHEMERAL / "given")
        return play("--limit", "redis1", "--diff", "-vvv", internal_tls_certificates=[given])

    try:
        pair = made(authority, names=names, days=(-300, 20))
        said = bring(pair)
        assert "failed=0" in said
        assert "which you gave, ends in 19 days" in said
        assert pair.key_text.splitlines()[1] not in said
        assert int(serial(host, "redis1:6379").split("=")[1], 16) == pair.certificate.serial_number
        assert "changed=0 " in bring(pair)

        said = bring(made(authority, names=names[:1], days=(-9, -1)))
        assert "has expired on" in said
        assert f"is not for {names[1]} (internal_tls_names), but for redis1" in said
        assert "Install what makes keys" not in said
    finally:
        assert "failed=0" in play("--limit", "redis1")


def test_mistakes_are_named_before_a_server_is_touched() -> None:
    listed = [
        {"name": "ca"},
        {"name": "a b"},
        {"name": "twice"},
        {"name": "twice", "usage": []},
        {"name": "half", "certificate": "/no/such.crt"},
        {"name": "gone", "certificate": "/no/such.crt", "key": "/no/such.key"},
        {"name": "grouped", "group": "A group"},
    ]
    settings = {"internal_tls_names": ["10.0.0.0/24"], "internal_tls_days": 1, "internal_tls_ca_key": "ca.key"}
    said = play("--limit", "db1", internal_tls_certificates=listed, **settings)
    for mistake in (
        'the name "ca" must',
        'the name "a b" must',
        'more than one has the name "twice"',
        "twice: usage is empty",
        "half: give both certificate and key",
        "gone: /no/such.key is no file on the control node",
        '"A group" is no name of a group',
        '"10.0.0.0/24" is no host name and no IP address',
        "internal_tls_days is 1",
        'internal_tls_ca_key is "ca.key"; give an absolute path',
    ):
        assert mistake in said
    assert "Install what makes keys" not in said


def test_without_the_key_of_the_authority_it_is_said_what_cannot_be_signed() -> None:
    said = play("--limit", "db1", internal_tls_names=["db9"], internal_tls_ca_key=str(EPHEMERAL / "lost.key"))
    assert f"internal_tls_ca_key: {EPHEMERAL}/lost.key is not there, or empty." in said
    assert "postgres: it is for" in said
    said = play("--limit", "db1", internal_tls_ca_key=str(EPHEMERAL / "lost.key"))
    assert "changed=0 " in said, "the key is needed only where something is signed"


@pytest.mark.parametrize(
    ("role", "settings", "mistake"),
    [
        ("redis", {"redis_bind": ["127.0.0.1", "10.0.0.6"]}, "redis_bind (127.0.0.1, 10.0.0.6): give redis_tls"),
        (
            "pgbouncer",
            {"pgbouncer_databases": [{"name": "shop", "host": "db1"}], "pgbouncer_auth_password": "canary-of-a-pooler"},
            "pgbouncer_server_tls (not given), with a ca",
        ),
        (
            "postgres",
            {"postgres_listen_addresses": ["10.0.0.5"]},
            "To listen (10.0.0.5) it needs postgres_tls (not given)",
        ),
    ],
)
def test_without_certificates_no_service_listens_to_other_hosts(role: str, settings: Any, mistake: str) -> None:
    system = {"distribution": "Debian", "distribution_major_version": "13", "memtotal_mb": 512, "processor_vcpus": 1}
    facts = {"ansible_facts": system}
    command = [
        "ansible",
        "all",
        "-i",
        "192.0.2.1,",
        "-m",
        "ansible.builtin.include_role",
        "-a",
        f"name=groundwork.django.{role}",
    ]
    done = subprocess.run(
        [*command, "-e", json.dumps({**facts, **settings})], capture_output=True, text=True, check=False
    )
    assert mistake in " ".join((done.stdout + done.stderr).split())
