"""When a certificate is due, and what is said where there is none."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles/nginx_tls/files/certificates"
NOW = 1_800_000_000.0
DAY = 24 * 3600
HERE = "https://ca.example.com/dir"
SHOWN = """notBefore=Nov 21 22:30:22 2026 GMT
notAfter=Feb 19 22:30:21 2027 GMT
X509v3 Subject Alternative Name: critical
    DNS:shop.example.com, DNS:www.shop.example.com
"""


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    known = set(sys.modules)
    monkeypatch.syspath_prepend(PROGRAM)
    yield importlib.import_module
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.fixture
def state(module: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return the state of a site whose certificate is for shop.example.com and has 40 of its 90 days left."""
    found = module("state")
    monkeypatch.setattr(found, "SITES", tmp_path)
    monkeypatch.setattr(found, "SERVED", tmp_path / "served")
    (tmp_path / "served").mkdir()
    certificate = module("certificate")
    there = certificate.Certificate(frozenset({"shop.example.com"}), NOW - 50 * DAY, NOW + 40 * DAY)
    monkeypatch.setattr(found.certificate, "read", lambda pem: there if pem else None)
    for folder in (tmp_path, tmp_path / "served"):
        (folder / "shop.pem").write_text("pem")
    (tmp_path / "shop.json").write_text(json.dumps({"server": HERE, "issued": NOW - 50 * DAY}))
    return found


@pytest.fixture
def site(module: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda *domains: module("settings").Site("shop", list(domains))


@pytest.fixture
def known(module: Callable[[str], Any]) -> Callable[..., Any]:
    return lambda server=HERE: module("settings").Settings([], server, "", "", reachability_check=True)


def test_what_openssl_shows_is_read(module: Callable[[str], Any]) -> None:
    found = module("certificate").parse(SHOWN)
    assert found.names == {"shop.example.com", "www.shop.example.com"}
    assert found.until - found.since == 90 * DAY - 1


@pytest.mark.parametrize(
    ("life", "left", "old"),
    [
        (90, 30.1, False),
        (90, 29.9, True),
        (64, 21, True),
        (45, 15.1, False),
        (6, 2.1, False),
        (6, 1.9, True),
        (6, -1, True),
    ],
)
def test_a_certificate_is_renewed_in_the_last_third_of_its_life(
    module: Callable[[str], Any], life: float, left: float, old: bool
) -> None:
    until = NOW + left * DAY
    assert module("certificate").Certificate(frozenset(), until - life * DAY, until).is_old(NOW) is old


@pytest.mark.parametrize(
    ("wished", "due"),
    [
        ((["shop.example.com"], HERE, NOW), False),
        ((["shop.example.com", "new.example.com"], HERE, NOW), True),
        ((["new.example.com"], HERE, NOW), True),
        ((["shop.example.com"], "https://other.example.com/dir", NOW), True),
        ((["shop.example.com"], HERE, NOW + 11 * DAY), True),
    ],
)
def test_a_certificate_is_due(
    state: Any, site: Callable[..., Any], known: Callable[..., Any], wished: tuple[list[str], str, float], due: bool
) -> None:
    domains, server, now = wished
    assert state.is_due(site(*domains), known(server), now) is due


def test_a_ca_is_left_alone_until_it_wants_to_be_asked_but_not_for_something_else(
    module: Callable[[str], Any], state: Any, site: Callable[..., Any], known: Callable[..., Any]
) -> None:
    state.keep_failure(site("new.example.com"), module("settings").Failure("too often", NOW + 60), HERE)
    assert state.must_wait(site("new.example.com"), known(), NOW)
    assert not state.must_wait(site("new.example.com"), known(), NOW + 61)
    assert not state.must_wait(site("other.example.com"), known(), NOW)
    assert not state.must_wait(site("new.example.com"), known("https://other.example.com/dir"), NOW)
    assert state.record(site())["server"] == HERE


@pytest.mark.parametrize(
    ("wished", "good"),
    [
        ((["shop.example.com"], HERE, NOW + 39 * DAY), True),
        ((["shop.example.com"], HERE, NOW + 41 * DAY), False),
        ((["shop.example.com", "new.example.com"], HERE, NOW), False),
        ((["shop.example.com"], "https://other.example.com/dir", NOW), False),
    ],
)
def test_a_failure_is_a_warning_only_while_visitors_get_what_they_should(
    state: Any, site: Callable[..., Any], known: Callable[..., Any], wished: tuple[list[str], str, float], good: bool
) -> None:
    domains, server, now = wished
    one = site(*domains)
    assert state.serves(one, state.record(one), known(server), now) is good


def test_a_domain_that_leads_elsewhere_is_told_with_its_addresses(module: Callable[[str], Any]) -> None:
    reach = module("reach")
    good = reach.Answer(200, b"proof")
    describe = reach.describe
    assert describe("a.example.com", {"192.0.2.1": good, "2001:db8::1": good}, b"proof") == ""
    told = describe("a.example.com", {"192.0.2.1": good, "2001:db8::1": "timed out"}, b"proof")
    assert told.startswith(
        "a.example.com resolves to 192.0.2.1, 2001:db8::1, but 2001:db8::1 does not answer on port 80"
    )
    told = describe("a.example.com", {"192.0.2.1": reach.Answer(200, b"welcome")}, b"proof")
    assert "192.0.2.1 is another web server" in told
    told = describe("a.example.com", {"192.0.2.1": reach.Answer(301, b"", "https://cdn.example.net/")}, b"proof")
    assert "192.0.2.1 redirects to https://cdn.example.net/" in told


def test_a_refusal_is_told_with_what_to_do(module: Callable[[str], Any]) -> None:
    refusals = module("refusals")
    told = refusals.explain([("caa", "a.example.com: CAA record forbids it")], refusals.ADVICE)
    assert told.startswith(
        "the CA refuses: a.example.com: CAA record forbids it (caa): let the CAA record in DNS name this CA"
    )
    told = refusals.explain([("unauthorized", "account is deactivated")], refusals.ADVICE_ACCOUNT)
    assert told.endswith("rm /var/lib/nginx-tls/account.pem lets the next run make a new one")
    assert refusals.explain([("serverInternal", "oh")], refusals.ADVICE) == "the CA refuses: oh (serverInternal)"
    told = refusals.explain([("rateLimited", "too many")], refusals.ADVICE, NOW)
    assert "it is not asked again before 2027-01-15 08:00:00 UTC" in told


@pytest.mark.parametrize(
    ("header", "seconds"), [("120", 120), ("Fri, 15 Jan 2027 09:00:00 GMT", 3600), ("", 3600), ("soon", 3600)]
)
def test_a_ca_says_when_it_may_be_asked_again(module: Callable[[str], Any], header: str, seconds: int) -> None:
    assert module("refusals").resume(header, NOW) == NOW + seconds
