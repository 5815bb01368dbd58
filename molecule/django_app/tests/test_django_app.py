"""What an operator, the app itself and its neighbours find after a deployment, a good one and a bad one."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
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
    "django_app_packages": ["psycopg[binary]"],
    "django_app_fallback_packages": [{"name": "ours", "modules": ["ours"]}],
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


# Ansible as it is where nobody has set anything.
PLAIN = {"ANSIBLE_STRATEGY": "linear", "ANSIBLE_PIPELINING": "false"}
# Reads, as a stranger, what there is to read of all processes, and says what has a canary in it.
WATCH = """
import glob, time
word, seen = b"canary" + b"-", set()
while True:
    for path in glob.glob("/proc/[0-9]*/cmdline") + glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            continue
        if word in content and content not in seen:
            seen.add(content)
            print(path, content.replace(b"\\0", b" "), flush=True)
    time.sleep(0.005)
"""


def deploy(app: dict[str, Any], *options: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    return play(*options, tasks=[include(app, **changes)])


def include(app: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"include_role": {"name": "groundwork.django.django_app"}, "vars": {**app, **changes}}


def play(
    *options: str, tasks: list[dict[str, Any]], environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    playbook = EPHEMERAL / "deploy.json"
    playbook.write_text(json.dumps([{"hosts": "all", "become": True, "gather_facts": False, "tasks": tasks}]))
    command: list[str | Path] = ["ansible-playbook", "--inventory", EPHEMERAL / "inventory", *options, playbook]
    return subprocess.run(command, env=os.environ | (environment or {}), capture_output=True, text=True, check=False)


def current(host: Any, app: str) -> str:
    return str(host.check_output(f"readlink /srv/{app}/current"))


def python(host: Any, code: str, app: str = "shop") -> str:
    """Run Python inside the app, with everything that its service has."""
    command = host.run(f"{app}-manage -c {shlex.quote('import django; django.setup()' + chr(10) + code)}")
    assert command.rc == 0, command.stderr
    return str(command.stdout).strip()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the demo to break."""
    return Path(shutil.copytree(DEMO, tmp_path / "project"))


# --- A release in use -------------------------------------------------------


def test_the_app_can_write_nothing_but_its_uploads_and_its_data(host: Any) -> None:
    code = (
        "import os\n"
        "for folder, folders, _ in os.walk('/'):\n"
        "    folders[:] = [] if folder in ('/proc', '/sys', '/dev', '/srv/shop/media') else folders\n"
        "    if os.access(folder, os.W_OK): print(folder)"
    )
    own = {"/srv/shop/media", "/srv/shop/protected", "/var/lib/django/shop"}
    assert set(python(host, code).split()) == {*own, "/tmp", "/var/tmp"}
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


def test_for_what_is_added_nothing_of_the_lock_is_replaced(host: Any) -> None:
    """The newest version of what is added wants another whitenoise."""
    versions = host.check_output("cd /srv/blog/current/.venv/lib/python3*/site-packages; ls -d ours-* whitenoise-*")
    assert versions.split() == ["ours-1.0.dist-info", "whitenoise-6.9.0.dist-info"]


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
    with watched(host):
        deployed = play("-vvv", tasks=[include(BLOG, django_app_version="v2")], environment=PLAIN)
    assert deployed.returncode == 0
    assert "canary-" not in deployed.stdout + deployed.stderr
    second = current(host, "blog")
    assert second != first
    # This time with a lock of uv.
    assert {"django", "sentry_sdk", "whitenoise", "ours"} <= installed(host, "blog")
    assert not {"iniconfig", "blog"} & installed(host, "blog")
    back = deploy(BLOG)
    assert back.returncode == 0
    assert "Send the source" not in back.stdout
    assert current(host, "blog") == first


@contextlib.contextmanager
def watched(host: Any) -> Iterator[None]:
    """See whether anybody on the server could have read a secret meanwhile."""
    options = "--unit=watch --uid=nobody --property=StandardOutput=file:/run/seen"
    host.check_output(f"systemd-run --quiet {options} python3 -c {shlex.quote(WATCH)}")
    yield
    # It does see what is there to see.
    host.check_output("python3 -c 'import time; time.sleep(1)' canary-decoy")
    host.check_output("systemctl stop watch")
    seen = host.check_output("cat /run/seen; rm /run/seen").splitlines()
    assert seen
    assert [line for line in seen if "canary-decoy" not in line] == []


@pytest.fixture
def _cut_off(host: Any) -> Iterator[None]:
    """The server answers, and reaches nothing by itself."""
    address = host.check_output("getent ahostsv4 pypi.org").split()[0]
    reach = f"timeout 3 bash -c ': </dev/tcp/{address}/443'"
    host.check_output(reach)
    rules = "type filter hook output priority 0; policy drop; oif lo accept; tcp sport {22, 8099} accept;"
    host.check_output(f"nft 'table inet cut {{ chain out {{ {rules} }}; }}'")
    assert host.run(reach).rc != 0
    yield
    host.check_output("nft delete table inet cut")


@pytest.mark.usefixtures("_cut_off")
def test_a_server_without_a_way_out_gets_its_packages_from_the_control_node(host: Any) -> None:
    variables = host.ansible.get_variables()
    index, pypi = variables["indexes"]
    changes = {
        "django_app_version": "v2",
        "django_app_send_packages": True,
        "django_app_package_indexes": [index.replace("127.0.0.1", variables["ansible_host"]), pypi],
        "django_app_fallback_packages": [
            *BLOG["django_app_fallback_packages"],
            {"name": "gunicorn", "modules": ["gunicorn"]},
        ],
    }
    sent = deploy(BLOG, **changes)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert {"django", "sentry_sdk", "whitenoise", "ours", "gunicorn", "psycopg_binary"} <= installed(host, "blog")
    release = f"/srv/blog/{current(host, 'blog')}"
    assert host.check_output(f"readlink --canonicalize {release}/.venv/bin/python").startswith("/usr/bin/python3.")
    assert host.check_output(f"{release}/.venv/bin/gunicorn --version").startswith("gunicorn")
    assert host.check_output(f"ls {release}/.venv/lib/python3*/site-packages/django/__pycache__/__init__.*.pyc")
    assert host.run("blog-manage migrate --check").rc == 0
    assert "changed=0 " in deploy(BLOG, **changes).stdout


# Whatever else can be broken is tried where visitors would notice, in the scenario deploy.
@pytest.mark.parametrize(
    ("send", "step"),
    [
        (False, "Unpack it, and install what the project requires"),
        (True, "Install on the control node what the project requires"),
    ],
)
def test_a_requirement_that_does_not_exist_leaves_the_old_release_in_use_and_no_password_is_shown(
    host: Any, project: Path, send: bool, step: str
) -> None:
    before, variables = current(host, "shop"), host.ansible.get_variables()
    indexes = [url.replace("127.0.0.1", variables["ansible_host"]) for url in variables["indexes"]]
    (project / "requirements.txt").write_text("no-such-package-of-ours==1\n")
    changes = {"django_app_source": str(project), "django_app_package_indexes": indexes}
    broken = deploy(SHOP, **changes, django_app_send_packages=send)
    assert broken.returncode != 0
    assert "canary-" not in broken.stdout + broken.stderr
    assert f"failed at: {step}" in broken.stdout + broken.stderr
    assert "no-such-package-of-ours" in broken.stdout + broken.stderr
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


# What the role says to each of them. What is wrong with a source is named by pack.py, which has tests of its own.
MISTAKES: list[tuple[dict[str, Any], list[str]]] = [
    ({"django_app_name": "Shop"}, ["django_app_name (Shop)", "lower-case"]),
    ({"django_app_source_key": "/no/key"}, ["django_app_source_key (/no/key)", "there is none of this name"]),
    ({"django_app_extras": ["sentry"]}, ["django_app_extras", "no 'sentry'; there are: errors"]),
    ({"django_app_packages": ["x @ git+https://canary-token@git.example.com/x"]}, ["django_app_packages (not shown)"]),
    ({"django_app_settings": "config/settings.py"}, ["django_app_settings (config/settings.py)", "dotted"]),
    ({"django_app_environment": {"A-B": "1"}}, ["django_app_environment (A-B)"]),
    ({"django_app_workers": [{"name": "x", "command": "a | b"}]}, ["x: 'a | b' runs without a shell"]),
    ({"django_app_python": "/usr/bin/python3.99"}, ["django_app_python", "app1 has no Python /usr/bin/python3.99"]),
]


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("refused")
    note = {"delegate_to": "localhost", "become": False, "changed_when": False}
    tasks = [
        {
            "block": [include(BLOG, **change)],
            "rescue": [
                {"copy": {"dest": str(folder / str(number)), "content": "{{ ansible_failed_result.msg }}"}, **note}
            ],
        }
        for number, (change, _) in enumerate(MISTAKES)
    ]
    done = play(tasks=tasks)
    assert "changed=0 " in done.stdout
    assert "Install what builds" not in done.stdout
    assert "canary-" not in done.stdout + done.stderr
    return [(folder / str(number)).read_text() for number in range(len(MISTAKES))]


@pytest.mark.parametrize("number", range(len(MISTAKES)))
def test_wrong_input_is_named_before_the_server_is_touched(refused: list[str], number: int) -> None:
    assert all(word in refused[number] for word in MISTAKES[number][1]), refused[number]
