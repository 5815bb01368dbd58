"""What was saved comes back: one app, a moment, or a whole server that is gone. What was there is never lost by it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
BED = f"restore-{hashlib.sha1(str(EPHEMERAL).encode(), usedforsecurity=False).hexdigest()[:6]}"
TESTBED = [sys.executable, str(ROOT / "molecule/shared/testbed.py")]
SECRETS = ["canary-secret-key", "canary-access-key"]
MEDIA = "/srv/shop/media"
# What the app alone knows, and what it shows only to some.
CURSOR, INVOICE = "/var/lib/django/shop/cursor.txt", "/srv/shop/protected/invoice.txt"
testinfra_hosts = ["ansible://site1"]


def play(name: str, **variables: str) -> subprocess.CompletedProcess[str]:
    options = [argument for key, value in variables.items() for argument in ("-e", f"{key}='{value}'")]
    return subprocess.run(
        ["ansible-playbook", "--inventory", EPHEMERAL / "inventory", f"groundwork.django.{name}", *options],
        capture_output=True,
        text=True,
        check=False,
    )


def restore(what: str, **variables: str) -> str:
    """Restore it, and return what the playbook says, in one line."""
    done = play("restore", django_restore=what, django_restore_confirm=what, **variables)
    assert done.returncode == 0, done.stdout[-6000:]
    return said(done)


def said(done: subprocess.CompletedProcess[str]) -> str:
    text = " ".join((done.stdout + done.stderr).split())
    assert [secret for secret in SECRETS if secret in text] == []
    return text


def sql(host: Any, statement: str, database: str = "shop") -> str:
    return str(host.check_output(f"cd / && runuser -u postgres -- psql -XAtqc {quoted(statement)} {database}"))


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def moment(host: Any) -> str:
    """Let a second pass before and after, so that it is clear what was before."""
    time.sleep(1.2)
    now = host.check_output("date '+%F %T'")
    time.sleep(1.2)
    return str(now)


def archived(host: Any) -> None:
    """Wait until all that was written is in the repository."""
    wal = sql(host, "SELECT pg_walfile_name(pg_switch_wal())")
    for _ in range(120):
        if sql(host, f"SELECT last_archived_wal >= '{wal}' FROM pg_stat_archiver") == "t":
            return
        time.sleep(0.25)
    pytest.fail(f"{wal} has not arrived within 30 seconds")


def wait_for_backups(host: Any) -> None:
    running = "systemctl is-active backups-media backups-postgres@full backups-postgres@diff | grep -q activating"
    host.check_output(f"while {running}; do sleep 0.2; done")


def assert_its_files_are_as_they_were(host: Any) -> None:
    assert host.check_output(f"cd {MEDIA} && stat -c '%n %U %G %a' *") == "photo.jpg shop shop 640"
    assert host.check_output(f"cmp {MEDIA}/photo.jpg /usr/bin/psql && echo same") == "same"
    assert host.check_output(f"cat {CURSOR} {INVOICE}").split() == ["7", "paid"]
    owned = host.check_output(f"stat -c '%U %G %a' {CURSOR} {INVOICE} $(dirname {CURSOR} {INVOICE})")
    assert owned.splitlines() == ["shop shop 640", "shop www-data 640", "shop root 700", "shop www-data 2750"]


def answers(host: Any, app: str = "shop", options: str = "") -> str:
    fetch = f"curl -sk --max-time 5 {options} --resolve {app}.test:443:127.0.0.1 -o /dev/null -w '%{{http_code}}'"
    return str(host.check_output(f"{fetch} https://{app}.test/"))


@contextmanager
def visitors(host: Any, app: str) -> Iterator[list[str]]:
    """Ask an app again and again, and give its answers at the end."""
    found: list[str] = []
    ask = f"while sleep 0.3; do curl -sk --max-time 5 --resolve {app}.test:443:127.0.0.1 -o /dev/null "
    ask += f"-w '%{{http_code}}\\n' https://{app}.test/ || true; done"
    process = subprocess.Popen([*TESTBED, "ssh", BED, "site1", ask], stdout=subprocess.PIPE, text=True)
    try:
        yield found
    finally:
        process.terminate()
        found += process.communicate()[0].split()
        del host


@pytest.fixture(scope="module", autouse=True)
def something_to_lose(host: Any) -> None:
    wait_for_backups(host)
    for app in ("shop", "blog"):
        sql(host, "DROP TABLE IF EXISTS ledger", app)
        sql(host, "CREATE TABLE ledger (id serial, at timestamptz DEFAULT clock_timestamp())", app)
        sql(host, "INSERT INTO ledger SELECT FROM generate_series(1, 100)", app)
    host.check_output(f"install -o shop -g shop -m 640 /usr/bin/psql {MEDIA}/photo.jpg")
    host.check_output(f"runuser -u shop -- sh -c 'umask 027; echo 7 >{CURSOR}; echo paid >{INVOICE}'")
    host.check_output("systemctl start backups-media backups-postgres@full")


def test_nothing_is_replaced_before_it_is_confirmed(host: Any) -> None:
    done = play("restore", django_restore="shop")
    assert done.returncode != 0
    text = said(done)
    assert "database shop (" in text
    assert f"{MEDIA} (1 files)" in text
    assert "-e django_restore_confirm=shop" in text
    assert sql(host, "SELECT count(*) FROM pg_database WHERE datname ~ '_re(stored|placed)_'", "postgres") == "0"


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"django_restore": "shoop"}, "django_restore (shoop)"),
        ({"django_restore": "shop", "django_restore_confirm": "blog"}, "django_restore_confirm (blog): the same as"),
        ({"django_restore": "shop", "django_restore_time": "yesterday"}, "django_restore_time (yesterday)"),
        ({"django_restore": "shop", "django_restore_time": "2020-02-02 02:02"}, "the oldest moment that"),
        ({"django_restore": "shop", "django_restore_repository": "cellar"}, "no repository cellar; there are: store"),
    ],
)
def test_a_mistake_is_named_and_changes_nothing(host: Any, variables: dict[str, str], expected: str) -> None:
    before = sql(host, "SELECT oid FROM pg_database WHERE datname = 'shop'", "postgres")
    done = play("restore", **{"django_restore_confirm": variables["django_restore"], **variables})
    assert done.returncode != 0
    assert expected in said(done)
    assert sql(host, "SELECT oid FROM pg_database WHERE datname = 'shop'", "postgres") == before


def test_one_app_comes_back_as_it_was_and_the_other_one_serves_all_the_time(host: Any) -> None:
    then = moment(host)
    assert answers(host, options="--cookie-jar /root/cookies") == "200"
    sql(host, "DELETE FROM ledger")
    sql(host, "INSERT INTO ledger DEFAULT VALUES", "blog")
    host.check_output(f"rm {MEDIA}/photo.jpg {INVOICE}; echo later >{MEDIA}/later.txt; echo 9 >{CURSOR}")
    archived(host)
    started = host.check_output("systemctl show --value -p ActiveEnterTimestamp 'gunicorn-blog@*.service'")
    with visitors(host, "blog") as found, visitors(host, "shop") as waiting:
        text = restore("shop", django_restore_time=then)
    assert set(found) == {"200"}
    assert len(found) > 20
    # Those of the app itself are asked to wait, for less than the restore takes.
    assert set(waiting) == {"200", "503"}
    assert waiting.count("503") < len(waiting) / 2
    assert sql(host, "SELECT count(*) FROM ledger") == "100"
    assert sql(host, "SELECT count(*) FROM ledger", "blog") == "101"
    assert host.check_output("systemctl show --value -p ActiveEnterTimestamp 'gunicorn-blog@*.service'") == started
    assert_its_files_are_as_they_were(host)
    # Also to who came after the moment that is back: the database knows nothing of that session.
    assert answers(host, options="--cookie /root/cookies") == "200"
    # What was there before is still there, and the message says where.
    [old] = sql(host, "SELECT datname FROM pg_database WHERE datname ~ '^shop_replaced_'", "postgres").split()
    assert sql(host, "SELECT count(*) FROM ledger", old) == "0"
    assert host.check_output("cat /srv/shop/media.replaced-*/later.txt") == "later"
    assert host.check_output("cat /var/lib/django/shop.replaced-*/cursor.txt") == "9"
    assert f"database {old}" in text


def kill_a_restore(host: Any, signs: str, **variables: str) -> None:
    """Kill a restore of all databases as soon as there is something with such a name."""
    host.check_output("rm -rf /var/lib/postgresql/*/main.replaced-*")
    kill = "timeout 600 sh -c 'until systemctl is-active --quiet backups-restore; do sleep 0.2; done; "
    kill += f"until ls -d /var/lib/postgresql/*/main.{signs}; do sleep 0.02; done'; "
    kill += "systemctl kill --signal=KILL backups-restore"
    killer = subprocess.Popen([*TESTBED, "ssh", BED, "site1", kill], stdout=subprocess.DEVNULL)
    done = play("restore", django_restore="all", django_restore_confirm="all", **variables)
    killer.wait()
    assert done.returncode != 0
    assert "it was interrupted; run it again" in said(done)


def test_rows_that_were_deleted_by_mistake_come_back_also_when_a_restore_was_killed(host: Any) -> None:
    sql(host, "INSERT INTO ledger SELECT FROM generate_series(1, 7)")
    then = moment(host)
    sql(host, "DELETE FROM ledger")
    after = moment(host)
    archived(host)
    before_the_mistake = {"django_restore_time": then, "django_restore_part": "database"}
    kill_a_restore(host, "restored-*", **before_the_mistake)
    assert sql(host, "SELECT count(*) FROM ledger") == "0"
    assert answers(host) == "200"
    kill_a_restore(host, "replaced-*", **before_the_mistake)
    restore("all", **before_the_mistake)
    assert sql(host, "SELECT count(*) FROM ledger") == "107"
    assert answers(host) == answers(host, "blog") == "200"
    assert host.run("ls -d /var/lib/postgresql/*/main.restored-*").rc != 0
    wait_for_backups(host)
    # The next backup works.
    host.check_output("systemctl start backups-postgres@diff")
    archived(host)
    # Also what a restore has undone can be reached. Where Redis does not let sessions be found, that is told.
    host.check_output("sed -i '/^user shop /s/$/ -scan/' /etc/redis/users.acl; systemctl restart redis-server")
    assert answers(host, options="--cookie-jar /root/cookies") == "200"
    text = restore("shop", django_restore_time=after, django_restore_part="database")
    assert "The sessions of shop are left in Redis on site1" in text
    # So the other test could fail.
    assert answers(host, options="--cookie /root/cookies") == "400"
    assert sql(host, "SELECT count(*) FROM ledger") == "0"
    wait_for_backups(host)


def test_a_server_that_is_gone_comes_back_from_the_store_alone(host: Any) -> None:
    host.check_output("systemctl start backups-media")
    write = "cd / && exec runuser -u postgres -- psql -XAtq shop <<'END'\nINSERT INTO ledger DEFAULT VALUES "
    write += "RETURNING id, extract(epoch FROM clock_timestamp()) \\watch 0.2\nEND"
    writer = subprocess.Popen([*TESTBED, "ssh", BED, "site1", write], stdout=subprocess.PIPE, text=True)
    time.sleep(85)
    lost = time.time()
    subprocess.run([*TESTBED, "reboot", BED, "site1", "--new-disk"], check=True)
    writer.terminate()
    committed = [line.split("|") for line in writer.communicate()[0].split()]
    expected = {number for number, at in committed if float(at) < lost - 60}
    assert len(expected) > 50

    began = time.monotonic()
    restore("all")
    print(f"recovered in {time.monotonic() - began:.0f} s")
    there = set(sql(host, "SELECT id FROM ledger").split())
    youngest = max(float(at) for number, at in committed if number in there)
    print(f"the youngest of the rows that came back was written {lost - youngest:.1f} s before the loss")
    assert expected - there == set()
    assert answers(host) == answers(host, "blog") == "200"
    assert_its_files_are_as_they_were(host)
    wait_for_backups(host)
    host.check_output("systemctl start backups-postgres@diff backups-media")
    again = play("site")
    assert again.returncode == 0
    assert "changed=0 " in again.stdout
