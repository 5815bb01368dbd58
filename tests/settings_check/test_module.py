"""The module as a playbook runs it: what it answers, and that no secret gets out on any way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args
from settings_check.interpreters import ROOT
from settings_check.service import KEY, Service

from plugins.modules import django_settings_check

SECRETS = {
    "SECRET_KEY": KEY,
    "DATABASE_URL": "postgres://shop:Tr0ub4dor3xyz@db.internal/shop",
    "API_TOKEN": "tok_live_4711abcdef",
    "STRIPE_PIN": "90817263",
}
FRAGMENTS = [KEY, "Tr0ub4dor3", "tok_live_4711", "90817263", "p4ssphrase-of-cache"]
LOADING = "import os; SECRET_KEY = os.environ['SECRET_KEY']; DATABASE_URL = os.environ['DATABASE_URL']\n"


class Play:
    """Runs the module through ansible-playbook, and keeps everything that was said anywhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"

    def run(self, options: dict[str, Any], *arguments: str) -> tuple[dict[str, Any], str]:
        result = self.folder / "result.json"
        result.unlink(missing_ok=True)
        copy = {"ansible.builtin.copy": {"content": "{{ checked | to_json }}", "dest": str(result)}}
        tasks = [
            {"groundwork.django.django_settings_check": options, "register": "checked", "ignore_errors": True},
            {**copy, "check_mode": False, "no_log": True},
        ]
        play = [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]
        (self.folder / "play.json").write_text(json.dumps(play))
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache/collections"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_LOG_PATH": str(self.log),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "NO_COLOR": "1",
        }
        command = ["ansible-playbook", "-i", "localhost,", str(self.folder / "play.json"), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert result.exists(), done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(result.read_text())
        return answer, done.stdout + done.stderr


@pytest.fixture
def play(tmp_path: Path) -> Play:
    return Play(tmp_path)


@pytest.fixture
def environment_file(tmp_path: Path) -> Path:
    file = tmp_path / "env"
    file.write_text("".join(f"{name}='{value}'\n" for name, value in SECRETS.items()))
    file.chmod(0o600)
    return file


def system_log_since(begun: float) -> str:
    """Return what the module has written to the log of the system, as far as there is one here."""
    told = ""
    for name in ("syslog", "messages", "auth.log"):
        file = Path("/var/log") / name
        told += file.read_text(errors="replace") if file.exists() else ""
    journal = ["journalctl", "--no-pager", "--output=cat", f"--since=@{int(begun)}"]
    try:
        return told + subprocess.run(journal, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return told


def assert_nothing_secret(*texts: str) -> None:
    for text in texts:
        for fragment in FRAGMENTS:
            assert fragment not in text, text[max(0, text.index(fragment) - 200) :][:400]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param("", id="that load"),
        pytest.param("raise ValueError(os.environ['DATABASE_URL'] + os.environ['SECRET_KEY'])", id="that tell it"),
        pytest.param("import sys; print(dict(os.environ)); sys.exit(os.environ['API_TOKEN'])", id="that print it"),
        pytest.param("CACHES = {'default': {'BACKEND': os.environ['CACHE_PASSWORD']}}", id="that use it wrongly"),
    ],
)
def test_no_secret_is_in_any_output(service: Service, play: Play, environment_file: Path, settings: str) -> None:
    service.write(LOADING + settings)
    begun = time.time()
    options = service.options(
        environment_files=[str(environment_file)],
        environment={"CACHE_PASSWORD": "p4ssphrase-of-cache", "FLAG": "1"},
        secrets={"SECRET_KEY": KEY, "DATABASE_URL": "another-p4ssphrase-of-cache"},
        return_settings="all",
        checks=["envfile", "django", "settings", "request", "static", "logging", "database", "cache", "stable"],
    )
    # What an author writes into the play itself, Ansible shows with an error; secrets come from variables.
    variables = json.dumps({"hidden": options["secrets"], "given": options["environment"]})
    asked = {**options, "secrets": "{{ hidden }}", "environment": "{{ given }}"}
    answer, output = play.run(asked, "-vvv", "-e", variables)
    log = play.log.read_text() if play.log.exists() else ""
    assert_nothing_secret(json.dumps(answer), output, log, system_log_since(begun))
    assert answer["environment_names"] == [
        "API_TOKEN",
        "CACHE_PASSWORD",
        "DATABASE_URL",
        "FLAG",
        "SECRET_KEY",
        "STRIPE_PIN",
    ]


def test_no_secret_is_handed_to_the_log_of_the_system(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda _self, text, **named: logged.append(f"{text} {named}"))
    given = service.options(secrets={"SECRET_KEY": KEY}, environment={"CACHE_PASSWORD": "p4ssphrase-of-cache"})
    with patch_module_args(given), pytest.raises(SystemExit):
        django_settings_check.main()
    assert "chdir" in str(logged)
    assert_nothing_secret(str(logged), capsys.readouterr().out)


def test_nothing_else_is_masked(service: Service, play: Play) -> None:
    service.write("NUMBER = 1; TEXT = 'true enough'")
    given = {"A_PASSWORD": "1", "FLAG": "true", "SECRET_KEY": KEY}
    answer, _output = play.run(service.options(environment=given, return_settings="overridden", fail_on="never"))
    assert answer["settings"]["NUMBER"] == 1
    assert answer["settings"]["TEXT"] == "true enough"
    assert answer["django_version"].startswith("5.2")


def test_a_failing_task_says_readably_what_is_wrong(service: Service, play: Play) -> None:
    service.write("DEBUG = True")
    answer, output = play.run(service.options())
    assert (answer["failed"], answer["changed"]) == (True, False)
    lines = answer["msg"].splitlines()
    assert lines[0].startswith("shop.settings: ")
    assert any(line.startswith("error debug_on: DEBUG: ") and line.endswith(" — DEBUG = False") for line in lines)
    assert "error debug_on: " in output
    assert answer["counts"]["error"] == sum(found["severity"] == "error" for found in answer["findings"])


def test_it_never_changes_anything_and_fails_as_asked(service: Service, play: Play) -> None:
    answer, _output = play.run(service.options(fail_on="never"))
    again, _output = play.run(service.options(fail_on="never"), "--check", "--diff")
    assert (answer["changed"], again["changed"]) == (False, False)
    assert not answer["failed"]
    assert answer["findings"] == again["findings"] != []
    accepted, _output = play.run(service.options(ignore=sorted({found["id"] for found in answer["findings"]})))
    assert not accepted["failed"]
    assert accepted["ignored"] == answer["findings"]


def test_in_check_mode_it_waits_for_what_the_play_has_yet_to_make(service: Service, play: Play) -> None:
    given = service.options(virtualenv="/nonexistent", user="not_made_yet")
    skipped, _output = play.run(given, "--check")
    failed, _output = play.run(given)
    assert skipped["skipped"] is True
    assert skipped["msg"] == "/nonexistent/bin/python does not exist yet, nothing was verified"
    assert failed["msg"] == "virtualenv: /nonexistent/bin/python does not exist"


def test_an_alias_that_is_not_there_is_told(service: Service, play: Play) -> None:
    answer, _output = play.run(service.options(checks=["database"], databases=["replica"]))
    assert answer["msg"] == 'databases: no alias "replica" in DATABASES (there are: default)'
