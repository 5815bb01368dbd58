"""What an operator, the app itself and its neighbours find after a deployment, a good one and a bad one."""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
DEMO = Path(os.environ["MOLECULE_PROJECT_DIRECTORY"]) / "demo"
FIXTURES = DEMO.parent / "molecule/django_app/blog"
SHOP = {
    "django_app_name": "shop",
    "django_app_source": str(DEMO),
    "django_app_settings": "config.settings",
    "django_app_fallback_packages": [
        {"name": "psycopg2-binary", "modules": ["psycopg2", "psycopg"]},
        {"name": "whitenoise", "modules": ["whitenoise"]},
    ],
    "django_app_environment": "{{ environments.shop }}",
    "django_app_settings_check": {"ignore": ["cache_not_shared"]},
}
BLOG = {
    "django_app_name": "blog",
    "django_app_source": f"file://{EPHEMERAL}/blog",
    "django_app_version": "v1",
    "django_app_directory": "site",
    "django_app_settings": "config.settings",
    "django_app_extras": ["errors"],
    "django_app_dependency_groups": ["production"],
    "django_app_packages": ["psycopg[binary]", "ours"],
    "django_app_package_indexes": "{{ indexes }}",
    "django_app_files": [{"path": "site/config/local.py", "template": str(FIXTURES / "local.py.j2")}],
    "django_app_environment": "{{ environments.blog }}",
    "django_app_settings_check": {"ignore": ["cache_not_shared"]},
    "django_app_migrate_environment": {"DB_HOST": "", "DB_USER": "blog", "DB_PASSWORD": ""},
    "django_app_build_commands": [
        "echo built-$(basename $PWD) > built.txt",
        "env > environment.txt; find /srv/blog /var/lib/django /run/postgresql -maxdepth 2 > seen.txt 2>&1 || true",
    ],
    "django_app_schedules": [],
}


def deploy(app: dict[str, Any], *options: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    role = {"role": "groundwork.django.django_app", "vars": {**app, **changes}}
    playbook = EPHEMERAL / "deploy.json"
    playbook.write_text(json.dumps([{"hosts": "all", "become": True, "gather_facts": False, "roles": [role]}]))
    command: list[str | Path] = ["ansible-playbook", "--inventory", EPHEMERAL / "inventory", *options, playbook]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def current(host: Any, app: str) -> str:
    return str(host.check_output(f"readlink /srv/{app}/current"))


def python(host: Any, code: str, app: str = "shop") -> str:
    """Run Python inside the app, with everything that its service has."""
    command = host.run(f"{app}-manage shell --verbosity 0 -c {shlex.quote(code)}")
    assert command.rc == 0, command.stderr
    return str(command.stdout).strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the demo to break."""
    return Path(shutil.copytree(DEMO, tmp_path / "project"))


# --- A release in use -------------------------------------------------------


def test_the_app_can_write_nothing_but_its_media_and_its_data(host: Any) -> None:
    code = (
        "import os\n"
        "for folder, folders, _ in os.walk('/'):\n"
        "    folders[:] = [] if folder in ('/proc', '/sys', '/dev', '/srv/shop/media') else folders\n"
        "    if os.access(folder, os.W_OK): print(folder)"
    )
    assert set(python(host, code).split()) == {"/srv/shop/media", "/var/lib/django/shop", "/tmp", "/var/tmp"}
    assert python(host, "import os; print(os.environ['DATA_DIR'])") == "/var/lib/django/shop"


def test_outside_its_sandbox_too_the_account_cannot_touch_a_release(host: Any) -> None:
    for path in ("/srv/shop/current/manage.py", "/srv/shop/current/.venv/bin/new", "/srv/shop/static/new"):
        assert host.run(f"setpriv --reuid=shop --regid=shop --clear-groups sh -c 'echo >> {path}'").rc != 0


def test_another_app_can_read_neither_code_nor_uploads(host: Any) -> None:
    for path in ("/srv/shop/current/manage.py", "/srv/shop/media", "/var/lib/django/shop", "/etc/django/shop.env"):
        assert host.run(f"setpriv --reuid=blog --regid=blog --clear-groups ls {path}/. {path}").rc != 0


def test_an_upload_is_readable_to_nginx(host: Any) -> None:
    code = "from django.core.files.storage import default_storage as s; from django.core.files.base import ContentFile"
    python(host, f"{code}; s.save('a/b/upload.txt', ContentFile(b'uploaded'))")
    read = "setpriv --reuid=www-data --regid=www-data --clear-groups cat"
    assert host.check_output(f"{read} /srv/shop/media/a/b/upload.txt") == "uploaded"


def test_values_of_the_environment_arrive_exactly(host: Any) -> None:
    sent = host.ansible.get_variables()["environments"]["shop"]
    arrived = json.loads(python(host, "import json, os; print(json.dumps(dict(os.environ)))"))
    assert {name: arrived[name] for name in sent} == {name: str(value) for name, value in sent.items()}


def test_the_command_passes_on_words_input_and_exit_status(host: Any) -> None:
    code = "import sys; print(sys.stdin.read() + '$HOME ${HOME} %n'); sys.exit(7)"
    answer = host.run(f"echo in | shop-manage shell --verbosity 0 -c {shlex.quote(code)}")
    assert (answer.rc, answer.stdout.strip()) == (7, "in\n$HOME ${HOME} %n")


def test_the_command_is_for_root(host: Any) -> None:
    assert "sudo" in host.run("setpriv --reuid=nobody --regid=nogroup --clear-groups shop-manage check").stderr


def test_it_is_fit_for_production(host: Any) -> None:
    findings = host.run("shop-manage check --deploy").stderr
    assert {word for word in findings.split() if "security." in word} <= {"(security.W005)", "(security.W021)"}


def test_the_database_is_migrated_and_used(host: Any) -> None:
    assert host.run("shop-manage migrate --check").rc == 0
    assert host.run("shop-manage count_entries").rc == 0
    rows = host.run(
        "setpriv --reuid=postgres --regid=postgres --init-groups psql -At shop -c 'table guestbook_summary'"
    )
    assert rows.stdout.strip()


def test_migrations_take_their_own_way_to_the_database(host: Any) -> None:
    """The blog's service may only read, so nobody but the owner of its tables can have made them."""
    assert host.run("blog-manage migrate --check").rc == 0
    assert "permission denied" in host.run("blog-manage count_entries").stderr


def test_static_files_are_hashed_compressed_and_readable_to_all(host: Any) -> None:
    url = python(host, "from django.templatetags.static import static; print(static('guestbook/style.css'))")
    path = f"/srv/shop/static/{url.removeprefix('/static/')}"
    assert path != "/srv/shop/static/guestbook/style.css"
    nobody = "setpriv --reuid=nobody --regid=nogroup --clear-groups"
    plain = host.check_output(f"{nobody} cat {path}")
    unpack = "import brotli, sys; print(brotli.decompress(sys.stdin.buffer.read()).decode())"
    assert host.check_output(f"{nobody} zcat {path}.gz") == plain
    assert host.check_output(f"{nobody} python3 -c '{unpack}' <{path}.br") == plain
    assert len(set(host.check_output(f"stat -c %Y {path} {path}.gz {path}.br").split())) == 1


def installed(host: Any, app: str) -> set[str]:
    packages = host.check_output(f"cd /srv/{app}/current/.venv/lib/python3*/site-packages; ls -d *.dist-info")
    return {path.partition("-")[0] for path in packages.split()}


def test_only_packages_that_the_project_lacks_are_added(host: Any) -> None:
    assert {"psycopg", "whitenoise"} <= installed(host, "shop")
    assert not {"psycopg2_binary", "sentry_sdk"} & installed(host, "shop")


def test_a_lock_of_poetry_brings_what_was_chosen_from_it_and_the_private_index_the_rest(host: Any) -> None:
    assert {"django", "sentry_sdk", "whitenoise", "ours"} <= installed(host, "blog")
    assert not {"iniconfig", "poetry"} & installed(host, "blog")


def test_a_file_with_secrets_is_for_the_app_alone(host: Any) -> None:
    path = "/srv/blog/current/site/config/local.py"
    code = "import os; from config.local import DATABASE; print(DATABASE == ('blog', os.environ['DB_PASSWORD']))"
    assert python(host, code, "blog") == "True"
    assert host.check_output(f"stat -c '%a %U %G' {path}") == "640 root blog"
    assert host.run(f"setpriv --reuid=shop --regid=shop --clear-groups cat {path}").rc != 0


def test_the_code_is_compiled_before_it_becomes_read_only(host: Any) -> None:
    assert host.check_output("ls /srv/shop/current/config/__pycache__/urls.*.pyc")


def test_build_commands_ran_in_the_release(host: Any) -> None:
    assert host.file("/srv/blog/current/built.txt").content_string == f"built-{Path(current(host, 'blog')).name}\n"


def test_what_builds_a_release_sees_nothing_else_of_the_app(host: Any) -> None:
    release = f"/srv/blog/{current(host, 'blog')}"
    known = dict(line.partition("=")[::2] for line in host.check_output(f"cat {release}/environment.txt").splitlines())
    assert known["SECRET_KEY"] == "only-for-the-build"
    assert not set(known) & {"DB_PASSWORD", "DB_HOST", "DB_NAME", "ALLOWED_HOSTS"}
    seen = host.check_output(f"cat {release}/seen.txt").splitlines()
    assert [line for line in seen if not line.endswith("Permission denied")] == [
        *("/srv/blog", "/srv/blog/releases", release, "/var/lib/django", "/run/postgresql")
    ]


def test_a_schedule_waits_for_its_time_and_works(host: Any) -> None:
    assert host.service("django-shop-clearsessions.timer").is_running
    assert host.service("django-shop-clearsessions.timer").is_enabled
    assert host.run("systemctl start django-shop-clearsessions.service").rc == 0
    assert "django-blog" not in host.check_output("systemctl list-timers --all --no-legend")


def test_no_secret_is_readable_or_logged(host: Any) -> None:
    found = host.run(
        "grep -rlE 'canary-(shop|blog|index)' /etc /srv /opt /var/log/*.* /var/cache /run /tmp /root /usr/local"
    ).stdout
    wanted = f"/srv/blog/{current(host, 'blog')}/site/config/local.py"
    assert sorted(found.split()) == ["/etc/django/blog.env", "/etc/django/shop.env", wanted]
    assert "canary-" not in host.check_output("journalctl --no-pager")
    assert "canary-" not in host.check_output("systemctl show '*' --no-pager")


# --- Deployments ------------------------------------------------------------


def test_a_private_repository_is_read_with_its_vaulted_key(
    host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = host.ansible.get_variables()
    address, key, known = variables["ansible_host"], tmp_path / "key", tmp_path / "known_hosts"
    run = functools.partial(subprocess.run, check=True, capture_output=True, text=True)
    run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key])
    public = Path(f"{key}.pub").read_text().strip()
    host.check_output(
        "id git || useradd --create-home git; cd /var/lib; git init --quiet --bare blog.git; chown -R root blog.git;"
        f"install -d ~git/.ssh; echo {public} >~git/.ssh/authorized_keys"
    )
    ssh = f"ssh -F none -oBatchMode=yes -oUserKnownHostsFile={known}"
    root = (
        f"-F none -oStrictHostKeyChecking=no -oUserKnownHostsFile=/dev/null -i {variables['ansible_private_key_file']}"
    )
    push = ["git", "push", "--quiet", "--mirror", f"ssh://root@{address}/var/lib/blog.git"]
    run(push, cwd=EPHEMERAL / "blog", env={**os.environ, "GIT_SSH_COMMAND": f"ssh {root}"})
    host.check_output("chown -R git /var/lib/blog.git")
    (tmp_path / "password").write_text("vault")
    run(["ansible-vault", "encrypt", "--vault-password-file", tmp_path / "password", key])
    monkeypatch.setenv("ANSIBLE_VAULT_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("GIT_SSH_COMMAND", ssh)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    private = {"django_app_source": f"ssh://git@{address}/var/lib/blog.git", "django_app_source_key": str(key)}
    stranger = deploy(BLOG, **private)
    assert "Host key verification failed" in stranger.stdout + stranger.stderr
    known.write_text(run(["ssh-keyscan", address]).stdout)
    assert "changed=0 " in deploy(BLOG, **private).stdout, "the same commit is the same release"


def test_a_new_version_is_one_more_release_and_an_old_one_is_still_there(host: Any) -> None:
    first = current(host, "blog")
    assert "would replace" in deploy(BLOG, "--check", django_app_version="v2").stdout
    assert current(host, "blog") == first
    watch = "while sleep 0.1; do grep -ahs [c]anary- /proc/[0-9]*/cmdline; done >/run/seen"
    host.check_output(f"systemd-run --quiet --unit=watch sh -c '{watch}'")
    deployed = deploy(BLOG, "-vvv", django_app_version="v2")
    host.check_output("systemctl stop watch")
    assert deployed.returncode == 0
    assert "canary-" not in deployed.stdout + deployed.stderr
    assert host.check_output("cat /run/seen") == ""
    second = current(host, "blog")
    assert second != first
    # This time with a lock of uv.
    assert {"django", "sentry_sdk", "whitenoise", "ours"} <= installed(host, "blog")
    assert not {"iniconfig", "blog"} & installed(host, "blog")
    back = deploy(BLOG)
    assert back.returncode == 0
    assert "Create the virtualenv" not in back.stdout
    assert current(host, "blog") == first
    assert "changed=0 " in deploy(BLOG).stdout


def broken_requirement(project: Path) -> None:
    (project / "requirements.txt").write_text("no-such-package-of-ours==1\n")


def broken_settings(project: Path) -> None:
    with (project / "config/settings.py").open("a") as file:
        file.write("import no_such_module_of_ours\n")


def broken_migration(project: Path) -> None:
    text = """
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [('guestbook', '0001_initial')]
    operations = [migrations.RunSQL('no such statement')]
"""
    (project / "guestbook/migrations/9999_broken.py").write_text(text)


@pytest.mark.parametrize(
    ("harm", "step", "reason"),
    [
        (broken_requirement, "Unpack it, and install what the project requires", "no-such-package-of-ours"),
        (broken_settings, "Check the settings", "no_such_module_of_ours"),
        (broken_migration, "Migrate the database", "syntax error"),
    ],
)
def test_a_broken_project_leaves_the_old_release_in_use(
    host: Any, project: Path, harm: Any, step: str, reason: str
) -> None:
    before = current(host, "shop")
    harm(project)
    broken = deploy(SHOP, django_app_source=str(project), django_app_package_indexes="{{ indexes }}")
    assert broken.returncode != 0
    assert "canary-" not in broken.stdout + broken.stderr
    message = broken.stderr.rpartition("Say why the release is not online")[2] or broken.stderr
    assert step in message
    assert reason in message
    assert current(host, "shop") == before
    assert host.run("shop-manage check").rc == 0


def test_what_a_killed_build_left_is_gone_after_the_next(host: Any, project: Path) -> None:
    host.check_output("install -d -o shop /srv/shop/releases/0123456789ab-01234567/.venv")
    (project / "requirements.txt").unlink()
    shutil.copy(FIXTURES / "Pipfile.lock", project)
    assert deploy(SHOP, django_app_source=str(project)).returncode == 0
    assert {"django", "psycopg2_binary"} <= installed(host, "shop")
    releases = host.check_output("ls /srv/shop/releases").split()
    assert "0123456789ab-01234567" not in releases
    for release in releases:
        assert host.file(f"/srv/shop/releases/{release}/.release.json").exists
        assert host.check_output(f"find /srv/shop/releases/{release} ! -user root -o -perm /022 ! -type l") == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"django_app_name": "Shop"}, ["django_app_name (Shop)", "lower-case"]),
        ({"django_app_source": "/no/such"}, ["django_app_source", "/no/such"]),
        ({"django_app_source": "file:///no/such.git"}, ["django_app_source", "cannot read file:///no/such.git"]),
        ({"django_app_version": ""}, ["django_app_version", "required for a git repository"]),
        ({"django_app_version": "v3"}, ["django_app_version", "'v3'"]),
        ({"django_app_directory": "."}, ["django_app_directory", "no manage.py", "'site'"]),
        ({"django_app_requirements": ["prod.txt"]}, ["django_app_requirements", "'prod.txt'"]),
        ({"django_app_settings": "config/settings.py"}, ["django_app_settings (config/settings.py)", "dotted"]),
        ({"django_app_environment": {"A-B": "1"}}, ["Environment (A-B"]),
        ({"django_app_python": "/usr/bin/python3.99"}, ["django_app_python", "app1 has no Python /usr/bin/python3.99"]),
    ],
)
def test_wrong_input_is_named_before_the_server_is_touched(change: dict[str, Any], words: list[str]) -> None:
    refused = deploy(BLOG, **change)
    message = " ".join(refused.stdout.split() + refused.stderr.split())
    assert all(word in message for word in words), message
    assert "changed=0 " in message
    assert "Install what builds" not in message
