"""What visitors notice of deployments, good ones and bad ones: nothing but the new version."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PROJECT = EPHEMERAL / "project"
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from load import Traffic  # shared by the scenarios, not installed

DOMAIN = "guestbook.test"
# Requests a second. Mostly few: what counts there is that none of them fails, not how fast it goes.
BUSY = 200
CALM = 20
# How many seconds nginx uses a connection to an app, and how many more it keeps it idle.
KEPT = 4
APP = "guestbook"


def play(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        "ansible-playbook",
        "--inventory",
        EPHEMERAL / "inventory",
        f"groundwork.django.{name}",
    ]
    return subprocess.run([*command, *options], capture_output=True, text=True, check=False)


def deploy(*options: str) -> subprocess.CompletedProcess[str]:
    return play("deploy", *options)


def message(run: subprocess.CompletedProcess[str]) -> str:
    return " ".join((run.stdout + run.stderr).replace("\\n", " ").split())


def change(what: str = "page") -> None:
    """Make another version of the project."""
    with (PROJECT / "guestbook/views.py").open("a") as file:
        file.write(f"# {what} {time.time()}\n")


def current(host: Any) -> str:
    return Path(host.check_output(f"readlink /srv/{APP}/current")).name


def master(host: Any) -> str:
    live = host.check_output(f"readlink /run/gunicorn-{APP}.sock").removesuffix(".sock")
    return str(host.check_output(f"systemctl show --value --property=MainPID {live}.service"))


def start_deployment(output: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Begin one that is to be killed: without Mitogen, with which the tests may run, as it would leave less behind."""
    command: list[str | Path] = ["ansible-playbook", "--inventory", EPHEMERAL / "inventory", "groundwork.django.deploy"]
    plain = {**os.environ, "ANSIBLE_STRATEGY": "linear"}
    return subprocess.Popen(command, env=plain, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)


def assert_one_instance_is_left(host: Any) -> None:
    """The other one may be ending its last answers."""
    count = f"systemctl list-units --plain --no-legend 'gunicorn-{APP}@*.service' | wc -l"
    assert host.run(f"for second in $(seq 20); do [ $({count}) = 1 ] && exit 0; sleep 1; done; exit 1").rc == 0


def record(host: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.check_output(f"cat /srv/{APP}/deployments.log").splitlines()]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory, request: Any) -> Path:
    path = Path(tmp_path_factory.mktemp("trust") / "certificate.pem")
    host = request.getfixturevalue("host")
    path.write_text(host.check_output(f"cat /etc/nginx/tls/{APP}.crt"))
    return path


@pytest.fixture
def traffic(host: Any, certificate: Path) -> Callable[..., Traffic]:
    address = host.ansible.get_variables()["ansible_host"]
    return lambda rate=CALM: Traffic(DOMAIN, address, certificate, rate)


@pytest.fixture(autouse=True)
def project(host: Any) -> Iterator[Path]:
    """What a test did to the project is undone, and so is what it left on the server by the next deployment."""
    kept = EPHEMERAL / "kept"
    shutil.copytree(PROJECT, kept)
    yield PROJECT
    shutil.rmtree(PROJECT)
    kept.rename(PROJECT)
    forget = "DELETE FROM django_migrations WHERE name = '0100_note'"
    host.check_output(f'runuser -u postgres -- psql -q {APP} -c "{forget}"')


def assert_nobody_noticed(visitors: Traffic) -> None:
    assert visitors.failures == []
    # On a slow machine that does other things besides, who waits for an answer asks less often.
    assert visitors.rate > visitors.wanted / 4
    assert any(answer.request.startswith("POST") for answer in visitors.answers)


# --- good deployments -------------------------------------------------------


def test_new_code_is_online_and_no_request_failed(host: Any, traffic: Any) -> None:
    before = current(host)
    change()
    with traffic(BUSY) as visitors:
        time.sleep(5)
        began = time.time()
        done = deploy()
        ended = time.time()
        time.sleep(15)
    assert done.returncode == 0, message(done)
    assert_nobody_noticed(visitors)
    after = current(host)
    assert after != before
    assert {answer.release for answer in visitors.answers if answer.at < began} - {""} == {before}
    # On the connections that nginx keeps, the old one may go on for as long as these live.
    assert {answer.release for answer in visitors.answers if answer.at > ended + KEPT} - {""} == {after}
    quiet, busy = visitors.percentile(0.99, until=began), visitors.percentile(0.99, began, ended)
    print(f"deployed in {ended - began:.1f} s; p99 {1000 * quiet:.0f} ms before, {1000 * busy:.0f} ms during it")
    assert record(host)[-1] == {
        **record(host)[-1],
        "action": "deploy",
        "outcome": "online",
        "from": before,
        "to": after,
    }


def test_the_same_version_again_changes_nothing_and_the_retired_instance_stays_down(host: Any, traffic: Any) -> None:
    change()
    assert deploy().returncode == 0
    process = master(host)
    with traffic() as visitors:
        assert "changed=0 " in deploy().stdout
        assert "changed=0 " in play("site").stdout
        time.sleep(10)
    assert_nobody_noticed(visitors)
    assert_one_instance_is_left(host)
    assert master(host) == process


def test_new_requirements_and_a_migration_fail_no_request(host: Any, traffic: Any, project: Path) -> None:
    with (project / "requirements.txt").open("a") as file:
        file.write("whitenoise\n")
    (project / "guestbook/migrations/0100_note.py").write_text(ADDS_A_COLUMN)
    with traffic() as visitors:
        done = deploy()
        time.sleep(12)
    assert done.returncode == 0, message(done)
    assert_nobody_noticed(visitors)
    assert "whitenoise" in host.check_output(f"ls /srv/{APP}/current/.venv/lib/python3*/site-packages")
    assert "[X] 0100_note" in host.check_output(f"{APP}-manage showmigrations guestbook")

    # The way back is closed, unless somebody says that the old code can live with the new column.
    refused = play("rollback")
    assert refused.returncode != 0
    assert "migrations that the release does not know: guestbook.0100_note" in message(refused)
    with traffic() as visitors:
        back = play("rollback", "-e", "django_rollback_anyway=true")
        time.sleep(12)
    assert back.returncode == 0, message(back)
    assert_nobody_noticed(visitors)


def test_a_rollback_goes_back_one_release_after_the_other_and_stays(host: Any, traffic: Any) -> None:
    releases = [current(host)]
    for _ in range(2):
        change()
        assert deploy().returncode == 0
        releases.append(current(host))
    first, second, third = releases
    with traffic() as visitors:
        assert play("rollback").returncode == 0
        assert current(host) == second
        assert play("rollback").returncode == 0
        assert current(host) == first
        time.sleep(12)
    assert_nobody_noticed(visitors)
    assert [entry["action"] for entry in record(host)[-2:]] == ["rollback"] * 2

    # The project on the control node is still the third version.
    converged = play("site")
    assert "changed=0 " in converged.stdout
    assert f"release {third} was rolled back, so {first} stays" in message(converged)
    refused = deploy()
    assert f"release {third} was rolled back. Deploy another version" in message(refused)
    assert current(host) == first
    assert deploy("-e", "django_again=true").returncode == 0
    assert current(host) == third
    assert play("rollback", "-e", "django_release=none-such").returncode != 0


def test_requests_that_are_running_at_the_switch_are_answered(host: Any) -> None:
    address = host.ansible.get_variables()["ansible_host"]
    change()
    command = [sys.executable, "-c", SLOW_VISITOR.format(shared=ROOT / "molecule/shared"), DOMAIN, address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as visitor:
        assert visitor.stdin
        visitor.stdin.write(guest_certificate(host))
        visitor.stdin.close()
        done = deploy()
        assert done.returncode == 0, message(done)
        assert visitor.stdout
        answers = visitor.stdout.read().split()
    assert len(answers) > 5
    assert set(answers) == {"200"}


def guest_certificate(host: Any) -> str:
    return str(host.check_output(f"cat /etc/nginx/tls/{APP}.crt"))


def test_maintenance_begins_and_ends_without_a_deployment(host: Any, traffic: Any) -> None:
    process, records = master(host), record(host)
    with traffic() as visitors:
        time.sleep(2)
        assert play("maintenance", "-e", "django_maintenance=on").returncode == 0
        begun = time.time()
        time.sleep(2)
        ending = time.time()
        assert play("maintenance", "-e", "django_maintenance=off").returncode == 0
        ended = time.time()
        time.sleep(2)
    assert {answer.status for answer in visitors.answers if begun < answer.at < ending} == {503}
    assert {answer.status for answer in visitors.answers if answer.at > ended} <= {200, 302}
    assert (master(host), record(host)) == (process, records)
    refused = play("maintenance", "-e", "django_maintenance=maybe")
    assert "django_maintenance (maybe): say on or off" in message(refused)


# --- bad ones ---------------------------------------------------------------


def broken_requirement() -> None:
    (PROJECT / "requirements.txt").write_text("no-such-package-of-ours==1\n")


def broken_settings() -> None:
    with (PROJECT / "config/settings.py").open("a") as file:
        file.write("import no_such_module_of_ours\n")


def broken_application() -> None:
    with (PROJECT / "config/wsgi.py").open("a") as file:
        file.write("import no_such_module_of_ours\n")


def failing_check() -> None:
    with (PROJECT / "guestbook/models.py").open("a") as file:
        file.write(REFUSING_CHECK)


def unreachable_cache() -> None:
    cache = {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1"}
    with (PROJECT / "config/settings.py").open("a") as file:
        file.write(f"CACHES = {{'default': {cache}}}\n")


def failing_health_path() -> None:
    with (PROJECT / "guestbook/views.py").open("a") as file:
        file.write("def health(request):\n    raise RuntimeError('broken on purpose')\n")


def silent_health_path() -> None:
    with (PROJECT / "guestbook/views.py").open("a") as file:
        file.write("def health(request):\n    time.sleep(3600)\n")


def dying_worker() -> None:
    with (PROJECT / "config/wsgi.py").open("a") as file:
        # Not where the settings are checked.
        file.write("import os, sys, threading\nif 'gunicorn.arbiter' in sys.modules:\n")
        file.write("    threading.Timer(0.3, os._exit, [1]).start()\n")


def failing_migration() -> None:
    (PROJECT / "guestbook/migrations/0100_note.py").write_text(ADDS_A_COLUMN.replace("ALTER TABLE", "ALTER TABEL"))


def failing_pages() -> None:
    with (PROJECT / "guestbook/views.py").open("a") as file:
        file.write("def book(request):\n    raise RuntimeError('broken on purpose')\n")


def pages_that_never_answer() -> None:
    with (PROJECT / "guestbook/views.py").open("a") as file:
        file.write("def book(request):\n    time.sleep(3600)\n")


@pytest.mark.parametrize(
    ("harm", "step", "reason"),
    [
        (broken_requirement, "install what the project requires", "no-such-package-of-ours"),
        (broken_settings, "Check the settings", "no_such_module_of_ours"),
        (failing_check, "Check the settings", "refused on purpose"),
        (failing_migration, "Migrate the database", "ALTER TABEL"),
        (broken_application, "Check the settings", "no_such_module_of_ours"),
        (dying_worker, "does not answer", ""),
        (unreachable_cache, "does not answer", "answers 503 cache default: ConnectionError"),
        (failing_pages, "does not answer", "answers 500"),
        (pages_that_never_answer, "does not answer", ""),
        (failing_health_path, "does not answer", "/health/ answers 500"),
        (silent_health_path, "does not answer", "/health/"),
    ],
)
def test_a_broken_release_gets_no_visitor(host: Any, traffic: Any, harm: Any, step: str, reason: str) -> None:
    before, process = current(host), master(host)
    harm()
    settings: dict[str, Any] = {"gunicorn_start_timeout": 15}
    if "health_path" in harm.__name__:
        settings["gunicorn_health_path"] = "/health/"
    with traffic() as visitors:
        broken = deploy("-e", json.dumps(settings))
        time.sleep(3)
    assert broken.returncode != 0
    assert step in message(broken)
    assert reason in message(broken)
    assert_nobody_noticed(visitors)
    assert {answer.release for answer in visitors.answers} - {""} == {before}
    assert (current(host), master(host)) == (before, process)
    assert record(host)[-1]["outcome"] == "failed"


@pytest.mark.parametrize(
    ("source", "version", "reason"),
    [
        ("https://127.0.0.1:9/shop.git", "main", "source: git cannot read https://127.0.0.1:9/shop.git: "),
        (f"file://{EPHEMERAL}/shop.git", "v99", "there is no branch, tag or commit 'v99'"),
    ],
)
def test_a_source_that_cannot_be_had_is_found_before_the_server_is_touched(
    host: Any, traffic: Any, source: str, version: str, reason: str
) -> None:
    before, records = current(host), record(host)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.com", "-C", str(PROJECT)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=all"]):
        subprocess.run([*git, *command], check=True)
    subprocess.run([*git, "clone", "--quiet", "--bare", ".", str(EPHEMERAL / "shop.git")], check=False)
    app = {**host.ansible.get_variables()["django_apps"][APP], "source": source, "version": version}
    with traffic() as visitors:
        refused = deploy("-e", json.dumps({"django_apps": {APP: app}}))
        time.sleep(3)
    assert refused.returncode != 0
    assert reason in message(refused)
    assert_nobody_noticed(visitors)
    assert (current(host), record(host)[: len(records)]) == (before, records)


def test_a_migration_that_waits_for_a_lock_gives_up_and_makes_nobody_wait(
    host: Any, traffic: Any, project: Path
) -> None:
    before = current(host)
    (project / "guestbook/migrations/0100_note.py").write_text(ADDS_A_COLUMN)
    lock = "BEGIN; LOCK guestbook_entry IN ACCESS SHARE MODE; SELECT pg_sleep(600)"
    host.check_output(f"systemd-run --quiet --collect --unit=lock runuser -u postgres -- psql -q {APP} -c '{lock}'")
    try:
        with traffic() as visitors:
            broken = deploy()
    finally:
        end = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE relation = 'guestbook_entry'::regclass"
        host.check_output(f'runuser -u postgres -- psql -q {APP} -c "{end}"')
    assert "Migrate the database" in message(broken)
    assert "lock timeout" in message(broken)
    assert visitors.failures == []
    assert current(host) == before


def test_after_bad_releases_the_next_good_one_works(host: Any) -> None:
    assert record(host)[-1]["outcome"] == "failed"
    change()
    done = deploy()
    assert done.returncode == 0, message(done)
    assert record(host)[-1]["outcome"] == "online"


def test_a_deployment_that_is_killed_leaves_one_release_serving_and_is_finished_by_the_next(
    host: Any, traffic: Any
) -> None:
    with traffic() as visitors:
        change()
        began = time.time()
        assert deploy().returncode == 0
        moment = (time.time() - began) / 6
        for number in range(1, 6):
            change()
            with start_deployment() as run:
                time.sleep(number * moment)
                os.killpg(run.pid, signal.SIGKILL)
        done = deploy()
        time.sleep(12)
    assert done.returncode == 0, message(done)
    assert_nobody_noticed(visitors)
    assert "changed=0 " in deploy().stdout
    assert_one_instance_is_left(host)


def test_a_migration_that_outlives_its_run_is_waited_for(host: Any, traffic: Any, project: Path) -> None:
    slow = ADDS_A_COLUMN.replace("RunSQL(", "RunSQL('SELECT pg_sleep(8)', ''), migrations.RunSQL(")
    (project / "guestbook/migrations/0100_note.py").write_text(slow)
    with traffic() as visitors:
        with start_deployment() as run:
            while host.run(f"systemctl is-active django-{APP}-manage-migrate.service").rc != 0:
                assert run.poll() is None
            os.killpg(run.pid, signal.SIGKILL)
        done = deploy()
    assert done.returncode == 0, message(done)
    assert_nobody_noticed(visitors)
    assert "[X] 0100_note" in host.check_output(f"{APP}-manage showmigrations guestbook")


def reboot(*options: str) -> None:
    bed = f"deploy-{hashlib.sha1(str(EPHEMERAL).encode(), usedforsecurity=False).hexdigest()[:6]}"
    subprocess.run([sys.executable, ROOT / "molecule/shared/testbed.py", "reboot", bed, "site1", *options], check=True)


def test_a_server_comes_back_with_the_release_in_use(host: Any, traffic: Any) -> None:
    change()
    assert deploy().returncode == 0
    release = current(host)
    for how in ((), ("--power-loss",)):
        reboot(*how)
        with traffic() as visitors:
            time.sleep(10)
        assert_nobody_noticed(visitors)
        assert {answer.release for answer in visitors.answers} - {""} == {release}
        assert_one_instance_is_left(host)
    assert "changed=0 " in deploy().stdout


def test_a_server_that_loses_power_during_a_deployment_serves_and_the_next_run_goes_on(host: Any, traffic: Any) -> None:
    before = current(host)
    change()
    with start_deployment() as run:
        # The new instance is being asked whether it is well.
        while host.check_output("systemctl list-units --plain --no-legend --state=activating 'gunicorn*'") == "":
            assert run.poll() is None
        reboot("--power-loss")
        # It would wait for an answer on a connection that nobody remembers.
        os.killpg(run.pid, signal.SIGKILL)
    with traffic() as visitors:
        done = deploy()
    assert done.returncode == 0, message(done)
    assert_nobody_noticed(visitors)
    assert current(host) != before
    assert_one_instance_is_left(host)


def test_of_two_deployments_at_a_time_one_is_refused(host: Any) -> None:
    change()
    with start_deployment(subprocess.PIPE) as first:
        time.sleep(5)
        second = deploy()
        assert first.stdout
        said = first.stdout.read().decode()
    assert first.returncode == 0, said
    assert second.returncode != 0
    assert f"{APP}: " in message(second)
    assert " is deploying it (process " in message(second)
    assert "changed=0 " in deploy().stdout
    del host


# Ends the run that asks for its process, before the answer.
KILLS_ITS_RUN = """#!/bin/sh
if [ "$2" = ppid= ]; then
    run=$(/usr/bin/ps -o ppid= -p "$4")
    kill -KILL $run
    while [ "$(/usr/bin/ps -o ppid= -p "$4")" = "$run" ]; do :; done
fi
exec /usr/bin/ps "$@"
"""


def test_a_deployment_that_is_killed_does_not_keep_the_lock_by_what_it_had_begun(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ps").write_text(KILLS_ITS_RUN)
    (tmp_path / "ps").chmod(0o755)
    with monkeypatch.context() as context:
        context.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        with start_deployment() as run:
            pass
    assert run.returncode == -signal.SIGKILL
    done = deploy()
    assert done.returncode == 0, message(done)
    del host


def test_after_many_deployments_there_are_five_releases(host: Any, traffic: Any) -> None:
    # There have been many by now.
    sizes = []
    with traffic() as visitors:
        for _again in range(3):
            change()
            assert deploy().returncode == 0
            # What is thrown away is being removed at this moment.
            du = f"du --summarize --bytes --exclude=trash /srv/{APP}"
            sizes.append(int(host.check_output(du).split()[0]))
    assert_nobody_noticed(visitors)
    served = [entry["to"] for entry in record(host) if entry["outcome"] == "online"]
    assert set(host.check_output(f"ls /srv/{APP}/releases").split()) == set(served[-5:])
    assert sizes[-1] < 1.1 * sizes[0]
    emptied = f'[ -z "$(ls /srv/{APP}/trash)" ]'
    assert host.run(f"for second in $(seq 60); do {emptied} && exit 0; sleep 1; done; exit 1").rc == 0
    assert host.check_output("systemctl --failed --quiet") == ""


REFUSING_CHECK = """
from django.core.checks import Error, register
@register(deploy=True)
def refuse(app_configs, **kwargs):
    return [Error('refused on purpose', id='guestbook.E001')]
"""

ADDS_A_COLUMN = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [('guestbook', '0001_initial')]
    operations = [migrations.RunSQL('ALTER TABLE guestbook_entry ADD COLUMN IF NOT EXISTS note text NULL', '')]
"""

SLOW_VISITOR = """
import sys, threading, time
sys.path.insert(0, "{shared}")
from browser import Browser
guest = lambda: Browser(sys.argv[1], sys.argv[2], certificate)
certificate = sys.stdin.read()
threads = []
for _ in range(20):
    threads.append(threading.Thread(target=lambda: print(guest().get("/slow/10/").status)))
    threads[-1].start()
    time.sleep(1)
for thread in threads:
    thread.join()
"""
