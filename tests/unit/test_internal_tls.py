"""What the role internal_tls finds wrong with certificates, and which it signs anew."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from authority import CLIENT, SERVER, Pair, made  # noqa: E402 (shared with a scenario)

from plugins.filter import internal_tls  # noqa: E402

NAMES = ["db1", "10.0.0.5", "fd00::5"]
EACH = {"name": "postgres"}


def issued(issuer: Pair | None = None, names: Any = NAMES, **settings: Any) -> Pair:
    return made(issuer, names=tuple(names), **settings)


@pytest.fixture(scope="module")
def authority() -> Pair:
    return made()


def due(pair: Pair, authority: Pair, key: Pair | None = None, **each: Any) -> list[str]:
    """Return why a certificate that is on a host would be signed anew."""
    content = base64.b64encode(f"# Managed\n{pair.text}".encode()).decode()
    fingerprint = internal_tls.fingerprint((key or pair).key_text)
    keys = {"results": [{"fingerprint": {"sha256": fingerprint}}]}
    found = internal_tls.due([{**EACH, **each}], NAMES, authority.text, keys, {"results": [{"content": content}]})
    return [one["reason"] for one in found]


def test_a_certificate_that_is_as_it_should_be_is_left_alone(authority: Pair) -> None:
    assert due(issued(authority), authority) == []
    assert due(issued(authority, names=["DB1", "10.0.0.5", "fd00:0::5"]), authority) == []


def test_a_certificate_is_renewed_when_less_than_a_third_of_its_time_is_left(authority: Pair) -> None:
    assert due(issued(authority, days=(-199, 101)), authority) == []
    assert "postgres: it expires on " in due(issued(authority, days=(-201, 99)), authority)[0]
    assert "has expired on " in due(issued(authority, days=(-300, -1)), authority)[0]


def test_one_of_another_authority_is_not_kept(authority: Pair) -> None:
    assert due(issued(made()), authority) == ["postgres: another authority issued it"]


def test_the_first_authority_signs_and_the_others_are_only_trusted(authority: Pair) -> None:
    later = made()
    both = later._replace(certificate=later.certificate)
    of_old = issued(authority)
    keys = {"results": [{"fingerprint": {"sha256": internal_tls.fingerprint(of_old.key_text)}}]}
    present = {"results": [{"content": base64.b64encode(of_old.text.encode()).decode()}]}
    assert internal_tls.due([EACH], NAMES, authority.text + both.text, keys, present) == []
    assert internal_tls.due([EACH], NAMES, both.text + authority.text, keys, present)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"names": ["db1", "10.0.0.5"]}, "it is for 10.0.0.5, db1"),
        ({"names": [*NAMES, "db2"]}, "it is for 10.0.0.5, db1, db2, fd00::5"),
        ({"usage": (SERVER,)}, "it is good for server"),
    ],
)
def test_one_for_other_names_or_another_use_is_not_kept(authority: Pair, settings: Any, reason: str) -> None:
    assert due(issued(authority, **settings), authority) == [f"postgres: {reason}"]


def test_one_of_another_key_is_not_kept(authority: Pair) -> None:
    assert due(issued(authority), authority, key=made()) == ["postgres: it belongs to another key"]


def test_one_that_is_missing_or_damaged_is_made(authority: Pair) -> None:
    for content in ({}, {"content": base64.b64encode(b"junk \xff").decode()}):
        found = internal_tls.due([EACH], NAMES, authority.text, {"results": [{}]}, {"results": [content]})
        assert [one["reason"] for one in found] == ["postgres: there is none"]


def test_a_host_that_asks_for_the_name_of_another_gets_nothing(authority: Pair) -> None:
    taken = issued(authority, names=[*NAMES, "redis1"])
    keys = {"results": [{"each": EACH, "fingerprint": {"sha256": internal_tls.fingerprint(taken.key_text)}}]}
    signed = [{"request": {"each": EACH}, "certificate": taken.text}]
    assert internal_tls.unlike(signed, NAMES, authority.text, keys) == [
        "postgres: it is for 10.0.0.5, db1, fd00::5, redis1"
    ]


def mistakes(pair: Pair, authority: Pair, key: str = "", text: str = "", **each: Any) -> str:
    given = {**EACH, "key": "given.key", **each}
    return "\n".join(internal_tls.problems(text or pair.text, given, NAMES, authority.text, key or pair.key_text))


def test_a_given_certificate_that_fits_is_taken(authority: Pair) -> None:
    assert mistakes(issued(authority), authority) == ""
    assert mistakes(issued(authority, days=(-360, 5)), authority) == ""
    assert mistakes(issued(authority, names=["more", *NAMES]), authority) == ""
    assert mistakes(issued(authority, names=["elsewhere"], usage=(CLIENT,)), authority, usage=["client"]) == ""
    between = made(authority)
    leaf = issued(between)
    assert mistakes(leaf, authority, text=leaf.text + between.text) == ""


def test_a_given_certificate_for_all_hosts_of_a_domain_is_taken(authority: Pair) -> None:
    pair = issued(authority, names=["*.example.com"])
    given = {**EACH, "key": "given.key"}
    assert internal_tls.problems(pair.text, given, ["db.example.com"], authority.text, pair.key_text) == []
    assert internal_tls.problems(pair.text, given, ["a.db.example.com"], authority.text, pair.key_text)


def test_what_is_wrong_with_a_given_certificate_is_named(authority: Pair) -> None:
    pair, other = issued(authority), made()
    assert mistakes(pair, authority, text="no PEM") == "is no certificate in PEM"
    assert mistakes(pair, authority, key="no PEM") == (
        "cannot be used with given.key, which is no private key in PEM without a passphrase"
    )
    assert mistakes(pair, authority, key=other.key_text) == "belongs to another key than given.key"
    assert mistakes(pair, other) == "was issued by none of the authorities in internal_tls_ca_certificate"
    assert mistakes(issued(made(made(other))), authority)
    assert mistakes(issued(authority, days=(-9, -1)), authority).startswith("has expired on ")
    assert mistakes(issued(authority, days=(1, 9)), authority).startswith("is not valid before ")
    assert mistakes(issued(authority, names=["db1"]), authority) == (
        "is not for 10.0.0.5, fd00::5 (internal_tls_names), but for db1"
    )
    assert mistakes(issued(authority, usage=(CLIENT,)), authority) == (
        "is good for client only, not for client, server (usage)"
    )


def test_what_is_wrong_with_an_authority_is_named(authority: Pair) -> None:
    assert internal_tls.ca_problems(authority.text) == []
    assert internal_tls.ca_problems("") == ["is no certificate in PEM"]
    assert internal_tls.ca_problems(issued().text) == ["is not the certificate of an authority (CA:TRUE)"]
    assert internal_tls.ca_problems(made(days=(-9, -1)).text)[0].startswith("has expired on ")
    assert internal_tls.ca_problems(authority.text, authority.key_text) == []
    assert internal_tls.ca_problems(authority.text, made().key_text) == ["is not the key of that authority"]
    assert internal_tls.ca_problems(authority.text, "junk") == ["is no private key in PEM without a passphrase"]
    assert internal_tls.ca_problems(authority.text, "") == ["is not there, or empty"]


def test_the_days_that_are_left_are_whole_ones(authority: Pair) -> None:
    assert internal_tls.days_left(authority.text) == 364


@pytest.mark.parametrize("name", ["db1", "db-1.internal", "10.0.0.5", "fd00::5", "App_1"])
def test_hosts_are_known_by_name_or_address(name: str) -> None:
    assert internal_tls.is_name(name)


@pytest.mark.parametrize("name", ["", "10.0.0.0/24", "10.0.0.500", "a b", "-a", "a..b", "DNS:db1", "*.example.com"])
def test_what_is_neither_a_name_nor_an_address_is_refused(name: str) -> None:
    assert not internal_tls.is_name(name)


def test_names_are_written_as_a_request_writes_them() -> None:
    assert internal_tls.alternative_names(["DB1", "10.0.0.5", "fd00:0::5"]) == ["DNS:db1", "IP:10.0.0.5", "IP:fd00::5"]
