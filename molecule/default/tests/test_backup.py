"""A backup now, before something risky; by hand and before a migration."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from test_site import EPHEMERAL, ROOT, all_secrets, play, variables  # beside this file

MOMENT = r"A restore can go back to 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d"
REPOSITORIES = "/var/backups/groundwork"
ADDS_A_COLUMN = """\
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("guestbook", "0001_initial")]
    operations = [migrations.RunSQL('ALTER TABLE guestbook_entry ADD note text', '')]
"""


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join((done.stdout + done.stderr).split())


def backup(*words: str) -> subprocess.CompletedProcess[str]:
    return play(*words, playbook="groundwork.django.backup")


@pytest.fixture
def broken(host: Any) -> Iterator[None]:
    host.check_output(f"mv {REPOSITORIES} {REPOSITORIES}.away")
    yield
    host.check_output(f"test ! -e {REPOSITORIES}.away || mv {REPOSITORIES}.away {REPOSITORIES}")


@pytest.mark.once
@pytest.mark.usefixtures("broken")
def test_a_repository_that_fails_is_named_with_its_reason() -> None:
    done = backup()
    assert done.returncode != 0
    assert "The databases are not saved in local: " in said(done)
    assert "The media are not saved in local: " in said(done)
    assert not re.search(MOMENT, said(done))


def test_a_backup_now_says_what_is_where_and_how_far_back_one_can_go(host: Any) -> None:
    host.check_output("touch /run/before")
    done = backup("--extra-vars", "django_backup_dump=all")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "The databases are in local: " in said(done)
    assert "The media are in local: " in said(done)
    assert re.search(MOMENT, said(done))
    for record in ("postgres/incr", "media/media"):
        assert host.check_output(f"find /var/lib/backups/{record}.json -newer /run/before")
    dumps = re.findall(r"(/var/lib/\S+\.dump): ", done.stdout)
    assert [Path(path).name.rpartition("-")[0] for path in dumps] == sorted(variables(host)["django_apps"])
    for path in dumps:
        assert "TABLE DATA public django_migrations" in host.check_output(f"pg_restore --list {path}")
    assert [secret[:4] for secret in all_secrets() if secret in done.stdout] == []


@pytest.mark.once
def test_with_check_it_only_says_what_it_would_do(host: Any) -> None:
    host.check_output("touch /run/before")
    done = backup("--check", "--extra-vars", "django_backup_type=full")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "backups now --type full" in said(done)
    assert host.check_output("find /var/lib/backups/*/*.json -newer /run/before") == ""


@pytest.mark.once
@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        ("django_backup_type=whole", "say full, diff or incr"),
        ("django_backup_dump=shop", "say all, or which apps; there are "),
    ],
)
def test_what_it_cannot_do_it_says_before_it_begins(asked: str, answer: str) -> None:
    done = backup("--extra-vars", asked)
    assert done.returncode != 0
    assert answer in said(done)


@pytest.mark.once
def test_a_server_without_backups_is_told_how_to_get_them(host: Any) -> None:
    host.check_output("mv /usr/local/sbin/backups /root/backups")
    try:
        done = backup()
    finally:
        host.check_output("mv /root/backups /usr/local/sbin/backups")
    assert done.returncode != 0
    assert "Run groundwork.django.site first" in said(done)


@pytest.mark.once
def test_the_databases_are_saved_before_a_migration_or_it_does_not_take_place(host: Any, broken: None) -> None:
    project = EPHEMERAL / "with_migration"
    shutil.copytree(ROOT / "demo", project, dirs_exist_ok=True)
    (project / "guestbook/migrations/0100_note.py").write_text(ADDS_A_COLUMN)
    apps = variables(host)["django_apps"]
    apps["guestbook"] |= {"source": str(project), "backup_before_migrating": True}
    deploy = ("--extra-vars", json.dumps({"django_apps": apps, "django_only": "guestbook"}))
    before = host.check_output("readlink /srv/guestbook/current")
    try:
        done = play(*deploy, playbook="groundwork.django.deploy")
        assert done.returncode != 0
        assert "failed at: Do what comes before migrations" in said(done)
        assert "The databases are not saved in local: " in said(done)
        assert host.check_output("readlink /srv/guestbook/current") == before
        assert host.run("cd / && runuser -u postgres -- psql -c 'SELECT note FROM guestbook_entry' guestbook").rc != 0

        host.check_output(f"mv {REPOSITORIES}.away {REPOSITORIES}; touch /run/before")
        done = play(*deploy, playbook="groundwork.django.deploy")
        assert done.returncode == 0, done.stdout[-3000:]
        assert host.check_output("find /var/lib/backups/postgres/incr.json -newer /run/before")
        assert "[X] 0100_note" in host.check_output("guestbook-manage showmigrations guestbook")
    finally:
        host.run("guestbook-manage migrate guestbook 0001")
        host.run("cd / && runuser -u postgres -- psql -c 'ALTER TABLE guestbook_entry DROP note' guestbook")
        play("--extra-vars", "django_only=guestbook", playbook="groundwork.django.rollback")
    assert host.check_output("readlink /srv/guestbook/current") == before
    assert broken is None
