"""What verify reports about a server that site.yml converged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from test_site import EPHEMERAL, all_secrets, play, variables, visitor, wait_for_page  # beside this file

# The only repository is on the server itself.
EXPECTED = {("warning", "backup_local_only")}


class Report(NamedTuple):
    status: int
    output: str
    server: dict[str, Any]

    def found(self) -> set[tuple[str, str]]:
        everything = [
            *self.server["findings"],
            *(one for app in self.server["apps"].values() for one in app["findings"]),
        ]
        return {(one["severity"], one["id"]) for one in everything if one["severity"] != "notice"}


def verify(*words: str) -> Report:
    path = EPHEMERAL / "report.json"
    done = play("--check", "--extra-vars", f"django_report={path}", *words, playbook="groundwork.django.verify")
    assert path.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    [server] = json.loads(path.read_text())
    path.unlink()
    return Report(done.returncode, done.stdout + done.stderr, server)


@pytest.fixture(scope="module")
def healthy(host: Any) -> Report:
    """What it says while the server is as the inventory describes it."""
    host.check_output("touch /run/marker; sleep 0.1")
    with pytest.MonkeyPatch.context() as patch:
        # Mitogen, with which the tests may run, changes files.
        patch.setenv("ANSIBLE_STRATEGY", "linear")
        return verify("-vvv")


@pytest.mark.usefixtures("healthy")
def test_it_changes_nothing(host: Any) -> None:
    places = "/etc /srv /usr/local /opt /root /var/log/nginx"
    assert host.check_output(f"find {places} -newer /run/marker ! -name '*.log'") == ""


def test_a_server_as_the_inventory_describes_it_has_no_finding(host: Any, healthy: Report) -> None:
    assert healthy.found() == EXPECTED, healthy.server
    assert healthy.status == 0
    for name, app in healthy.server["apps"].items():
        assert app["release"] == Path(host.check_output(f"readlink /srv/{name}/current")).name
        assert app["health"]["said"] == "well"
        assert app["pending_migrations"] == []
        described = variables(host)["django_apps"][name]
        assert app["url"] == f"https://{described['domains'][0]}{described.get('path', '')}/"
    assert [secret[:4] for secret in all_secrets() if secret in healthy.output] == []


@pytest.mark.parametrize("kind", ["databases", "media"])
def test_backups_are_told_by_repository(healthy: Report, kind: str) -> None:
    newest = healthy.server["backups"][kind]["repositories"]["local"]
    assert newest["bytes"] >= 0
    assert newest["succeeded"] > 0
    assert re.search(rf"{kind} +saved in local \d+ min ago", healthy.output)


def changed_by_hand(host: Any) -> str:
    """Return the path of a file that the role nginx_tls writes."""
    ours = "Managed by Ansible (groundwork.django.nginx_tls)"
    return str(host.check_output(f"grep -lr '{ours}' /etc/nginx/ | sort").splitlines()[0])


@pytest.fixture(scope="module")
def harmed(host: Any) -> Report:
    """What it says of a server without its backups and without Redis, where somebody changed a file by hand."""
    path = changed_by_hand(host)
    host.check_output(f"cp -a {path} /root/kept && echo '# by hand' >> {path}")
    host.check_output("mv /var/backups/groundwork /var/backups/away; mv /var/lib/backups/postgres/full.json /root/")
    host.run("mv /var/lib/backups/postgres/incr.json /root/")
    host.run("systemctl start backups-media")
    host.check_output("systemctl stop redis-server")
    try:
        report = verify()
        assert "# by hand" in host.check_output(f"cat {path}")
    finally:
        host.check_output("systemctl start redis-server")
        host.check_output("mv /var/backups/away /var/backups/groundwork; mv /root/full.json /var/lib/backups/postgres/")
        host.run("mv /root/incr.json /var/lib/backups/postgres/")
        host.check_output("systemctl start backups-media")
        host.check_output(f"cp -a /root/kept {path}; rm /root/kept")
    wait_for_page(visitor(host, "guestbook", "guestbook.test"), 30)
    assert report.status != 0
    return report


@pytest.mark.once
def test_what_is_wrong_with_backups_is_told(harmed: Report) -> None:
    assert {("error", "backup_failed"), ("error", "backup_missing"), ("warning", "unit_failed")} <= harmed.found()
    assert "there is no backup of the databases in local" in harmed.output
    assert "backups-media: repository local: " in harmed.output


@pytest.mark.once
def test_a_service_that_is_down_is_an_error_of_the_apps_that_need_it(harmed: Report) -> None:
    assert {("error", "unhealthy"), ("error", "cache_unreachable"), ("warning", "drift")} <= harmed.found()
    assert "redis: redis-server" in " ".join(harmed.server["drift"])


@pytest.mark.once
def test_a_file_that_somebody_changed_is_named(host: Any, harmed: Report) -> None:
    assert f"nginx_tls: {changed_by_hand(host)}" in harmed.server["drift"]


CURSORS = """\
from groundwork_settings import *
DATABASES["default"] = {**DATABASES["default"], "DISABLE_SERVER_SIDE_CURSORS": False}
"""


@pytest.mark.once
def test_cursors_that_a_pool_breaks_are_found_also_where_nobody_tells_of_the_pool(host: Any) -> None:
    host.check_output(f"mkdir /run/cursors && cat > /run/cursors/cursor_settings.py <<'END'\n{CURSORS}END")
    host.check_output("ln -sfn /srv/guestbook/current/.static /run/cursors/.static")
    checked = {
        "chdir": "/run/cursors",
        "pythonpath": ["/srv/guestbook/current"],
        "virtualenv": "/srv/guestbook/current/.venv",
        "environment_files": ["/etc/django/guestbook.env"],
        "settings": "cursor_settings",
        "user": "guestbook",
        "checks": ["database"],
        "fail_on": "never",
    }
    task = {"groundwork.django.django_settings_check": checked, "register": "answer"}
    shown = {"ansible.builtin.debug": {"msg": "{{ answer.findings | map(attribute='id') }} {{ answer.databases }}"}}
    playbook = EPHEMERAL / "cursors.json"
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task, shown]}]))
    done = play(playbook=str(playbook))
    host.check_output("rm -r /run/cursors")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pooled_server_side_cursors" in done.stdout
