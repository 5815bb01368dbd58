# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What became of the backups, told to Prometheus in a file, and to people by a command of theirs.

The units call it as root when they have ended, however that was. What it knows is in /var/lib/backups/report.json:
{"jobs": {JOB: {"unit", "ok", "reason", "since", "finished", "told"}}, "wal": {...}, "written"}.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

import records
import watch
from programs import DAY, Failure, run, say
from records import DATABASES, FILES, Record
from settings import STATE, Settings

AGAIN = DAY
HOOK_SECONDS = 30
# Each unit that keeps a record, and where.
RECORDS = {
    "backups-media": FILES / "media.json",
    "backups-drill-postgres": DATABASES / "drill.json",
    "backups-drill-media": FILES / "drill.json",
    **{f"backups-postgres@{kind}": DATABASES / f"{kind}.json" for kind in watch.KINDS},
}
HELP = {
    "backups-watch": "PostgreSQL itself goes on. What the repositories lack cannot be restored.",
    "backups-drill-postgres": "Do not rely on the backups of the databases before a drill has gone well.",
    "backups-drill-media": "Do not rely on the backups of the media before a drill has gone well.",
}


def write(settings: Settings, unit: str) -> bool:
    """Tell how a unit ended. systemd's variables say it."""
    os.umask(0o022)
    with records.alone(STATE / "report.lock"):
        before = records.read(STATE / "report.json")
        jobs = {
            name: job
            for name, job in before.get("jobs", {}).items()
            if (settings.cluster or "postgres" not in name) and (settings.saved or "media" not in name)
        }
        reason = outcome(settings, unit, os.environ)
        # All kinds of backups of the databases are one job: each makes up for one that failed.
        name = unit.partition("@")[0]
        jobs[name] = followed(jobs.get(name, {}), unit, reason, time.time())
        told = _tell(settings, jobs.values())
        state = {"jobs": jobs, "wal": _wal(settings), "written": time.time()}
        records.write(STATE / "report.json", state)
        _publish(Path(settings.metrics_directory), exposition(settings, state))
    return told


def _publish(directory: Path, text: str) -> None:
    """Replace the file as a whole. The directory may be somebody else's, so a link there must lead nowhere."""
    directory.mkdir(parents=True, exist_ok=True)
    new = directory / "backups.new"
    new.unlink(missing_ok=True)
    with new.open("x") as file:
        file.write(text)
    new.replace(directory / "backups.prom")


def outcome(settings: Settings, unit: str, told: Mapping[str, str]) -> str:
    """Return why a unit failed, or an empty text."""
    result = told.get("SERVICE_RESULT", "success")
    crashed = f"it ended early: {result} {told.get('EXIT_STATUS', '')}".rstrip()
    if unit not in RECORDS:
        # The drills have told theirs.
        silent = result == "success" or bool(watch.drill_problems())
        return "; ".join(watch.problems(settings)) or ("" if silent else crashed)
    record = records.read(RECORDS[unit])
    started = run("systemctl", "show", "--timestamp=unix", "--property=ExecMainStartTimestamp", "--value", unit)
    fresh = record.get("finished", 0) >= float(started.strip().lstrip("@") or 0)
    if fresh and not record["ok"]:
        return records.reason(record) or crashed
    return "" if result == "success" else crashed


def followed(job: Record, unit: str, reason: str, now: float) -> Record:
    """Return what is known of a job after one more run."""
    ok = not reason
    since = job["since"] if job.get("ok") is ok else now
    return {"unit": unit, "ok": ok, "reason": reason, "since": since, "finished": now, "told": job.get("told")}


def due(job: Record, now: float) -> bool:
    """Whether there is news for people: a failure, another reason, the same one a day later, or its end."""
    told = job["told"]
    if job["ok"] or not told:
        return bool(job["ok"]) is bool(told)
    return _gist(told["reason"]) != _gist(job["reason"]) or now - told["time"] >= AGAIN


def _gist(reason: str) -> str:
    """Numbers and times in it change from run to run."""
    return re.sub(r"\d+", "", reason)


def _tell(settings: Settings, jobs: Iterable[Record]) -> bool:
    """Call the command of the operator for each job that has news; where it fails, again after the next run."""
    for job in jobs if settings.notify_command else ():
        if due(job, time.time()):
            subject, text = message(os.uname().nodename, job)
            # A service may be cut off from the network; this must not be. Nor may it read what belongs to postgres.
            hook = ["nsenter", "--target=1", "--net", "--", *settings.notify_command]
            environment = {"BACKUPS_SUBJECT": subject, "HOME": "/root", "USER": "root", "LOGNAME": "root"}
            try:
                run(*hook, limit=HOOK_SECONDS, environment=environment, given=text)
            except Failure as failure:
                say(f"backups_notify_command failed, so nobody learns of this: {subject}: {failure}")
                return False
            job["told"] = None if job["ok"] else {"reason": job["reason"], "time": time.time()}
    return True


def message(host: str, job: Record) -> tuple[str, str]:
    """Return the subject and the text."""
    name = job["unit"]
    since = datetime.fromtimestamp(job["since"]).astimezone().isoformat(sep=" ", timespec="seconds")
    if job["ok"]:
        return f"{host}: {name} is well again", f"Host:   {host}\nUnit:   {name}\nSince:  {since}\n"
    help_ = HELP.get(name, "Until it is mended, what a restore brings back gets older.")
    return f"{host}: {name} fails", (
        f"Host:    {host}\nUnit:    {name}\nSince:   {since}\nReason:  {job['reason']}\n\n"
        f"{help_}\nMore is in its log: journalctl -u {name}\nOnce it is mended: systemctl start {name}\n"
    )


def _wal(settings: Settings) -> Record:
    if settings.cluster is None:
        return {}
    since = watch.oldest_waiting(settings.cluster)
    return {
        "waiting_seconds": max(0, round(time.time() - since)) if since else 0,
        "waiting_bytes": watch.bytes_waiting(settings.cluster),
        "dropped": watch.dropped(),
    }


# The metrics: what each tells, and which figure of a record it is.
RESULTS = {
    "run_timestamp_seconds": ("When the last run ended.", "finished"),
    "run_success": ("Whether the last run went well.", "ok"),
    "last_success_timestamp_seconds": ("When the last run ended that went well.", "succeeded"),
    "last_success_duration_seconds": ("How long that took.", "seconds"),
    "last_success_size_bytes": ("How much it added to the repository.", "bytes"),
}
DRILLS = {
    "drill_timestamp_seconds": ("When the last drill ended.", "finished"),
    "drill_success": ("Whether everything could be restored in it.", "ok"),
}
JOBS = {"unit_success": ("Whether the last run of the unit went well, in all repositories.", "ok")}
LOG = {
    "wal_waiting_seconds": (
        "For how long the oldest log of PostgreSQL has waited for the repositories.",
        "waiting_seconds",
    ),
    "wal_waiting_bytes": ("How much of it is waiting.", "waiting_bytes"),
    "wal_dropped": ("Whether some of it was dropped since the last backup.", "dropped"),
}


def exposition(settings: Settings, state: Record) -> str:
    """Return it in the text format of Prometheus."""
    own = {repository.name for repository in settings.repositories}
    results = [
        ({"backup": unit.removeprefix("backups-").replace("@", "-"), "repository": name}, result)
        for unit, path in RECORDS.items()
        if "drill" not in unit
        for name, result in records.read(path).get("repositories", {}).items()
        if name in own
    ]
    drills = [
        ({"backup": unit.removeprefix("backups-drill-")}, records.read(path))
        for unit, path in RECORDS.items()
        if "drill" in unit
    ]
    jobs = [({"unit": name}, job) for name, job in state["jobs"].items()]
    log: list[tuple[dict[str, str], Record]] = [({}, state["wal"])]
    lines = [*_family(RESULTS, results), *_family(DRILLS, drills), *_family(JOBS, jobs), *_family(LOG, log)]
    return "".join(f"{line}\n" for line in lines)


def _family(metrics: dict[str, tuple[str, str]], samples: list[tuple[dict[str, str], Record]]) -> Iterator[str]:
    for metric, (meaning, key) in metrics.items():
        values = [(labels, sample[key]) for labels, sample in samples if key in sample]
        if values:
            yield f"# HELP backups_{metric} {meaning}"
            yield f"# TYPE backups_{metric} gauge"
        for labels, value in values:
            shown = ",".join(f'{name}="{text}"' for name, text in labels.items())
            # A truth, or a time that may be none, counts as 1 or 0.
            number = value if metric.endswith(("seconds", "bytes")) else int(bool(value))
            yield f"backups_{metric}{{{shown}}} {number}" if shown else f"backups_{metric} {number}"
