"""What visitors, strangers and applications get from nginx."""

from __future__ import annotations

import json
import os
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from visitor import fetch, seen, talk

testinfra_hosts = ["web1"]
SCENARIO = Path(__file__).parents[1]
EPHEMERAL = Path(os.environ["EPHEMERAL"])
MAINTENANCE = "/etc/nginx/maintenance"


@pytest.fixture(scope="module")
def address(host: Any) -> str:
    return str(host.check_output("hostname -I")).split()[0]


def play(*options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the role again, with other variables."""
    command = ["ansible-playbook", "--inventory", str(EPHEMERAL / "inventory"), "--limit", "web1", *options]
    command += ["--extra-vars", json.dumps(variables), str(SCENARIO / "converge.yml")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def restored(host: Any) -> Iterator[None]:
    """Put everything back to what the scenario describes."""
    yield
    assert "failed=0" in play().stdout
    host.check_output("nginx -t")


# --- who asks ---


def test_http_leads_to_https_and_keeps_the_page(host: Any) -> None:
    answer = fetch(host, "http://www.shop.example.com/a?b=c%20d")
    assert (answer.status, answer.one("location")) == (308, "https://www.shop.example.com/a?b=c%20d")


@pytest.mark.parametrize("domain", ["shop.example.com", "www.shop.example.com"])
def test_every_domain_answers_under_a_certificate_for_it(host: Any, domain: str) -> None:
    assert fetch(host, f"https://{domain}/").status == 200


def test_a_bought_certificate_is_served(host: Any) -> None:
    assert fetch(host, "https://blog.example.com/", authority="blog.pem").status == 502
    shown = host.check_output("openssl s_client -connect 127.0.0.1:443 -servername blog.example.com </dev/null 2>&1")
    assert "CN=Bought" in shown.replace(" ", "")


@pytest.mark.parametrize("name", [None, "shop.example.com"])
@pytest.mark.parametrize("asked", ["Host: evil.example.com\r\n", "Host: 203.0.113.5\r\n"])
def test_who_asks_for_an_unknown_host_gets_no_answer(address: str, name: str | None, asked: str) -> None:
    assert talk(address, f"GET / HTTP/1.1\r\n{asked}\r\n", name) == b""


@pytest.mark.parametrize("name", ["evil.example.com", "example.com"])
def test_no_certificate_is_shown_to_who_asks_for_an_unknown_host(address: str, name: str) -> None:
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        talk(address, "", name)


def test_http3_is_offered_and_spoken(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/").one("alt-svc") == 'h3=":443"; ma=86400'
    for name in ("shop", "open"):
        answer = fetch(host, f"https://{name}.example.com/", "--http3-only", authority=f"{name}.crt")
        assert (answer.status, seen(answer)["x-forwarded-proto"]) == (200, ["https"])
    assert host.run("curl -sk --http3-only --connect-to ::127.0.0.1: https://evil.example.com/").rc != 0


def test_keys_are_exchanged_safe_from_quantum_computers(host: Any) -> None:
    shown = host.check_output("openssl s_client -connect 127.0.0.1:443 -servername shop.example.com </dev/null 2>&1")
    assert "Negotiated TLS1.3 group: X25519MLKEM768" in shown


def test_http2_is_spoken(host: Any) -> None:
    answer = host.check_output(
        "curl -sko /dev/null -w '%{http_version}' --connect-to ::127.0.0.1: https://shop.example.com/"
    )
    assert answer == "2"


@pytest.mark.parametrize(("version", "welcome"), [("tls1_1", False), ("tls1_2", True), ("tls1_3", True)])
def test_old_tls_is_refused(host: Any, version: str, welcome: bool) -> None:
    client = "openssl s_client -connect 127.0.0.1:443 -servername shop.example.com -cipher ALL:@SECLEVEL=0"
    assert (host.run(f"{client} -{version} </dev/null").rc == 0) is welcome


def test_another_site_of_the_server_goes_on(host: Any) -> None:
    assert fetch(host, "http://legacy.example.org/").body == "legacy"


@pytest.mark.parametrize("domain", ["old.example.net", "www.far.example.com"])
def test_a_domain_that_only_redirects_leads_to_the_same_page_of_the_canonical_one(host: Any, domain: str) -> None:
    first = fetch(host, f"http://{domain}/a?b=c%20d", authority="far.crt")
    assert (first.status, first.one("location")) == (308, f"https://{domain}/a?b=c%20d")  # for HSTS
    second = fetch(host, f"https://{domain}/a?b=c%20d", authority="far.crt")
    assert (second.status, second.one("location")) == (308, "https://far.example.com/a?b=c%20d")
    assert second.one("strict-transport-security") == "max-age=3600"


# --- what the application sees ---


def test_a_client_cannot_forge_who_and_where_it_is(host: Any) -> None:
    names = "X-Forwarded-For X-Real-IP X-Forwarded-Host X-Forwarded-Port X-Forwarded-Proto X-Forwarded-Ssl".split()
    names += "X-Forwarded-Protocol X-Forwarded-Scheme X-Forwarded-Prefix X-Request-ID Forwarded Proxy".split()
    names += ["X_Forwarded_Proto", "Remote_User"]
    forged = [word for name in names for word in ("-H", f"{name}: forged")]
    headers = seen(fetch(host, "https://shop.example.com/", *forged))
    assert "forged" not in json.dumps(headers)
    assert headers["host"] == headers["x-forwarded-host"] == ["shop.example.com"]
    assert headers["x-forwarded-for"] == headers["x-real-ip"] == ["127.0.0.1"]
    assert headers["x-forwarded-proto"] == ["https"]
    assert headers["x-forwarded-port"] == ["443"]
    assert re.fullmatch("[0-9a-f]{32}", headers["x-request-id"][0])


def test_connections_to_the_application_stay_open(host: Any) -> None:
    both = host.check_output("curl -sk --connect-to ::127.0.0.1: https://shop.example.com/1 https://shop.example.com/2")
    first, second = (json.loads(line)["served_on_this_connection"] for line in both.splitlines())
    assert second == first + 1


@pytest.mark.parametrize("site", ["shop", "far"])
@pytest.mark.parametrize(("path", "process"), [("/socket", "/run/echo.sock"), ("/ws/socket", "/run/echo-ws.sock")])
def test_a_websocket_passes_to_the_process_of_its_path(address: str, site: str, path: str, process: str) -> None:
    name = f"{site}.example.com"
    asks = f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"
    answer = talk(address, asks, name)
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(f"{process}:hello".encode())


def test_no_other_protocol_passes(host: Any) -> None:
    answer = fetch(host, "https://shop.example.com/", "--http1.1", "-H", "Upgrade: h2c", "-H", "Connection: Upgrade")
    assert not {"upgrade", "connection"} & set(seen(answer))


def test_a_post_arrives_whole_up_to_the_limit(host: Any) -> None:
    host.check_output("head -c 1048576 /dev/zero >/tmp/fits; head -c 1048577 /dev/zero >/tmp/too-large")
    fits = fetch(host, "https://shop.example.com/", "-H", "Expect:", "--data-binary", "@/tmp/fits")
    assert json.loads(fits.body)["size"] == 1048576
    assert fetch(host, "https://shop.example.com/", "--data-binary", "@/tmp/too-large").status == 413


def test_a_post_is_never_sent_twice(host: Any) -> None:
    url = f"https://shop.example.com/die?{time.time()}"
    options = "-sk --connect-to ::127.0.0.1:"
    host.check_output(f"curl {options} https://shop.example.com/ --next {options} -d pay=1 {url}")
    log = host.check_output("journalctl -u echo.service --no-pager -o cat")
    assert log.count(f"POST {url.removeprefix('https://shop.example.com')}") == 1


def test_without_the_application_visitors_are_told_and_static_files_stay(host: Any) -> None:
    host.check_output("systemctl stop echo.service")
    try:
        page = fetch(host, "https://shop.example.com/")
        assert (page.status, page.one("retry-after"), page.one("x-content-type-options")) == (502, "5", "nosniff")
        assert fetch(host, "https://shop.example.com/static/app.css").status == 200
    finally:
        up = "curl -sk --fail -o /dev/null --connect-to ::127.0.0.1: https://shop.example.com/"
        host.check_output(f"systemctl start echo.service; timeout 20 sh -c 'until {up}; do sleep 0.1; done'")
    assert fetch(host, "https://shop.example.com/").status == 200


# --- headers ---

PLACES = {
    "https://shop.example.com/": 200,
    "https://shop.example.com/moved": 302,
    "https://shop.example.com/missing": 404,
    "https://shop.example.com/crash": 500,
    "https://shop.example.com/busy": 503,
    "https://shop.example.com/die": 502,
    "https://shop.example.com/-/health": 200,
    "https://shop.example.com/static/app.css": 200,
    "https://shop.example.com/static/app.55e7cbb9ba48.css": 200,
    "https://shop.example.com/static/none": 404,
    "https://shop.example.com/static/.env": 404,
    "https://shop.example.com/media/photo.png": 200,
    "https://shop.example.com/media/page.html": 200,
    "https://shop.example.com/media/paper.pdf": 200,
    "https://shop.example.com/media/none": 404,
    f"https://shop.example.com/{'a' * 9000}": 414,
    "http://shop.example.com/": 308,
}
SAME = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-site",
}


@pytest.mark.parametrize(("url", "status"), PLACES.items(), ids=lambda value: str(value)[:60])
def test_every_answer_has_the_same_headers_once(host: Any, url: str, status: int) -> None:
    answer = fetch(host, url, "--http1.1")
    assert answer.status == status
    assert {name: answer.one(name) for name in SAME} == SAME
    # Without TLS the header means nothing, and must not be sent.
    assert answer.one("strict-transport-security") == ("max-age=3600" if url.startswith("https") else None)


@pytest.mark.parametrize("options", [["-X", "MKCOL"], ["-H", "Content-Length: 1048577", "-d", "x"]])
def test_what_nginx_refuses_has_them_too(host: Any, options: list[str]) -> None:
    answer = fetch(host, "https://shop.example.com/", "--http1.1", *options)
    assert answer.status in (405, 413)
    assert {name: answer.one(name) for name in SAME} == SAME


@pytest.mark.parametrize("site", ["shop", "strict", "open"])
def test_what_the_application_says_wins(host: Any, site: str) -> None:
    authority = f"{site}.crt" if site != "strict" else "/root/authority.pem"
    answer = fetch(host, f"https://{site}.example.com/django", authority=authority)
    assert {name: answer.one(name) for name in (*SAME, "strict-transport-security", "content-security-policy")} == {
        "x-content-type-options": "nosniff",
        "x-frame-options": "SAMEORIGIN",
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "unsafe-none",
        "cross-origin-resource-policy": "same-origin",
        "strict-transport-security": "max-age=60",
        "content-security-policy": "default-src 'self'",
    }


def test_a_page_says_by_its_policy_who_may_frame_it(host: Any) -> None:
    answer = fetch(host, "https://shop.example.com/framed")
    assert answer.one("content-security-policy") == "frame-ancestors https://partner.example.net"
    assert answer.one("x-frame-options") is None


@pytest.mark.parametrize("path", ["/", "/missing", "/crash", "/busy"])
def test_the_policy_of_pages_is_the_applications_affair(host: Any, path: str) -> None:
    assert fetch(host, f"https://shop.example.com{path}").one("content-security-policy") is None


@pytest.mark.parametrize("path", ["/die", "/static/app.css", "/static/none", "/media/logo.svg", "/media/none"])
def test_what_nginx_sends_itself_has_a_strict_policy(host: Any, path: str) -> None:
    policy = str(fetch(host, f"https://shop.example.com{path}").one("content-security-policy"))
    assert policy.startswith(("default-src 'none'", "default-src 'self'"))
    assert "base-uri 'none'; form-action 'none'; frame-ancestors " in policy


@pytest.mark.parametrize("path", ["/static/module.mjs", "/media/paper.pdf"])
def test_workers_and_papers_are_not_kept_from_working(host: Any, path: str) -> None:
    assert fetch(host, f"https://shop.example.com{path}").one("content-security-policy") == "frame-ancestors 'self'"


def test_hsts_is_raised_on_purpose(host: Any) -> None:
    for url in ("https://strict.example.com/", "https://strict.example.com/static/app.css"):
        answer = fetch(host, url, authority="/root/authority.pem")
        assert answer.one("strict-transport-security") == "max-age=63072000; includeSubDomains; preload"


def test_other_sites_may_show_what_they_are_allowed_to(host: Any) -> None:
    answer = fetch(host, "https://open.example.com/media/photo.png", authority="open.crt")
    assert answer.one("cross-origin-resource-policy") == "cross-origin"


def test_the_version_of_nginx_is_not_told(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/static/none").one("server") == "nginx"


# --- static files and uploads ---


def test_a_hashed_file_is_kept_for_ever_and_sent_compressed(host: Any) -> None:
    url = "https://shop.example.com/static/app.55e7cbb9ba48.css"
    plain = fetch(host, url)
    older = fetch(host, url, "-H", "Accept-Encoding: gzip", "--compressed")
    packed = fetch(host, url, "-H", "Accept-Encoding: gzip, deflate, br")
    assert (plain.body, older.body, packed.body) == ("plain", "compressed", "brotli")
    assert [answer.one("content-encoding") for answer in (plain, older, packed)] == [None, "gzip", "br"]
    for answer in plain, older, packed:
        assert answer.one("cache-control") == "public, max-age=31536000, immutable"
        assert answer.one("vary") == "Accept-Encoding"
        assert answer.one("content-type") == "text/css"


def test_other_static_files_are_asked_for_again(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/static/app.css").one("cache-control") == "public, max-age=300"


HANDED_OUT = {
    # Type, disposition and caching: by the name of the file, or as the application says ("?named").
    "photo.png": ("image/png", None, "private"),
    "page.html": ("text/html", "attachment", "private"),
    "page.html?named": ("text/html", 'inline; filename="page.html"', "max-age=5"),
}


@pytest.mark.parametrize("site", ["shop", "far"])
@pytest.mark.parametrize(("name", "expected"), HANDED_OUT.items())
def test_the_application_hands_out_a_protected_file(host: Any, site: str, name: str, expected: tuple[str, ...]) -> None:
    url = f"https://{site}.example.com/hand-out/protected/{name}"
    answer = fetch(host, url, authority=f"{site}.crt")
    assert (answer.status, answer.body) == (200, "private")
    assert tuple(map(answer.one, ("content-type", "content-disposition", "cache-control"))) == expected
    assert str(answer.one("content-security-policy")).endswith("sandbox")
    assert answer.one("x-content-type-options") == "nosniff"
    assert answer.one("set-cookie") == "sessionid=1; Secure"
    assert answer.one("x-accel-redirect") is None


@pytest.mark.parametrize("site", ["shop", "far"])
@pytest.mark.parametrize("path", ["photo.png", "./photo.png", "%70hoto.png", "", "none.png", "../protected/photo.png"])
def test_nobody_helps_himself_to_a_protected_file(host: Any, site: str, path: str) -> None:
    for protected in ("/protected/", "//protected/", "/%70rotected/", "/static/../protected/"):
        answer = fetch(host, f"https://{site}.example.com{protected}{path}", authority=f"{site}.crt")
        assert answer.status == 404
        assert "private" not in answer.body


@pytest.mark.parametrize("path", [".private/note.png", "../protected/photo.png", "%2e%2e/static/app.css", "none"])
def test_the_application_hands_out_nothing_else_by_mistake(host: Any, path: str) -> None:
    answer = fetch(host, f"https://shop.example.com/hand-out/protected/{path}")
    assert answer.status == 404
    assert answer.body.startswith("<html>")


def test_a_paper_is_shown_unless_it_is_none(host: Any) -> None:
    """A browser shows no PDF under a strict policy; what only has such a name must not get by without one."""
    paper = fetch(host, "https://shop.example.com/hand-out/protected/paper.pdf")
    assert (paper.one("content-type"), paper.one("content-security-policy")) == (
        "application/pdf",
        "frame-ancestors 'self'",
    )
    page = fetch(host, "https://shop.example.com/hand-out/protected/paper.pdf?page")
    assert page.one("content-type") == "text/html"
    assert str(page.one("content-security-policy")).endswith("sandbox")


def test_a_javascript_module_is_javascript(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/static/module.mjs").one("content-type") == "text/javascript"


def test_a_long_static_file_is_compressed_on_its_way(host: Any) -> None:
    answer = fetch(host, "https://shop.example.com/static/long.js", "--compressed")
    assert (answer.one("content-encoding"), answer.one("vary")) == ("gzip", "Accept-Encoding")


def test_pages_are_compressed_only_where_somebody_answers_for_it(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/long", "--compressed").one("content-encoding") is None
    answer = fetch(host, "https://open.example.com/long", "--compressed", authority="open.crt")
    assert answer.one("content-encoding") == "gzip"


@pytest.mark.parametrize("path", ["/static/none", "/media/none", "/static/", "/media/", "/media/.private/note.png"])
def test_what_is_not_there_is_not_asked_of_the_application(host: Any, path: str) -> None:
    answer = fetch(host, f"https://shop.example.com{path}")
    assert answer.status in (403, 404)
    assert answer.one("set-cookie") is answer.one("cache-control") is None


@pytest.mark.parametrize("name", ["photo.png", "paper.pdf"])
def test_harmless_uploads_are_shown(host: Any, name: str) -> None:
    answer = fetch(host, f"https://shop.example.com/media/{name}")
    assert (answer.status, answer.one("content-disposition")) == (200, None)


@pytest.mark.parametrize("name", ["shell.php", "code.py", "page.html", "logo.svg"])
def test_other_uploads_are_only_saved(host: Any, name: str) -> None:
    answer = fetch(host, f"https://shop.example.com/media/{name}")
    assert (answer.status, answer.one("content-disposition")) == (200, "attachment")
    assert "sandbox" in str(answer.one("content-security-policy"))


@pytest.mark.parametrize(
    "path",
    [
        "/static/.env",
        "/static../secret/note.png",
        "/static/../secret/note.png",
        "/media/..%2fsecret/note.png",
        "/media/%2e%2e/secret/note.png",
        "/media/.private/note.png",
        "/media/invoices/note.png",
        "//media/./%69nvoices//note.png",
        "/media/link.png",
    ],
)
def test_nothing_else_of_the_disk_is_reached(host: Any, path: str) -> None:
    assert "private" not in fetch(host, f"https://shop.example.com{path}").body.replace(path, "")


# --- maintenance ---


@pytest.fixture
def maintenance(host: Any) -> Iterator[Callable[[str], None]]:
    """Begin it as a careful operator would at 3 a.m., who shows new files to nobody; it ends with the test."""
    yield lambda site: host.check_output(f"umask 077; touch {MAINTENANCE}/{site}.on")
    host.check_output(f"rm -f {MAINTENANCE}/*.on")


def test_maintenance_begins_and_ends_at_once_and_cuts_no_request(host: Any, address: str, maintenance: Any) -> None:
    asks = "GET {} HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n"
    answers: list[bytes] = []
    early = threading.Thread(
        target=lambda: answers.append(talk(address, asks.format("/slow/very"), "shop.example.com"))
    )
    early.start()
    time.sleep(2)
    maintenance("shop")
    assert talk(address, asks.format("/"), "shop.example.com").startswith(b"HTTP/1.1 503 ")
    early.join()
    assert answers[0].startswith(b"HTTP/1.1 200 ")
    assert fetch(host, "https://blog.example.com/", authority="blog.pem").status == 502
    host.check_output(f"rm {MAINTENANCE}/shop.on")
    assert talk(address, asks.format("/"), "shop.example.com").startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "options", [[], ["-H", "If-None-Match: *"], ["-d", "pay=1"], ["--http1.1", "--data-binary", "@/etc/services"]]
)
def test_in_maintenance_every_request_gets_a_page_that_nobody_keeps(
    host: Any, maintenance: Any, options: list[str]
) -> None:
    maintenance("shop")
    answer = fetch(host, "https://shop.example.com/cart/?a=b", *options)
    assert (answer.status, answer.one("retry-after"), answer.one("cache-control")) == (503, "300", "no-store")
    assert (answer.one("content-type"), answer.one("x-content-type-options")) == ("text/html", "nosniff")
    assert str(answer.one("content-security-policy")).startswith("default-src 'self'")
    assert '<meta name="viewport"' in answer.body
    assert '<meta name="robots" content="noindex">' in answer.body
    assert not re.search(r"https?:|src=|href=|url\(", answer.body)


def test_in_maintenance_files_are_still_sent(host: Any, maintenance: Any) -> None:
    maintenance("shop")
    assert fetch(host, "https://shop.example.com/static/app.css").status == 200
    assert fetch(host, "https://shop.example.com/media/photo.png").status == 200


def test_a_page_of_ones_own_is_shown_as_it_is(host: Any, maintenance: Any) -> None:
    maintenance("blog")
    answer = fetch(host, "https://blog.example.com/", authority="blog.pem")
    assert (answer.status, answer.one("retry-after"), answer.one("cache-control")) == (503, "300", "no-store")
    assert answer.one("strict-transport-security") == "max-age=3600"
    assert answer.body.strip() == (SCENARIO / "files/back-soon.html").read_text().strip()


def test_a_503_of_the_application_itself_passes_as_it_is(host: Any) -> None:
    busy = fetch(host, "https://shop.example.com/busy")
    assert (busy.status, busy.one("retry-after"), busy.one("cache-control")) == (503, "7", None)
    assert "x-forwarded-for" in seen(busy)


def test_only_root_begins_maintenance(host: Any) -> None:
    assert host.run(f"setpriv --reuid=www-data --clear-groups touch {MAINTENANCE}/shop.on").rc != 0


def test_a_later_run_leaves_a_site_in_maintenance(host: Any, maintenance: Any) -> None:
    maintenance("shop")
    assert "changed=0" in play().stdout
    host.check_output("systemctl restart nginx")
    assert fetch(host, "https://shop.example.com/").status == 503


# --- health ---


def test_a_monitor_hears_from_the_application_also_in_maintenance(host: Any, maintenance: Any) -> None:
    mark = f"?{time.time()}"
    before = fetch(host, f"https://shop.example.com/-/health{mark}")
    assert seen(before)["x-forwarded-proto"] == ["https"]
    maintenance("shop")
    assert fetch(host, f"https://shop.example.com/-/health{mark}").status == 200
    assert fetch(host, "https://shop.example.com/-/health/").status == 503
    assert mark not in host.check_output("cat /var/log/nginx/access.log")


def test_who_is_no_monitor_hears_nothing(host: Any, address: str) -> None:
    asks = "GET /-/health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n"
    assert talk(address, asks.format("shop.example.com"), "shop.example.com").startswith(b"HTTP/1.1 403 ")
    assert fetch(host, "https://blog.example.com/healthz", authority="blog.pem").status == 403


# --- the operator ---


def test_no_key_can_be_read_by_others(host: Any) -> None:
    assert host.run("setpriv --reuid=nobody --clear-groups grep -r KEY /etc/nginx/tls").rc == 2


def test_sites_come_and_go_and_no_request_is_lost(host: Any, address: str, restored: None) -> None:  # noqa: ARG001
    asks = "GET /slow HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n"
    stop, answers = threading.Event(), []

    def visit() -> None:
        while not stop.is_set():
            answers.append(talk(address, asks, "shop.example.com")[:12])

    visitors = [threading.Thread(target=visit) for _ in range(4)]
    for visitor in visitors:
        visitor.start()
    host.check_output(f"touch {MAINTENANCE}/blog.on")
    domains = ["shop.example.com", f"{'a' * 60}.shop.example.com"]
    site = {"name": "shop", "domains": domains, "upstream": "/run/echo.sock", "hsts_seconds": 0}
    run = play("-vvv", "--diff", nginx_tls_sites=[site], nginx_tls_policy="modern", nginx_tls_http3=False)
    stop.set()
    for visitor in visitors:
        visitor.join()
    assert "failed=0" in run.stdout
    assert len(answers) > len(visitors)
    assert set(answers) == {b"HTTP/1.1 200"}
    answer = fetch(host, f"https://{domains[1]}/", "--tlsv1.3")
    assert (answer.status, answer.one("strict-transport-security"), answer.one("alt-svc")) == (200, None, None)
    assert host.run("curl -sk --tls-max 1.2 --connect-to ::127.0.0.1: https://shop.example.com/").rc == 35
    assert talk(address, "GET / HTTP/1.1\r\nHost: blog.example.com\r\n\r\n") == b""
    assert host.check_output("ls /etc/nginx/tls").split() == ["shop.crt", "shop.key"]
    assert host.check_output(f"ls {MAINTENANCE}").split() == ["shop.html"]


def test_a_bad_configuration_never_lands(host: Any) -> None:
    before = host.check_output("sha256sum /etc/nginx/conf.d/groundwork.conf")
    run = play(nginx_tls_sites=[{"name": "shop", "domains": ["shop.example.com"], "upstream": "nowhere.invalid:80"}])
    assert "host not found in upstream" in run.stdout + run.stderr
    assert host.check_output("sha256sum /etc/nginx/conf.d/groundwork.conf") == before
    assert host.check_output("ls /tmp | grep -c ^tmp || true") == "0"
    host.check_output("systemctl restart nginx")


def test_a_key_of_another_certificate_never_lands(host: Any) -> None:
    other = EPHEMERAL / "other.key"
    subprocess.run(["openssl", "genrsa", "-out", other, "2048"], check=True, capture_output=True)
    files = {"mode": "files", "certificate": str(EPHEMERAL / "blog.pem"), "key": str(other)}
    site = {"name": "blog", "domains": ["blog.example.com"], "upstream": "127.0.0.1:8000", "certificate": files}
    run = play("-vvv", "--diff", nginx_tls_sites=[site])
    text = run.stdout + run.stderr
    assert "key values mismatch" in text
    secret = other.read_text().splitlines()[1]
    assert secret not in text
    assert host.run(f"journalctl --no-pager | grep -F {secret}").rc == 1
    host.check_output("nginx -t")


def test_drift_is_repaired_and_an_interrupted_run_is_finished(host: Any) -> None:
    host.check_output("rm /etc/nginx/tls/shop.crt; chmod 644 /etc/nginx/tls/blog.pem; systemctl stop nginx")
    host.check_output("echo junk >>/etc/nginx/conf.d/groundwork.conf")
    assert "failed=0" in play().stdout
    assert fetch(host, "https://shop.example.com/").status == 200
    assert host.file("/etc/nginx/tls/blog.pem").mode == 0o600

    host.check_output("touch /etc/nginx/conf.d/groundwork.conf")
    assert "RUNNING HANDLER [groundwork.django.nginx_tls : Reload nginx]" in play().stdout
    assert "changed=0" in play().stdout


def test_mistakes_are_named_before_the_server_is_touched() -> None:
    files = {"certificate": "/a.crt", "key": "/a.key", "ca": "/ca.crt"}
    routes: list[dict[str, Any]] = [{"path": "/static/"}, {"path": "/"}, {"path": "/x/", "upstream": "y", "timeout": 0}]
    sites = [
        {"name": "Shop", "domains": ["a.example.com", "A.example.com"], "upstream": "run/echo.sock"},
        {"name": "b", "domains": ["a.example.com"], "upstream": "app:80", "max_body_size": "25 MB"},
        {"name": "b", "domains": [], "upstream": "app:80", "media_root": "media", "static_root": "/srv/a; b/"},
        {"name": "c", "domains": ["c.example.com"], "upstream": "app:80", "certificate": {"certificate": "c.pem"}},
        {"name": "d", "domains": ["d.example.com"], "upstream": "app:80", "certificate": {"mode": "files", "key": "x"}},
        {"name": "e", "domains": ["e.example.com"], "upstream": "app:80", "maintenance_page": "/no/such/page.html"},
        {"name": "f", "domains": ["f.example.com"], "upstream": "app:80", "health_path": "/a b"},
        {"name": "g", "domains": ["g.example.com"], "upstream": "app:80", "health_path": "/"},
        {
            "name": "h",
            "domains": ["h.example.com"],
            "upstream": "app:80",
            "monitors": ["192.0.2.7/24", "2001:db8::/32"],
        },
        {"name": "i", "domains": ["i.example.com"], "upstream": "app:80", "hsts_seconds": 3600, "hsts_preload": True},
        {"name": "j", "domains": ["j.example.com"], "upstream": "app:80", "requests_per_second": -1},
        {
            "name": "k",
            "domains": ["k.example.com"],
            "redirect_domains": ["a.example.com", "B"],
            "upstreams": ["app", "a:1"],
        },
        {"name": "l", "domains": ["l.example.com"], "upstream": "app:80", "upstreams": ["a:1"], "static_url": "/s/"},
        {"name": "m", "domains": ["m.example.com"], "upstream": "app:80", "media_url": "https://cdn.example.com/"},
        {"name": "n", "domains": ["n.example.com"], "upstream": "app:80", "protected_url": "/files/"},
        {
            "name": "o",
            "domains": ["o.example.com"],
            "upstreams": [],
            "protected_url": "/f/",
            "protected_root": "/srv/f",
        },
        {"name": "p", "domains": ["p.example.com"], "upstream": "app:80", "static_root": "/srv/p", "routes": routes},
        {"name": "r", "domains": ["r.example.com"], "upstream": "app:80", "path": "r/"},
        {"name": "s", "domains": ["r.example.com"], "upstream": "app:80", "path": "/static", "hsts_seconds": 1},
        {"name": "t", "domains": ["r.example.com"], "upstream": "app:80", "static_root": "/srv/t"},
        {"name": "u", "domains": ["u.example.com"], "upstream": "app:80", "media_private": ["../x"]},
        {"name": "q", "internal": True, "domains": ["a.example.com"], "upstreams": ["a:1"], "hsts_seconds": 1},
    ]
    internal = {"certificate": "/a.crt", "key": "/a.key", "ca": "/ca.crt", "port": 443, "clients": ["a b"]}
    run = play(nginx_tls_sites=sites, nginx_tls_internal=internal, nginx_tls_upstream_tls={**files, "name": "Apps"})
    text = " ".join((run.stdout + run.stderr).split())
    for mistake in (
        'the name "Shop" must',
        '2 sites have the name "b"',
        'the domain "a.example.com" is listed more than once',
        "b: domains must be the same as for Shop",
        "Shop, b: / is the path of more than one of path",
        'r: path is "r/"',
        "s: hsts_seconds must be the same as for r",
        "r, s, t: /static/ is the path of more than one of path",
        '"A.example.com" in domains is no host name',
        'upstream is "run/echo.sock"',
        'max_body_size is "25 MB"',
        "domains is empty",
        'media_root is "media"',
        'static_root is "/srv/a; b/"',
        'set its mode to "files"',
        'the mode "files" but no certificate',
        'key "x" is no PEM file',
        'maintenance_page "/no/such/page.html" is no file with a page on the control node',
        'health_path is "/a b"',
        'health_path is "/"',
        '"192.0.2.7/24" in monitors is no IP address or network',
        "i: hsts_preload needs hsts_include_subdomains and hsts_seconds of at least 31536000",
        "j: requests_per_second is -1",
        'k: "B" in domains is no host name',
        'k: "app" in upstreams must be host:port',
        "l: give either upstream, where the application listens, or upstreams",
        "m: media_url is given without media_root",
        '"https://cdn.example.com/" in static_url, media_url or protected_url must begin and end with a slash',
        "n: give both protected_url, which the application names, and protected_root",
        'u: "../x" in media_private is no folder below media_root',
        "u: media_private is given without media_root",
        "o: upstreams is empty",
        "o: protected_root is the affair of the hosts in upstreams",
        'p: the path of a route is "/"',
        "p: /static/ is the path of more than one of path, static_url",
        'p: upstream of /x/ is "y"',
        "p: timeout of /x/ must be at least 1",
        "q: what is internal needs upstream",
        "q: hsts_seconds is the affair of the web servers that visitors come to",
        'nginx_tls_upstream_tls: "Apps" is no host name',
        "nginx_tls_internal: port is 443",
        'nginx_tls_internal: "a b" in clients must hold only letters',
    ):
        assert mistake in text
    assert "2001:db8" not in text
    assert "Install nginx" not in text
