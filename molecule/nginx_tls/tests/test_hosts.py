"""What visitors get of an application that is on two hosts, when one of them goes, and what strangers get of those."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import testinfra
from visitor import Answer, connect, fetch, seen, talk

testinfra_hosts = ["web1"]
SCENARIO = Path(__file__).parents[1]
EPHEMERAL = Path(os.environ["EPHEMERAL"])
FAR = "far.example.com"
FILES = "/etc/internal-tls"
# Where one that does not answer is tried again.
BACK_SECONDS = 10


@pytest.fixture(scope="module")
def app() -> Any:
    return testinfra.get_host("ansible://app1", ansible_inventory=str(EPHEMERAL / "inventory"))


def address_of(host: Any) -> str:
    return str(host.check_output("hostname -I")).split()[0]


@pytest.fixture(scope="module")
def address(host: Any) -> str:
    return address_of(host)


def get(host: Any, path: str, *options: str) -> Answer:
    return fetch(host, f"https://{FAR}{path}", *options, authority="far.crt")


def statuses(host: Any, times: int, *options: str) -> set[str]:
    words = " ".join(options)
    command = f"curl -sko /dev/null -w '%{{http_code}} ' {words} --connect-to ::127.0.0.1: 'https://{FAR}/?[1-{times}]'"
    return set(host.check_output(command).split())


def hosts_that_answer(host: Any) -> set[str]:
    found = host.check_output(f"curl -sk --connect-to ::127.0.0.1: 'https://{FAR}/?[1-20]'")
    return set(re.findall(r'"host": "(\w+)"', found))


# --- through both ---


def test_hosts_share_the_requests(host: Any) -> None:
    assert hosts_that_answer(host) == {"web1", "app1"}


def test_an_application_on_another_host_sees_the_visitor(host: Any) -> None:
    for _ in range(2):
        headers = seen(get(host, "/", "-H", "X-Forwarded-For: forged", "-H", "X-Real-IP: forged", "-H", "Forwarded: x"))
        assert headers["host"] == headers["x-forwarded-host"] == [FAR]
        assert headers["x-forwarded-for"] == headers["x-real-ip"] == ["127.0.0.1"]
        assert (headers["x-forwarded-proto"], headers["x-forwarded-port"]) == (["https"], ["443"])
        assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"][0])
        assert "forwarded" not in headers


PLACES = {
    "/": 200,
    "/missing": 404,
    "/busy": 503,
    "/die": 502,
    "/static/app.css": 200,
    "/static/none": 404,
    "/media/photo.png": 200,
    "/media/logo.svg": 200,
    "/media/none": 404,
}


@pytest.mark.parametrize(("path", "status"), PLACES.items())
def test_answers_are_those_of_an_application_on_the_web_server(host: Any, path: str, status: int) -> None:
    """By what browsers go; the site `shop` is the other one."""
    names = (
        "x-content-type-options x-frame-options referrer-policy cross-origin-opener-policy content-type retry-after "
    )
    names += "cross-origin-resource-policy content-security-policy content-disposition cache-control set-cookie vary "
    names += "strict-transport-security server date"
    far, near = get(host, path), fetch(host, f"https://shop.example.com{path}")
    assert far.status == near.status == status
    expected = {name: near.one(name) for name in names.split() if name != "date"}
    assert {name: far.one(name) for name in expected} == expected


def test_what_the_application_says_wins_on_another_host_too(host: Any) -> None:
    near = fetch(host, "https://shop.example.com/django")
    both = [[header for header in answer.headers if header[0] != "date"] for answer in (get(host, "/django"), near)]
    assert len(both[0]) > 10
    assert dict(both[0]).keys() == dict(both[1]).keys()
    assert sorted(header for header in both[0] if header[0] != "content-length") == sorted(
        header for header in both[1] if header[0] != "content-length"
    )


def test_a_static_file_comes_from_the_host_that_has_it(host: Any) -> None:
    for name in ("web1", "app1"):
        for _ in range(4):
            answer = get(host, f"/static/{name}.55e7cbb9ba48.css")
            assert (answer.status, answer.body) == (200, "only here")
            assert answer.one("cache-control") == "public, max-age=31536000, immutable"


def test_a_long_static_file_comes_compressed(host: Any) -> None:
    answer = get(host, "/static/long.js", "--compressed")
    assert (answer.one("content-encoding"), answer.one("vary")) == ("gzip", "Accept-Encoding")
    assert answer.body.splitlines() == ["// long"] * 1000


def test_a_file_is_only_read(host: Any) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert get(host, "/static/app.css", "-X", method).status == 405


def test_a_post_has_the_same_limit_on_both_sides(host: Any) -> None:
    host.check_output("head -c 1048576 /dev/zero >/tmp/fits")
    for _ in range(2):
        fits = get(host, "/", "-H", "Expect:", "--data-binary", "@/tmp/fits")
        assert json.loads(fits.body)["size"] == 1048576


def test_a_head_that_the_web_server_takes_is_taken_by_the_other(address: str) -> None:
    head = "\r\n".join(f"X-{number}: {'a' * 7900}" for number in range(3))
    answer = talk(address, f"GET / HTTP/1.0\r\nHost: {FAR}\r\nCookie: {'a' * 7900}\r\n{head}\r\n\r\n", FAR)
    assert answer.startswith(b"HTTP/1.1 200 ")


def test_what_is_to_come_at_once_does(address: str) -> None:
    with connect(address, FAR) as connection:
        connection.sendall(f"GET /drip HTTP/1.1\r\nHost: {FAR}\r\nConnection: close\r\n\r\n".encode())
        received, first = b"", 0.0
        while part := connection.recv(65536):
            received += part
            first = first or time.monotonic() * received.endswith(b"\r\n\r\n1")
    assert received.endswith(b"\r\n\r\n12")
    assert b"x-accel" not in received.lower()
    assert first
    assert time.monotonic() - first > 0.5


# --- strangers ---


def status(host: Any, other: str, certificate: str, options: str = "", site: str = FAR) -> str:
    """Ask an application host as the web server does, with a certificate of the host that asks."""
    words = f"--cert {FILES}/{certificate}.crt --key {FILES}/{certificate}.key" if certificate else ""
    words += f" {options} --cacert {FILES}/ca.crt --connect-to apps.internal:8443:{other}:8443 -H 'Host: {site}'"
    return str(host.run(f"curl -s -o /dev/null -w '%{{http_code}}' {words} https://apps.internal:8443/").stdout)


def test_an_application_host_serves_the_web_server_and_nobody_else(host: Any, app: Any) -> None:
    web, other = address_of(host), address_of(app)
    assert status(host, other, "nginx") == "200"
    assert status(host, other, "") == "400"
    # Another service of the same authority; a server, which is no client.
    assert status(app, web, "shop") == "403"
    assert status(app, web, "nginx") == "400"
    assert status(host, other, "nginx", site="evil.example.com") == "000"
    assert status(host, other, "nginx", "--tls-max 1.2") == "000"


def test_a_certificate_of_another_authority_helps_nobody(host: Any, app: Any) -> None:
    names = "-subj /CN=nginx -addext subjectAltName=DNS:apps.internal -keyout other.key -out other.crt"
    app.check_output(f"cd {FILES}; openssl req -x509 -newkey rsa:2048 -nodes -days 2 {names} 2>&1")
    app.check_output(f"cd {FILES}; for kind in crt key; do cp -a nginx.$kind kept.$kind; done")
    try:
        assert status(app, address_of(host), "other") == "400"
        # Nor does it make a host one of ours.
        app.check_output(f"cd {FILES}; for kind in crt key; do cp other.$kind nginx.$kind; done")
        app.check_output("systemctl reload nginx; sleep 1")
        assert hosts_that_answer(host) == {"web1"}
    finally:
        app.check_output(f"cd {FILES}; rm other.*; for kind in crt key; do mv kept.$kind nginx.$kind; done")
        app.check_output("systemctl reload nginx")
    time.sleep(BACK_SECONDS + 1)
    assert hosts_that_answer(host) == {"web1", "app1"}


def test_an_application_host_has_no_other_port(app: Any) -> None:
    assert set(re.findall(r":(\d+) .*nginx", app.check_output("ss -Htlnp"))) == {"8443"}


def test_a_renewed_certificate_is_taken_up_by_the_next_run(app: Any) -> None:
    app.check_output(f"touch {FILES}/nginx.crt")
    command = [
        "ansible-playbook",
        "--inventory",
        str(EPHEMERAL / "inventory"),
        "--limit",
        "app1",
        str(SCENARIO / "converge.yml"),
    ]
    run = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    assert "RUNNING HANDLER [groundwork.django.nginx_tls : Reload nginx]" in run


# --- when a host goes ---


class Request(NamedTuple):
    method: str
    began: float
    ended: float
    status: str


class Traffic:
    """Visitors while the block runs; afterwards their requests. Some POST, and some ask for what takes a second."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.requests: list[Request] = []
        self.over = threading.Event()

    def visit(self, number: int) -> None:
        method = "POST" if number % 5 < 2 else "GET"
        path = "/slow" if number % 4 == 0 else "/"
        asks = f"{method} {path} HTTP/1.1\r\nHost: {FAR}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        while not self.over.wait(0.1):
            began = time.time()
            status = talk(self.address, asks, FAR)[9:12].decode()
            self.requests.append(Request(method, began, time.time(), status))

    def __enter__(self) -> Traffic:  # noqa: PYI034 (Self is newer than the Python that the linter assumes)
        self.visitors = [threading.Thread(target=self.visit, args=[number]) for number in range(16)]
        for visitor in self.visitors:
            visitor.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for visitor in self.visitors:
            visitor.join()


def lasted(host: Any, command: str) -> tuple[float, float]:
    """Run a command and return when it began and ended, by the clock that all hosts of a bed share."""
    began, ended = host.check_output(f"date +%s.%N; {command}; date +%s.%N").split()
    return float(began), float(ended)


def test_a_host_that_goes_costs_what_it_was_working_on_and_comes_back_by_itself(
    host: Any, app: Any, address: str
) -> None:
    with Traffic(address) as traffic:
        time.sleep(3)
        # It sends nothing to the web server any more, which is what is seen of a host without power.
        unplugged = lasted(app, f"ip route add blackhole {address}")
        try:
            time.sleep(18)
            assert hosts_that_answer(host) == {"web1"}
        finally:
            plugged = lasted(app, f"ip route del blackhole {address}")
        time.sleep(BACK_SECONDS + 3)
        assert hosts_that_answer(host) == {"web1", "app1"}
        killed = lasted(app, "systemctl kill --signal KILL nginx")
        time.sleep(3)
        app.check_output("systemctl restart nginx")
        time.sleep(BACK_SECONDS + 3)
        assert hosts_that_answer(host) == {"web1", "app1"}
    failed = [each for each in traffic.requests if each.status != "200"]
    print(f"{len(failed)} of {len(traffic.requests)} failed: {failed}")
    on_their_way = [
        each for each in failed for began, ended in (unplugged, killed) if each.began <= ended and each.ended >= began
    ]
    assert failed == on_their_way
    assert len(traffic.requests) > 500
    # What can be sent only once waited for a connection, and no longer.
    posts = [each for each in traffic.requests if each.method == "POST" and unplugged[1] < each.began < plugged[0]]
    assert len(posts) > 50
    assert max(each.ended - each.began for each in posts) < 5


def test_a_host_may_reload_and_restart_under_load(app: Any, address: str) -> None:
    with Traffic(address) as traffic:
        time.sleep(1)
        for command in ("reload", "reload", "restart"):
            app.check_output(f"systemctl {command} nginx")
            time.sleep(2)
    assert Counter(request.status for request in traffic.requests) == {"200": len(traffic.requests)}


def test_nobody_is_turned_away_for_what_was_a_moment_ago(host: Any, app: Any) -> None:
    for each in (host, app):
        each.check_output("systemctl stop echo")
    assert {get(host, "/").status for _ in range(4)} == {502}
    for each in (host, app):
        each.check_output("systemctl start echo; until test -S /run/echo.sock; do sleep 0.1; done; sleep 0.5")
    assert {get(host, "/").status for _ in range(4)} == {200}


def test_a_host_without_its_application_is_passed_by(host: Any, app: Any) -> None:
    time.sleep(BACK_SECONDS + 1)
    app.check_output("systemctl stop echo")
    try:
        assert statuses(host, 6) == {"200"}
        assert statuses(host, 3, "-d a=b") == {"200", "502"}  # one POST finds out
        assert statuses(host, 6, "-d a=b") == {"200"}
        assert hosts_that_answer(host) == {"web1"}
    finally:
        app.check_output("systemctl start echo")
    time.sleep(BACK_SECONDS + 1)
    assert hosts_that_answer(host) == {"web1", "app1"}


@pytest.mark.parametrize(("path", "status"), [("/die", 502), ("/busy", 503), ("/crash", 500)])
def test_what_an_application_says_puts_no_host_out(host: Any, path: str, status: int) -> None:
    assert {get(host, path).status for _ in range(6)} == {status}
    assert hosts_that_answer(host) == {"web1", "app1"}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_kills_one_process_is_not_sent_to_the_next_host(host: Any, app: Any, method: str) -> None:
    mark = f"/die?{time.time()}"
    assert get(host, mark, "-X", method).status == 502
    logs = [each.check_output("journalctl -u echo.service --no-pager -o cat") for each in (host, app)]
    times = [log.count(f"{method} {mark}") for log in logs]
    assert 0 in times
    # Over a connection that was kept, a GET is sent once more to the same process.
    assert sum(times) == 1 or (method == "GET" and sum(times) == 2)
