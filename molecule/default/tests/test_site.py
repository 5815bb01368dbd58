"""What visitors, neighbours and strangers get from a server that site.yml converged."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from browser import Browser  # shared by the scenarios, not installed

GUESTBOOK = "guestbook.test"
ACCOUNT = """\
from django.contrib.auth import get_user_model
ada, _ = get_user_model().objects.get_or_create(username="ada", is_staff=True, is_superuser=True)
ada.set_password("visitor-password")
ada.save()
"""
# How much longer an operation may take without the cache, and how many a page of the demo needs at the most.
CACHE_PENALTY, CACHE_OPERATIONS = 0.5, 6


def variables(host: Any) -> dict[str, Any]:
    return dict(host.ansible.get_variables())


def visitor(host: Any, app: str, domain: str) -> Browser:
    certificate = host.check_output(f"cat /etc/nginx/tls/{app}.crt")
    return Browser(domain, variables(host)["ansible_host"], certificate)


@pytest.fixture
def guest(host: Any) -> Browser:
    return visitor(host, "guestbook", GUESTBOOK)


def wait_for_page(guest: Browser, seconds: float) -> float:
    started = time.monotonic()
    while guest.get("/").status != 200:
        assert time.monotonic() - started < seconds, "the site did not come back by itself"
        time.sleep(0.2)
    return time.monotonic() - started


def visits(guest: Browser, path: str = "") -> int:
    found = re.search(r"You have been here (\d+) time", guest.get(f"{path}/").text)
    assert found
    return int(found.group(1))


def sign(guest: Browser, **upload: Any) -> str:
    message = f"message {secrets.token_hex(8)}"
    answer = guest.post("/", {"author": "Ada", "message": message}, **upload)
    assert answer.status == 302, answer.text[:2000]
    return message


def log_in(host: Any, guest: Browser, app: str = "guestbook", path: str = "") -> None:
    host.check_output(f"{app}-manage shell <<'END'\n{ACCOUNT}END")
    account = {"username": "ada", "password": "visitor-password"}
    answer = guest.post(f"{path}/admin/login/?next={path}/admin/", account)
    assert (answer.status, answer.headers["Location"]) == (302, f"{path}/admin/"), answer.text[:2000]


def test_every_app_answers_over_https(host: Any) -> None:
    apps = variables(host)["django_apps"]
    for name, app in apps.items():
        # The certificate is that of the app whose path is the first of the domain.
        beside = [other for other in apps if apps[other]["domains"] == app["domains"]]
        owner = min(beside, key=lambda other: apps[other].get("path", ""))
        answer = visitor(host, owner, app["domains"][0]).get(f"{app.get('path', '')}/")
        assert answer.status == 200, f"{name}: {answer.text[:2000]}"


def test_plain_http_leads_to_https(host: Any) -> None:
    with socket.create_connection((variables(host)["ansible_host"], 80), timeout=5) as connection:
        connection.sendall(f"GET /a?b=c HTTP/1.1\r\nHost: {GUESTBOOK}\r\n\r\n".encode())
        head = connection.recv(4096).decode()
    assert f"Location: https://{GUESTBOOK}/a?b=c" in head


def test_an_unknown_host_gets_no_answer(host: Any) -> None:
    address = variables(host)["ansible_host"]
    with socket.create_connection((address, 80), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: stranger.test\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(4096) == b""
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, 443), timeout=5) as connection, pytest.raises(ssl.SSLError):
        anybody.wrap_socket(connection, server_hostname="stranger.test")


def test_a_post_writes_a_row_through_the_pool(guest: Browser) -> None:
    status = guest.get("/status/").text
    assert '"database": "postgresql"' in status
    assert "/run/pgbouncer" in status
    assert sign(guest) in guest.get("/").text


def test_no_part_of_the_site_runs_in_debug_mode(guest: Browser) -> None:
    assert '"debug": false' in guest.get("/status/").text
    assert "Traceback" not in guest.get("/no/such/page").text


def test_a_session_survives_a_restart_of_the_app(host: Any, guest: Browser) -> None:
    assert [visits(guest), visits(guest)] == [1, 2]
    host.check_output("systemctl restart 'gunicorn-guestbook@*.service'")
    assert visits(guest) == 3


def test_cookies_are_for_https_only(guest: Browser) -> None:
    cookies = guest.get("/").headers.get_all("Set-Cookie")
    assert cookies
    assert all("Secure" in cookie and "SameSite" in cookie for cookie in cookies)


def test_static_files_have_hashed_names_and_are_kept_for_good(guest: Browser) -> None:
    path = re.search(r'href="(/static/[^"]+\.[0-9a-f]{12}\.css)"', guest.get("/").text)
    assert path
    answer = guest.ask("GET", path.group(1), headers={"Accept-Encoding": "gzip"})
    assert answer.status == 200
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Content-Encoding"] == "gzip"


@pytest.mark.parametrize("name", ["run.php", "run.py", "run.html", "run.svg"])
def test_an_upload_is_never_run_or_shown_as_code(guest: Browser, name: str) -> None:
    sign(guest, upload=("attachment", name, b"<?php echo 6*7; ?><script>alert(1)</script>"))
    extension = name.removeprefix("run.")
    path = re.search(rf'href="(/media/[^"]*run[^"]*\.{extension})"', guest.get("/").text)
    assert path
    answer = guest.get(path.group(1))
    assert answer.status == 200
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert b"<?php" in answer.body


def test_an_uploaded_picture_is_shown(guest: Browser) -> None:
    picture = bytes.fromhex("89504e470d0a1a0a0000000d49484452")
    sign(guest, upload=("attachment", "picture.png", picture))
    path = re.search(r'href="(/media/[^"]*picture[^"]*\.png)"', guest.get("/").text)
    assert path
    answer = guest.get(path.group(1))
    assert (answer.body, answer.headers["Content-Type"]) == (picture, "image/png")
    assert "attachment" not in answer.headers.get("Content-Disposition", "")


@pytest.mark.parametrize(
    ("fail", "recover"),
    [("stop", "start"), ("kill --signal=STOP", "kill --signal=CONT")],
    ids=["stopped", "frozen"],
)
def test_without_redis_the_site_is_slower_but_there_and_logins_are_kept(
    host: Any, guest: Browser, fail: str, recover: str
) -> None:
    log_in(host, guest)
    usual = guest.get("/admin/").seconds
    host.check_output(f"systemctl {fail} redis-server")
    try:
        answer = guest.get("/admin/")
        assert "Log out" in answer.text
        assert answer.seconds - usual <= CACHE_OPERATIONS * CACHE_PENALTY
        assert sign(guest) in guest.get("/").text
    finally:
        host.check_output(f"systemctl {recover} redis-server")


def test_a_restart_of_postgresql_needs_no_restart_of_the_app(host: Any, guest: Browser) -> None:
    master = "systemctl show --value --property=MainPID 'gunicorn-guestbook@*.service'"
    pid = host.check_output(master)
    host.check_output("systemctl restart 'postgresql@*-main.service'")
    wait_for_page(guest, seconds=15)
    assert host.check_output(master) == pid


def test_nothing_but_ssh_and_the_web_listens_on_a_public_address(host: Any) -> None:
    listeners = [line.split()[4] for line in host.check_output("ss -Htuln").splitlines()]
    public = {address for address in listeners if not address.startswith(("127.", "[::1]"))}
    assert {address.rsplit(":", 1)[1] for address in public} == {"22", "80", "443"}


def test_the_account_of_an_app_can_write_only_what_it_keeps(host: Any) -> None:
    find = "find / -xdev -path /proc -prune -o -path /sys -prune -o ! -type l -writable -print"
    writable = host.run(f"setpriv --reuid=guestbook --regid=guestbook --init-groups {find}").stdout.splitlines()
    allowed = ("/srv/guestbook/media", "/srv/guestbook/protected", "/var/lib/django/guestbook", "/tmp", "/var/tmp")
    assert [path for path in writable if not path.startswith(allowed)] == []
    assert any(path.startswith("/srv/guestbook/media") for path in writable)


def test_an_app_cannot_read_what_belongs_to_its_neighbour(host: Any) -> None:
    names = list(variables(host)["django_apps"])
    one, other = names[0], names[1]
    as_one = f"setpriv --reuid={one} --regid={one} --init-groups"
    assert host.run(f"{as_one} cat /etc/django/{other}.env").rc != 0
    assert host.run(f"{as_one} cat /etc/django/{one}.env").rc != 0  # systemd reads it, not the account
    environment = stored_secrets()["apps"]
    password = environment[one]["database_password"]
    refused = host.run(f"PGPASSWORD={password} {as_one} psql -h /run/postgresql -U {one} {other} -c 'SELECT 1'")
    assert refused.rc != 0
    assert "SELECT" not in refused.stdout
    key = environment[one]["redis_password"]
    login = f"REDISCLI_AUTH={key} redis-cli -s /run/redis/redis-server.sock --user {one} --no-auth-warning"
    assert "NOPERM" in host.run(f"{as_one} env {login} GET {other}:1:x").stdout


def stored_secrets() -> dict[str, Any]:
    found = EPHEMERAL / "django_secrets.yml"
    assert found.stat().st_mode & 0o777 == 0o600
    stored: dict[str, Any] = yaml.safe_load(found.read_text())["django_secrets"]
    return stored


def all_secrets() -> list[str]:
    stored = stored_secrets()
    return [stored["backups_encryption_key"], *(value for app in stored["apps"].values() for value in app.values())]


def test_no_secret_is_in_a_process_list_a_log_or_a_file_for_everybody(host: Any) -> None:
    patterns = "\n".join(all_secrets())
    host.run(f"umask 077; cat > /root/canaries <<'END'\n{patterns}\nEND")
    places = {
        "the journal": "journalctl --no-pager | grep -cFf /root/canaries",
        "the process list": "ps axww -o args | grep -v grep | grep -cFf /root/canaries",
        "logs": "grep -rlFf /root/canaries /var/log",
        "unit properties": "systemctl show '*' | grep -cFf /root/canaries",
        "files that nobody may read": "setpriv --reuid=nobody --regid=nogroup --clear-groups grep -rlsIF -f - "
        "/etc /srv /var /opt /usr/local /home /tmp </root/canaries",
    }
    try:
        for place, command in places.items():
            found = host.run(command).stdout.strip()
            assert found in ("", "0"), f"{place}: {found}"
    finally:
        host.run("rm /root/canaries")


def play(*words: str, playbook: str = "groundwork.django.site") -> subprocess.CompletedProcess[str]:
    """Run a playbook against the converged host, as its administrator would."""
    inventory = str(EPHEMERAL / "inventory")
    collections = ROOT / ".cache" / "collections"
    return subprocess.run(
        ["ansible-playbook", "--inventory", inventory, *words, playbook],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_PIPELINING": "true"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.once
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domain": ["other.test"]}, "unknown key 'domain'; did you mean domains?"),
        (
            {"source": "https://localhost:1/nothing.git", "version": "v1"},
            "git cannot read https://localhost:1/nothing.git",
        ),
        ({"certificate": {"mode": "files", "key": "/no.pem"}}, "certificate.certificate: is required"),
    ],
)
def test_a_mistake_is_named_before_the_server_is_touched(host: Any, change: dict[str, Any], message: str) -> None:
    apps = {"guestbook": {**variables(host)["django_apps"]["guestbook"], **change}}
    done = play("--extra-vars", json.dumps({"django_apps": apps}))
    assert done.returncode == 2
    assert message in done.stdout + done.stderr
    assert "TASK [Gather" not in done.stdout


def test_scheduled_commands_run(host: Any) -> None:
    assert "django-guestbook-clearsessions.timer" in host.check_output("systemctl list-timers --all --no-legend")
    host.check_output("systemctl start django-guestbook-clearsessions.service")


def test_manage_has_the_account_and_the_environment_of_the_service(host: Any) -> None:
    answer = host.check_output("guestbook-manage check --deploy --fail-level ERROR 2>&1")
    assert "ERROR" not in answer


def test_a_first_backup_is_there_or_under_way(host: Any) -> None:
    for _attempt in range(60):
        if '"type":"full"' in host.run("runuser -u postgres -- pgbackrest info --output=json").stdout:
            return
        time.sleep(1)
    pytest.fail(host.run("systemctl status 'backups*' --no-pager; journalctl -u 'backups*' --no-pager").stdout)


def test_nothing_failed(host: Any) -> None:
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""
