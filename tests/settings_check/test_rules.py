"""Each rule on each version of Django: where it has to speak, and where it must not."""

from __future__ import annotations

import pytest
from settings_check.cases import EVERYTHING, EXCLUDED, FAULTS, QUIET, REMOVED_WITHOUT_HARM
from settings_check.projects import ENVIRONMENT, GOOD_OPTIONS, Case
from settings_check.version import Django

from plugins.module_utils._settings_check.catalogue import GROUPS, RULES, SEVERITIES

# What it takes more than settings to find: files of variables, two loads, a database, a cache, the playbook.
ELSEWHERE = {
    "settings_not_loaded",
    "secret_key_unstable",
    "setting_unstable",
    "database_superuser",
    "database_unreachable",
    "migrations_unapplied",
    "migrations_conflicting",
    "migrations_missing",
    "schema_drift",
    "cache_unreachable",
    "envfile_dropped_line",
    "envfile_export",
    "envfile_unquoted_comment",
    "envfile_lost_backslash",
    "envfile_dollar",
    "envfile_unbalanced_quote",
    "expectation",
    "secret_differs",
}


def named(case: Case) -> str:
    return case.name


def skip_unless_it_applies(case: Case, django: Django) -> None:
    if not case.applies(django.number):
        pytest.skip(f"not with Django {django.version}")


@pytest.mark.parametrize("case", FAULTS, ids=named)
def test_a_fault_brings_its_finding_and_no_other(django: Django, case: Case) -> None:
    skip_unless_it_applies(case, django)
    findings = django.findings(case)
    assert {each["id"] for each in findings} == (case.ids or {case.name.split()[0]}), findings


@pytest.mark.parametrize("case", QUIET, ids=named)
def test_what_is_right_brings_no_finding(django: Django, case: Case) -> None:
    skip_unless_it_applies(case, django)
    findings = django.findings(case)
    assert {each["id"] for each in findings} == (case.ids or set()), findings


def test_all_faults_are_found_at_once(django: Django) -> None:
    found = {each["id"] for each in django.findings(EVERYTHING)}
    possible = {case.name.split()[0] for case in FAULTS if case.applies(django.number)} - EXCLUDED
    # Without MAILERS there is one way to send mail, and it either drops it or waits for ever.
    assert found == possible - ({"email_no_timeout"} if django.number < (6, 1) else set())


def severity(django: Django, name: str) -> str:
    case = next(case for case in FAULTS if case.name == name)
    found = django.findings(case)
    return found[0].get("severity", RULES[found[0]["id"]].severity)


def test_how_bad_it_is_depends_on_what_it_is_about(django: Django) -> None:
    assert severity(django, "cache_not_shared") == "error"
    assert severity(django, "cache_not_shared other") == "warning"
    assert severity(django, "session_in_process_memory") == "error"
    assert severity(django, "session_in_process_memory copies") == "warning"
    assert severity(django, "removed_setting days") == "error"


@pytest.mark.parametrize("case", REMOVED_WITHOUT_HARM, ids=named)
def test_a_removed_setting_that_asks_for_the_default_is_only_noticed(django: Django, case: Case) -> None:
    skip_unless_it_applies(case, django)
    assert [(each["id"], each["severity"]) for each in django.findings(case)] == [("removed_setting", "notice")]


def test_no_message_gives_a_secret_away(django: Django) -> None:
    text = str(django.findings(EVERYTHING)) + str(
        django.findings(next(case for case in FAULTS if "source" in case.name))
    )
    assert "an-old-key-of-the-shop" not in text
    assert ENVIRONMENT["SECRET_KEY"] not in text


def test_every_finding_is_described_and_tested() -> None:
    here = {case.name.split()[0] for case in FAULTS}
    assert here | ELSEWHERE == set(RULES)
    assert not here & ELSEWHERE
    assert {RULES[each].group for each in here} == set(GOOD_OPTIONS["checks"])
    assert {rule.group for rule in RULES.values()} - {"expect"} <= set(GROUPS)
    assert {rule.severity for rule in RULES.values()} == set(SEVERITIES)
