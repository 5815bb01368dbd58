"""What a reader gets who does what the guides tell."""

from __future__ import annotations

import base64
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from guides import BY_HAND, Guide, guides, play, written

ROOT = Path(__file__).resolve().parents[3]
FOLDER = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "guides"
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from browser import Browser  # shared by the scenarios, not installed

GUIDES = guides()
Visit = Callable[[str], Browser]


@pytest.fixture
def visit(host: Any) -> Visit:
    address = dict(host.ansible.get_variables())["ansible_host"]

    def open_site(app: str) -> Browser:
        return Browser(f"{app}.example.com", address, host.check_output(f"cat /etc/nginx/tls/{app}.crt"))

    return open_site


def log_in(host: Any, site: Browser, app: str) -> Any:
    """Make an account as the guide says, and use it."""
    account = f"--username ada --email ada@{app}.example.com"
    host.run(f"{app}-manage createsuperuser --noinput {account}")
    host.check_output(
        f"{app}-manage shell <<'END'\n"
        "from django.contrib.auth import get_user_model as model\n"
        "ada = model().objects.get(username='ada')\nada.set_password('reader-password')\nada.save()\nEND"
    )
    answer = site.post("/admin/login/?next=/admin/", {"username": "ada", "password": "reader-password"})
    assert answer.status == 302, answer.text[:2000]
    return site.get("/admin/")


def first_static_file(site: Browser, path: str) -> Any:
    name = re.search(r'(?:href|src)="(/static/[^"]+\.[0-9a-f]{12}\.(?:css|js))"', site.get(path).text)
    assert name, f"{path} names no static file with a hash"
    answer = site.get(name.group(1))
    assert answer.status == 200
    assert "immutable" in answer.headers["Cache-Control"]
    return answer


# --- What the pages say -------------------------------------------------------


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.name)
def test_init_writes_the_inventory_of_the_page(guide: Guide) -> None:
    name, app = guide.app
    variables = written(guide, FOLDER)
    described = variables.pop("django_apps")[name]
    assert described.pop("source") == str(FOLDER / guide.name / app["source"])
    assert described.pop("certificate") == {"mode": "selfsigned"}
    known = {key: value for key, value in app.items() if key not in {"source", *BY_HAND.get(guide.name, set())}}
    assert described == known
    assert {"ansible_user": "root", "django_apps": guide.variables["django_apps"], **variables} == guide.variables
    hosts = yaml.safe_load((FOLDER / guide.name / "written/inventory.yml").read_text())["all"]["hosts"]
    assert list(hosts) == list(yaml.safe_load(dict(guide.blocks)["inventory.yml"])["all"]["hosts"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("domain=Shop.example.com source=.", "did you mean shop.example.com?"),
        (
            "domain=shop.example.com source=https://me:canary@localhost:1/x.git",
            "https://localhost:1/x.git cannot be read",
        ),
    ],
    ids=["domain", "source"],
)
def test_init_says_what_is_wrong_and_writes_nothing(tmp_path: Path, asked: str, message: str) -> None:
    done = play("groundwork.django.init", *(f"-e{word}" for word in asked.split()), cwd=tmp_path)
    assert done.returncode == 2
    said = done.stdout + done.stderr
    assert message in said
    assert [word for word in ("Traceback", "canary") if word in said] == []
    assert list(tmp_path.iterdir()) == []


def test_every_page_is_tested_here() -> None:
    tests = Path(__file__).read_text()
    assert [guide.name for guide in GUIDES if f"\ndef test_{guide.name.replace('-', '_')}_" not in tests] == []


# --- Each site ----------------------------------------------------------------


def test_startproject_has_an_admin_and_no_other_page(host: Any, visit: Visit) -> None:
    site = visit("mysite")
    assert site.get("/").status == 404
    first_static_file(site, "/admin/login/")
    assert "Site administration" in log_in(host, site, "mysite").text


def test_environment_reaches_the_project_by_all_names(host: Any, visit: Visit) -> None:
    site = visit("notes")
    assert "Good morning! You have been here 1 times." in site.get("/").text
    assert "Good morning! You have been here 2 times." in site.get("/").text
    assert b"serif" in first_static_file(site, "/").body
    assert "Site administration" in log_in(host, site, "notes").text
    engine = "from django.conf import settings as s; print(s.DATABASES['default']['ENGINE'], s.SECRET_KEY[:4] != '')"
    assert "postgresql True" in host.check_output(f'notes-manage shell --verbosity 0 --command "{engine}"')


def test_environment_that_lacks_a_variable_ends_the_deployment(host: Any, tmp_path: Path) -> None:
    variables = yaml.safe_load((FOLDER / "variables.yml").read_text())
    del variables["django_apps"]["notes"]["env"]
    (tmp_path / "variables.yml").write_text(yaml.safe_dump(variables))
    inventory = str(FOLDER.parent / "inventory")
    done = play(
        "groundwork.django.deploy",
        "-i",
        inventory,
        "-e",
        f"@{tmp_path}/variables.yml",
        "-e",
        "django_only=notes",
        cwd=tmp_path,
    )
    assert done.returncode == 2, done.stdout
    assert "GREETING" in done.stdout + done.stderr
    assert host.run("systemctl is-failed 'gunicorn-notes@*'").rc != 0


def test_file_configured_project_gets_its_file(host: Any, visit: Visit) -> None:
    site = visit("wiki")
    assert "All that we know" in site.get("/").text
    assert b"serif" in first_static_file(site, "/").body
    assert "Site administration" in log_in(host, site, "wiki").text
    assert (
        host.run("setpriv --reuid=jobs --regid=jobs --init-groups cat /srv/wiki/current/config/local_settings.py").rc
        != 0
    )


class WebSocket:
    """As much of RFC 6455 as a test needs."""

    def __init__(self, site: Browser, path: str, origin: str) -> None:
        plain = socket.create_connection((site.address, 443), timeout=15)
        self.connection = site.trust.wrap_socket(plain, server_hostname=site.domain)
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        self.connection.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {site.domain}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nOrigin: {origin}\r\n\r\n".encode()
        )
        self.stream = self.connection.makefile("rb")
        self.status = int(self.stream.readline().split()[1])
        while self.stream.readline().strip():
            pass

    def say(self, text: str) -> None:
        mask, data = secrets.token_bytes(4), text.encode()
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        self.connection.sendall(bytes([0x81, 0x80 | len(data)]) + mask + masked)

    def hear(self) -> str:
        _kind, size = self.stream.read(2)
        return self.stream.read(size).decode()

    def close(self) -> None:
        self.stream.close()
        self.connection.close()


def test_channels_bring_what_one_says_to_all_others(visit: Visit) -> None:
    site = visit("chat")
    assert b"WebSocket" in first_static_file(site, "/").body
    # So many that they are in different processes.
    everybody = [WebSocket(site, "/ws/chat/", "https://chat.example.com") for _ in range(8)]
    try:
        assert {visitor.status for visitor in everybody} == {101}
        for speaker in (everybody[0], everybody[-1]):
            text = secrets.token_hex(8)
            speaker.say(text)
            assert [visitor.hear() for visitor in everybody] == [text] * 8
    finally:
        for visitor in everybody:
            visitor.close()


def test_channels_are_closed_to_pages_of_other_sites(visit: Visit) -> None:
    stranger = WebSocket(visit("chat"), "/ws/chat/", "https://evil.example.net")
    stranger.close()
    assert stranger.status == 403


def test_celery_runs_a_task_in_the_worker_and_gives_back_its_result(host: Any, visit: Visit) -> None:
    site = visit("jobs")
    assert b"serif" in first_static_file(site, "/").body
    answer = site.post("/", {"text": "as many words as this"})
    assert answer.status == 302
    task = answer.headers["Location"]
    assert wait_for(lambda: "5 words" in site.get(task).text), site.get(task).text
    worker = host.check_output("journalctl --output cat -t django-jobs-celery")
    assert f"Task words.tasks.count[{task.partition('=')[2]}] succeeded" in worker


def test_celery_gets_a_task_from_beat_every_ten_seconds(visit: Visit) -> None:
    def ticks() -> int:
        found = re.search(r"(\d+) ticks", visit("jobs").get("/").text)
        assert found
        return int(found.group(1))

    before = ticks()
    assert wait_for(lambda: ticks() > before + 1, seconds=40)


def wait_for(come_true: Callable[[], bool], seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while not come_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def test_wagtail_welcomes_visitors_and_editors(host: Any, visit: Visit) -> None:
    site = visit("cms")
    assert "Welcome to your new Wagtail site!" in site.get("/").text
    first_static_file(site, "/")
    assert "Dashboard" in log_in(host, site, "cms").text


def test_nothing_failed(host: Any) -> None:
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""
