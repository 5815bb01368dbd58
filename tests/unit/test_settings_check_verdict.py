"""What findings amount to, and what is said to somebody who gives wrong options."""

from __future__ import annotations

import getpass
import os
import pwd
from pathlib import Path
from typing import Any

import pytest

from plugins.module_utils._settings_check import catalogue, check, inspector, runner, verdict
from plugins.modules import django_settings_check

W018 = {"id": "security.W018", "source": "django", "level": 30, "message": "DEBUG", "object": "", "silenced": False}
W004 = {**W018, "id": "security.W004", "message": "HSTS"}
W021 = {**W018, "id": "security.W021", "message": "preload"}
E023 = {**W018, "id": "security.E023", "level": 40, "message": "referrer"}
INFO = {**W018, "id": "shop.I001", "level": 20, "message": "by the way"}
RULE = {"id": "debug_on", "setting": "DEBUG"}


def same(text: str) -> str:
    return text


def severities(*found: dict[str, Any], **severity: str) -> list[str]:
    return [each["severity"] for each in verdict.judge(found, [], severity, same)["findings"]]


@pytest.mark.parametrize(
    ("found", "severity"),
    [(W018, "error"), (W004, "warning"), (W021, "notice"), (E023, "error"), (INFO, "notice"), (RULE, "error")],
)
def test_a_finding_is_as_severe_as_the_table_says(found: dict[str, Any], severity: str) -> None:
    assert severities(found) == [severity]


def test_the_play_has_the_last_word_on_a_severity() -> None:
    judged = verdict.judge([W018, RULE], [], {"security.W018": "notice", "debug_on": "warning"}, same)
    assert [(each["id"], each["severity"]) for each in judged["findings"]] == [
        ("debug_on", "warning"),
        ("security.W018", "notice"),
    ]


def test_a_rule_can_say_that_it_is_less_sure() -> None:
    assert severities({"id": "pooled_server_side_cursors", "severity": "warning"}) == ["warning"]


def test_each_finding_tells_what_is_wrong_and_what_to_do() -> None:
    (found,) = verdict.judge([RULE], [], {}, same)["findings"]
    assert found == {
        "id": "debug_on",
        "source": "rule",
        "severity": "error",
        "message": catalogue.RULES["debug_on"].meaning,
        "hint": catalogue.RULES["debug_on"].remedy,
        "object": "",
        "setting": "DEBUG",
    }


def test_the_words_of_a_project_are_scrubbed_and_those_of_the_catalogue_are_not() -> None:
    judged = verdict.judge(
        [{**E023, "message": "a hunter2", "hint": "b hunter2"}, RULE], [], {}, lambda text: "*" * len(text)
    )
    ours, theirs = judged["findings"]
    assert ours["message"] == catalogue.RULES["debug_on"].meaning
    assert "hunter2" not in str(theirs)


def test_what_the_play_ignores_or_the_project_silences_does_not_count() -> None:
    judged = verdict.judge([W018, {**W004, "silenced": True}, RULE], ["debug_on"], {}, same)
    assert [each["id"] for each in judged["findings"]] == ["security.W018"]
    assert {each["id"] for each in judged["ignored"]} == {"security.W004", "debug_on"}
    assert judged["counts"] == {"error": 1, "warning": 0, "notice": 0}


@pytest.mark.parametrize(
    ("fail_on", "failing"),
    [
        ("error", {"error"}),
        ("warning", {"error", "warning"}),
        ("notice", {"error", "warning", "notice"}),
        ("never", set()),
    ],
)
def test_the_task_fails_from_the_severity_on_that_the_play_names(fail_on: str, failing: set[str]) -> None:
    for severity in catalogue.SEVERITIES:
        counts = {**dict.fromkeys(catalogue.SEVERITIES, 0), severity: 1}
        assert verdict.fails(counts, fail_on) is (severity in failing)


def test_the_message_counts_all_findings_and_shows_the_first_ten() -> None:
    judged = verdict.judge([{**W004, "object": f"site {number:02}"} for number in range(12)], [], {}, same)
    lines = verdict.message("shop.settings", judged).splitlines()
    assert lines[0] == "shop.settings: 0 errors, 12 warnings and 0 notices"
    assert lines[1] == "warning security.W004: site 00: HSTS"
    assert lines[11:] == ["and 2 more"]


def test_the_message_says_what_to_do() -> None:
    judged = verdict.judge([RULE], [], {}, same)
    assert verdict.message("shop", judged).splitlines()[0] == "shop: 1 error, 0 warnings and 0 notices"
    assert verdict.message("shop", judged).endswith(" — DEBUG = False")


# --- What could not be loaded ---

ABOUT = {"virtualenv": "/srv/shop/venv", "subject": "shop.settings_prod", "environment_files": ["/etc/shop/env"]}
ERROR = {"type": "KeyError", "message": "'DB_PASSWORD'", "file": "shop/settings_prod.py", "line": 14, "cause": []}
UNKNOWN = "cannot load shop.settings_prod: KeyError: 'DB_PASSWORD' at shop/settings_prod.py:14"
ENVIRON = "cannot load shop.settings_prod: ImproperlyConfigured: Set the DB_URL environment variable"


@pytest.mark.parametrize(
    ("error", "stage", "told"),
    [
        (
            {"type": "ModuleNotFoundError", "message": "No module named 'django'", "module": "django"},
            "django",
            "Django is not installed in /srv/shop/venv",
        ),
        (
            {**ERROR, "missing": "DB_PASSWORD"},
            "settings",
            f"{UNKNOWN} (variable missing from /etc/shop/env)",
        ),
        (ERROR, "settings", UNKNOWN),
        (
            {**ERROR, "type": "ImproperlyConfigured", "message": "Set the DB_URL environment variable"},
            "settings",
            f"{ENVIRON} at shop/settings_prod.py:14 (variable missing from /etc/shop/env)",
        ),
        (
            {**ERROR, "type": "SystemExit", "message": "missing FOO"},
            "settings",
            'cannot load shop.settings_prod: the settings called sys.exit("missing FOO") at shop/settings_prod.py:14',
        ),
        (
            {**ERROR, "file": "", "cause": ["PermissionError: no"], "settings_module": "shop.other"},
            "setup",
            "cannot load shop.other: KeyError: 'DB_PASSWORD', because of PermissionError: no",
        ),
    ],
)
def test_an_error_tells_where_it_is_and_what_is_missing(error: dict[str, Any], stage: str, told: str) -> None:
    assert verdict.explain_error(error, stage, ABOUT, ["SECRET_KEY"]) == told


def test_an_interpreter_that_says_no_more_is_described_by_how_it_ended() -> None:
    def explain(*, loaded: bool, timeout: int | None, status: int | None) -> str:
        return verdict.explain_end("settings", loaded, "shop.prod", timeout, status)

    hung, ended, killed = (
        explain(loaded=False, timeout=60, status=-9),
        explain(loaded=False, timeout=None, status=4),
        explain(loaded=True, timeout=None, status=-11),
    )
    assert hung == "cannot load shop.prod: did not finish within 60 s (last stage: settings)"
    assert ended == "cannot load shop.prod: the interpreter ended with status 4 in stage settings"
    assert killed == "cannot check shop.prod: the interpreter was ended by signal 11 in stage settings"


# --- Options ---


def options(folder: Path, **given: Any) -> dict[str, Any]:
    defaults = {name: option.get("default") for name, option in django_settings_check.ARGUMENTS.items()}
    (folder / "venv/bin").mkdir(parents=True, exist_ok=True)
    (folder / "venv/bin/python").touch(mode=0o644)
    required = {"chdir": str(folder), "virtualenv": str(folder / "venv"), "user": getpass.getuser()}
    return {**defaults, **required, "settings": "shop.settings", **given}


def complaint(folder: Path, **given: Any) -> str:
    answer = check.Check(options(folder, **given), check_mode=False).run()
    assert answer["failed"] is True
    assert answer["changed"] is False
    message: str = answer["msg"]
    return message


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"user": "shopp"}, "no such user: shopp"),
        (
            {"environment_files": ["shop.env"]},
            'environment_files[0]: "shop.env" must be an absolute path (systemd refuses relative ones)',
        ),
        (
            {"environment_files": ["/nonexistent/env"]},
            '/nonexistent/env: No such file or directory (prefix it with "-" if the unit treats it as optional)',
        ),
        (
            {"settings": None},
            "no settings module: set settings, application, or DJANGO_SETTINGS_MODULE in the environment files",
        ),
        ({"ignore": ["security.W99"]}, 'ignore: "security.W99" is not a finding id'),
        ({"severity": {"debug_of": "error"}}, 'severity: "debug_of" is not a finding id'),
        ({"severity": {"debug_on": "fatal"}}, 'severity: "fatal" for debug_on is none of error, warning, notice'),
        ({"application": "shop/wsgi.py"}, 'application: "shop/wsgi.py" is not of the form shop.wsgi:application'),
        ({"timeout": 0}, "timeout: 0 is not at least 1"),
        (
            {"secrets": {"DB_PIN": "1234"}},
            "secrets: DB_PIN is shorter than 8 characters; Ansible would mask it everywhere",
        ),
        (
            {"expect": [{"setting": "DEBUG", "regex": "("}]},
            'expect[0]: regex "(" does not compile: missing ), unterminated subpattern',
        ),
        (
            {"expect": [{"setting": "SECRET_KEY", "equals": "x"}]},
            "expect[0]: SECRET_KEY is secret; use present, type or min_length, or the option secrets",
        ),
        ({"secret_patterns": ["("]}, 'secret_patterns: regex "(" does not compile: missing ), unterminated subpattern'),
        ({"chdir": "/nonexistent"}, "chdir: /nonexistent does not exist"),
        ({"virtualenv": "/nonexistent"}, "virtualenv: /nonexistent/bin/python does not exist"),
    ],
)
def test_a_bad_option_gets_one_clear_message(tmp_path: Path, given: dict[str, Any], told: str) -> None:
    assert complaint(tmp_path, **given).startswith(told)


def test_all_bad_options_are_told_at_once(tmp_path: Path) -> None:
    told = complaint(tmp_path, ignore=["x"], severity={"y": "error"}, timeout=-1)
    assert len(told.splitlines()) == 3


def test_an_expectation_without_a_predicate_is_told_by_its_number(tmp_path: Path) -> None:
    told = complaint(tmp_path, expect=[{"setting": "A", "equals": 1}, {"setting": "B", "equals": 1}, {"setting": "C"}])
    assert told.startswith("expect[2]: no predicate; give one of equals, one_of, min, ")


def test_a_file_that_systemd_refuses_is_refused(tmp_path: Path) -> None:
    (tmp_path / "env").write_bytes(b"A=1\nB=2\nC=\xff\n")
    told = complaint(tmp_path, environment_files=[str(tmp_path / "env")])
    assert told == f"{tmp_path}/env: invalid UTF-8 on line 3; systemd refuses the whole file"


def test_an_interpreter_that_cannot_be_run_is_told_with_what_it_really_is(tmp_path: Path) -> None:
    told = complaint(tmp_path)
    python = tmp_path / "venv/bin/python"
    user = getpass.getuser()
    assert told == f"{python} cannot be executed as user {user}: Permission denied (interpreter is {python.resolve()})"


def test_root_must_say_who_runs_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert complaint(tmp_path, user=None) == (
        "user is required when the module runs as root: "
        'give the account of the service (or "root" if it really runs as root)'
    )


def test_only_root_becomes_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    told = complaint(tmp_path, user="daemon")
    assert told == "user: the module must run as root to run the project as daemon; set become: true"


def test_what_is_not_there_yet_is_skipped_in_check_mode(tmp_path: Path) -> None:
    given = options(tmp_path, chdir="/nonexistent", user="not_made_yet", environment_files=["/nonexistent/env"])
    answer = check.Check(given, check_mode=True).run()
    assert answer["skipped"] is True
    assert answer["msg"] == "/nonexistent does not exist yet, nothing was verified"


def test_bad_options_are_told_in_check_mode_too(tmp_path: Path) -> None:
    answer = check.Check(options(tmp_path, chdir="/nonexistent", ignore=["x"]), check_mode=True).run()
    assert answer["failed"] is True


def test_all_of_the_inspector_is_sent() -> None:
    sent = {module.__name__.rpartition(".")[2] for module in runner.MODULES} | {"bootstrap"}
    there = {path.stem for path in Path(inspector.__file__).parent.glob("*.py")} - {"__init__"}
    assert there <= sent


def test_the_documentation_has_the_options_of_the_module() -> None:
    yaml = pytest.importorskip("yaml")
    documented = yaml.safe_load(django_settings_check.DOCUMENTATION)["options"]

    def compare(told: dict[str, Any], meant: dict[str, Any]) -> None:
        assert list(told) == list(meant)
        for name, option in meant.items():
            for key in ("type", "elements", "default", "choices", "required", "aliases"):
                assert told[name].get(key) == option.get(key), f"{name}: {key}"
            compare(told[name].get("suboptions", {}), option.get("options", {}))

    compare(documented, django_settings_check.ARGUMENTS)
