"""Projects that misbehave while they are loaded: a clear word about each, in time, and nothing left behind."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from settings_check.service import KEY, Service

QUICK = 5.0
STATIC = ["envfile", "django", "settings", "request", "static", "logging"]


DAEMON = """
import os, time
if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(45)
"""


def open_descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.fixture(autouse=True)
def nothing_is_left(service: Service) -> Iterator[None]:
    """Hold after each of these tests what holds after each run: no process, no file, and no descriptor."""
    processes, descriptors = service.processes(), open_descriptors()
    yield
    assert service.processes() <= processes
    assert open_descriptors() <= descriptors
    assert not [name for name in service.files() if not name.endswith(".py") and name != "shop"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ('import sys; sys.exit("missing FOO")', 'the settings called sys.exit("missing FOO") at shop/settings.py:7'),
        ("import os; os._exit(4)", "the interpreter ended with status 4 in stage settings"),
        ("import os; os.kill(os.getpid(), 11)", "the interpreter was ended by signal 11 in stage settings"),
        ("input()", "EOFError: EOF when reading a line at shop/settings.py:7"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt:  at shop/settings.py:7"),
        (
            "import os; os.environ['DB_PASSWORD']",
            "KeyError: 'DB_PASSWORD' at shop/settings.py:7 (variable missing from the environment)",
        ),
        ("{}['a']", "KeyError: 'a' at shop/settings.py:7"),
        ("try: 1 / 0\nexcept Exception as e: raise ValueError('b') from e", "b at shop/settings.py:8, because of Zero"),
        ("def f(:", "SyntaxError: invalid syntax (settings.py, line 7) at shop/settings.py:7"),
        ("INSTALLED_APPS += ['nowhere']", "ModuleNotFoundError: No module named 'nowhere'"),
    ],
)
def test_settings_that_do_not_load(service: Service, settings: str, told: str) -> None:
    service.write(settings)
    begun = time.monotonic()
    answer = service.check()
    assert answer["failed"] is True
    assert answer["msg"].startswith("cannot load shop.settings: ")
    assert told in answer["msg"]
    assert time.monotonic() - begun < QUICK


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param("import threading, time; threading.Thread(target=time.sleep, args=(60,)).start()", id="a thread"),
        pytest.param("import subprocess; subprocess.Popen(['sleep', '45'])", id="a child that holds stderr"),
        pytest.param("import sys; sys.argv[1]", id="reads the arguments of gunicorn"),
        pytest.param(DAEMON, id="a daemon"),
        pytest.param("import os, time\nif not os.fork():\n    time.sleep(45)", id="a child that holds the result"),
        pytest.param("import os\nos.fork()", id="two of us"),
        pytest.param("import subprocess; subprocess.run('sleep 45 & disown', shell=True)", id="a child of a shell"),
        pytest.param("import sys; sys.stderr.write('x' * 10_000_000)", id="a flood"),
        pytest.param("import os; os.close(0)", id="no input"),
        pytest.param("import logging.config; logging.config.dictConfig({'version': 7})", id="logging of its own"),
    ],
)
def test_settings_that_load_and_misbehave(service: Service, settings: str) -> None:
    service.write(settings)
    begun = time.monotonic()
    answer = service.check(fail_on="never", checks=STATIC)
    assert answer["settings_module"] == "shop.settings"
    assert [found for found in answer["findings"] if found["id"] == "settings_not_loaded"] == []
    assert answer["findings"]
    assert len({json.dumps(found) for found in answer["findings"]}) == len(answer["findings"])
    assert time.monotonic() - begun < QUICK


def test_an_endless_loop_ends_at_the_deadline(service: Service) -> None:
    service.write("while True: pass")
    begun = time.monotonic()
    answer = service.check(timeout=2)
    assert answer["msg"] == "cannot load shop.settings: did not finish within 2 s (last stage: settings)"
    assert time.monotonic() - begun < 2 + QUICK


def test_daemons_of_settings_that_hang_are_ended_too(service: Service) -> None:
    service.write(DAEMON + "time.sleep(45)")
    assert service.check(timeout=1)["failed"] is True


def test_what_settings_print_is_not_taken_for_a_result(service: Service) -> None:
    forged = '{"finding": {"id": "forged"}}\\n{"done": true}\\n'
    service.write(f"import os, sys\nprint('{forged}')\nos.write(1, b'{forged}')\nos.system('echo \"{forged}\"')")
    answer = service.check(fail_on="never")
    assert "forged" not in json.dumps(answer)
    assert answer["findings"]


def test_large_values_are_cut_and_all_others_are_kept(service: Service) -> None:
    service.write("LARGE = 'x' * 3_000_000\nMANY = list(range(200_000))\nSMALL = 7")
    answer = service.check(fail_on="never", return_settings="overridden")
    assert len(answer["settings"]["LARGE"]) < 70_000
    assert len(answer["settings"]["MANY"]) == 10_000
    assert answer["settings"]["SMALL"] == 7


def test_no_value_is_told_unless_it_is_asked_for(service: Service) -> None:
    answer = service.check(fail_on="never", return_settings="all")
    assert answer["settings"]["ROOT_URLCONF"] == "shop.urls"
    assert KEY not in json.dumps(answer)
    assert "settings" not in service.check(fail_on="never")


def test_files_that_only_root_reads_come_to_the_service(service: Service, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("SHOP_NAME=Käse\nDB_PASSWORD='Tr0ub4dor/3'\n")
    file.chmod(0o600)
    service.write("import os; NAME = os.environ['SHOP_NAME']; WHO = (os.getuid(), os.getgroups(), os.environ['HOME'])")
    answer = service.check(environment_files=[str(file)], fail_on="never", return_settings="overridden")
    account = service.account
    assert answer["settings"]["NAME"] == "Käse"
    assert answer["settings"]["WHO"][0] == account.pw_uid
    assert answer["settings"]["WHO"][2] == account.pw_dir
    if os.geteuid() == 0:
        assert answer["settings"]["WHO"][1] == os.getgrouplist(account.pw_name, account.pw_gid)
    assert answer["environment_names"] == ["DB_PASSWORD", "SHOP_NAME"]


def test_the_environment_is_that_of_the_unit_and_nothing_else(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_ANSIBLE", "1")
    service.write("import os; NAMES = sorted(os.environ)")
    answer = service.check(environment={"DEBUG": True}, fail_on="never", return_settings="overridden")
    expected = {"DEBUG", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER"}
    # Python adds LC_CTYPE, and get_wsgi_application() the last one.
    assert set(answer["settings"]["NAMES"]) - {"LC_CTYPE", "DJANGO_SETTINGS_MODULE"} == expected


def test_a_piece_of_a_password_in_an_error_is_not_told(service: Service) -> None:
    service.write("import os; from urllib.parse import urlsplit; urlsplit(os.environ['DATABASE_URL']).port")
    url = "postgres://shop:Tr0ub4dor/3@db/shop"
    answer = service.check(environment={"DATABASE_URL": url})
    assert "ValueError: Port could not be cast" in answer["msg"]
    assert "Tr0ub" not in json.dumps(answer)


def test_what_was_printed_is_told_when_the_settings_do_not_load_and_without_secrets(service: Service) -> None:
    service.write("import os, sys; print('using', os.environ['API_TOKEN'], flush=True); sys.exit(1)")
    answer = service.check(environment={"API_TOKEN": "tok_live_4711abcd"})
    assert answer["stderr"].startswith("using ")
    assert "tok_live" not in json.dumps(answer)
    assert "4711" not in json.dumps(answer)


def test_settings_that_do_not_load_are_a_finding_where_nothing_may_fail(service: Service) -> None:
    service.write("import sys; sys.exit(1)")
    answer = service.check(fail_on="never")
    assert answer["failed"] is False
    assert [found["id"] for found in answer["findings"]] == ["settings_not_loaded"]


def test_other_settings_than_those_meant_are_told(service: Service) -> None:
    service.write(shop__production="from shop.settings import *")
    answer = service.check(settings="shop.production", fail_on="never")
    (found,) = [found for found in answer["findings"] if found["id"] == "settings_module_differs"]
    assert "application shop.wsgi runs with shop.settings, but settings says shop.production" in found["message"]
    assert "DJANGO_SETTINGS_MODULE is not in the environment" in found["message"]
    assert answer["settings_module"] == "shop.settings"
    assert answer["settings_file"] == str(service.project / "shop/settings.py")
    set_well = {"DJANGO_SETTINGS_MODULE": "shop.production"}
    answer = service.check(settings="shop.production", environment=set_well, fail_on="never")
    assert answer["settings_module"] == "shop.production"


def test_a_virtual_environment_without_django_is_told(service: Service) -> None:
    virtualenv = service.folder / "empty"
    (virtualenv / "bin").mkdir(parents=True, exist_ok=True)
    python = virtualenv / "bin/python"
    if not python.is_symlink():
        python.symlink_to("/usr/bin/python3")
        (virtualenv / "pyvenv.cfg").write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    assert service.check(virtualenv=str(virtualenv))["msg"] == f"Django is not installed in {virtualenv}"


def test_log_files_are_not_made(service: Service) -> None:
    service.write(
        "import logging.config\n"
        "LOGGING = {'version': 1, 'handlers': {'file': {'class': 'logging.FileHandler', 'filename': 'shop.log'}},\n"
        "           'root': {'handlers': ['file']}}\n"
        "logging.config.dictConfig(LOGGING)"
    )
    answer = service.check(fail_on="never")
    assert answer["settings_module"] == "shop.settings"


def test_django_checks_go_on_after_one_that_raises(service: Service) -> None:
    service.write(shop__urls="import nowhere")
    answer = service.check(fail_on="never")
    skipped = [each for each in answer["skipped_checks"] if "nowhere" in each["reason"]]
    assert skipped
    assert "security.W020" in {found["id"] for found in answer["findings"]}


def test_settings_that_are_others_each_time_are_found(service: Service) -> None:
    service.write("import secrets; SECRET_KEY = secrets.token_hex(); BUILD = secrets.token_bytes(4); FIXED = {1, 2, 3}")
    answer = service.check(checks=["stable"], fail_on="never")
    assert {(found["id"], found["setting"]) for found in answer["findings"]} == {
        ("secret_key_unstable", "SECRET_KEY"),
        ("setting_unstable", "BUILD"),
    }


STRANGE = """
import datetime, decimal, enum, re
from django.utils.functional import SimpleLazyObject, cached_property
from django.utils.translation import gettext_lazy
class Rude:
    def __repr__(self): 1 / 0
    def __eq__(self, other): 1 / 0
    __hash__ = None
    @cached_property
    def costly(self): 1 / 0
class Colour(enum.Enum):
    RED = "red"
class Text(str):
    def __str__(self): 1 / 0
LAZY, LATE = gettext_lazy("x"), SimpleLazyObject(lambda: 1 / 0)
LONG, WORD, SIZE, RUDE = datetime.timedelta(minutes=2), re.compile("a+"), decimal.Decimal("1.5"), Rude()
RED, BYTES, SET, NAN, HUGE, ODD, NUL = Colour.RED, b"hunter2", {"b", "a"}, float("nan"), 10**30, "\\ud800", "\\0"
MANY = (each for each in "abc")
CYCLE = {}; CYCLE["self"] = CYCLE
DEEP = {}
for _ in range(5000): DEEP = {"in": DEEP}
MIXED, OWN, GIANT = {1: "a", None: "b", Rude: "c"}, Text("own"), 10**5000
"""


def test_values_of_any_type_come_through(service: Service) -> None:
    service.write(STRANGE)
    answer = service.check(fail_on="never", return_settings="overridden")
    shown = answer["settings"]
    assert {name: shown[name] for name in "LAZY LATE LONG WORD SIZE RED SET NAN HUGE ODD NUL OWN".split()} == {
        "LAZY": "<lazy>",
        "LATE": "<lazy>",
        "LONG": 120.0,
        "WORD": "a+",
        "SIZE": 1.5,
        "RED": "red",
        "SET": ["a", "b"],
        "NAN": "nan",
        "HUGE": 10**30,
        "ODD": "\ud800",
        "NUL": "\0",
        "OWN": "own",
    }
    assert (shown["BYTES"], shown["CYCLE"], shown["MANY"]) == ("<7 bytes>", {"self": "<cycle>"}, "<generator>")
    assert shown["RUDE"] == "<shop.settings.Rude>"
    assert shown["MIXED"] == {"1": "a", "null": "b", "<shop.settings.Rude>": "c"}
    assert shown["GIANT"] == "<int of 16610 bits>"


def test_the_expectations_of_a_play_are_held_against_the_effective_settings(service: Service) -> None:
    expectation = {"setting": "DATABASES.default.CONN_MAX_AGE", "severity": "error"}
    held = service.check(expect=[{**expectation, "equals": 0}], checks=[])
    failed = service.check(expect=[{**expectation, "min": 60}], checks=[])
    assert (held["failed"], held["findings"]) == (False, [])
    assert [(found["id"], found["source"]) for found in failed["findings"]] == [("expectation", "expect")]
    assert failed["failed"] is True


def test_secrets_are_compared_and_not_shown(service: Service) -> None:
    assert service.check(secrets={"SECRET_KEY": KEY}, checks=[])["findings"] == []
    answer = service.check(secrets={"SECRET_KEY": "another-key-4711"}, checks=[])
    assert [found["id"] for found in answer["findings"]] == ["secret_differs"]
    assert KEY not in json.dumps(answer)
    assert "4711" not in json.dumps(answer)


def test_it_takes_less_than_a_second(service: Service) -> None:
    # On a machine that has something else to do, it may take the time of that too.
    assert min(service.check(fail_on="never")["timing"]["total"] for _ in range(5)) < 1
