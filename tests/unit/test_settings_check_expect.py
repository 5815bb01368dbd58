"""What a playbook expects of settings is held against them, and no secret is told on the way."""

from __future__ import annotations

import hmac
from typing import Any

import pytest

from plugins.module_utils._settings_check import expect as module
from plugins.module_utils._settings_check.expect import check_options, compare_secrets, evaluate

SETTINGS: dict[str, Any] = {
    "DEBUG": False,
    "SECRET_KEY": "a-key-of-the-shop-that-is-long",
    "ALLOWED_HOSTS": ["shop.example.com", "www.shop.example.com"],
    "DATABASES": {
        "default": {"HOST": "db", "PORT": 6432, "CONN_MAX_AGE": 0, "PASSWORD": "hunter22", "OPTIONS": {}},
    },
    "EMAIL_TIMEOUT": None,
    "SESSION_COOKIE_AGE": 1209600,
    "RATIO": 0.5,
    "LANGUAGE_CODE": "de",
    "SITE_TITLE": "<lazy>",
    "CELERY_BROKER_URL": "redis://:hunter22@redis/0",
    "LOGGING": {"loggers": {"django": {"level": "INFO"}, "django.request": {"level": "ERROR"}}},
    "MATRIX": [[1, True], {"a": 1}],
    "DOOR_PIN": 12345678,
}
PREDICATES = "equals, one_of, min, max, regex, contains, min_length, type, present, overridden"
EVERYTHING_ELSE = dict.fromkeys([*PREDICATES.split(", "), "msg", "severity"])


def expectation(setting: str, **predicates: Any) -> dict[str, Any]:
    """As Ansible passes it, with null for what is not given."""
    return {**EVERYTHING_ELSE, "setting": setting, **predicates}


def message(setting: str, **predicates: Any) -> str:
    found = evaluate([expectation(setting, **predicates)], SETTINGS, ["DEBUG", "DATABASES"])
    return found[0]["message"] if found else ""


@pytest.mark.parametrize(
    ("setting", "predicates"),
    [
        ("DEBUG", {"equals": False}),
        ("DEBUG", {"equals": "False"}),
        ("DEBUG", {"equals": "no", "type": "bool", "present": True, "overridden": True}),
        ("DATABASES.default.HOST", {"equals": "db"}),
        ("DATABASES.default.PORT", {"equals": "6432"}),
        ("DATABASES.default.PORT", {"equals": 6432.0}),
        ("DATABASES.default.CONN_MAX_AGE", {"equals": 0}),
        ("DATABASES.default.OPTIONS", {"equals": {}}),
        ("RATIO", {"equals": "0.5"}),
        ("LANGUAGE_CODE", {"one_of": ["en", "de"], "overridden": False}),
        ("DATABASES.default.PORT", {"one_of": ["5432", "6432"]}),
        ("SESSION_COOKIE_AGE", {"min": 60.0, "max": 1209600.0}),
        ("ALLOWED_HOSTS", {"contains": "shop.example.com", "min_length": 1, "type": "list"}),
        ("ALLOWED_HOSTS.1", {"regex": "^www[.]"}),
        ("DATABASES", {"contains": "default"}),
        ("LANGUAGE_CODE", {"contains": "e"}),
        ("MATRIX.0", {"contains": "1"}),
        ("EMAIL_TIMEOUT", {"type": "null", "present": True}),
        ("NOT_THERE", {"present": False}),
        ("DATABASES.replica", {"present": False}),
        ("LOGGING.loggers.django.level", {"equals": "INFO"}),
        ("LOGGING.loggers.django.request.level", {"equals": "ERROR"}),
        ("SECRET_KEY", {"present": True, "min_length": 20, "type": "str"}),
        ("MATRIX", {"equals": [[1, True], {"a": 1}]}),
        ("SITE_TITLE", {"present": True}),
    ],
)
def test_what_is_as_expected_is_not_told(setting: str, predicates: dict[str, Any]) -> None:
    assert message(setting, **predicates) == ""
    assert check_options([expectation(setting, **predicates)], {}) == []


@pytest.mark.parametrize(
    ("setting", "predicates", "expected"),
    [
        ("DEBUG", {"equals": True}, "DEBUG is False, must be True"),
        ("DEBUG", {"equals": 0}, "DEBUG is False, must be 0"),
        ("DEBUG", {"one_of": [0, None]}, "DEBUG is False, must be one of [0, None]"),
        ("DEBUG", {"max": 1.0}, "DEBUG is False, must be at most 1"),
        ("DEBUG", {"type": "int"}, "DEBUG is False, must be of the type int"),
        (
            "MATRIX",
            {"equals": [[True, True], {"a": 1}]},
            "MATRIX is [[1, True], {'a': 1}], must be [[True, True], {'a': 1}]",
        ),
        ("MATRIX.1.a", {"equals": True}, "MATRIX.1.a is 1, must be True"),
        ("DATABASES.default.PORT", {"equals": "many"}, "DATABASES.default.PORT is 6432, must be 'many'"),
        ("LANGUAGE_CODE", {"equals": 1}, "LANGUAGE_CODE is 'de', must be 1"),
        ("LANGUAGE_CODE", {"min": 1.5}, "LANGUAGE_CODE is 'de', must be at least 1.5"),
        ("SESSION_COOKIE_AGE", {"regex": "1"}, "SESSION_COOKIE_AGE is 1209600, must match '1'"),
        ("SESSION_COOKIE_AGE", {"contains": "1"}, "SESSION_COOKIE_AGE is 1209600, must contain '1'"),
        ("SESSION_COOKIE_AGE", {"min_length": 1}, "SESSION_COOKIE_AGE is 1209600, must have at least the length 1"),
        (
            "EMAIL_TIMEOUT",
            {"min": 1.0, "type": "int"},
            "EMAIL_TIMEOUT is None, must be at least 1 and be of the type int",
        ),
        ("EMAIL_TIMEOUT", {"present": False}, "EMAIL_TIMEOUT is None, must not be set"),
        ("DEBUG", {"overridden": False}, "DEBUG is False, must be left to Django"),
        ("LANGUAGE_CODE", {"overridden": True}, "LANGUAGE_CODE is 'de', must be set by the project itself"),
        ("NOT_THERE", {"present": True}, "NOT_THERE is not set, must be set"),
        ("NOT_THERE", {"equals": 1}, "NOT_THERE is not set, must be 1"),
        ("NOT_THERE", {"overridden": False}, "NOT_THERE is not set, must be left to Django"),
        ("ALLOWED_HOSTS.2", {"equals": "x"}, "ALLOWED_HOSTS.2 is not set, must be 'x'"),
        ("ALLOWED_HOSTS.first", {"equals": "x"}, "ALLOWED_HOSTS.first is not set, must be 'x'"),
        ("DEBUG.x", {"equals": "x"}, "DEBUG.x is not set, must be 'x'"),
        ("SITE_TITLE", {"regex": "."}, "SITE_TITLE is a lazy text, which cannot be compared, must match '.'"),
        ("SECRET_KEY", {"min_length": 50}, "SECRET_KEY must have at least the length 50"),
        ("DATABASES.default.PASSWORD", {"type": "null"}, "DATABASES.default.PASSWORD must be of the type null"),
        ("CELERY_BROKER_URL", {"contains": "amqp"}, "CELERY_BROKER_URL is 'redis://:***@redis/0', must contain 'amqp'"),
        ("DEBUG", {"equals": True, "msg": "Errors must show"}, "Errors must show (DEBUG is False, must be True)"),
    ],
)
def test_what_is_not_as_expected_is_told_with_both_values(
    setting: str, predicates: dict[str, Any], expected: str
) -> None:
    assert message(setting, **predicates) == expected
    assert check_options([expectation(setting, **predicates)], {}) == []


def test_a_long_value_is_cut() -> None:
    found = evaluate([expectation("A", equals="y" * 500)], {"A": ["x" * 500]}, [])
    assert len(found[0]["message"]) < 200


def test_a_finding_has_the_severity_that_was_asked_for() -> None:
    asked = [expectation("DEBUG", equals=True), expectation("DEBUG", equals=True, severity="notice")]
    found = evaluate(asked, SETTINGS, [])
    assert [{name: entry[name] for name in ("id", "source", "severity", "setting")} for entry in found] == [
        {"id": "expectation", "source": "expect", "severity": severity, "setting": "DEBUG"}
        for severity in ("error", "notice")
    ]


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (
            expectation("DEBUG"),
            f"expect[1]: no predicate; give one of {PREDICATES}",
        ),
        (
            expectation("SECRET_KEY", equals="x"),
            "expect[1]: SECRET_KEY is secret; use present, type or min_length, or the option secrets",
        ),
        (
            expectation("DATABASES.default.PASSWORD", regex="x", min_length=8),
            "expect[1]: DATABASES.default.PASSWORD is secret; use present, type or min_length, or the option secrets",
        ),
        (
            expectation("DEBUG", regex="("),
            'expect[1]: regex "(" does not compile: missing ), unterminated subpattern',
        ),
        (
            expectation("CELERY_BROKER_URL", equals="redis://:hunter22@redis/0"),
            "expect[1]: equals has a secret in it, which Ansible would log; use the option secrets",
        ),
        (
            expectation("DATABASES", contains={"PASSWORD": "hunter22"}),
            "expect[1]: contains has a secret in it, which Ansible would log; use the option secrets",
        ),
    ],
)
def test_an_expectation_that_makes_no_sense_is_told_with_its_number(given: dict[str, Any], problem: str) -> None:
    assert check_options([expectation("DEBUG", present=True), given], {}) == [problem]


def test_a_project_can_have_more_secret_names() -> None:
    assert check_options([expectation("LICENCE", equals="x")], {}, ["LICENCE"]) == [
        "expect[0]: LICENCE is secret; use present, type or min_length, or the option secrets"
    ]
    assert evaluate([expectation("LICENCE", type="null")], {"LICENCE": "hunter22"}, [], ["LICENCE"])[0]["message"] == (
        "LICENCE must be of the type null"
    )


def test_all_problems_are_told_at_once() -> None:
    secrets = {"DB_PIN": "1234567", "SECRET_KEY_FALLBACKS": ["hunter22"], "SECRET_KEY": "long enough"}
    assert check_options([expectation("A"), expectation("B", regex="[")], secrets) == [
        f"expect[0]: no predicate; give one of {PREDICATES}",
        'expect[1]: regex "[" does not compile: unterminated character set',
        "secrets: DB_PIN is shorter than 8 characters; Ansible would mask it everywhere",
        "secrets: SECRET_KEY_FALLBACKS must be a text; compare a part of it by its own path",
    ]


def test_a_secret_that_is_the_same_is_not_told() -> None:
    given = {"SECRET_KEY": SETTINGS["SECRET_KEY"], "DATABASES.default.PASSWORD": "hunter22", "DOOR_PIN": "12345678"}
    assert compare_secrets(given, SETTINGS) == []
    assert compare_secrets({"DOOR_PIN": 12345678}, SETTINGS) == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("SECRET_KEY", "SECRET_KEY is not the value that secrets has for it"),
        ("NOT_THERE", "NOT_THERE is not set, but secrets has a value for it"),
        ("EMAIL_TIMEOUT", "EMAIL_TIMEOUT is of the type null, but secrets has a text for it"),
        ("DEBUG", "DEBUG is of the type bool, but secrets has a text for it"),
    ],
)
def test_a_secret_that_differs_is_told_without_either(path: str, message: str) -> None:
    found = compare_secrets({path: "hunter22hunter22"}, SETTINGS)
    assert found == [{"id": "secret_differs", "setting": path, "message": message, "source": "expect"}]


def test_secrets_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []

    def compare(first: bytes, second: bytes) -> bool:
        compared.append((first, second))
        return hmac.compare_digest(first, second)

    monkeypatch.setattr(module, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))
    assert compare_secrets({"A_KEY": "naïve-ß-\udcff"}, {"A_KEY": "naïve-ß-\udcff"}) == []
    assert len(compared) == 1
