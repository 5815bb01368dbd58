"""What an operator and the tasks of an app notice of its background processes, over deployments and failures."""

from __future__ import annotations

import json
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_django_app import DEMO, SHOP, current, deploy

# Its tasks are files: one lasts until somebody removes the file, whatever signal comes meanwhile.
WORK = """
import json, os, pathlib, signal, sys, time
from django.core.management.base import BaseCommand

class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("words", nargs="*")

    def handle(self, **options):
        stop = []
        signal.signal(signal.SIGTERM, lambda *_: stop.append(True))
        task = pathlib.Path("/srv/shop/media/task")
        facts = {"environment": dict(os.environ), "words": options["words"], "user": os.getuid()}
        facts["writable"] = [path for path in ("/srv/shop", os.getcwd(), "/etc", "/run") if os.access(path, os.W_OK)]
        facts["directory"] = os.getcwd()
        pathlib.Path(os.environ["DATA_DIR"], "facts.json").write_text(json.dumps(facts))
        print("starts", flush=True)
        while not stop:
            if task.exists():
                print("begins a task", flush=True)
                while task.exists():
                    time.sleep(0.1)
                print("has finished a task in", os.getcwd(), flush=True)
            time.sleep(0.1)
"""
WHERE = """
import os
from django.core.management.base import BaseCommand

class Command(BaseCommand):
    def handle(self, **options):
        print("scheduled in", os.getcwd())
"""
UNIT = "django-shop-work.service"
WORDS = """--  "two words" $HOME '%n' 'it"s' back\\\\slash"""
WORKER = {"name": "work", "command": f"python manage.py work {WORDS}", "stop_timeout": 300}
# Each to a worker of this name.
HARMS = {
    "stopped": "systemctl stop $unit",
    "disabled": "systemctl disable $unit",
    "removed": "systemctl stop $unit; rm /etc/systemd/system/$unit; systemctl daemon-reload",
    # Dead, and nobody tries it again.
    "failed": "drop=/run/systemd/system/$unit.d; mkdir $drop; printf '[Service]\\nRestart=no\\n' >$drop/no.conf;"
    "systemctl daemon-reload; systemctl kill --signal=SIGKILL $unit;"
    "for i in $(seq 100); do ! systemctl is-failed $unit || break; sleep 0.1; done;"
    "rm -r $drop; systemctl daemon-reload",
    # A killed run has described it anew, in the first case for systemd, too, and has not restarted it.
    "read": "touch /etc/systemd/system/$unit; systemctl daemon-reload",
    "described": "sed -i 's/^RestartSec=.*/RestartSec=77/' /etc/systemd/system/$unit",
}
HARMED = [{"name": name, "command": "sleep infinity"} for name in HARMS]
SCHEDULE = {"name": "where", "command": "where", "on_calendar": "yearly"}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = Path(shutil.copytree(DEMO, tmp_path_factory.mktemp("workers") / "project"))
    commands = path / "guestbook/management/commands"
    (commands / "work.py").write_text(WORK)
    (commands / "where.py").write_text(WHERE)
    return path


@pytest.fixture(scope="module")
def bring(project: Path) -> Callable[..., Any]:
    def run(*options: str, **changes: Any) -> Any:
        wanted = {"django_app_workers": [WORKER], "django_app_schedules": [SCHEDULE], **changes}
        return deploy(SHOP, *options, django_app_source=str(project), **wanted)

    return run


@pytest.fixture(scope="module", autouse=True)
def _online(host: Any, bring: Any) -> None:
    done = bring(django_app_workers=[WORKER, *HARMED])
    assert done.returncode == 0, done.stdout + done.stderr
    assert host.service(UNIT).is_running


@pytest.fixture
def task(host: Any) -> Iterator[str]:
    """A task that the worker has begun; it ends with the file."""
    begun = len(said(host).split("begins a task"))
    path = "/srv/shop/media/task"
    host.check_output(f"touch {path}")
    wait_until(lambda: len(said(host).split("begins a task")) > begun)
    yield path
    host.check_output(f"rm -f {path}")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def said(host: Any) -> str:
    return str(host.check_output("journalctl --sync; journalctl --identifier=django-shop-work --output=cat"))


def show(host: Any, name: str, unit: str = UNIT) -> str:
    return str(host.check_output(f"systemctl show --value --property={name} {unit}"))


def facts(host: Any) -> Any:
    return json.loads(host.check_output("cat /var/lib/django/shop/facts.json"))


def text(run: Any) -> str:
    return " ".join((run.stdout + run.stderr).split())


def test_it_has_the_account_the_environment_and_the_sandbox_of_the_service(host: Any) -> None:
    found = facts(host)
    sent = host.ansible.get_variables()["environments"]["shop"]
    assert {name: found["environment"][name] for name in sent} == {name: str(value) for name, value in sent.items()}
    assert found["environment"]["PATH"].startswith(f"{found['directory']}/.venv/bin:")
    assert found["user"] == host.user("shop").uid
    assert found["writable"] == []
    assert found["words"] == shlex.split(WORDS)[1:]
    assert found["directory"] == f"/srv/shop/{current(host, 'shop')}"
    assert host.service(UNIT).is_enabled


def test_what_somebody_did_to_workers_is_found_and_repaired(host: Any, bring: Any) -> None:
    untouched = show(host, "MainPID")
    before = {name: show(host, "MainPID", f"django-shop-{name}.service") for name in HARMS}
    for name, harm in HARMS.items():
        host.check_output(f"unit=django-shop-{name}.service; {harm}")
    assert "changed=0 " not in bring("--check", django_app_workers=[WORKER, *HARMED]).stdout
    assert bring(django_app_workers=[WORKER, *HARMED]).returncode == 0
    for name in HARMS:
        unit = f"django-shop-{name}.service"
        assert host.service(unit).is_running, name
        assert host.service(unit).is_enabled, name
        assert (show(host, "MainPID", unit) == before[name]) is (name == "disabled"), name
    assert "changed=0 " in bring(django_app_workers=[WORKER, *HARMED]).stdout
    assert show(host, "MainPID") == untouched


def test_a_task_is_finished_before_the_new_release_is_started_and_nobody_waits(
    host: Any, bring: Any, project: Path, task: str
) -> None:
    before, process = current(host, "shop"), show(host, "MainPID")
    (project / "new.txt").write_text("new")
    deployed = bring()
    assert deployed.returncode == 0
    assert f"{UNIT}: still finishing a task" in text(deployed)
    after = current(host, "shop")
    assert after != before
    assert show(host, "MainPID") == process
    assert "changed=0 " in bring().stdout
    host.check_output(f"rm {task}")
    wait_until(lambda: show(host, "SubState") == "running" and show(host, "MainPID") != process)
    since = said(host).rpartition("begins a task\n")[2].splitlines()
    assert since[0] == f"has finished a task in /srv/shop/{before}"
    wait_until(lambda: bool(facts(host)["directory"] == f"/srv/shop/{after}"))


def test_a_schedule_runs_the_release_in_use(host: Any) -> None:
    host.check_output("systemctl start django-shop-where.service")
    log = host.check_output("journalctl --sync; journalctl --unit=django-shop-where --output=cat")
    assert f"scheduled in /srv/shop/{current(host, 'shop')}\n" in f"{log}\n"


def test_with_a_new_environment_it_is_restarted_and_a_task_that_takes_longer_than_it_may_is_killed(
    host: Any, bring: Any, task: str
) -> None:
    variables = {**host.ansible.get_variables()["environments"]["shop"], "ADDED": "later"}
    wanted = [{**WORKER, "stop_timeout": 1}]
    assert bring(django_app_environment=variables, django_app_workers=wanted).returncode == 0
    assert host.file(task).exists
    assert host.service(UNIT).is_running
    wait_until(lambda: facts(host)["environment"].get("ADDED") == "later")


def test_a_worker_that_dies_is_named_with_its_reason_and_the_release_is_online(
    host: Any, bring: Any, project: Path
) -> None:
    before = current(host, "shop")
    (project / "newer.txt").write_text("newer")
    dying = {"name": "dying", "command": "python manage.py no_such_command"}
    missing = {"name": "missing", "command": "celery -A config worker"}
    failed = bring(django_app_workers=[WORKER, dying, missing])
    assert failed.returncode != 0
    message = text(failed)
    assert f"release {Path(current(host, 'shop')).name} is online" in message
    assert "django-shop-dying.service (python manage.py no_such_command)" in message
    assert "Unknown command: 'no_such_command'" in message
    assert "django-shop-missing.service (celery -A config worker)" in message
    assert "No such file or directory" in message
    assert "django-shop-work.service (" not in message
    assert current(host, "shop") != before
    assert host.service(UNIT).is_running
    # Not listed any more, they are gone.
    assert bring().returncode == 0
    assert "dying" not in host.check_output("systemctl list-units --all 'django-shop-*'; ls /etc/systemd/system")


def test_one_that_is_no_longer_listed_may_finish_its_task_and_is_gone(host: Any, bring: Any, task: str) -> None:
    removed = bring(django_app_workers=[])
    assert removed.returncode == 0
    assert f"{UNIT}: still finishing a task" in text(removed)
    assert show(host, "ActiveState") == "deactivating"
    assert show(host, "TimeoutStopUSec") == "5min"
    assert not host.service(UNIT).is_enabled
    assert "changed=0 " in bring(django_app_workers=[]).stdout
    host.check_output(f"rm {task}")
    wait_until(lambda: show(host, "ActiveState") == "inactive")
    assert bring(django_app_workers=[]).returncode == 0
    assert host.check_output("systemctl list-units --all --no-legend django-shop-work.service") == ""
    assert not host.file(f"/etc/systemd/system/{UNIT}").exists
