"""What visitors, strangers and applications get from nginx."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

SCENARIO = Path(__file__).parents[1]
EPHEMERAL = Path(os.environ["EPHEMERAL"])
MAINTENANCE = "/etc/nginx/maintenance"


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: str

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header == name]

    def one(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, f"{name} is set more than once: {values}"
        return values[0] if values else None


def fetch(host: Any, url: str, *options: str, authority: str = "shop.crt") -> Answer:
    """Visit with curl, as a browser that trusts the certificate."""
    words = " ".join(f"'{word}'" for word in (*options, url))
    trust = f"--cacert /etc/nginx/tls/{authority}"
    text = host.check_output(f"curl -sSi --path-as-is --connect-to ::127.0.0.1: {trust} {words}").replace("\r", "")
    head, _, body = text.partition("\n\n")
    status, *lines = head.splitlines()
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Answer(int(status.split()[1]), headers, body)


def seen(answer: Answer) -> dict[str, list[str]]:
    """What the application saw of a request, by header."""
    headers: dict[str, list[str]] = {}
    for name, value in json.loads(answer.body)["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    return headers


@pytest.fixture(scope="module")
def address(host: Any) -> str:
    return str(host.check_output("hostname -I")).split()[0]


def talk(address: str, request: str, name: str | None = None) -> bytes:
    """Say something over a raw connection, with TLS if there is a name to ask for, and return all that comes back."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((address, 443 if name else 80), timeout=10) as plain:
        connection = context.wrap_socket(plain, server_hostname=name) if name else plain
        connection.sendall(request.encode())
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                received += part
        return received


def play(*options: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """Run the role again, with other variables."""
    command = ["ansible-playbook", "--inventory", EPHEMERAL / "inventory", "--extra-vars", json.dumps(variables)]
    return subprocess.run([*command, *options, SCENARIO / "converge.yml"], capture_output=True, text=True, check=False)


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


def test_a_websocket_passes(address: str) -> None:
    asks = "GET /socket HTTP/1.1\r\nHost: shop.example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello"
    answer = talk(address, asks, "shop.example.com")
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert answer.endswith(b"echo:hello")


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
        host.check_output("systemctl start echo.service; sleep 1")
    assert fetch(host, "https://shop.example.com/").status == 200


# --- headers ---


@pytest.mark.parametrize("path", ["/", "/django", "/static/app.css", "/static/none", "/media/photo.png", "/media/none"])
def test_sniffing_is_forbidden_once(host: Any, path: str) -> None:
    assert fetch(host, f"https://shop.example.com{path}").one("x-content-type-options") == "nosniff"


@pytest.mark.parametrize("path", ["/", "/static/app.css", "/media/photo.png"])
def test_a_self_signed_site_does_not_insist_on_https(host: Any, path: str) -> None:
    assert fetch(host, f"https://shop.example.com{path}").one("strict-transport-security") is None


def test_the_hsts_of_the_application_wins(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/django").one("strict-transport-security") == "max-age=60"


def test_a_bought_certificate_insists_on_https(host: Any) -> None:
    answer = fetch(host, "https://blog.example.com/", authority="blog.pem")
    assert answer.one("strict-transport-security") == "max-age=3600"


def test_the_version_of_nginx_is_not_told(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/static/none").one("server") == "nginx"


# --- static files and uploads ---


def test_a_hashed_file_is_kept_for_ever_and_sent_compressed(host: Any) -> None:
    plain = fetch(host, "https://shop.example.com/static/app.55e7cbb9ba48.css")
    packed = fetch(host, "https://shop.example.com/static/app.55e7cbb9ba48.css", "--compressed")
    assert (plain.body, packed.body) == ("plain", "compressed")
    for answer in plain, packed:
        assert answer.one("cache-control") == "public, max-age=31536000, immutable"
        assert answer.one("vary") == "Accept-Encoding"
        assert answer.one("content-type") == "text/css"


def test_other_static_files_are_asked_for_again(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/static/app.css").one("cache-control") == "public, max-age=300"


def test_a_javascript_module_is_javascript(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/static/module.mjs").one("content-type") == "text/javascript"


def test_long_pages_are_compressed(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/long", "--compressed").one("content-encoding") == "gzip"


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
    early = threading.Thread(target=lambda: answers.append(talk(address, asks.format("/slow"), "shop.example.com")))
    early.start()
    time.sleep(0.5)
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
    run = play("-vvv", "--diff", nginx_tls_sites=[{"name": "shop", "domains": domains, "upstream": "/run/echo.sock"}])
    stop.set()
    for visitor in visitors:
        visitor.join()
    assert "failed=0" in run.stdout
    assert len(answers) > len(visitors)
    assert set(answers) == {b"HTTP/1.1 200"}
    assert fetch(host, f"https://{domains[1]}/").status == 200
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
    ]
    run = play(nginx_tls_sites=sites)
    text = " ".join((run.stdout + run.stderr).split())
    for mistake in (
        'the name "Shop" must',
        '2 sites have the name "b"',
        'the domain "a.example.com" is listed more than once',
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
    ):
        assert mistake in text
    assert "2001:db8" not in text
    assert "Install nginx" not in text
