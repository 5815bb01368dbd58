# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What `verify` says about a server and the apps on it, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

Finding = dict[str, str]

HOUR = 3600
DAY = 24 * HOUR
# Clients renew when a third of the life is left, be that 30 days or 2; by then something has gone wrong for a while.
CERTIFICATE_DAYS = {"error": 7, "warning": 21}
CERTIFICATE_SHARE = {"error": 1 / 6, "warning": 7 / 30}
# As the watch on the server does it.
WAL_SECONDS = 300
# By then one that is due each week has been missed twice.
DRILL_DAYS = 15
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
    roles = list(roles)
    for role in roles:
        longer = tuple(f"__{other}_" for other in roles if other.startswith(f"{role}_"))
        for name in sorted(results):
            own = name.startswith(f"__{role}_") and not name.startswith(longer)
            if own and isinstance(results[name], Mapping):
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


def server_findings(looked: Mapping[str, Any], place: Mapping[str, Any], drift: list[str]) -> Iterator[Finding]:
    yield from _listener_findings(looked["listeners"], place["ports"])
    if place["saves"]:
        yield from _backup_findings(looked["backups"], looked["now"])
    for unit in looked["failed_units"]:
        yield finding("warning", "unit_failed", f"{unit} has failed", f"see systemctl status {unit}")
    for path, percent in looked["disks"].items():
        severity = next((name for name in ("error", "warning") if percent >= DISK_PERCENT[name]), "")
        if severity:
            yield finding(severity, "disk_full", f"{path} is full to {percent} %")
    for difference in drift:
        yield finding("warning", "drift", f"differs from the inventory: {difference}", "run groundwork.django.site")


def _backup_findings(looked: Mapping[str, Any], now: float) -> Iterator[Finding]:
    settings = looked["settings"]
    if not settings:
        yield finding("error", "backup_missing", "no backups are set up", "run groundwork.django.site")
        return
    if not settings["elsewhere"]:
        hint = "add one elsewhere to backups_repositories"
        yield finding("warning", "backup_local_only", "all repositories of the backups are on this server", hint)
    for kind, there_is in described_backups(looked).items():
        for name, newest in there_is["repositories"].items():
            yield from _age_findings(f"the {kind} in {name}", newest, now, settings["newest_hours"])
        yield from _drill_findings(kind, there_is["drill"], now, looked["since"] or now)
    jobs = looked["report"].get("jobs", {})
    for name in ("backups-postgres", "backups-media"):
        if not jobs.get(name, {}).get("ok", True):
            unit = jobs[name]["unit"]
            yield finding("error", "backup_failed", f"{unit}: {jobs[name]['reason']}", f"see journalctl -u {unit}")
    yield from _wal_findings(looked["report"].get("wal", {}))


def _age_findings(what: str, newest: Mapping[str, Any], now: float, hours: int) -> Iterator[Finding]:
    if not newest:
        hint = "see systemctl list-units --all 'backups-*'"
        yield finding("error", "backup_missing", f"there is no backup of {what}", hint)
    elif now - newest["succeeded"] > hours * HOUR:
        yield finding("error", "backup_old", f"the newest backup of {what} is {_age(now - newest['succeeded'])} old")


def _drill_findings(kind: str, drill: Mapping[str, Any], now: float, since: float) -> Iterator[Finding]:
    age = now - drill.get("finished", since)
    if drill.get("ok") is False:
        said = f"the {kind} could not be restored in the last drill: {_reason(drill)}"
        yield finding("error", "drill_failed", said, "do not rely on the backups before one has gone well")
    elif age > DRILL_DAYS * DAY:
        said = f"for {_age(age)} no drill has shown that the {kind} can be restored"
        yield finding("warning", "drill_missing", said, "see systemctl list-timers 'backups-*'")


def _wal_findings(wal: Mapping[str, Any]) -> Iterator[Finding]:
    if wal.get("waiting_seconds", 0) > WAL_SECONDS:
        said = f"PostgreSQL's log has waited for the repositories for {_age(wal['waiting_seconds'])}"
        yield finding("warning", "wal_waiting", said, "see PostgreSQL's log")
    if wal.get("dropped"):
        said = "PostgreSQL's log has a gap, beyond which no restore can go until the next backup"
        yield finding("error", "wal_dropped", said, "run groundwork.django.backup")


def _reason(record: Mapping[str, Any]) -> str:
    failed = [f"{name}: {each['reason']}" for name, each in record.get("repositories", {}).items() if not each["ok"]]
    return "; ".join(failed) or str(record.get("reason", ""))


def described_backups(looked: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the last drill of each kind, and what its newest good backup in each repository is."""
    names = [repository["name"] for repository in looked["settings"].get("repositories", [])]
    return {
        kind: {
            "repositories": {name: _newest(runs, name) for name in names},
            "drill": looked["drills"][kind],
        }
        for kind, runs in looked["runs"].items()
    }


def _newest(runs: Iterable[Mapping[str, Any]], repository: str) -> dict[str, Any]:
    results = [run["repositories"].get(repository, {}) for run in runs]
    good = [result for result in results if result.get("succeeded")]
    newest: Mapping[str, Any] = max(good, key=lambda result: float(result["succeeded"]), default={})
    return {key: newest[key] for key in ("succeeded", "seconds", "bytes") if key in newest}


def _listener_findings(listeners: Iterable[Mapping[str, Any]], for_other_hosts: list[int]) -> Iterator[Finding]:
    for listener in listeners:
        if listener["port"] in for_other_hosts:
            continue
        said = f"{listener['program']} on {listener['address']}:{listener['port']} can be reached from elsewhere"
        if listener["program"] in PRIVATE_PROGRAMS:
            yield finding("error", "listens_publicly", said, "bind it to a socket or to 127.0.0.1")
        elif listener["program"] not in EXPECTED_PROGRAMS:
            yield finding("notice", "listens_publicly", said)


def app_findings(looked: Mapping[str, Any], settings: Mapping[str, Any], now: float) -> Iterator[Finding]:
    """What is wrong with the app where it runs, and with the web server where that is; both may be on one host."""
    if "release" in looked:
        yield from _release_findings(looked, settings)
    if looked.get("release") != "" and "certificate" in looked:
        yield from _certificate_findings(looked["certificate"], now)


def _release_findings(looked: Mapping[str, Any], settings: Mapping[str, Any]) -> Iterator[Finding]:
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
    yield from settings.get("findings", [])
    if settings.get("failed") and not settings.get("findings"):
        yield finding("error", "settings_not_checked", str(settings.get("msg")))


def _certificate_findings(certificate: Mapping[str, Any], now: float) -> Iterator[Finding]:
    if certificate.get("error"):
        yield finding("error", "no_https", f"nginx serves no HTTPS: {certificate['error']}")
        return
    left, life = certificate["until"] - now, certificate["until"] - certificate["since"]
    limits = {name: min(CERTIFICATE_DAYS[name] * DAY, life * share) for name, share in CERTIFICATE_SHARE.items()}
    severity = next((name for name, limit in limits.items() if left < limit), "")
    if severity:
        yield finding(severity, "certificate_ends", f"the certificate holds {_left(left)} more", "renew it")
    if renewal := certificate.get("renewal"):
        worse = "error" if severity == "error" else renewal["severity"]
        yield finding(worse, "certificate_not_renewed", f"there is no new certificate: {renewal['reason']}")
    if not certificate["for_domain"]:
        yield finding("error", "certificate_for_other", "the certificate is for another host name")


def report(
    place: Mapping[str, Any],
    apps: list[dict[str, Any]],
    looked: dict[str, Any],
    settings: Mapping[str, Any],
    drift: list[str] | None,
) -> dict[str, Any]:
    """Put together what was found on one host.

    Of its `place` it takes the name `host`, the `ports` that are for other hosts, and whether it `saves` anything.
    `settings` has what django_settings_check said, by the app's name; without a `drift`, none was looked for.
    """
    described = {}
    for app in apps:
        seen = looked["apps"][app["name"]]
        if seen.get("certificate", {}).get("until") is not None:
            left = seen["certificate"]["until"] - looked["now"]
            seen["certificate"] |= {"days": int(left // DAY), "left": _left(left), "mode": app["certificate"]["mode"]}
        checked = settings.get(app["name"], {})
        described[app["name"]] = {
            "url": app["url"],
            **seen,
            "versions": {key: checked[key] for key in ("django_version", "python_version") if checked.get(key)},
            "pending_migrations": [
                name for database in checked.get("databases", {}).values() for name in database.get("unapplied") or []
            ],
            "findings": list(app_findings(seen, checked, looked["now"])),
        }
    return {
        "host": place["host"],
        "time": datetime.fromtimestamp(looked["now"], timezone.utc).isoformat(timespec="seconds"),
        "apps": described,
        **{key: looked[key] for key in ("listeners", "failed_units", "disks")},
        "backups": described_backups(looked["backups"]),
        "drift": drift,
        "findings": list(server_findings(looked, place, drift or [])),
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
    differences = "unknown, ask with --check" if told["drift"] is None else len(told["drift"]) or "nowhere"
    head = f"{told['host']}: listens on {', '.join(ports) or 'nothing'}; differs from the inventory: {differences}"
    lines = [head, *_backup_lines(told["backups"], now), *_finding_lines(told["findings"])]
    for name, app in told["apps"].items():
        lines += ["", f"{name}: {app['url']}", *_app_lines(app), *_finding_lines(app["findings"])]
    return lines


def _backup_lines(backups: Mapping[str, Any], now: float) -> Iterator[str]:
    for kind, there_is in backups.items():
        saved = [
            f"{name} {_age(now - newest['succeeded'])} ago ({newest.get('bytes', 0) / 1e6:.1f} MB more)"
            for name, newest in there_is["repositories"].items()
            if newest
        ]
        drill = there_is["drill"]
        drilled = (
            f"drill {'passed' if drill['ok'] else 'failed'} {_age(now - drill['finished'])} ago"
            if drill
            else "no drill"
        )
        yield f"  {kind:12} saved in {', '.join(saved) or 'no repository'}; {drilled}"


def _app_lines(app: Mapping[str, Any]) -> Iterator[str]:
    if app.get("release") == "":
        return
    if "release" in app:
        last = app["last_deployment"]
        since = f", {last['action']} by {last['by']} at {last['time']}" if last.get("to") == app["release"] else ""
        versions = [f"{key.partition('_')[0].capitalize()} {version}" for key, version in app["versions"].items()]
        yield f"  release      {app['release']}{since}"
        yield f"  health       {app['health']['said']}"
        yield f"  runs with    {', '.join(versions) or 'unknown versions'}"
        yield f"  migrations   {', '.join(app['pending_migrations']) or 'none pending'}"
    certificate = app.get("certificate", {})
    if "days" in certificate:
        yield f"  certificate  {certificate['left']} left ({certificate['mode']})"


def _finding_lines(findings: list[Finding]) -> Iterator[str]:
    shown = [found for found in findings if found["severity"] != "notice"]
    for found in shown:
        hint = f" ({found['hint']})" if found["hint"] else ""
        yield f"  {found['severity'].upper():8} {found['id']}: {found['message']}{hint}"
    if len(findings) > len(shown):
        yield f"  notices      {len(findings) - len(shown)}, in the file of django_report"


def _left(seconds: float) -> str:
    return _age(seconds) if seconds > 0 else "nothing"


def _age(seconds: float) -> str:
    for unit, length in (("days", DAY), ("h", 3600)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{int(seconds // 60)} min"
