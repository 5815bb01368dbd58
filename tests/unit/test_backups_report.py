"""When somebody is told of the backups, and what."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles/backups/files/backups"
NOW = 1_800_000_000.0
DAY = 24 * 3600


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    known = set(sys.modules)
    monkeypatch.syspath_prepend(PROGRAM)
    yield importlib.import_module("report")
    for name in set(sys.modules) - known:
        del sys.modules[name]


def told(report: Any, runs: list[tuple[float, str]]) -> list[float]:
    """Return at which of the runs somebody is told, when each ends at a time for a reason."""
    job: dict[str, Any] = {}
    times = []
    for time, reason in runs:
        job = report.followed(job, "backups-media", reason, NOW + time)
        if report.due(job, NOW + time):
            times.append(time)
            job["told"] = None if job["ok"] else {"reason": job["reason"], "time": NOW + time}
    return times


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([(0, ""), (1, "")], []),
        ([(0, ""), (1, "full"), (2, "full"), (3, ""), (4, "")], [1, 3]),
        ([(0, "full"), (1, "wrong key")], [0, 1]),
        ([(0, "it has waited for 5 minutes"), (1, "it has waited for 10 minutes")], [0]),
        ([(0, "full"), (DAY - 1, "full"), (DAY, "full"), (DAY + 1, "full"), (2 * DAY, "full")], [0, DAY, 2 * DAY]),
    ],
)
def test_each_thing_is_told_once_and_a_failure_each_day(
    report: Any, runs: list[tuple[float, str]], expected: list[float]
) -> None:
    assert told(report, runs) == expected


def test_a_failure_that_nobody_was_told_of_ends_in_silence(report: Any) -> None:
    job = report.followed({}, "backups-media", "full", NOW)
    assert not report.due(report.followed(job, "backups-media", "", NOW + 1), NOW + 1)


def test_a_message_says_where_what_why_and_what_to_do(report: Any) -> None:
    failing = report.followed({}, "backups-postgres@full", "repository store: no space left", NOW)
    subject, text = report.message("web1", failing)
    assert subject == "web1: backups-postgres@full fails"
    for words in ("web1", "repository store: no space left", "journalctl -u backups-postgres@full", "systemctl start"):
        assert words in text
    subject, text = report.message("web1", report.followed(failing, "backups-postgres@diff", "", NOW + 9))
    assert subject == "web1: backups-postgres@diff is well again"
    assert "no space left" not in text


def test_every_metric_has_a_unit_a_meaning_and_a_type(report: Any) -> None:
    for families in (report.RESULTS, report.DRILLS, report.JOBS, report.LOG):
        for metric, (meaning, key) in families.items():
            lines = list(report._family({metric: (meaning, key)}, [({"repository": "store"}, {key: 7.5})]))  # noqa: SLF001
            assert lines[0] == f"# HELP backups_{metric} {meaning}"
            assert lines[1] == f"# TYPE backups_{metric} gauge"
            expected = "7.5" if re.search(r"_(seconds|bytes)$", metric) else "1"
            assert lines[2] == f'backups_{metric}{{repository="store"}} {expected}'


def test_a_figure_that_nobody_knows_yet_is_no_metric(report: Any) -> None:
    assert list(report._family(report.RESULTS, [({}, {"ok": False})])) == [  # noqa: SLF001
        "# HELP backups_run_success Whether the last run went well.",
        "# TYPE backups_run_success gauge",
        "backups_run_success 0",
    ]
