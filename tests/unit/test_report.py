"""What verify says about a server, from what was looked at there."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils import _report

NOW = 1_800_000_000.0
WARNED = {"severity": "warning", "reason": "the CA refuses"}
PLACE = {"host": "site1", "ports": [], "saves": True}
APP = {"name": "shop", "url": "https://shop.example.com/", "health_path": "", "certificate": {"mode": "acme"}}


def certificate(days: float, life: float = 90, **changes: Any) -> dict[str, Any]:
    """Return one that has so many days left of its life."""
    until = NOW + days * _report.DAY
    return {"since": until - life * _report.DAY, "until": until, "for_domain": True, "renewal": None, **changes}


def backups(**changes: Any) -> dict[str, Any]:
    """Return what the services have noted; databases, media, drill and job change what they noted of one."""
    good = {"ok": True, "reason": "", "finished": NOW, "seconds": 9.5, "bytes": 12_300_000}
    drill = {"finished": NOW - 2 * _report.DAY, "ok": True}
    job = {"unit": "backups-postgres@diff", "ok": True, "reason": ""}
    return {
        "settings": {
            "repositories": [{"name": "store"}],
            "newest_hours": 26,
            "elsewhere": changes.pop("elsewhere", True),
        },
        "since": NOW - 30 * _report.DAY,
        "runs": {
            "databases": [
                {"repositories": {"store": {**good, "succeeded": NOW - 70 * 3600}, "gone": good}},
                {"repositories": {"store": {**good, "succeeded": NOW - 3600, **changes.pop("databases", {})}}},
            ],
            "media": [{"repositories": {"store": {**good, "succeeded": NOW - 7200, **changes.pop("media", {})}}}],
        },
        "drills": {"databases": {**drill, **changes.pop("drill", {})}, "media": drill},
        "report": {
            "jobs": {"backups-postgres": {**job, **changes.pop("job", {})}},
            "wal": {"waiting_seconds": 0, "waiting_bytes": 0, "dropped": None, **changes.pop("wal", {})},
        },
        **changes,
    }


def looked(**changes: Any) -> dict[str, Any]:
    app = {
        "release": "abc-1",
        "last_deployment": {
            "action": "deploy",
            "by": "me@desk",
            "time": "2027-01-15",
            "to": "abc-1",
            "outcome": "online",
        },
        "health": {"status": 200, "said": "well"},
        "certificate": certificate(90),
    }
    server = {
        "now": NOW,
        "apps": {"shop": {**app, **{key: changes.pop(key) for key in list(changes) if key in app}}},
        "listeners": [{"address": "0.0.0.0", "port": 443, "program": "nginx"}],  # noqa: S104
        "backups": backups(),
        "failed_units": [],
        "disks": {"/": 40},
    }
    return {**server, **changes}


def report(settings: dict[str, Any] | None = None, drift: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    return _report.report(PLACE, [APP], looked(**changes), {"shop": settings or {}}, drift or [])


def test_without_a_comparison_nothing_is_said_of_one() -> None:
    told = _report.report(PLACE, [APP], looked(), {}, None)
    assert told["drift"] is None
    assert "differs from the inventory: unknown" in _report.text(told)[0]


def test_what_is_meant_for_other_hosts_may_be_reached_from_there() -> None:
    database = {"address": "10.0.0.5", "port": 5432, "program": "postgres"}
    assert ("error", "listens_publicly") in found(report(listeners=[database]))
    told = _report.report({**PLACE, "ports": [5432]}, [APP], looked(listeners=[database]), {}, [])
    assert found(told) == []


def test_of_a_web_server_only_its_certificates_are_told() -> None:
    seen = looked(backups={"settings": {}, "runs": {}})
    seen["apps"]["shop"] = {"certificate": certificate(6)}
    told = _report.report({**PLACE, "saves": False}, [APP], seen, {}, [])
    assert found(told) == [("error", "certificate_ends")]
    assert "release" not in "\n".join(_report.text(told))


def found(told: dict[str, Any]) -> list[tuple[str, str]]:
    everything = [*told["findings"], *told["apps"]["shop"]["findings"]]
    return [(one["severity"], one["id"]) for one in everything]


def test_a_healthy_server_has_no_findings() -> None:
    told = report()
    assert found(told) == []
    lines = "\n".join(_report.text(told))
    assert "abc-1, deploy by me@desk" in lines
    assert "90 days left (acme)" in lines
    assert "  databases    saved in store 60 min ago (12.3 MB more); drill passed 2 days ago" in lines
    assert "  media        saved in store 2 h ago" in lines
    assert told["backups"]["media"]["repositories"]["store"]["seconds"] == 9.5


@pytest.mark.parametrize(("days", "life"), [(22, 90), (31, 365), (11, 45), (1.5, 6)])
def test_a_certificate_that_will_be_renewed_in_time_is_no_finding(days: float, life: float) -> None:
    assert found(report(certificate=certificate(days, life))) == []


def test_a_renewal_that_fails_is_an_error_when_the_end_is_near() -> None:
    told = found(report(certificate=certificate(6, renewal=WARNED)))
    assert ("error", "certificate_not_renewed") in told


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"release": ""}, ("error", "not_deployed")),
        ({"health": {"status": 503, "said": "cache default: ConnectionError"}}, ("error", "unhealthy")),
        ({"certificate": {"error": "Connection refused"}}, ("error", "no_https")),
        ({"certificate": certificate(20)}, ("warning", "certificate_ends")),
        ({"certificate": certificate(6)}, ("error", "certificate_ends")),
        ({"certificate": certificate(-1)}, ("error", "certificate_ends")),
        ({"certificate": certificate(20, life=365)}, ("warning", "certificate_ends")),
        ({"certificate": certificate(10, life=45)}, ("warning", "certificate_ends")),
        ({"certificate": certificate(1.3, life=6)}, ("warning", "certificate_ends")),
        ({"certificate": certificate(0.9, life=6)}, ("error", "certificate_ends")),
        ({"certificate": certificate(90, for_domain=False)}, ("error", "certificate_for_other")),
        ({"certificate": certificate(29, renewal=WARNED)}, ("warning", "certificate_not_renewed")),
        (
            {"certificate": certificate(90, renewal={**WARNED, "severity": "error"})},
            ("error", "certificate_not_renewed"),
        ),
        (
            {"last_deployment": {"outcome": "failed", "to": "abc-2", "step": "Serve it"}},
            ("warning", "deployment_failed"),
        ),
        ({"listeners": [{"address": "*", "port": 6379, "program": "redis-server"}]}, ("error", "listens_publicly")),
        ({"listeners": [{"address": "*", "port": 25, "program": "exim4"}]}, ("notice", "listens_publicly")),
        ({"backups": backups(settings={}, runs={})}, ("error", "backup_missing")),
        ({"backups": backups(media={"succeeded": None})}, ("error", "backup_missing")),
        ({"backups": backups(databases={"succeeded": NOW - 27 * 3600})}, ("error", "backup_old")),
        ({"backups": backups(elsewhere=False)}, ("warning", "backup_local_only")),
        (
            {"backups": backups(job={"ok": False, "reason": "repository store: no space left"})},
            ("error", "backup_failed"),
        ),
        ({"backups": backups(wal={"waiting_seconds": 301})}, ("warning", "wal_waiting")),
        ({"backups": backups(wal={"dropped": NOW - 60})}, ("error", "wal_dropped")),
        ({"backups": backups(drill={"ok": False, "reason": "shop.orders is empty"})}, ("error", "drill_failed")),
        ({"backups": backups(drill={"finished": NOW - 16 * _report.DAY})}, ("warning", "drill_missing")),
        ({"failed_units": ["shop.service"]}, ("warning", "unit_failed")),
        ({"disks": {"/srv": 90}}, ("warning", "disk_full")),
        ({"disks": {"/srv": 97}}, ("error", "disk_full")),
        ({"drift": ["redis: /etc/redis/redis.conf"]}, ("warning", "drift")),
        ({"settings": {"failed": True, "msg": "cannot load config.settings"}}, ("error", "settings_not_checked")),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_each_fault_is_told(changes: dict[str, Any], expected: tuple[str, str]) -> None:
    told = report(**changes)
    assert found(told) == [expected]
    assert _report.count(told, expected[0]) == 1
    if expected[0] != "notice":
        assert any(expected[1] in line for line in _report.text(told))


def test_findings_of_the_settings_are_among_those_of_the_app() -> None:
    settings = {
        "findings": [
            {"id": "debug_on", "severity": "error", "message": "DEBUG is on", "hint": "DEBUG = False"},
            {"id": "admin_default_url", "severity": "notice", "message": "/admin/", "hint": ""},
        ],
        "databases": {"default": {"unapplied": ["shop.0002_price"]}},
        "django_version": "6.1",
    }
    told = report(settings)
    lines = "\n".join(_report.text(told))
    assert "ERROR    debug_on: DEBUG is on (DEBUG = False)" in lines
    assert "admin_default_url" not in lines
    assert told["apps"]["shop"]["pending_migrations"] == ["shop.0002_price"]
    assert "Django 6.1" in lines


def test_what_roles_would_change_is_named_as_well_as_their_tasks_let_it() -> None:
    results = {
        "__redis_files": {"changed": True, "written": ["/etc/redis/redis.conf"], "restart": ["redis-server.service"]},
        "__redis_run": {"changed": True, "name": "redis-server.service"},
        "__redis_install": {"changed": False},
        "__backups_run": {
            "changed": True,
            "results": [{"changed": True, "name": "a.timer"}, {"changed": False, "name": "b"}],
        },
        "__postgres_statements": {"changed": True},
        "__nginx_tls_files": {"changed": True, "written": ["/etc/nginx/x"]},
        "__redis_service": "redis-server.service",
    }
    assert _report.drifted(results, ["redis", "backups", "postgres"]) == [
        "redis: /etc/redis/redis.conf",
        "redis: redis-server.service has not read its files",
        "redis: redis-server.service",
        "backups: a.timer",
        "postgres: statements",
    ]
