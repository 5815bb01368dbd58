"""What the applications, and strangers, get from Redis."""

from __future__ import annotations

from typing import Any

import pytest

SOCKET = "/run/redis/redis-server.sock"
CANARIES = ("canary-shop-redis-password", "canary-blog-redis-password", "canary-wiki-redis-password")


def ask(host: Any, user: str, *command: str, group: str = "redis") -> str:
    """Send one command as an application would, and return the answer."""
    words = " ".join(command)
    login = f"REDISCLI_AUTH=canary-{user}-redis-password redis-cli -s {SOCKET} --user {user} --no-auth-warning {words}"
    answer = host.run(f"setpriv --reuid=nobody --regid={group} --clear-groups sh -c '{login}'")
    return str(answer.stdout + answer.stderr).strip()


def test_an_application_reads_what_it_wrote(host: Any) -> None:
    assert ask(host, "shop", "SET", "shop:colour", "green") == "OK"
    assert ask(host, "shop", "GET", "shop:colour") == "green"


@pytest.mark.parametrize("command", ["GET blog:post", "SET blog:post x", "DEL blog:post", "SUBSCRIBE blog:news"])
def test_an_application_cannot_reach_the_keys_of_another(host: Any, command: str) -> None:
    assert ask(host, "shop", *command.split()).startswith("NOPERM")


@pytest.mark.parametrize("command", ["SET colour green", "PUBLISH news x"])
def test_an_application_without_a_prefix_reaches_every_key(host: Any, command: str) -> None:
    assert ask(host, "wiki", *command.split()) in ("OK", "0")


@pytest.mark.parametrize("command", ["FLUSHALL", "CONFIG GET *", "KEYS *", "MONITOR", "ACL LIST", "SHUTDOWN"])
def test_dangerous_commands_are_off(host: Any, command: str) -> None:
    assert ask(host, "shop", *command.split()).startswith("NOPERM")


@pytest.mark.parametrize(("prefix", "allowed"), [("shop:", True), ("blog:", False)])
@pytest.mark.parametrize("topic", ["/0.celery.pidbox", "/0.celeryev/worker.*"])
def test_celery_hears_its_own_events_only(host: Any, topic: str, prefix: str, allowed: bool) -> None:
    login = f"REDISCLI_AUTH={CANARIES[0]} timeout 2 redis-cli -s {SOCKET} --user shop --no-auth-warning"
    heard = host.run(f"{login} PSUBSCRIBE '{prefix}{topic}'").stdout
    assert ("NOPERM" not in heard) is allowed


def test_without_a_password_nothing_is_answered(host: Any) -> None:
    answer = host.run(f"redis-cli -s {SOCKET} PING")
    assert "NOAUTH" in answer.stdout


def test_a_stranger_on_the_host_cannot_open_the_socket(host: Any) -> None:
    assert "Permission denied" in ask(host, "shop", "PING", group="nogroup")


def test_an_application_can_neither_read_nor_replace_the_accounts(host: Any) -> None:
    member = "setpriv --reuid=nobody --regid=redis --clear-groups"
    assert host.run(f"{member} cat /etc/redis/users.acl").rc != 0
    assert host.run(f"{member} test -w /etc/redis").rc != 0


def test_no_port_is_open(host: Any) -> None:
    assert "redis" not in host.check_output("ss -Htlnp")


def test_old_keys_make_room_when_the_memory_is_used_up(host: Any) -> None:
    script = "for i=1,96 do redis.call('SET','shop:fill:'..i,string.rep('x',1048576)) end return 'full'"
    login = f"REDISCLI_AUTH={CANARIES[0]} redis-cli -s {SOCKET} --user shop --no-auth-warning"
    assert host.check_output(f'{login} EVAL "{script}" 1 shop:fill:1') == "full"
    assert ask(host, "shop", "SET", "shop:after", "1") == "OK"
    count = "local n=0 for i=1,96 do n=n+redis.call('EXISTS','shop:fill:'..i) end return n"
    assert int(host.check_output(f'{login} EVAL "{count}" 1 shop:fill:1')) < 64


def test_no_password_is_on_the_disk_or_in_the_journal(host: Any) -> None:
    for canary in CANARIES:
        assert host.run(f"grep -rlI -- {canary} /etc /var/lib /var/log /run /tmp /root").stdout == ""
        assert canary not in host.check_output("journalctl --no-pager")


def test_a_restart_brings_it_back_with_the_same_accounts(host: Any) -> None:
    host.check_output("systemctl restart redis-server")
    assert ask(host, "blog", "PING") == "PONG"


def test_the_unit_is_locked_up(host: Any) -> None:
    assert host.run("systemd-analyze security --threshold=11 redis-server.service").rc == 0
