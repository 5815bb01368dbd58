"""From the record of deployments to what may be served, rolled back to, and removed."""

from __future__ import annotations

import json

import pytest

from plugins.module_utils._deployments import on_server, outdated, summary


def record(*steps: str) -> list[str]:
    """`B` is a deployment of B, `!B` one that failed, `<A` a rollback to A, `!<A` one that failed."""
    lines, current = [], None
    for step in steps:
        name = step.lstrip("!<")
        entry = {
            "action": "rollback" if "<" in step else "deploy",
            "outcome": "failed" if "!" in step else "online",
            "from": current,
            "to": name,
        }
        current = name if entry["outcome"] == "online" else current
        lines.append(json.dumps(entry))
    return lines


@pytest.mark.parametrize(
    ("steps", "served", "withdrawn"),
    [
        ("", "", ""),
        ("A", "A", ""),
        ("A B C", "A B C", ""),
        ("A !B", "A", ""),
        ("A B !C <A", "A", "B"),
        # Twice back goes two releases back, not to and fro.
        ("A B C <B", "A B", "C"),
        ("A B C <B <A", "A", "C B"),
        ("A B C <A", "A", "C"),
        # A rollback that failed changed nothing.
        ("A B !<A", "A B", ""),
        # Deployed again on purpose, a release is as good as any.
        ("A B <A B", "A B", ""),
        ("A B A", "B A", ""),
    ],
)
def test_the_record_tells_what_served_and_what_was_withdrawn(steps: str, served: str, withdrawn: str) -> None:
    found = summary(record(*steps.split()))
    assert (found["served"], found["withdrawn"]) == (served.split(), withdrawn.split())


@pytest.mark.parametrize(
    ("steps", "current", "previous"),
    [
        ("", "", ""),
        ("A", "A", ""),
        ("A B C", "C", "B"),
        ("A B C <B", "B", "A"),
        # Killed after the link, before the record: a deployment of D, and a rollback to B.
        ("A B C", "D", "C"),
        ("A B C", "B", "B"),
        ("", "A", ""),
    ],
)
def test_the_way_back_leads_to_the_release_before(steps: str, current: str, previous: str) -> None:
    assert summary(record(*steps.split()), current)["previous"] == previous


def test_a_line_of_a_killed_run_is_passed_over() -> None:
    lines = [*record("A", "B"), '{"action": "deploy", "outc', "", "[]", '"x"']
    assert summary(lines)["served"] == ["A", "B"]


@pytest.mark.parametrize(
    ("finished", "served", "keep", "expected"),
    [
        ("A B C", "A B C", 5, ""),
        ("A B C", "A B C", 2, "A"),
        # The way back stays, whatever is asked for.
        ("A B C", "A B C", 1, "A"),
        # What never served, or was withdrawn, takes no place from those that did.
        ("A B C D E", "A B C", 3, "D E"),
        ("A", "", 5, "A"),
    ],
)
def test_only_releases_that_served_are_kept(finished: str, served: str, keep: int, expected: str) -> None:
    assert outdated(finished.split(), served.split(), keep) == expected.split()


SERVER = """
path /srv/shop
path /srv/shop/current releases/B
path /srv/shop/next releases/C
path /srv/shop/releases
path /srv/shop/releases/A
path /srv/shop/releases/A/.release.json
path /srv/shop/releases/A/a name with spaces
path /srv/shop/releases/B
path /srv/shop/releases/B/.release.json
path /srv/shop/releases/C
path /srv/shop/releases/.C.tar.gz
path /etc/systemd/system/django-shop-.service.d
path /etc/systemd/system/django-shop-clean.service
path /etc/systemd/system/django-shop-clean.timer
path /etc/systemd/system/django-shop-celery.service
path /etc/systemd/system/multi-user.target.wants/django-shop-clean.service /etc/systemd/system/django-shop-clean.service
path /etc/systemd/system/timers.target.wants/django-shop-clean.timer /etc/systemd/system/django-shop-clean.timer
path /etc/systemd/system/django-other-celery.service
python 3.13.5
machine x86_64
uv /opt/uv/bin/uv
media /srv/shop/media 999
account shop:x:999:999::/srv/shop:/usr/sbin/nologin shop redis
timer clean active enabled
timer send inactive disabled
"""


def test_a_look_at_the_server_is_understood() -> None:
    assert on_server([*SERVER.strip().splitlines(), *record("A", "B")], "shop") == {
        "exists": True,
        "current": "B",
        "next": "C",
        "finished": ["A", "B"],
        "unfinished": [".C.tar.gz", "C"],
        "timers": ["django-shop-clean.timer"],
        "running_timers": ["clean"],
        "media": ["/srv/shop/media", "999"],
        "workers": ["django-shop-celery.service", "django-shop-clean.service"],
        "has_uv": True,
        "python": "3.13.5",
        "machine": "x86_64",
        "account": "shop:x:999:999::/srv/shop:/usr/sbin/nologin",
        "groups": ["shop", "redis"],
        "served": ["A", "B"],
        "withdrawn": [],
        "previous": "A",
    }


def test_a_bare_server_has_nothing() -> None:
    seen = on_server(["path /etc/systemd/system", "python ", "machine ", "uv ", "account  "], "shop")
    assert {key for key, value in seen.items() if value} == set()
