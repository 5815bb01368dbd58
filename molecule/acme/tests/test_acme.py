"""Certificates of a real ACME server: when it is asked, what visitors get, and what is said when something is wrong."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import testinfra

SCENARIO = Path(__file__).parents[1]
EPHEMERAL = Path(os.environ["EPHEMERAL"])
sys.path.insert(0, str(SCENARIO.parent / "shared"))

from load import Traffic

testinfra_hosts = ["ansible://web1"]
SHOP = ["shop.example.com", "www.shop.example.com"]
STATE = "/var/lib/nginx-tls"
PROXY = "https://ca1:14001/dir"
HMAC = "canary-eab-key-zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV"


def site(name: str, *domains: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "domains": list(domains),
        "upstream": "/run/echo.sock",
        "certificate": {"mode": "acme"},
        **more,
    }


BLOG = site("blog", "blog.example.com")


def play(*options: str, **variables: Any) -> str:
    """Run the role again, with other variables, and return what it said."""
    command = ["ansible-playbook", "--inventory", EPHEMERAL / "inventory", "--extra-vars", json.dumps(variables)]
    done = subprocess.run([*command, *options, SCENARIO / "converge.yml"], capture_output=True, text=True, check=False)
    return re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.fixture(scope="module")
def ca() -> Any:
    return testinfra.get_host("ansible://ca1", ansible_inventory=str(EPHEMERAL / "inventory"))


def asked(ca: Any, path: str = "") -> int:
    """How often Pebble was asked for something, such as order-plz, which is a new order."""
    return int(
        ca.check_output(f"journalctl --unit pebble --output cat | grep -c '{path}.* -> calling handler' || true")
    )


@contextmanager
def orders(ca: Any, expected: int) -> Iterator[None]:
    before = asked(ca, "order-plz")
    yield
    assert asked(ca, "order-plz") - before == expected


@pytest.fixture
def restored(ca: Any) -> Iterator[None]:
    """Put everything back to what the scenario describes."""
    yield
    folder = "/run/systemd/system/pebble.service.d"
    ca.check_output(
        f"rm -f /run/limits; systemctl start pebble; "
        f"if [ -e {folder} ]; then rm -r {folder}; systemctl daemon-reload; systemctl restart pebble; fi"
    )
    assert "failed=0" in play()


def pebble(ca: Any, *lines: str) -> None:
    """Start it anew, with other options."""
    folder = "/run/systemd/system/pebble.service.d"
    text = "\\n".join(("[Service]", *lines))
    ca.check_output(
        f"mkdir -p {folder}; printf '{text}\\n' >{folder}/test.conf; systemctl daemon-reload; systemctl restart pebble"
    )
    ca.check_output("until curl -sko /dev/null https://127.0.0.1:14000/dir; do sleep 0.1; done")


@pytest.fixture
def authority(ca: Any) -> Path:
    """What browsers would trust, if Pebble were a real CA. It makes a new one at each start."""
    path = EPHEMERAL / "root.pem"
    path.write_text(ca.check_output("curl -sk https://127.0.0.1:15000/roots/0"))
    return path


@pytest.fixture(scope="module")
def address(host: Any) -> str:
    return str(host.ansible.get_variables()["ansible_host"])


def certificate(host: Any, domain: str) -> str:
    """What visitors are shown."""
    shown = f"openssl s_client -connect 127.0.0.1:443 -servername {domain} </dev/null 2>/dev/null"
    return str(host.check_output(f"{shown} | openssl x509 -noout -issuer -serial -ext subjectAltName"))


def changed(host: Any, domain: str, before: str) -> bool:
    """Whether visitors are shown another one. After a reload nginx needs a moment."""
    until = time.monotonic() + 3
    while (same := certificate(host, domain) == before) and time.monotonic() < until:
        time.sleep(0.2)
    return not same


def names(host: Any, domain: str) -> set[str]:
    return set(re.findall(r"DNS:([^,\s]+)", certificate(host, domain)))


def visit(address: str, domain: str, trust: Path) -> None:
    """Come as a browser does, which is strict about the certificate."""
    context = ssl.create_default_context(cafile=str(trust))
    with context.wrap_socket(socket.create_connection((address, 443), 10), server_hostname=domain) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: {domain}\r\nConnection: close\r\n\r\n".encode())
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200


def renew(host: Any) -> tuple[int, str]:
    """What the timer does; return how it ended, and what it said."""
    done = host.run(
        "since=$(date '+%F %T.%6N'); systemctl start nginx-tls-certificates; echo $?; "
        'journalctl --unit nginx-tls-certificates --output cat --since "$since"'
    )
    status, _, said = str(done.stdout).partition("\n")
    return int(status), said


def forget(host: Any, *sites: str) -> None:
    """As an operator would, who wants a new key at once."""
    host.check_output("rm " + " ".join(f"{STATE}/sites/{name}.pem" for name in sites))


def age(host: Any, name: str, domains: list[str], life: float, left: float) -> None:
    """Let the certificate of a site have a life of so many days, of which so many are left."""
    until = datetime.now(timezone.utc) + timedelta(days=left)
    dates = [f"{date:%Y%m%d%H%M%SZ}" for date in (until - timedelta(days=life), until)]
    alternatives = ",".join(f"DNS:{domain}" for domain in domains)
    before = certificate(host, domains[0])
    host.check_output(
        f"cd $(mktemp -d) && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout key -out crt "
        f"-subj / -not_before {dates[0]} -not_after {dates[1]} -addext subjectAltName={alternatives} 2>/dev/null && "
        f"cat crt key | tee {STATE}/sites/{name}.pem >/etc/nginx/tls/{name}.pem && systemctl reload nginx"
    )
    assert changed(host, domains[0], before)


# --- when all is well ---


@pytest.mark.parametrize("domain", [*SHOP, "blog.example.com"])
def test_visitors_get_a_certificate_of_the_ca(authority: Path, address: str, domain: str) -> None:
    visit(address, domain, authority)


def test_a_second_run_changes_nothing_and_asks_the_ca_nothing(host: Any, ca: Any) -> None:
    before = asked(ca)
    assert "changed=0" in play()
    assert "changed=0" in play("--check", "--diff")
    assert renew(host)[0] == 0
    assert asked(ca) == before


def test_keys_are_for_root_and_the_service_only(host: Any) -> None:
    for path in ("/etc/nginx/tls/shop.pem", f"{STATE}/sites/shop.pem", f"{STATE}/account.pem"):
        assert host.run(f"runuser -u www-data -- cat {path}").rc != 0
        assert host.file(path).mode == 0o600
    assert host.file(f"{STATE}/account.pem").user not in ("root", "www-data")


def test_the_service_is_locked_in(host: Any) -> None:
    said = host.check_output("systemd-analyze security --no-pager nginx-tls-certificates.service | tail -n1")
    assert float(re.search(r"[0-9.]+(?= )", said.partition("service: ")[2]).group()) <= 3.0


def test_it_comes_back_twice_a_day_also_after_a_reboot(host: Any) -> None:
    assert host.check_output("systemctl is-enabled nginx-tls-certificates.timer") == "enabled"
    assert "nginx-tls-certificates.timer" in host.check_output("systemctl list-timers --no-pager")


def test_nothing_but_proofs_is_shown_over_http(host: Any) -> None:
    ask = "curl -so /dev/null -w '%{http_code}' -H 'Host: shop.example.com' --path-as-is http://127.0.0.1"
    assert host.check_output(f"{ask}/.well-known/acme-challenge/none") == "404"
    assert host.check_output(f"{ask}/.well-known/other") == "308"
    assert host.check_output(f"{ask}/.well-known/acme-challenge/../../../etc/passwd") in ("308", "400", "404")


def test_a_trusted_certificate_lets_browsers_insist_on_https(host: Any) -> None:
    head = host.check_output("curl -skI --connect-to ::127.0.0.1: https://shop.example.com/")
    assert "strict-transport-security: max-age=3600" in head.lower()


@pytest.mark.usefixtures("restored")
def test_a_new_name_takes_one_order_and_so_does_its_end(host: Any, ca: Any) -> None:
    with orders(ca, 1):
        assert "failed=0" in play(nginx_tls_sites=[site("shop", *SHOP, "new.shop.example.com"), BLOG])
    assert names(host, SHOP[0]) == {*SHOP, "new.shop.example.com"}
    with orders(ca, 1):
        assert "failed=0" in play()
    assert names(host, SHOP[0]) == set(SHOP)


@pytest.mark.parametrize(
    ("life", "left", "renewed"),
    [(90, 31, 0), (90, 29, 1), (45, 16, 0), (45, 14, 1), (6, 2.1, 0), (6, 1.9, 1)],
)
def test_the_timer_renews_in_the_last_third_of_a_life(
    host: Any, ca: Any, life: float, left: float, renewed: int
) -> None:
    age(host, "shop", SHOP, life, left)
    before = certificate(host, SHOP[0])
    with orders(ca, renewed):
        assert renew(host)[0] == 0
    assert changed(host, SHOP[0], before) == bool(renewed)


def test_a_renewal_under_load_fails_no_request(host: Any, authority: Path, address: str) -> None:
    renew(host)
    forget(host, "shop")
    renew(host)
    before = certificate(host, SHOP[0])
    with Traffic(SHOP[0], address, authority, 200, again=True) as traffic:
        time.sleep(2)
        for _time in range(2):
            forget(host, "shop")
            assert renew(host)[0] == 0
        time.sleep(1)
    assert changed(host, SHOP[0], before)
    assert not traffic.failures
    assert len(traffic.answers) > 500


@pytest.mark.usefixtures("restored")
def test_it_bears_with_a_ca_that_refuses_half_of_its_nonces(host: Any, ca: Any) -> None:
    pebble(ca, "Environment=PEBBLE_WFE_NONCEREJECT=50 PEBBLE_AUTHZREUSE=50")
    for _time in range(2):
        forget(host, "shop", "blog")
        assert renew(host)[0] == 0


@pytest.mark.usefixtures("restored")
def test_another_ca_makes_all_of_them_anew(ca: Any) -> None:
    with orders(ca, 2):
        assert "failed=0" in play(nginx_tls_acme_server=PROXY)
    with orders(ca, 2):
        assert "failed=0" in play()


@pytest.mark.usefixtures("restored")
def test_what_a_site_had_goes_with_it(host: Any, ca: Any) -> None:
    assert "failed=0" in play(nginx_tls_sites=[site("shop", *SHOP)])
    assert not host.file("/etc/nginx/tls/blog.pem").exists
    with orders(ca, 0):
        renew(host)
    assert not host.run(f"ls {STATE}/sites | grep blog").stdout
    assert "failed=0" in play(nginx_tls_sites=[site("shop", *SHOP, certificate={"mode": "selfsigned"})])
    assert not host.file("/etc/nginx/tls/shop.pem").exists
    assert not host.run("systemctl list-timers --all | grep nginx-tls").stdout
    assert not host.file(f"{STATE}").exists
    assert "changed=0" in play(nginx_tls_sites=[site("shop", *SHOP, certificate={"mode": "selfsigned"})])


# --- when something is wrong ---


@pytest.mark.usefixtures("restored")
def test_a_domain_that_leads_elsewhere_is_named_and_stops_no_other(
    host: Any, ca: Any, authority: Path, address: str
) -> None:
    elsewhere = host.check_output("getent ahostsv4 elsewhere.example.com").split()[0]
    sites = [
        site("stray", "elsewhere.example.com"),
        site("nowhere", "nowhere.example.com"),
        site("new", "new.shop.example.com"),
        site("shop", *SHOP),
        BLOG,
    ]
    with orders(ca, 1):
        said = play(nginx_tls_sites=sites)
    assert "failed=1" in said
    assert (
        f"stray does not have the certificate that it should have: elsewhere.example.com resolves to {elsewhere}, but"
        in said
    )
    assert (
        f"{elsewhere} does not answer on port 80 ([Errno 111] Connection refused): let its A and AAAA records" in said
    )
    assert "nowhere.example.com has no address" in said
    visit(address, "new.shop.example.com", authority)
    assert "CN=stray" in certificate(host, "elsewhere.example.com").replace(" ", "")


@pytest.mark.usefixtures("restored")
def test_a_name_that_the_ca_refuses_is_named(host: Any) -> None:
    said = play(nginx_tls_sites=[site("shop", *SHOP, "blocked.example.com"), BLOG])
    assert "failed=1" in said
    assert "the CA refuses:" in said
    assert "blocked.example.com" in said.partition("the CA refuses:")[2]
    assert names(host, SHOP[0]) == set(SHOP)


@pytest.mark.usefixtures("restored")
def test_a_ca_that_is_down_is_a_warning_while_the_certificate_is_good(host: Any, ca: Any) -> None:
    age(host, "shop", SHOP, 90, 10)
    before = certificate(host, SHOP[0])
    ca.check_output("systemctl stop pebble")
    said = play()
    assert "failed=0" in said
    assert "WARNING: the certificate of shop is still good, but it cannot be renewed: the CA cannot be used at" in said
    assert certificate(host, SHOP[0]) == before
    status, said = renew(host)
    assert status != 0
    assert "the CA cannot be used at https://ca1:14000/dir" in said


@pytest.mark.usefixtures("restored")
def test_a_ca_that_is_down_at_first_is_a_failure_and_nginx_runs(host: Any, ca: Any) -> None:
    ca.check_output("systemctl stop pebble")
    said = play(nginx_tls_sites=[site("new", "new.shop.example.com"), site("shop", *SHOP), BLOG])
    assert "failed=1" in said
    assert (
        "new does not have the certificate that it should have: the CA cannot be used at https://ca1:14000/dir" in said
    )
    assert host.service("nginx").is_running
    assert "CN=new" in certificate(host, "new.shop.example.com").replace(" ", "")


@pytest.mark.usefixtures("restored")
def test_a_ca_whose_https_is_not_trusted_is_told_apart() -> None:
    said = play(
        nginx_tls_acme_ca_bundle="/etc/ssl/certs/ca-certificates.crt",
        nginx_tls_sites=[site("shop", *SHOP), site("new", "new.shop.example.com")],
    )
    assert "failed=1" in said
    assert "or set nginx_tls_acme_ca_bundle" in said


@pytest.mark.usefixtures("restored")
def test_a_limit_of_the_ca_is_respected(host: Any, ca: Any) -> None:
    assert "failed=0" in play(nginx_tls_acme_server=PROXY)
    ca.check_output("touch /run/limits")
    more = [site("shop", *SHOP, "new.shop.example.com"), BLOG]
    said = play(nginx_tls_acme_server=PROXY, nginx_tls_sites=more)
    assert "failed=1" in said
    resume = re.search(
        r"too many certificates already issued .*?: it is not asked again before ([0-9-]+ [0-9:]+) UTC", said
    )
    assert resume
    moment = datetime.fromisoformat(f"{resume.group(1)}+00:00")
    assert timedelta(minutes=110) < moment - datetime.now(timezone.utc) < timedelta(minutes=121)
    before = asked(ca)
    said = play(nginx_tls_acme_server=PROXY, nginx_tls_sites=more)
    assert "failed=1" in said
    assert resume.group(0) in said
    assert renew(host)[0] != 0
    assert asked(ca) == before
    assert names(host, SHOP[0]) == set(SHOP)


@pytest.mark.usefixtures("restored")
def test_an_account_that_the_ca_has_forgotten_is_made_again(host: Any, ca: Any) -> None:
    pebble(ca)
    forget(host, "shop")
    assert renew(host)[0] == 0


@pytest.mark.usefixtures("restored")
def test_an_account_that_was_closed_is_told_and_can_be_replaced(host: Any) -> None:
    close = (
        "import sys; sys.path.insert(0, '/usr/local/lib/nginx-tls-certificates'); import authority, settings; "
        "ca = authority.Authority(settings.read()).client; ca.deactivate_registration(ca.net.account)"
    )
    host.check_output(f'python3 -Bc "{close}"')
    forget(host, "shop")
    before = certificate(host, SHOP[0])
    status, said = renew(host)
    assert status != 0
    assert f"rm {STATE}/account.pem lets the next run make a new one" in said
    assert certificate(host, SHOP[0]) == before
    host.check_output(f"rm {STATE}/account.pem")
    assert renew(host)[0] == 0
    assert changed(host, SHOP[0], before)


@pytest.mark.usefixtures("restored")
def test_a_ca_that_wants_a_binding_gets_it_and_nobody_else_does(host: Any, ca: Any) -> None:
    ca.check_output('sed s/BindingRequired.:.false/BindingRequired\\":true/ /etc/pebble/settings.json >/run/bound.json')
    pebble(ca, "ExecStart=", "ExecStart=pebble -config /run/bound.json -strict -dnsserver 127.0.0.1:8053")
    host.check_output(f"rm {STATE}/account.pem")
    forget(host, "shop")
    said = play()
    assert "set nginx_tls_acme_eab to what this CA has given you" in said
    said = play("-vvv", nginx_tls_acme_eab={"kid": "kid-1", "hmac_key": HMAC})
    assert "failed=0" in said
    assert HMAC not in said.replace("--extra-vars", "")
    assert host.file("/etc/nginx-tls/eab.json").mode == 0o600
    found = host.run(f"journalctl | grep -F {HMAC}; grep -rlF {HMAC} /etc /var /run /tmp --exclude=eab.json").stdout
    assert found == ""


@pytest.mark.usefixtures("restored")
def test_a_configuration_that_nginx_refuses_costs_nothing_but_the_renewal(host: Any, ca: Any) -> None:
    forget(host, "shop")
    before = certificate(host, SHOP[0])
    host.check_output("echo nonsense >/etc/nginx/conf.d/broken.conf")
    assert renew(host)[0] != 0
    assert certificate(host, SHOP[0]) == before
    host.check_output("rm /etc/nginx/conf.d/broken.conf")
    with orders(ca, 0):
        assert renew(host)[0] == 0
    assert changed(host, SHOP[0], before)


def test_mistakes_are_named_before_anything_is_touched() -> None:
    said = play(
        nginx_tls_sites=[
            site("one", "*.example.com", "intranet", "192.0.2.7"),
            site("two", "two.example.com", certificate={"mode": "acme", "key": "/a"}),
        ],
        nginx_tls_acme_server="http://ca1/dir",
        nginx_tls_acme_staging=True,
        nginx_tls_acme_email="admin",
        nginx_tls_acme_ca_bundle="/nowhere.pem",
        nginx_tls_acme_eab={"kid": "a", "hmac_key": "no!"},
    )
    assert "changed=0" in said
    for message in (
        'one: "*.example.com" in domains can have no certificate by ACME',
        'one: "intranet" in domains can have no certificate by ACME',
        '"192.0.2.7" in domains is no host name',
        'two: certificate names files; set its mode to "files"',
        'nginx_tls_acme_server: "http://ca1/dir" must be the URL',
        "nginx_tls_acme_staging: is for Let's Encrypt, but nginx_tls_acme_server is",
        'nginx_tls_acme_email: "admin" must be one e-mail address',
        'nginx_tls_acme_ca_bundle: "/nowhere.pem" is no PEM file',
        "nginx_tls_acme_eab: hmac_key must be the text",
    ):
        assert message in said
