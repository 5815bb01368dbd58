"""What a stranger gets who speaks with the site: always the same headers, and nothing from who is not its server."""

from __future__ import annotations

import re
from typing import Any

import pytest

testinfra_hosts = ["ansible://site1"]

SITE = "https://guestbook.test"
CURL = "curl --silent --show-error --cacert /root/authority.pem --max-time 20"
HEADERS = {
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
    "cross-origin-opener-policy",
    "cross-origin-resource-policy",
    "content-security-policy",
}


def answer(outside: Any, path: str) -> tuple[int, dict[str, list[str]]]:
    text = outside.check_output(f"{CURL} --dump-header - --output /dev/null {SITE}{path}").replace("\r", "")
    first, *lines = text.strip().splitlines()
    headers: dict[str, list[str]] = {}
    for name, _, value in (line.partition(": ") for line in lines):
        headers.setdefault(name.lower(), []).append(value)
    return int(first.split()[1]), headers


def test_site_yml_brought_a_certificate_of_the_ca_with_one_order(host: Any, outside: Any) -> None:
    """Also after the second run."""
    assert outside.run(f"{CURL} {SITE}/").rc == 0
    orders = outside.check_output("journalctl --unit pebble --no-pager | grep -c 'POST /order-plz'")
    assert int(orders) == 1
    del host


@pytest.fixture(scope="module")
def paths(host: Any, outside: Any) -> dict[str, int]:
    """Return a path for each kind of answer, and its status."""
    page = outside.check_output(f"{CURL} {SITE}/")
    static = re.search(r'href="(/static/[^"]+)"', page)
    assert static
    host.check_output("echo picture > /srv/guestbook/media/one.png")
    return {
        "/": 200,
        "/no/such/page": 404,
        "/admin/": 302,
        static.group(1): 200,
        "/static/no-such.css": 404,
        "/media/one.png": 200,
        "/media/no-such.png": 404,
    }


def assert_complete(outside: Any, path: str, status: int) -> None:
    found, headers = answer(outside, path)
    assert found == status, path
    assert {name: headers.get(name, []) for name in HEADERS if len(headers.get(name, [])) != 1} == {}, path
    assert headers["strict-transport-security"] == ["max-age=63072000"], path


def test_each_answer_has_the_same_headers_once(paths: dict[str, int], outside: Any) -> None:
    for path, status in paths.items():
        assert_complete(outside, path, status)


@pytest.mark.parametrize(("unit", "status"), [("pgbouncer.service", 500), ("gunicorn-guestbook@?.*", 502)])
def test_so_have_errors(host: Any, outside: Any, unit: str, status: int) -> None:
    stopped = host.check_output(f"systemctl list-units --plain --no-legend '{unit}' | cut -d' ' -f1").split()
    host.check_output(f"systemctl stop {' '.join(stopped)}")
    try:
        assert_complete(outside, "/", status)
    finally:
        host.check_output(f"systemctl start {' '.join(stopped)}")
