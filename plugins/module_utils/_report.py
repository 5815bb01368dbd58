# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `verify` says about a server and the apps on it, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

Finding = dict[str, str]

DAY = 24 * 3600
# Let's Encrypt's clients renew 30 days before the end; by then something must have gone wrong for a while.
CERTIFICATE_DAYS = {"error": 7, "warning": 21}
# The schedules make one a day by default; one that was missed once is made up for by the next.
BACKUP_DAYS = 2
DISK_PERCENT = {"error": 95, "warning": 85}
# What may be reached from elsewhere, and what never should, under the names that `ss` shows.
EXPECTED_PROGRAMS = {"nginx", "sshd", "systemd"}
PRIVATE_PROGRAMS = {"postgres", "pgbouncer", "redis-server", "valkey-server", "gunicorn"}
HEALTHY = range(200, 300)


def finding(severity: str, identity: str, message: str, hint: str = "") -> Finding:
    return {"severity": severity, "id": identity, "message": message, "hint": hint}


def drifted(results: Mapping[str, Any], roles: Iterable[str]) -> list[str]:
    """Name what roles would have changed on a host, from what their tasks have registered in check mode."""
    found = []
    for role in roles:
        for name in sorted(results):
            if name.startswith(f"__{role}_") and isinstance(results[name], Mapping):
                what = name.removeprefix(f"__{role}_").replace("_", " ")
                found += [f"{role}: {part}" for part in _changed(results[name], what)]
    return found


def _changed(result: Mapping[str, Any], what: str) -> list[str]:
    if not result.get("changed"):
        return []
    if result.get("results"):
        return [part for one in result["results"] for part in _changed(one, what)]
    named = result.get("written") or [result[key] for key in ("name", "path", "dest", "db", "user") if result.get(key)]
    unread = [f"{unit} has not read its files" for unit in (*result.get("restart", []), *result.get("reload", []))]
    return [str(name) for name in named] + unread or [what]


def server_findings(looked: Mapping[str, Any], drift: list[str]) -> Iterator[Finding]:
    yield from _listener_findings(looked["listeners"])
    for kind, time in looked["backups"].items():
        if time is None:
            hint = "see systemctl list-units --all 'backups-*'"
            yield finding("error", "backup_missing", f"there is no backup of the {kind}", hint)
        elif looked["now"] - time > BACKUP_DAYS * DAY:
            yield finding("error", "backup_old", f"the last backup of the {kind} is {_age(looked['now'] - time)} old")
    for unit in looked["failed_units"]:
        yield finding("warning", "unit_failed", f"{unit} has failed", f"see systemctl status {unit}")
    for place, percent in looked["disks"].items():
        severity = next((name for name in ("error", "warning") if percent >= DISK_PERCENT[name]), "")
        if severity:
            yield finding(severity, "disk_full", f"{place} is full to {percent} %")
    for difference in drift:
        yield finding("warning", "drift", f"differs from the inventory: {difference}", "run groundwork.django.site")


def _listener_findings(listeners: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    for listener in listeners:
        said = f"{listener['program']} on {listener['address']}:{listener['port']} can be reached from elsewhere"
        if listener["program"] in PRIVATE_PROGRAMS:
            yield finding("error", "listens_publicly", said, "bind it to a socket or to 127.0.0.1")
        elif listener["program"] not in EXPECTED_PROGRAMS:
            yield finding("notice", "listens_publicly", said)


def app_findings(looked: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[Finding]:
    if not looked["release"]:
        yield finding("error", "not_deployed", "no release is in use", "run groundwork.django.site")
        return
    if looked["health"]["status"] not in HEALTHY:
        yield finding(
            "error",
            "unhealthy",
            f"the health path answers {looked['health']['status']}: {looked['health']['said']}",
        )
    last = looked["last_deployment"]
    if last.get("outcome") == "failed":
        yield finding(
            "warning", "deployment_failed", f"the last deployment failed at: {last.get('step', 'an unknown step')}"
        )
    yield from _certificate_findings(looked["certificate"])
    yield from settings.get("findings", [])
    if settings.get("failed") and not settings.get("findings"):
        yield finding("error", "settings_not_checked", str(settings.get("msg")))


def _certificate_findings(certificate: Mapping[str, Any]) -> Iterator[Finding]:
    if certificate.get("error"):
        yield finding("error", "no_https", f"nginx serves no HTTPS: {certificate['error']}")
        return
    days = certificate["days"]
    severity = next((name for name in ("error", "warning") if days < CERTIFICATE_DAYS[name]), "")
    if severity:
        yield finding(severity, "certificate_ends", f"the certificate holds {days} more days", "renew it")
    if not certificate["for_domain"]:
        yield finding("error", "certificate_for_other", "the certificate is for another host name")


def report(
    host: str, apps: list[dict[str, Any]], looked: dict[str, Any], settings: Mapping[str, Any], drift: list[str] | None
) -> dict[str, Any]:
    """Put together what was found on one host.

    `settings` has what django_settings_check said, by the app's name; without a `drift`, none was looked for.
    """
    described = {}
    for app in apps:
        seen = looked["apps"][app["name"]]
        if seen["certificate"].get("until") is not None:
            seen["certificate"]["days"] = int((seen["certificate"]["until"] - looked["now"]) // DAY)
        checked = settings.get(app["name"], {})
        described[app["name"]] = {
            "url": app["url"],
            **seen,
            "versions": {key: checked[key] for key in ("django_version", "python_version") if checked.get(key)},
            "pending_migrations": [
                name for database in checked.get("databases", {}).values() for name in database.get("unapplied") or []
            ],
            "findings": list(app_findings(seen, checked)),
        }
    return {
        "host": host,
        "time": datetime.fromtimestamp(looked["now"], timezone.utc).isoformat(timespec="seconds"),
        "apps": described,
        **{key: looked[key] for key in ("listeners", "backups", "failed_units", "disks")},
        "drift": drift,
        "findings": list(server_findings(looked, drift or [])),
    }


def count(told: Mapping[str, Any], severity: str) -> int:
    """Say how many findings of a severity a report has."""
    everything = [*told["findings"], *(found for app in told["apps"].values() for found in app["findings"])]
    return sum(found["severity"] == severity for found in everything)


def text(told: Mapping[str, Any]) -> list[str]:
    """Return a report as lines for a terminal. Notices are counted only."""
    now = datetime.fromisoformat(told["time"]).timestamp()
    ports = sorted(
        {f"{one['port']} ({one['program']})" for one in told["listeners"]}, key=lambda word: int(word.split()[0])
    )
    backups = [f"{kind} {_age(now - time)} ago" for kind, time in told["backups"].items() if time is not None]
    differences = "unknown, ask with --check" if told["drift"] is None else len(told["drift"]) or "nowhere"
    head = (
        f"{told['host']}: listens on {', '.join(ports) or 'nothing'}; backups: {', '.join(backups) or 'none'}; "
        f"differs from the inventory: {differences}"
    )
    lines = [head, *_finding_lines(told["findings"])]
    for name, app in told["apps"].items():
        lines += ["", f"{name}: {app['url']}", *_app_lines(app), *_finding_lines(app["findings"])]
    return lines


def _app_lines(app: Mapping[str, Any]) -> Iterator[str]:
    if not app["release"]:
        return
    last, certificate = app["last_deployment"], app["certificate"]
    since = f", {last['action']} by {last['by']} at {last['time']}" if last.get("to") == app["release"] else ""
    versions = [f"{key.partition('_')[0].capitalize()} {version}" for key, version in app["versions"].items()]
    yield f"  release      {app['release']}{since}"
    yield f"  health       {app['health']['said']}"
    yield f"  runs with    {', '.join(versions) or 'unknown versions'}"
    yield f"  migrations   {', '.join(app['pending_migrations']) or 'none pending'}"
    if "days" in certificate:
        yield f"  certificate  {certificate['days']} days left"


def _finding_lines(findings: list[Finding]) -> Iterator[str]:
    shown = [found for found in findings if found["severity"] != "notice"]
    for found in shown:
        hint = f" ({found['hint']})" if found["hint"] else ""
        yield f"  {found['severity'].upper():8} {found['id']}: {found['message']}{hint}"
    if len(findings) > len(shown):
        yield f"  notices      {len(findings) - len(shown)}, in the file of django_report"


def _age(seconds: float) -> str:
    for unit, length in (("days", DAY), ("h", 3600)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds // 60)} min"
