"""One site on five hosts: what belongs together finds each other, strangers find nothing, and a host may go.

The tests build on each other, in their order.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import testinfra

ROOT = Path(__file__).resolve().parents[3]
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PROJECT = EPHEMERAL / "project"
BED = f"fleet-{hashlib.sha1(str(EPHEMERAL).encode(), usedforsecurity=False).hexdigest()[:6]}"
TESTBED = [sys.executable, str(ROOT / "molecule/shared/testbed.py")]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from load import VISITORS, Traffic  # shared by the scenarios, not installed

DOMAIN = "guestbook.test"
RATE = 50
APPS = ("app1", "app2")
ADDS_A_COLUMN = """\
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("guestbook", "0001_initial")]
    operations = [migrations.RunSQL('ALTER TABLE guestbook_entry ADD note text', '')]
"""


def server(name: str) -> Any:
    return testinfra.get_host(f"ansible://{name}", ansible_inventory=str(EPHEMERAL / "inventory"))


def address(name: str) -> str:
    return str(server(name).ansible.get_variables()["ansible_host"])


def play(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = ["ansible-playbook", "--inventory", str(EPHEMERAL / "inventory"), f"groundwork.django.{name}", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def restore(what: str, **variables: str) -> subprocess.CompletedProcess[str]:
    asked = {"django_restore": what, "django_restore_confirm": what, **variables}
    return play("restore", "--extra-vars", json.dumps(asked))


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def sql(statement: str) -> str:
    return str(server("db1").check_output(f'cd / && runuser -u postgres -- psql -XAtqc "{statement}" guestbook'))


def write(text: str) -> None:
    columns = "(author, message, attachment, written_at)"
    sql(f"INSERT INTO guestbook_entry {columns} VALUES ('Ada', '{text}', '', now())")


def wait_for_first_backups() -> None:
    for name in (*APPS, "db1"):
        running = "systemctl is-active backups-media backups-postgres@full | grep -q activating"
        server(name).check_output(f"timeout 120 sh -c 'while {running}; do sleep 0.5; done'")


def archived() -> None:
    """Wait until all that was written is where the backups are."""
    wal = sql("SELECT pg_walfile_name(pg_switch_wal())")
    arrived = f"SELECT last_archived_wal >= '{wal}' FROM pg_stat_archiver"
    until = time.monotonic() + 60
    while sql(arrived) != "t":
        assert time.monotonic() < until, f"{wal} has not arrived within a minute"
        time.sleep(0.5)


def add(path: str, line: str) -> None:
    with (PROJECT / path).open("a") as file:
        file.write(f"{line}\n")


def record(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server(name).check_output("cat /srv/guestbook/deployments.log").splitlines()]


def ask(path: str, *options: str) -> str:
    """What visitors get, asked from the control node."""
    place = f"{DOMAIN}:443:{address('web1')}"
    command = ["curl", "-sk", "--max-time", "10", "--resolve", place, *options, f"https://{DOMAIN}{path}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def reaches(who: str, whom: str, port: int) -> bool:
    connect = f"import socket; socket.create_connection(('{address(whom)}', {port}), timeout=2)"
    return bool(server(who).run(f'python3 -c "{connect}"').rc == 0)


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Traffic]:
    certificate = Path(tmp_path_factory.mktemp("trust") / "certificate.pem")
    certificate.write_text(server("web1").check_output("cat /etc/nginx/tls/guestbook.crt"))
    return lambda: Traffic(DOMAIN, address("web1"), certificate, RATE, again=True)


def test_visitors_get_pages_and_files_and_both_app_hosts_answer() -> None:
    page = ask("/")
    style = page.split('rel="stylesheet" href="', 1)[1].split('"', 1)[0]
    assert ask(style, "-o", "/dev/null", "-w", "%{http_code}") == "200"
    answered = {json.loads(ask("/status/"))["host"] for _ in range(10)}
    assert answered == set(APPS)


def test_an_upload_is_there_whichever_host_took_it() -> None:
    server("app1").check_output("runuser -u guestbook -- sh -c 'echo hello > /srv/guestbook/media/note.txt'")
    for _ in range(4):
        assert ask("/media/note.txt").strip() == "hello"


def test_only_those_who_need_a_service_reach_it() -> None:
    assert reaches("app2", "db1", 5432)
    assert reaches("app2", "cache1", 6379)
    assert reaches("web1", "app2", 8443)
    for who, whom, port in (
        ("web1", "db1", 5432),
        ("web1", "cache1", 6379),
        ("db1", "app1", 8443),
        ("db1", "app1", 443),
    ):
        assert not reaches(who, whom, port), (who, whom, port)


def test_who_has_no_certificate_is_refused_also_on_a_host_that_may_connect() -> None:
    python = "/srv/guestbook/current/.venv/bin/python"
    database = (
        f"import psycopg; psycopg.connect(host='{address('db1')}', user='guestbook', password='x', sslmode='require')"
    )
    # It sends nothing: who sends may hear of the end of the connection before its reason.
    cache = (
        "import socket, ssl; ssl._create_unverified_context()"
        f".wrap_socket(socket.create_connection(('{address('cache1')}', 6379))).recv(1)"
    )
    for attempt in (database, cache):
        said = server("app1").run(f'{python} -c "{attempt}"').stderr
        assert "certificate required" in said or "requires a valid client certificate" in said, said
    page = (
        "import http.client, ssl; there = http.client.HTTPSConnection"
        f"('{address('app1')}', 8443, context=ssl._create_unverified_context()); "
        "there.request('GET', '/'); print(there.getresponse().read())"
    )
    assert "No required SSL certificate was sent" in server("web1").check_output(f'python3 -c "{page}"')


def test_what_is_to_run_once_runs_on_one_host() -> None:
    for name, running in (("app1", True), ("app2", False)):
        assert server(name).service("django-guestbook-beat").is_running is running
        assert server(name).service("django-guestbook-tasks").is_running
        assert server(name).service("django-guestbook-clearsessions.timer").is_running is running


def test_who_converges_is_told_once_of_maintenance_and_where_it_ends() -> None:
    assert play("maintenance", "--extra-vars", "django_maintenance=on").returncode == 0
    try:
        assert ask("/", "-o", "/dev/null", "-w", "%{http_code}") == "503"
        told = play("site", "--tags", "always")
    finally:
        ended = play("maintenance", "--extra-vars", "django_maintenance=off")
    assert re.findall(r"IN MAINTENANCE: .*on (.*)", said(told).replace(" release ", "\n")) == ["web1"]
    assert ended.returncode == 0
    assert ask("/", "-o", "/dev/null", "-w", "%{http_code}") == "200"


def test_each_host_saves_on_the_one_for_backups_and_sees_nothing_there_of_the_others() -> None:
    wait_for_first_backups()
    done = play("backup")
    assert done.returncode == 0, said(done)[-6000:]
    assert "The databases are in cache1: " in said(done)
    assert said(done).count("The media are in cache1: ") == len(APPS)
    store = server("cache1")
    assert store.check_output("ls /srv/backups").split() == ["app1", "app2", "db1"]
    for name, kind in (("app1", "media"), ("app2", "media"), ("db1", "postgres")):
        # To each the directory with its backups is all there is.
        assert store.check_output(f"ls /srv/backups/{name}/repository") == kind
    assert "/srv/guestbook/media/note.txt" in server("app1").check_output("backups restic ls latest --tag guestbook")
    assert store.run("grep -rlIE 'hello|guestbook_entry' /srv/backups").stdout == ""


def test_a_rolling_deployment_loses_no_request_and_saves_the_database_before_it_migrates(traffic: Any) -> None:
    add("guestbook/views.py", "# another version")
    (PROJECT / "guestbook/migrations/0100_note.py").write_text(ADDS_A_COLUMN)
    server("db1").check_output("touch /run/before")
    with traffic() as visitors:
        time.sleep(3)
        done = play("deploy")
        time.sleep(8)
    assert done.returncode == 0, done.stdout
    first, second = record("app1")[-1], record("app2")[-1]
    assert (first["outcome"], second["outcome"]) == ("online", "online")
    assert first["to"] == second["to"]
    # Times are whole seconds.
    began = datetime.fromisoformat(second["time"]).timestamp() - second["seconds"]
    assert began > datetime.fromisoformat(first["time"]).timestamp() - 1
    assert visitors.failures == []
    assert visitors.rate > RATE * 0.8
    assert {answer.release for answer in visitors.answers[-50:]} - {""} == {first["to"]}
    assert server("db1").check_output("find /var/lib/backups/postgres/incr.json -newer /run/before")


def test_a_release_that_fails_on_the_first_host_never_serves_on_the_second() -> None:
    before = record("app2")
    add("config/wsgi.py", "import no_such_module_of_ours")
    try:
        assert play("deploy").returncode != 0
    finally:
        wsgi = PROJECT / "config/wsgi.py"
        wsgi.write_text(wsgi.read_text().replace("import no_such_module_of_ours\n", ""))
    assert record("app1")[-1]["outcome"] == "failed"
    assert [one for one in record("app2") if one["outcome"] == "online"][-1] == before[-1]
    assert before[-1]["to"] in ask("/status/")


def test_an_app_host_that_loses_its_power_costs_only_what_was_under_way_on_it(traffic: Any) -> None:
    with traffic() as visitors:
        time.sleep(3)
        subprocess.run([*TESTBED, "reboot", BED, "app2", "--power-loss", "--off", "10"], check=True)
        time.sleep(10)
    print(len(visitors.failures), visitors.failures[:3])
    assert len(visitors.failures) <= VISITORS
    assert visitors.rate > RATE * 0.8


def test_a_new_empty_host_in_its_place_needs_only_site() -> None:
    subprocess.run([*TESTBED, "reboot", BED, "app2", "--new-disk"], check=True)
    mount = "mkdir -p /srv/guestbook/media && mount --bind /mnt/shared /srv/guestbook/media"
    server("app2").check_output(mount)
    done = play("site")
    assert done.returncode == 0, said(done)[-6000:]
    answered = {json.loads(ask("/status/"))["host"] for _ in range(10)}
    assert answered == set(APPS)


def test_a_restore_whose_control_node_goes_away_is_ended_by_each_host() -> None:
    asked = json.dumps(
        {"django_restore": "guestbook", "django_restore_confirm": "guestbook", "django_restore_part": "media"}
    )
    command = ["ansible-playbook", "--inventory", str(EPHEMERAL / "inventory"), "groundwork.django.restore"]
    with subprocess.Popen(
        [*command, "--extra-vars", asked], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stdout
        assert any("TASK [Let the files change over" in line for line in run.stdout)
        os.killpg(run.pid, signal.SIGKILL)
    assert ask("/", "-o", "/dev/null", "-w", "%{http_code}") == "503"
    for name in (*APPS, "web1"):
        assert "min" in server(name).check_output("systemctl list-timers --no-legend backups-restore-end.timer")
        server(name).check_output("systemctl start backups-restore-end.service")
    assert {json.loads(ask("/status/"))["host"] for _ in range(10)} == set(APPS)


def test_a_restore_of_one_app_is_for_all_of_its_hosts_and_visitors_wait_only_while_they_change_over(
    traffic: Any,
) -> None:
    write("to be kept")
    kept, data = sql("SELECT count(*) FROM guestbook_entry"), "/var/lib/django/guestbook"
    server("app2").check_output(f"runuser -u guestbook -- sh -c 'echo two > {data}/own.txt'")
    for name in APPS:
        server(name).check_output("systemctl start backups-media")
    write("after the backup")
    time.sleep(1.2)
    then = server("db1").check_output("date '+%F %T'")
    time.sleep(1.2)
    sql("DELETE FROM guestbook_entry")
    server("app1").check_output("rm -r /srv/guestbook/media/*; echo later > /srv/guestbook/media/later.txt")
    server("app2").check_output(f"echo wrong > {data}/own.txt")
    archived()

    # It cannot be moved away while something is mounted there.
    server("app2").check_output(f"mount --bind {data} {data}")
    failed = restore("guestbook", django_restore_time=then)
    server("app2").check_output(f"umount {data}")
    assert failed.returncode != 0
    assert "app2: [Errno 16] Device or resource busy" in said(failed)
    assert ask("/", "-o", "/dev/null", "-w", "%{http_code}") == "200"

    with traffic() as visitors:
        done = restore("guestbook", django_restore_time=then)
    assert done.returncode == 0, said(done)[-6000:]
    assert "database guestbook_replaced_" in said(done)
    assert "/srv/guestbook/media/.replaced-" in said(done)
    waited = visitors.failures
    print(f"{waited[-1].at - waited[0].at:.1f} s of {visitors.seconds:.1f} s")
    assert {answer.status for answer in waited} == {503}
    assert waited[-1].at - waited[0].at < visitors.seconds / 2
    assert int(sql("SELECT count(*) FROM guestbook_entry")) >= int(kept) + 1
    assert sql("SELECT count(*) FROM guestbook_entry WHERE message = 'after the backup'") == "1"
    assert ask("/media/note.txt").strip() == "hello"
    assert server("app2").check_output(f"stat -c %U {data}/own.txt; cat {data}/own.txt") == "guestbook\ntwo"
    assert {json.loads(ask("/status/"))["host"] for _ in range(10)} == set(APPS)


def test_a_new_empty_host_for_the_database_needs_only_a_restore() -> None:
    write("shortly before the end")
    entries = sql("SELECT count(*) FROM guestbook_entry")
    archived()
    subprocess.run([*TESTBED, "reboot", BED, "db1", "--new-disk"], check=True)
    began = time.monotonic()
    done = restore("all", django_restore_part="database")
    print(f"recovered in {time.monotonic() - began:.0f} s")
    assert done.returncode == 0, said(done)[-6000:]
    assert sql("SELECT count(*) FROM guestbook_entry") == entries
    assert "shortly before the end" in ask("/")
    assert ask("/media/note.txt").strip() == "hello"


def test_while_the_host_for_backups_and_redis_is_away_the_rest_goes_on(tmp_path: Path) -> None:
    away = tmp_path / "away.yml"
    away.write_text(json.dumps({"all": {"hosts": {"cache1": {"ansible_port": 9}}}}))
    server("cache1").check_output("systemctl stop redis-server")
    try:
        assert ask("/", "-o", "/dev/null", "-w", "%{http_code}") == "200"
        done = play("site", "--inventory", str(away), "--limit", "app1", "--tags", "backups,hardening")
        failed = play(
            "restore", "--inventory", str(away), "--limit", "app1", "--extra-vars", "django_restore=guestbook"
        )
    finally:
        server("cache1").check_output("systemctl start redis-server")
    assert done.returncode == 0, said(done)[-6000:]
    assert "LEFT AS THEY ARE: cache1 cannot be reached" in said(done)
    assert "cache1, which keeps the backups, cannot be reached" in said(failed)


def test_verify_finds_nothing_wrong_and_names_each_host() -> None:
    wait_for_first_backups()
    done = play("verify", "--check")
    assert done.returncode == 0, said(done)[-6000:]
    assert "differs from the inventory: nowhere" in done.stdout
