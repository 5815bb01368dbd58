"""What strangers try, over raw connections where no browser would do it. The application tells what came through."""

from __future__ import annotations

import concurrent.futures
import json
import re
import socket
import ssl
import statistics
import threading
import time
from collections import Counter
from typing import Any

import pytest
from visitor import Answer, connect, fetch, parse, seen, talk

testinfra_hosts = ["web1"]
SHOP = "shop.example.com"
HEAD = f"Host: {SHOP}\r\nConnection: close\r\n"
SMUGGLED = f"GET /smuggled HTTP/1.1\r\n{HEAD}\r\n"


@pytest.fixture(scope="module")
def address(host: Any) -> str:
    return str(host.check_output("hostname -I")).split()[0]


def ask(address: str, request: str | bytes) -> Answer | None:
    received = talk(address, request, SHOP).decode(errors="replace")
    return parse(received) if received else None


def requests_that_came(answer: bytes) -> int:
    return answer.count(b'"served_on_this_connection"')


# --- the host ---


@pytest.mark.parametrize(
    "request_line",
    ["GET https://evil.example.com/ HTTP/1.1", "GET http://evil.example.com:443/ HTTP/1.1", "GET //evil@x/ HTTP/1.1"],
)
def test_a_host_in_the_first_line_leads_nowhere_else(address: str, request_line: str) -> None:
    answer = ask(address, f"{request_line}\r\n{HEAD}\r\n")
    assert answer is None or seen(answer)["host"] == [SHOP]


@pytest.mark.parametrize(
    "asked",
    [
        SHOP.upper(),
        f"{SHOP}.",
        f"{SHOP}:8443",
        f"{SHOP}:@evil.example.com",
        f"{SHOP}\r\nX-Forwarded-Host: evil.example.com",
        f"{SHOP}\r\nX_Forwarded_Host: evil.example.com",
        f"{SHOP}\r\nForwarded: host=evil.example.com",
        f"{SHOP}\r\nX-Host: evil.example.com\r\nX-HTTP-Host-Override: evil.example.com",
        f"{SHOP}\nX-Forwarded-Host: evil.example.com",
    ],
)
def test_the_application_sees_the_name_of_the_site_and_no_other(address: str, asked: str) -> None:
    answer = ask(address, f"GET / HTTP/1.1\r\nHost: {asked}\r\nConnection: close\r\n\r\n")
    assert answer
    assert seen(answer)["host"] == seen(answer)["x-forwarded-host"] == [SHOP]


@pytest.mark.parametrize(
    "headers",
    [
        "",
        "Host:\r\n",
        f"Host: {SHOP}\r\nHost: evil.example.com\r\n",
        f"Host: evil.example.com\r\nHost: {SHOP}\r\n",
        f"Host: {SHOP} evil.example.com\r\n",
        f"Host: {SHOP}/evil\r\n",
        f"Host: evil.example.com@{SHOP}\r\n",
        f"Host: evil.example.com, {SHOP}\r\n",
        f"Host: {SHOP}\r\n evil: x\r\n",
        f"Host : evil.example.com\r\nHost: {SHOP}\r\n",
        f"Host: {SHOP}\0evil\r\n",
    ],
)
def test_a_host_of_doubt_is_refused(address: str, headers: str) -> None:
    answer = talk(address, f"GET / HTTP/1.1\r\n{headers}Connection: close\r\n\r\n", SHOP)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("request_line", ["GET /\r\n", "GET / HTTP/1.0\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
@pytest.mark.parametrize("name", [None, SHOP])
def test_a_version_of_doubt_gets_nothing_from_the_application(
    address: str, name: str | None, request_line: str
) -> None:
    assert requests_that_came(talk(address, request_line, name)) == 0


# --- one request in another ---


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 4", f"{len(SMUGGLED):x}\r\n{SMUGGLED}\r\n0\r\n\r\n"),
        (f"Content-Length: 0\r\nContent-Length: {len(SMUGGLED)}", SMUGGLED),
        (f"Content-Length: 0, {len(SMUGGLED)}", SMUGGLED),
        ("Content-Length: +0", SMUGGLED),
        ("Content-Length: -1", SMUGGLED),
        ("Content-Length : 0", SMUGGLED),
        ("Transfer-Encoding: xchunked", f"0\r\n\r\n{SMUGGLED}"),
        ("Transfer-Encoding : chunked", f"0\r\n\r\n{SMUGGLED}"),
        ("Transfer-Encoding:\tchunked", f"0\r\n\r\n{SMUGGLED}"),
        ("Transfer-Encoding: \x0bchunked", f"0\r\n\r\n{SMUGGLED}"),
        ("Transfer-Encoding:\r\n chunked", f"0\r\n\r\n{SMUGGLED}"),
        ("Transfer-Encoding: identity, chunked", f"0\r\n\r\n{SMUGGLED}"),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", f"0\r\n\r\n{SMUGGLED}"),
        ("X: a\rContent-Length: 5", f"hello{SMUGGLED}"),
        ("X: a\0b", SMUGGLED),
        ("Transfer-Encoding: chunked", f"5;\nxx\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        ("Transfer-Encoding: chunked", f"fffffffffffffffff\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        ("Transfer-Encoding: chunked", f"-1\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
        ("Transfer-Encoding: chunked", f"0x5\r\nhello\r\n0\r\n\r\n{SMUGGLED}"),
    ],
)
def test_a_body_of_doubtful_length_is_refused(address: str, headers: str, body: str) -> None:
    answer = talk(address, f"POST / HTTP/1.1\r\nHost: {SHOP}\r\n{headers}\r\n\r\n{body}", SHOP)
    assert re.match(rb"HTTP/1\.1 (400|501) ", answer)
    assert requests_that_came(answer) == 0


@pytest.mark.parametrize(
    ("request_", "size"),
    [
        (f"POST / HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n{SMUGGLED}", 5),
        (f"GET / HTTP/1.1\r\n{HEAD}Content-Length: {len(SMUGGLED)}\r\n\r\n{SMUGGLED}", len(SMUGGLED)),
        (f"POST / HTTP/1.1\r\n{HEAD}Transfer_Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{SMUGGLED}", 5),
        (f"GET / HTTP/1.1\n{HEAD}\n{SMUGGLED}", 0),
    ],
)
def test_where_the_length_is_clear_one_request_stays_one(address: str, request_: str, size: int) -> None:
    answer = talk(address, request_, SHOP)
    assert requests_that_came(answer) == 1
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["size"] == size


@pytest.mark.parametrize("protocol", ["--http2", "--http3-only"])
@pytest.mark.parametrize("header", ["Transfer-Encoding: chunked", "Connection: keep-alive, X-Real-IP", "Host: evil"])
def test_newer_protocols_smuggle_nothing_into_the_old_one(host: Any, protocol: str, header: str) -> None:
    words = f"{protocol} -H '{header}' -d a=b --connect-to ::127.0.0.1: https://{SHOP}/"
    found = host.run(f"curl -sk {words}")
    if found.rc == 0 and '"headers"' in found.stdout:
        headers = {name.lower(): value for name, value in json.loads(found.stdout)["headers"]}
        assert headers["host"] == SHOP
        assert headers["x-real-ip"] == "127.0.0.1"
        assert headers["content-length"] == "3"
        assert "transfer-encoding" not in headers


# --- files that are nobody's business ---

SECRET = "secret/note.png"


@pytest.mark.parametrize("prefix", ["/static", "/media"])
@pytest.mark.parametrize(
    "path",
    [
        f"../{SECRET}",
        f"/../{SECRET}",
        f"//../{SECRET}",
        f"/./%2e%2e/{SECRET}",
        f"/%2e%2e/{SECRET}",
        f"/..%2f{SECRET}",
        f"/%2e%2e%2f{SECRET}",
        f"%2f..%2f{SECRET}",
        f"%2e%2e/{SECRET}",
        f"/..\\{SECRET}",
        f"/..%5c{SECRET}",
        f"/%252e%252e/{SECRET}",
        f"/..%252f{SECRET}",
        f"/..;/{SECRET}",
        f"/..%c0%af{SECRET}",
        f"/%uff0e%uff0e/{SECRET}",
        f"/..%00/{SECRET}",
        "/app.css%00.png",
        "/photo.png%00",
        "/../../../../../../etc/passwd",
        "/%2eenv",
        "/%2e%65nv",
        "/.private/note.png",
        "/%2eprivate/note.png",
        "/x/../.private/note.png",
        "/link.png",
    ],
)
def test_no_way_leads_out_of_a_folder(address: str, prefix: str, path: str) -> None:
    answer = talk(address, f"GET {prefix}{path} HTTP/1.1\r\n{HEAD}\r\n", SHOP)
    # What leads out of the folder by its plain meaning is a page; the application has no such file.
    assert re.match(rb"HTTP/1\.1 (400|403|404) ", answer) or requests_that_came(answer) == 1
    assert b"private" not in answer.replace(path.encode(), b"")
    assert b"root:" not in answer


# --- who one is ---


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2", "--http3-only"])
def test_nobody_passes_for_somebody_else(host: Any, protocol: str) -> None:
    names = "X-Forwarded-For X-Forwarded-Proto X-Forwarded-Port X-Forwarded-Ssl X-Forwarded-Prefix X-Real-IP Forwarded"
    forged = [word for name in names.split() for word in ("-H", f"{name}: 10.0.0.1", "-H", f"{name}: 10.0.0.2")]
    answer = fetch(host, f"https://{SHOP}/", protocol, *forged)
    assert "10.0.0" not in answer.body
    assert seen(answer)["x-forwarded-for"] == ["127.0.0.1"]
    assert seen(answer)["x-forwarded-proto"] == ["https"]


# --- too much ---


@pytest.mark.parametrize(
    ("path", "header", "statuses"),
    [
        ("/", "Cookie: " + "a" * 9000, {400, 431}),
        ("/", "\r\n".join(f"X-{number}: " + "a" * 7000 for number in range(6)), {400, 431}),
        ("/" + "a" * 9000, "X: y", {414}),
        ("/", "Content-Length: 99999999999999", {413}),
        ("/", "Content-Length: 99999999999999999999999", {400}),
    ],
)
def test_who_says_too_much_is_stopped(address: str, path: str, header: str, statuses: set[int]) -> None:
    answer = ask(address, f"POST {path} HTTP/1.1\r\n{HEAD}{header}\r\n\r\n")
    assert answer
    assert answer.status in statuses


def test_a_long_cookie_is_fine(address: str) -> None:
    answer = ask(address, f"GET / HTTP/1.1\r\n{HEAD}Cookie: {'a' * 7000}\r\n\r\n")
    assert answer
    assert answer.status == 200


def test_a_body_without_a_length_has_the_same_limit(address: str) -> None:
    chunk = b"10000\r\n" + b"a" * 65536 + b"\r\n"
    head = f"POST / HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
    assert (ask(address, head + chunk * 16 + b"0\r\n\r\n") or Answer(0, [], "")).status == 200
    too_large = talk(address, head + chunk * 17 + b"0\r\n\r\n", SHOP)
    assert too_large == b"" or too_large.startswith(b"HTTP/1.1 413 ")  # who goes on talking may miss the answer


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "CONNECT", "DEBUG", "MKCOL", "get"])
def test_a_method_of_no_use_is_refused(address: str, method: str) -> None:
    answer = talk(address, f"{method} / HTTP/1.1\r\n{HEAD}\r\n", SHOP)
    assert re.match(rb"HTTP/1\.1 (400|405) ", answer)
    assert requests_that_came(answer) == 0


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_those_of_an_api_pass(address: str, method: str) -> None:
    assert requests_that_came(talk(address, f"{method} / HTTP/1.1\r\n{HEAD}\r\n", SHOP)) == 1


# --- too often ---


def many(address: str, name: str, paths: list[str], at_once: int = 0) -> Counter[str]:
    def one(path: str) -> str:
        answer = talk(address, f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n", name)
        return answer[9:12].decode()

    with concurrent.futures.ThreadPoolExecutor(at_once or len(paths)) as pool:
        return Counter(pool.map(one, paths))


def test_who_asks_too_often_is_told_to_wait_and_then_welcome(address: str) -> None:
    started = time.monotonic()
    # So few at a time that only their number is too much.
    answers = many(address, "open.example.com", ["/"] * 60, at_once=2)
    assert set(answers) == {"200", "429"}
    assert 20 <= answers["200"] <= 22 + 5 * (time.monotonic() - started)
    refused = parse(talk(address, "GET / HTTP/1.0\r\nHost: open.example.com\r\n\r\n", "open.example.com").decode())
    if refused.status == 429:
        assert refused.one("retry-after") == "1"
    time.sleep(4)
    assert many(address, "open.example.com", ["/"] * 10, at_once=2) == {"200": 10}


def test_who_keeps_the_application_busy_is_stopped(address: str) -> None:
    time.sleep(4)
    answers = many(address, "open.example.com", ["/slow"] * 8)
    assert answers["200"] >= 3
    assert answers["429"] >= 2


def test_files_do_not_count(address: str) -> None:
    assert many(address, "open.example.com", ["/media/photo.png"] * 60) == {"200": 60}


def test_an_office_is_not_hurt(address: str) -> None:
    """A hundred people behind one address open a page at the same moment."""
    assert many(address, SHOP, ["/"] * 100) == {"200": 100}


def test_as_many_as_one_connection_of_http2_carries_are_answered_at_a_time(host: Any) -> None:
    """dev-sec nginx-07, which has 5, from before HTTP/2."""
    options = "-sk --parallel --parallel-immediate --http1.1 -o /dev/null -w '%{http_code} ' --connect-to ::127.0.0.1:"
    fits = host.check_output(f"curl {options} --parallel-max 128 'https://{SHOP}/slow?[1-128]'").split()
    assert Counter(fits) == {"200": 128}
    time.sleep(3)
    too_many = host.check_output(f"curl {options} --parallel-max 170 'https://{SHOP}/slow?[1-170]'").split()
    assert Counter(too_many)["429"] > 0
    assert Counter(too_many)["200"] >= 128


# --- too slow ---


def slow(address: str, number: int) -> socket.socket:
    """Begin something that never ends: each second one a request over TLS, the others not even TLS."""
    connection = connect(address, SHOP) if number % 2 else socket.create_connection((address, 443), timeout=40)
    if number % 2:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {SHOP}\r\n".encode())
    connection.settimeout(0)
    return connection


def listened_to(connection: socket.socket) -> bool:
    """Say a little more, and tell whether nginx still listens."""
    try:
        if isinstance(connection, ssl.SSLSocket):
            connection.sendall(b"X-a: b\r\n")
        return connection.recv(1) != b""
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return True
    except OSError:
        return False


def test_500_who_never_finish_a_sentence_keep_nobody_out(address: str) -> None:
    over = threading.Event()

    def visit() -> list[float]:
        waits = []
        while not over.wait(0.2):
            began = time.monotonic()
            answer = ask(address, f"GET / HTTP/1.1\r\n{HEAD}\r\n")
            assert answer
            assert answer.status == 200
            waits.append(time.monotonic() - began)
        return waits

    with concurrent.futures.ThreadPoolExecutor(17) as pool:
        try:
            crowd = list(pool.map(slow, [address] * 500, range(500)))
            visitor, gone, until = pool.submit(visit), 0, time.monotonic() + 40
            while gone < 450 and time.monotonic() < until:
                alive = [connection for connection in crowd if listened_to(connection)]
                missing = 500 - len(alive)
                gone += missing
                # Whoever is thrown out comes back.
                crowd = alive + list(pool.map(slow, [address] * missing, range(missing)))
                time.sleep(1)
        finally:
            over.set()
    for connection in crowd:
        connection.close()
    assert gone >= 450, "nginx waits for them much longer than 15 seconds"
    assert len(visitor.result()) > 20
    assert statistics.median(visitor.result()) < 0.5
    # Nobody waits for a place, each of which is taken for 15 seconds.
    assert max(visitor.result()) < 10


def test_who_stops_in_the_middle_is_left_alone_in_the_end(host: Any, address: str) -> None:
    """dev-sec nginx-17: an idle connection, a head and a body that do not go on."""
    begun = {
        "idle": f"GET / HTTP/1.1\r\nHost: {SHOP}\r\n\r\n",
        "head": f"GET / HTTP/1.1\r\nHost: {SHOP}\r\n",
        "body": f"POST / HTTP/1.1\r\nHost: {SHOP}\r\nContent-Length: 100\r\n\r\nhello",
    }

    def patience(request: str) -> float:
        began = time.monotonic()
        talk(address, request, SHOP)
        return time.monotonic() - began

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        waited = dict(zip(begun, pool.map(patience, begun.values()), strict=True))
    assert 13 < waited["head"] < 20
    assert 28 < waited["body"] < 35
    assert 28 < waited["idle"] < 35
    assert fetch(host, f"https://{SHOP}/").status == 200
