"""One site on five hosts: what belongs together finds each other, strangers find nothing, and a host may go."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testinfra

ROOT = Path(__file__).resolve().parents[3]
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PROJECT = EPHEMERAL / "project"
BED = f"fleet-{hashlib.sha1(str(EPHEMERAL).encode(), usedforsecurity=False).hexdigest()[:6]}"
TESTBED = [sys.executable, str(ROOT / "molecule/shared/testbed.py")]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from load import VISITORS, Traffic  # shared by the scenarios, not installed

DOMAIN = "guestbook.test"
RATE = 100
APPS = ("app1", "app2")
testinfra_hosts = ["ansible://web1"]


def server(name: str) -> Any:
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=str(EPHEMERAL / "inventory"))


def address(name: str) -> str:
    return str(server(name).ansible.get_variables()["ansible_host"])


def play(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["ansible-playbook", "--inventory", str(EPHEMERAL / "inventory"), f"groundwork.django.{name}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def add(path: str, line: str) -> None:
    with (PROJECT / path).open("a") as file:
        file.write(f"{line}\n")


def record(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server(name).check_output("cat /srv/guestbook/deployments.log").splitlines()]


def ask(path: str, *options: str) -> str:
    """What visitors get, asked from the control node."""
    place = f"{DOMAIN}:443:{address('web1')}"
    command = ["curl", "-sk", "--max-time", "10", "--resolve", place, *options, f"https://{DOMAIN}{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def reaches(who: str, whom: str, port: int) -> bool:
    connect = f"import socket; socket.create_connection(('{address(whom)}', {port}), timeout=2)"
    return bool(server(who).run(f'python3 -c "{connect}"').rc == 0)


@pytest.fixture(scope="module")
def traffic(host: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Traffic]:
    certificate = Path(tmp_path_factory.mktemp("trust") / "certificate.pem")
    certificate.write_text(host.check_output("cat /etc/nginx/tls/guestbook.crt"))
    return lambda: Traffic(DOMAIN, address("web1"), certificate, RATE, again=True)


def test_visitors_get_pages_and_files_and_both_app_hosts_answer() -> None:
    page = ask("/")
    style = page.split('rel="stylesheet" href="', 1)[1].split('"', 1)[0]
    assert ask(style, "-o", "/dev/null", "-w", "%{http_code}") == "200"
    answered = {json.loads(ask("/status/"))["host"] for _ in range(10)}
    assert answered == set(APPS)


def test_an_upload_is_there_whichever_host_took_it() -> None:
    server("app1").check_output("runuser -u guestbook -- sh -c 'echo hello > /srv/guestbook/media/note.txt'")
    for _ in range(4):
        assert ask("/media/note.txt").strip() == "hello"


def test_only_those_who_need_a_service_reach_it() -> None:
    assert reaches("app2", "db1", 5432)
    assert reaches("app2", "cache1", 6379)
    assert reaches("web1", "app2", 8443)
    for who, whom, port in (
        ("web1", "db1", 5432),
        ("web1", "cache1", 6379),
        ("db1", "app1", 8443),
        ("db1", "app1", 443),
    ):
        assert not reaches(who, whom, port), (who, whom, port)


def test_who_has_no_certificate_is_refused_also_on_a_host_that_may_connect() -> None:
    python = "/srv/guestbook/current/.venv/bin/python"
    database = (
        f"import psycopg; psycopg.connect(host='{address('db1')}', user='guestbook', password='x', sslmode='require')"
    )
    cache = f"import redis; redis.Redis(host='{address('cache1')}', ssl=True, ssl_cert_reqs='none').ping()"
    for attempt in (database, cache):
        said = server("app1").run(f'{python} -c "{attempt}"').stderr
        assert "certificate required" in said or "requires a valid client certificate" in said, said
    answer = server("web1").run(f"curl -sk -o /dev/null -w '%{{http_code}}' https://{address('app1')}:8443/")
    assert answer.stdout in ("000", "400")


def test_what_is_to_run_once_runs_on_one_host() -> None:
    for name, running in (("app1", True), ("app2", False)):
        assert server(name).service("django-guestbook-beat").is_running is running
        assert server(name).service("django-guestbook-tasks").is_running
        assert server(name).service("django-guestbook-clearsessions.timer").is_running is running


def test_a_rolling_deployment_loses_no_request(traffic: Any) -> None:
    add("guestbook/views.py", "# another version")
    with traffic() as visitors:
        time.sleep(3)
        done = play("deploy")
        time.sleep(8)
    assert done.returncode == 0, done.stdout
    first, second = record("app1")[-1], record("app2")[-1]
    assert (first["outcome"], second["outcome"]) == ("online", "online")
    assert first["to"] == second["to"]
    assert visitors.failures == []
    assert visitors.rate > RATE * 0.8
    assert {answer.release for answer in visitors.answers[-50:]} - {""} == {first["to"]}


def test_a_release_that_fails_on_the_first_host_never_serves_on_the_second() -> None:
    before = record("app2")
    add("config/wsgi.py", "import no_such_module_of_ours")
    try:
        assert play("deploy").returncode != 0
    finally:
        wsgi = PROJECT / "config/wsgi.py"
        wsgi.write_text(wsgi.read_text().replace("import no_such_module_of_ours\n", ""))
    assert record("app1")[-1]["outcome"] == "failed"
    assert [one for one in record("app2") if one["outcome"] == "online"][-1] == before[-1]
    assert before[-1]["to"] in ask("/status/")


def test_an_app_host_that_loses_its_power_costs_only_what_was_under_way_on_it(traffic: Any) -> None:
    with traffic() as visitors:
        time.sleep(3)
        subprocess.run([*TESTBED, "reboot", BED, "app2", "--power-loss", "--off", "10"], check=True)
        time.sleep(10)
    print(len(visitors.failures), visitors.failures[:3])
    assert len(visitors.failures) <= VISITORS
    assert visitors.rate > RATE * 0.8


def test_a_new_empty_host_in_its_place_needs_only_site() -> None:
    subprocess.run([*TESTBED, "reboot", BED, "app2", "--new-disk"], check=True)
    mount = "mkdir -p /srv/guestbook/media && mount --bind /mnt/shared /srv/guestbook/media"
    server("app2").check_output(mount)
    done = play("site")
    assert done.returncode == 0, done.stdout[-4000:]
    answered = {json.loads(ask("/status/"))["host"] for _ in range(10)}
    assert answered == set(APPS)
    again = play("site")
    assert "changed=0" in again.stdout.split("PLAY RECAP")[1]
    assert "changed=1" not in again.stdout.split("PLAY RECAP")[1]


def test_verify_finds_nothing_wrong_and_names_each_host() -> None:
    done = play("verify", "--check")
    assert done.returncode == 0, done.stdout[-4000:]
    assert "differs from the inventory: nowhere" in done.stdout
