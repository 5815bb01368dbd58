"""What an app gets from a Redis on another host, by way of the socket on its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from authority import CLIENT, Pair, made, read

testinfra_hosts = ["app1"]
SCENARIO = Path(__file__).parents[1]
EPHEMERAL = Path(os.environ["EPHEMERAL"])
INVENTORY = EPHEMERAL / "inventory"
CA, CA_KEY = EPHEMERAL / "internal_ca.crt", EPHEMERAL / "internal_ca.key"
FILES = "/etc/internal-tls"
SOCKET = "/run/redis-tunnel/redis.sock"
PASSWORD = "canary-shop-redis-password"
HOLE = "table inet hole { chain input { type filter hook input priority 0; tcp dport 6379 drop; }; }"


@pytest.fixture(scope="module")
def cache() -> Any:
    return testinfra.get_host("ansible://redis1", ansible_inventory=str(INVENTORY))


def address(host: Any) -> str:
    return str(host.ansible.get_variables()["ansible_host"])


def play(*options: str, **variables: Any) -> str:
    """Run the roles again, with other variables, and return what is said."""
    command = ["ansible-playbook", "--inventory", INVENTORY, "--extra-vars", json.dumps(variables), *options]
    done = subprocess.run([*command, SCENARIO / "converge.yml"], capture_output=True, text=True, check=False)
    return " ".join((done.stdout + done.stderr).split())


def ask(host: Any, *command: str, password: str = PASSWORD, account: str = "shop", where: str = f"-s {SOCKET}") -> str:
    """Send one command as the app would, and return the answer."""
    login = f"timeout 20 redis-cli {where} {'--user shop --no-auth-warning' if password else ''}"
    words = f"env REDISCLI_AUTH={password} {login}" if password else login
    answer = host.run(f"cd /; runuser -u {account} -- {words} {' '.join(command)}")
    return str(answer.stdout + answer.stderr).strip()


def is_logged(host: Any, words: str) -> bool:
    """After a flood of lines the journal takes none for half a minute; what goes wrong is tried, and logged, again."""
    found = f"journalctl --unit=redis-tunnel --no-pager --lines=30 | grep -q '{words}'"
    return bool(host.run(f'timeout 60 sh -c "until {found}; do sleep 0.2; done"').rc == 0)


def process(host: Any) -> str:
    return str(host.check_output("systemctl show --property=MainPID --value redis-tunnel"))


# --- who gets in ---


def test_an_app_reads_what_it_wrote(host: Any) -> None:
    assert ask(host, "SET", "shop:colour", "green") == "OK"
    assert ask(host, "GET", "shop:colour") == "green"


def test_the_tunnel_alone_opens_no_door(host: Any) -> None:
    assert ask(host, "PING", password="").startswith("NOAUTH")
    assert "WRONGPASS" in ask(host, "PING", password="canary-wrong")
    assert ask(host, "GET", "blog:post").startswith("NOPERM")


def test_who_is_not_in_the_group_cannot_open_the_socket(host: Any) -> None:
    assert "Permission denied" in ask(host, "PING", account="nobody")


def test_neither_the_app_nor_others_can_read_the_key(host: Any) -> None:
    for account in ("shop", "nobody"):
        assert host.run(f"runuser -u {account} -- cat {FILES}/redis-tunnel.key").rc != 0


def test_redis_speaks_to_nobody_in_plain_text_or_without_a_certificate(host: Any) -> None:
    for way in ("", "--tls --insecure"):
        assert "PONG" not in ask(host, "PING", where=f"-h redis1 {way}")


# --- who is at the other end ---


@contextlib.contextmanager
def kept(server: Any, name: str, *kinds: str, unit: str) -> Iterator[None]:
    """Bring files back as they were, and let a service read them again."""
    server.check_output(f"for kind in {' '.join(kinds)}; do cp -a {FILES}/{name}.$kind /root/kept.$kind; done")
    try:
        yield
    finally:
        back = "; ".join(f"cp -a /root/kept.{kind} {FILES}/{name}.{kind}" for kind in kinds)
        server.check_output(f"{back}; systemctl restart {unit}")


def put(host: Any, path: str, text: str) -> None:
    """Write into a file that is there, and keep its owner and mode."""
    host.check_output(f"cat >{path} <<'END'\n{text}END")


def put_pair(host: Any, name: str, pair: Pair) -> None:
    put(host, f"{FILES}/{name}.crt", pair.text)
    put(host, f"{FILES}/{name}.key", pair.key_text)


@pytest.mark.parametrize("who", ["of another authority", "of another host"])
def test_a_server_that_is_not_the_one_it_should_be_is_not_spoken_to(host: Any, cache: Any, who: str) -> None:
    ours = read(CA, CA_KEY)
    pair = made(made(), names=("redis1",)) if who == "of another authority" else made(ours, names=("elsewhere",))
    with kept(cache, "redis", "crt", "key", unit="redis-server"):
        put_pair(cache, "redis", pair)
        cache.check_output("systemctl restart redis-server")
        assert "PONG" not in ask(host, "PING")
        assert is_logged(host, "certificate verify failed")
    assert ask(host, "PING") == "PONG"


def test_an_authority_that_is_not_the_one_of_the_server_refuses_it(host: Any) -> None:
    with kept(host, "ca", "crt", unit="redis-tunnel"):
        put(host, f"{FILES}/ca.crt", made().text)
        host.check_output("systemctl restart redis-tunnel")
        assert "PONG" not in ask(host, "PING")
    assert ask(host, "PING") == "PONG"


def test_a_server_can_be_known_by_its_address(host: Any, cache: Any) -> None:
    try:
        assert "failed=0" in play(redis_tunnel_host=address(cache))
        assert ask(host, "PING") == "PONG"
        assert "failed=0" in play(redis_tunnel_host=address(cache), redis_tunnel_name="10.0.0.9")
        assert "PONG" not in ask(host, "PING")
    finally:
        assert "failed=0" in play()
    assert ask(host, "PING") == "PONG"


# --- when something is gone ---


def seconds(host: Any) -> float:
    """Return how long it takes until an app hears that there is no Redis, without the way to its host."""
    asked = f"timeout 20 redis-cli -s {SOCKET} PING 2>/dev/null; echo status $?"
    *_, status, took = host.check_output(f"t=$(date +%s%N); {asked}; echo $(($(date +%s%N) - t))").splitlines()
    assert status == "status 1"
    return int(took) / 1e9


def test_an_app_hears_at_once_that_redis_is_stopped_and_goes_on_after_its_restart(host: Any, cache: Any) -> None:
    cache.check_output("systemctl stop redis-server")
    try:
        assert seconds(host) < 0.5
    finally:
        cache.check_output("systemctl start redis-server")
    assert ask(host, "PING") == "PONG"


def test_an_app_hears_within_seconds_that_the_host_is_out_of_reach(host: Any, cache: Any) -> None:
    cache.check_output(f"nft '{HOLE}'")
    try:
        assert 1 < seconds(host) < 4
    finally:
        cache.check_output("nft delete table inet hole")
    assert ask(host, "PING") == "PONG"


def test_an_app_hears_within_seconds_that_redis_is_frozen(host: Any, cache: Any) -> None:
    cache.check_output("systemctl kill --signal=STOP redis-server")
    try:
        assert 1 < seconds(host) < 4
    finally:
        cache.check_output("systemctl kill --signal=CONT redis-server")
    assert ask(host, "PING") == "PONG"


def test_many_apps_that_wait_leave_room_for_others(host: Any, cache: Any) -> None:
    """A host that does not answer must not use up what the tunnel has for all."""
    cache.check_output(f"nft '{HOLE}'")
    crowd = (
        "import socket\nfor i in range(600):\n"
        f" s = socket.socket(socket.AF_UNIX); s.connect('{SOCKET}'); globals()[f's{{i}}'] = s\n"
    )
    try:
        host.check_output(f'python3 -c "{crowd}"')
    finally:
        cache.check_output("nft delete table inet hole")
    time.sleep(3)
    assert ask(host, "PING") == "PONG"


def test_a_tunnel_that_was_killed_is_back_after_a_moment(host: Any) -> None:
    before = process(host)
    host.check_output("systemctl kill --signal=KILL redis-tunnel; sleep 2")
    assert process(host) not in (before, "0")
    assert ask(host, "PING") == "PONG"


def test_a_key_of_another_certificate_makes_the_start_fail(host: Any) -> None:
    with kept(host, "redis-tunnel", "key", unit="redis-tunnel"):
        put(host, f"{FILES}/redis-tunnel.key", made().key_text)
        assert host.run("systemctl restart redis-tunnel").rc != 0
        assert is_logged(host, "key values mismatch")
    assert ask(host, "PING") == "PONG"


# --- renewal ---

SESSION = f"""
rm -f /tmp/talk /tmp/said
mkfifo -m 666 /tmp/talk
install -m 666 /dev/null /tmp/said
runuser -u shop -- env REDISCLI_AUTH={PASSWORD} redis-cli -s {SOCKET} --user shop >/tmp/said 2>&1 </tmp/talk &
exec 9>/tmp/talk
echo "ECHO before" >&9
until test -e /tmp/go; do sleep 0.1; done
echo "ECHO after" >&9
exec 9>&-
wait
"""


def test_a_renewed_certificate_is_shown_and_no_connection_is_lost(host: Any) -> None:
    put(host, "/root/session", SESSION)
    host.check_output("rm -f /tmp/go; systemd-run --quiet --collect --unit=session bash /root/session")
    host.check_output("timeout 10 sh -c 'until grep -q before /tmp/said; do sleep 0.1; done'")
    before = process(host)
    key = host.check_output(f"cat {FILES}/redis-tunnel.key")
    names = ("app1", address(host))
    expired = made(read(CA, CA_KEY), names=names, days=(-300, -1), usage=(CLIENT,), key=key)
    put(host, f"{FILES}/redis-tunnel.crt", expired.text)
    host.check_output("systemctl reload redis-tunnel; sleep 1")
    assert "PONG" not in ask(host, "PING")

    said = play("--limit", "app1")
    assert "redis-tunnel: has expired on" in said
    assert "failed=0" in said
    assert ask(host, "PING") == "PONG"
    host.check_output("touch /tmp/go; while systemctl --quiet is-active session; do sleep 0.1; done")
    assert host.check_output("cat /tmp/said").split() == ["before", "after"]
    assert process(host) == before
    assert "changed=0 " in play("--limit", "app1")


def test_a_run_that_was_killed_before_it_restarted_the_tunnel_is_finished_by_the_next(host: Any) -> None:
    before = process(host)
    host.check_output("sleep 0.1; touch /etc/redis-tunnel.conf")
    assert "failed=0" in play("--limit", "app1")
    assert process(host) != before
    assert "changed=0 " in play("--limit", "app1")


# --- secrets, mistakes, the sandbox ---


def test_no_password_is_known_to_the_tunnel(host: Any) -> None:
    assert host.run(f"grep -rlI -- {PASSWORD} /etc /var/log /run").stdout == ""
    assert PASSWORD not in host.check_output("journalctl --no-pager --unit=redis-tunnel")


def test_nothing_of_the_tunnel_listens_to_others(host: Any) -> None:
    assert "stunnel" not in host.check_output("ss -Htulnp")


@pytest.mark.parametrize(
    ("settings", "mistake"),
    [
        ({"redis_tunnel_host": "redis1:6379 x"}, "redis_tunnel_host (redis1:6379 x)"),
        ({"redis_tunnel_name": "[fd00::5]"}, "redis_tunnel_name ([fd00::5])"),
        ({"redis_tunnel_port": 0}, "redis_tunnel_port (0): a number from 1 to 65535"),
        (
            {"redis_tunnel_tls": {"certificate": "/a b.crt", "key": "/b.key", "ca": "/ca.crt"}},
            "redis_tunnel_tls (/a b.crt, /b.key, /ca.crt): absolute paths without blanks",
        ),
        ({"redis_tunnel_tls": {"certificate": "/a.crt", "key": "/b.key"}}, "missing required arguments: ca found in"),
    ],
)
def test_mistakes_are_named_before_a_server_is_touched(settings: dict[str, Any], mistake: str) -> None:
    files = {"certificate": "/a.crt", "key": "/a.key", "ca": "/ca.crt"}
    given = {"redis_tunnel_host": "redis1", "redis_tunnel_tls": files, **settings}
    command = ["ansible", "all", "-i", "192.0.2.1,", "-m", "ansible.builtin.include_role"]
    words = ["-a", "name=groundwork.django.redis_tunnel", "-e", json.dumps(given)]
    done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    assert mistake in " ".join((done.stdout + done.stderr).split())


def test_the_unit_is_locked_up(host: Any) -> None:
    assert host.run("systemd-analyze security --threshold=20 redis-tunnel.service").rc == 0
