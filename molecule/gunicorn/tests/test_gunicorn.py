"""What nginx, the applications and strangers get from gunicorn."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

SCENARIO = Path(__file__).parents[1]
EPHEMERAL = Path(os.environ["EPHEMERAL"])
SHOP = {"name": "shop", "server": "wsgi", "application": "config.wsgi:application"}
BLOG = {"name": "blog", "server": "asgi", "application": "config.asgi:application"}

each_app = pytest.mark.parametrize("app", ["shop", "blog"])


class Answer(NamedTuple):
    status: int
    head: str
    body: str


def curl(app: str, path: str, *options: str) -> str:
    """The command that asks as nginx does."""
    words = " ".join(f"'{option}'" for option in options)
    return (
        f"curl -sS --max-time 60 --unix-socket /run/gunicorn-{app}.sock -H 'X-Forwarded-Proto: https' {words} "
        f"http://{app}.example.com{path}"
    )


def ask(host: Any, app: str, path: str, *options: str) -> Answer:
    text = host.check_output(curl(app, path, "--include", *options)).replace("\r", "")
    head, _, body = text.partition("\n\n")
    return Answer(int(head.split()[1]), head, body)


def status(host: Any, app: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(ask(host, app, "/status/").body)
    return answer


def live(host: Any, app: str) -> str:
    """The instance that serves, such as gunicorn-shop@a."""
    return str(host.check_output(f"readlink /run/gunicorn-{app}.sock")).removesuffix(".sock")


def unit(host: Any, app: str, key: str) -> str:
    return str(host.check_output(f"systemctl show --value --property={key} {live(host, app)}.service"))


def play(*options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the role again, for one application, with other variables."""
    command: list[str | Path] = ["ansible-playbook", "--inventory", EPHEMERAL / "inventory"]
    chosen = json.dumps({"apps": [SHOP], **variables})
    return subprocess.run(
        [*command, "--extra-vars", chosen, *options, SCENARIO / "converge.yml"],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def restored() -> Iterator[None]:
    """Put everything back to what the scenario describes."""
    yield
    assert "failed=0" in play(apps=[SHOP, BLOG]).stdout


# --- who asks ---


@each_app
def test_a_page_answers_and_a_post_writes_a_row(host: Any, app: str) -> None:
    page = ask(host, app, "/")
    assert page.status == 200
    cookie = "; ".join(re.findall(r"(?i)set-cookie: (\w+=\w+)", page.head))
    token = re.findall(r'csrfmiddlewaretoken" value="(\w+)"', page.body)[0]
    options = ("-H", f"Cookie: {cookie}", "-H", f"Referer: https://{app}.example.com/")
    fields = ("-F", f"csrfmiddlewaretoken={token}", "-F", "author=Ada", "-F", f"message=Hello {app}", "-F")
    sent = ask(host, app, "/", *options, *fields, "attachment=@/etc/hostname;filename=name.txt")
    assert sent.status == 302
    page = ask(host, app, "/", "-H", f"Cookie: {cookie}")
    assert f"Hello {app}" in page.body
    assert "attachments/" in page.body
    assert "You have been here 2 times" in page.body


def test_each_application_has_its_own_server(host: Any) -> None:
    assert ask(host, "shop", "/").head.count("Server: gunicorn\n") == 1
    assert "server: gunicorn/asgi" in ask(host, "blog", "/").head.lower()


def test_only_nginx_may_connect(host: Any) -> None:
    as_user = "setpriv --reuid={0} --regid={0} --init-groups {1}"
    assert host.run(as_user.format("www-data", curl("shop", "/"))).rc == 0
    for stranger in ("games", "blog"):
        refused = host.run(as_user.format(stranger, curl("shop", "/")))
        assert refused.rc == 7, refused.stdout + refused.stderr


def test_headers_of_a_client_change_neither_path_nor_scheme(host: Any) -> None:
    answer = ask(
        host, "shop", "/status/", "-H", "SCRIPT_NAME: /status", "-H", "PATH_INFO: /admin/", "-H", "X-Forwarded-Ssl: off"
    )
    assert (answer.status, "process" in answer.body) == (200, True)


# --- what it may do ---


@each_app
def test_it_writes_to_its_own_places_only(host: Any, app: str) -> None:
    inside = f"nsenter --mount --target {unit(host, app, 'MainPID')} -- "
    search = "find / -ignore_readdir_race -path /proc -prune -o ! -type l -writable -prune -print 2>/dev/null"
    account = f"setpriv --reuid={app} --regid={app} --init-groups "
    found = {path for path in host.run(inside + account + search).stdout.split() if not host.file(path).is_socket}
    memory = {"/dev/mqueue", "/dev/shm", "/tmp", "/var/tmp", f"/run/{live(host, app)}"}
    devices = {f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero", "ptmx", "pts/ptmx")}
    assert found - devices - memory == {f"/srv/{app}/data"}
    # And where the file system is read-only, root could not either.
    for path in ("/srv/release/x", "/srv/release/.venv/x", "/etc/x", "/run/x"):
        assert "Read-only" in host.run(f"{inside}touch {path}").stderr


@each_app
def test_the_sandbox_is_tight(host: Any, app: str) -> None:
    verdict = host.check_output(f"systemd-analyze security --no-pager {live(host, app)}.service | tail -1")
    assert float(re.findall(r"\d\.\d", verdict)[0]) <= 1.0
    assert host.run(f"systemd-analyze verify {live(host, app)}.service 2>&1").stdout == ""


def test_no_secret_is_in_sight(host: Any) -> None:
    host.check_output("test $(stat -c %a%U /etc/django/shop.env) = 600root")
    for place in (
        "systemctl show 'gunicorn-*'",
        "systemctl cat 'gunicorn-*'",
        "journalctl",
        "cat /proc/[0-9]*/cmdline",
        "cat /etc/gunicorn-*",
    ):
        assert host.run(f"{place} 2>/dev/null | grep -a 'canary-[s]hop'").rc == 1, place
    environment = f"/proc/{status(host, 'shop')['process']}/environ"
    host.check_output(f"grep -aq canary-shop {environment}")
    assert "denied" in host.run(f"setpriv --reuid=blog --regid=blog --clear-groups cat {environment}").stderr


# --- what happens to it ---


@each_app
def test_a_request_in_flight_survives_a_restart(host: Any, app: str) -> None:
    master = unit(host, app, "MainPID")
    answer = host.check_output(f"{curl(app, '/slow/3/')} & sleep 1; systemctl restart {live(host, app)}; wait")
    assert answer.startswith("slept 3 s")
    assert unit(host, app, "MainPID") != master


def under_load(host: Any, app: str, event: str) -> list[str]:
    """Ask with four clients, for two seconds before and after the event; return what each request got."""
    request = curl(app, "/status/", "-o", "/dev/null", "-w", r"%{http_code}\n")
    client = f"while [ -e /tmp/load ]; do {request} 2>&1; done"
    clients = " ".join(f"{{ {client}; }} &" for _ in range(4))
    text = host.check_output(f"touch /tmp/load; {clients} sleep 2; {event}; sleep 2; rm /tmp/load; wait")
    return str(text).splitlines()


@each_app
def test_a_restart_loses_no_request(host: Any, app: str) -> None:
    service = live(host, app)
    answers = under_load(host, app, f"systemctl restart {service}; sleep 1; systemctl restart {service}")
    assert len(answers) > 50
    assert set(answers) == {"200"}


@each_app
def test_a_killed_process_is_replaced(host: Any, app: str) -> None:
    victims = host.check_output(f"pgrep --parent {unit(host, app, 'MainPID')}").split()
    host.check_output(f"kill -9 {' '.join(victims)}")
    assert str(status(host, app)["process"]) not in victims


@each_app
def test_requests_wait_while_a_killed_gunicorn_is_started_again(host: Any, app: str) -> None:
    master = unit(host, app, "MainPID")
    # Its processes live until systemd ends them, too; what they took by then is lost.
    gone = 'timeout 30 sh -c "while ps -p $workers; do sleep 0.1; done"'
    host.check_output(f"workers=$(pgrep -d, -P {master}); kill -9 {master}; {gone}")
    assert ask(host, app, "/").status == 200
    assert unit(host, app, "MainPID") != master


@each_app
def test_an_error_of_the_application_is_in_the_journal(host: Any, app: str) -> None:
    database = f"sqlite3.connect('/srv/{app}/data/db.sqlite3')"
    change = f"python3 -c \"import sqlite3; {database}.execute('{{}}')\""
    host.check_output(change.format("ALTER TABLE guestbook_entry RENAME TO away"))
    try:
        assert ask(host, app, "/").status == 500
    finally:
        host.check_output(change.format("ALTER TABLE away RENAME TO guestbook_entry"))
    log = host.check_output(f"journalctl --unit={live(host, app)} --lines=200 --no-pager")
    assert "Traceback" in log
    assert "no such table: guestbook_entry" in log
    assert f"canary-{app}" not in log


def serve_changed(host: Any, app: str) -> None:
    host.check_output(f"touch /etc/django/{app}.env")


@pytest.mark.parametrize("app", ["shop"])
def test_a_change_is_taken_over_by_another_instance_without_a_failed_request(host: Any, app: str) -> None:
    """The clients ask on the host itself while the control node runs the play."""
    before = live(host, app)
    request = curl(app, "/status/", "-o", "/dev/null", "-w", r"%{http_code}\\n")
    slow = curl(app, "/slow/10/")
    host.check_output(
        "touch /tmp/load; for n in 1 2 3 4; do "
        f'systemd-run --quiet --collect sh -c "while [ -e /tmp/load ]; do {request} >>/tmp/answers.$n 2>&1; done"; done'
    )
    host.check_output(f'systemd-run --quiet --unit=slow sh -c "{slow} >/tmp/slow 2>&1"; sleep 1')
    try:
        serve_changed(host, app)
        assert "failed=0" in play().stdout
        after = live(host, app)
        assert after != before
        host.check_output("sleep 15")
    finally:
        host.check_output("rm -f /tmp/load; sleep 2")
    answers = host.check_output("cat /tmp/answers.*").split()
    host.check_output("rm /tmp/answers.*")
    assert len(answers) > 500
    assert set(answers) == {"200"}
    # A request that was running when the other one took over has had its answer.
    assert "slept 10 s" in host.check_output("cat /tmp/slow")
    # And then the old one is down, and stays down.
    assert host.run(f"systemctl is-active {before}.service {before}.socket").stdout.split() == ["inactive"] * 2
    assert host.run(f"systemctl is-enabled {before}.service {before}.socket").stdout.split() == ["disabled"] * 2
    assert "changed=0" in play().stdout


def test_a_broken_application_fails_the_play_and_the_instance_that_serves_goes_on(host: Any) -> None:
    before, master = live(host, "shop"), unit(host, "shop", "MainPID")
    for _ in range(2):  # a second run must not be taken in
        broken = play(apps=[{**SHOP, "application": "config.nowhere:application"}], gunicorn_start_timeout=15)
        assert "failed=1" in broken.stdout
        text = " ".join((broken.stdout + broken.stderr).split())
        assert "shop (config.nowhere:application) does not answer" in text
        assert "The instance that served before goes on." in text
        assert "ModuleNotFoundError: No module named 'config.nowhere'" in text
        assert "canary" not in broken.stdout + broken.stderr
        assert (live(host, "shop"), unit(host, "shop", "MainPID")) == (before, master)
        assert ask(host, "shop", "/").status == 200
    left = "systemctl list-units --plain --no-legend 'gunicorn-shop@*.service' | wc -l"
    # systemd may take a moment to forget the other one.
    assert host.run(f"for second in $(seq 20); do [ $({left}) = 1 ] && exit 0; sleep 1; done; exit 1").rc == 0
    assert "changed=0" in play().stdout


def test_an_application_that_answers_only_errors_never_gets_a_visitor(host: Any, restored: None) -> None:
    del restored
    before = live(host, "shop")
    host.check_output(
        "cp /etc/django/shop.env /root/shop.env; sed -i 's#shop/data/db#shop/data/none/db#' /etc/django/shop.env"
    )
    try:
        broken = play(gunicorn_start_timeout=8)
        assert "failed=1" in broken.stdout
        assert "answers 503 database default: OperationalError" in broken.stdout + broken.stderr
        assert live(host, "shop") == before
        assert ask(host, "shop", "/").status == 200
    finally:
        host.check_output("cp --preserve /root/shop.env /etc/django/shop.env; rm /root/shop.env")


# --- what an operator sees ---


def test_drift_is_named_and_repaired(host: Any) -> None:
    service = live(host, "shop")
    host.check_output(f"systemctl disable --now {service}.socket {service}.service")
    check = play("--check", "--diff")
    assert "failed=0" in check.stdout
    assert "changed=0" not in check.stdout
    assert "failed=0" in play().stdout
    assert ask(host, "shop", "/").status == 200
    host.check_output(f"systemctl is-enabled {live(host, 'shop')}.socket {live(host, 'shop')}.service")

    host.check_output(f"sed -i s/threads/threads_/ /etc/{live(host, 'shop')}.conf.py")
    check = play("--check", "--diff")
    assert "-threads_ = 4" in check.stdout
    assert "failed=0" in play().stdout
    assert "changed=0" in play().stdout


def test_a_run_that_was_killed_is_finished_by_the_next(host: Any) -> None:
    # After a new link to the code.
    before = live(host, "shop")
    host.check_output("ln -sfn /srv/release /srv/shop/current")
    assert "failed=0" in play().stdout
    assert live(host, "shop") != before
    # Between the start of one instance and the end of the other.
    host.check_output(
        f"while systemctl is-active {before}.service; do sleep 1; done; systemctl enable --now {before}.service"
    )
    assert live(host, "shop") == before
    left = {"gunicorn-shop@a", "gunicorn-shop@b"} - {before}
    assert "failed=0" in play().stdout
    host.check_output(f"timeout 30 sh -c 'while systemctl is-active {left.pop()}.service; do sleep 1; done'")
    assert "changed=0" in play().stdout


def test_servers_below_a_path_are_beside_it_until_they_are_no_longer_listed(host: Any) -> None:
    of_shop = {
        "gunicorn_user": "shop",
        "gunicorn_directory": "/srv/shop/current",
        "gunicorn_virtualenv": "/srv/shop/current/.venv",
        "gunicorn_environment_files": ["/etc/django/shop.env"],
        "gunicorn_writable_paths": ["/srv/shop/data"],
        "gunicorn_health_host": "shop.example.com",
        "gunicorn_script_name": "/below",
    }
    started = play(apps=[{**SHOP, "name": "shop-feed"}, {**BLOG, "name": "shop-old"}], **of_shop)
    assert "failed=0" in started.stdout
    for name in ("shop-feed", "shop-old"):
        page = ask(host, name, "/below/", "-H", "Host: shop.example.com")
        assert page.status == 200
        assert set(re.findall(r'<a href="(/\w*)', page.body.partition("<main>")[0])) == {"/below"}
    old = live(host, "shop-old")
    check = play("--check", "--diff", gunicorn_siblings=["shop-feed"])
    assert f"/etc/systemd/system/{old}.service" in check.stdout
    assert host.service(old).is_running
    assert "failed=0" in play(gunicorn_siblings=["shop-feed"]).stdout
    assert not host.service(old).is_running
    assert host.check_output("find /etc /run -name '*shop-old*'") == ""
    assert host.service(live(host, "shop-feed")).is_running
    assert "changed=0" in play().stdout
    assert "failed=0" in play(gunicorn_siblings=[]).stdout
    assert host.check_output("find /etc /run -name '*shop-feed*'") == ""
    assert host.service(live(host, "shop")).is_running


def test_another_group_gets_the_socket(host: Any, restored: None) -> None:
    del restored
    assert "failed=0" in play(gunicorn_socket_group="users").stdout
    assert host.file("/run/gunicorn-shop.sock").group == "users"
    assert ask(host, "shop", "/").status == 200
    assert "changed=0" in play(gunicorn_socket_group="users").stdout


def test_mistakes_are_named_before_the_server_is_touched() -> None:
    wrong: dict[str, Any] = {
        "gunicorn_name": "Shop",
        "gunicorn_application": "config.wsgi",
        "gunicorn_timeout": 0,
        "gunicorn_watched_paths": ["/srv/my shop"],
    }
    run = play(**wrong)
    text = " ".join((run.stdout + run.stderr).split())
    assert "changed=0" in text
    for mistake in (
        "gunicorn_name (Shop)",
        "gunicorn_application (config.wsgi)",
        "gunicorn_timeout (0)",
        "/srv/my shop",
    ):
        assert mistake in text


# --- health ---


@each_app
def test_it_says_whether_its_cache_answers_and_goes_on_without(host: Any, app: str) -> None:
    well = ask(host, app, "/-/health", "-H", "Host: nobody-knows.example.org")
    assert (well.status, well.body.strip()) == (200, "well")
    host.check_output("systemctl stop redis-server")
    try:
        unwell = ask(host, app, "/-/health")
        assert (unwell.status, unwell.body.strip()) == (503, "cache default: ConnectionError")
        # It has served before, so it comes back with what it has.
        host.check_output(f"systemctl restart {live(host, app)}.service")
        assert ask(host, app, "/").status == 200
    finally:
        host.check_output("systemctl start redis-server")
    assert ask(host, app, "/-/health").status == 200


# --- open connections ---


@pytest.mark.usefixtures("restored")
def test_what_is_open_ends_in_order_when_the_other_instance_takes_over(host: Any) -> None:
    host.check_output(f"cat > /srv/release/streams.py <<'END'\n{STREAMS}\nEND")
    streams = {**BLOG, "application": "streams:application"}
    assert "failed=0" in play(apps=[streams], gunicorn_graceful_timeout=8).stdout
    before = live(host, "blog")
    host.check_output(f"cat > /run/visitor.py <<'END'\n{VISITOR}\nEND")
    command = "python3 /run/visitor.py /run/gunicorn-blog.sock /run/visits.json"
    host.check_output(f"systemd-run --quiet --unit=visitor --property=RemainAfterExit=yes {command}")
    assert "failed=0" in play(apps=[streams], gunicorn_graceful_timeout=9).stdout
    taken_over = float(host.check_output("date +%s"))
    assert live(host, "blog") != before
    wait = "for second in $(seq 60); do systemctl is-active --quiet {0} || exit 0; sleep 0.5; done; exit 1"
    assert host.run(wait.format(f"{before}.service")).rc == 0
    host.check_output("while [ ! -e /run/visits.json ]; do sleep 0.2; done; systemctl stop visitor")
    ends = json.loads(host.check_output("cat /run/visits.json"))
    # The WebSocket is told; the answer that can be finished is; the one that never ends is cut after the time for that.
    assert ends["socket"]["said"] == "closed with 1001"
    assert ends["answer"]["said"] == "complete"
    assert ends["endless"]["said"] == "cut"
    assert max(end["at"] for end in ends.values()) < taken_over + 5 + 8 + 2
    host.check_output("rm /srv/release/streams.py /run/visitor.py /run/visits.json")


STREAMS = """
import asyncio

async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for tick in range({"/answer": 60, "/endless": 10000}.get(scope["path"], 0)):
        await send({"type": "http.response.body", "body": b"tick", "more_body": True})
        await asyncio.sleep(0.2)
    await send({"type": "http.response.body", "body": b"end"})
"""

VISITOR = """
import json, socket, sys, threading, time

ends = {}

def visit(name, headers=""):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    connection.sendall(f"GET /{name} HTTP/1.1\\r\\nHost: blog.example.com\\r\\n{headers}\\r\\n".encode())
    heard = b""
    while part := connection.recv(4096):
        heard += part
        if part.startswith(b"\\x88"):
            connection.sendall(b"\\x88\\x82\\0\\0\\0\\0" + part[2:4])
            said = f"closed with {int.from_bytes(part[2:4], 'big')}"
            break
        if heard.endswith(b"0\\r\\n\\r\\n"):
            said = "complete"
            break
    else:
        said = "cut"
    ends[name] = {"said": said, "at": time.time()}

upgrade = "Connection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n"
upgrade += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n"
visitors = [threading.Thread(target=visit, args=args) for args in (("socket", upgrade), ("answer",), ("endless",))]
for visitor in visitors:
    visitor.start()
for visitor in visitors:
    visitor.join()
with open(sys.argv[2], "w") as file:
    json.dump(ends, file)
"""
