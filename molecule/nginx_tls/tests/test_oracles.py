"""What programs and lists say that others wrote: gixy, systemd, and nginx-baseline of dev-sec.

testssl.sh, which takes a minute, is asked in the scenario security. Controls that have no test here, each for a reason:

nginx-07: test_attacks.py, test_as_many_as_one_connection_of_http2_carries_are_answered_at_a_time
nginx-09: X-XSS-Protection is gone from browsers, and made holes where it was.
nginx-16: cookies are Django's, which the overlay and django_settings_check see to; the scenario security looks at them.
nginx-17: test_attacks.py, test_who_stops_in_the_middle_is_left_alone_in_the_end
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from visitor import fetch

testinfra_hosts = ["web1"]
SCENARIO = Path(__file__).parents[1]
EPHEMERAL = Path(os.environ["EPHEMERAL"])
DROPINS = "/etc/systemd/system/nginx.service.d"
STRICT = {"url": "https://strict.example.com/", "authority": "/root/authority.pem"}


def play() -> subprocess.CompletedProcess[str]:
    command = [
        "ansible-playbook",
        "--inventory",
        str(EPHEMERAL / "inventory"),
        "--limit",
        "web1",
        str(SCENARIO / "converge.yml"),
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# --- gixy, systemd-analyze ---


def test_gixy_finds_nothing(host: Any, tmp_path: Path) -> None:
    dump = tmp_path / "nginx.conf"
    dump.write_text(host.check_output("nginx -T 2>/dev/null"))
    # Not a line of nginx.conf, which is Debian's, but LimitNOFILE; see test_files_are_enough_for_the_connections. No
    # browser sees the internal port, for which gixy wants HSTS; test_nginx_tls.py looks for it elsewhere. The variable
    # by which requests go to other hosts holds only names of upstreams, and no resolver knows those.
    skips = "--skips=worker_rlimit_nofile_vs_connections,hsts_header,missing_resolver"
    command = [Path(sys.executable).with_name("gixy"), "-ll", "--format=json", skips, dump]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert json.loads(found.stdout) == [], found.stderr


def test_systemd_finds_the_sandbox_tight(host: Any) -> None:
    found = host.run("systemd-analyze security --no-pager --threshold=26 nginx.service")
    assert found.rc == 0, found.stdout


# --- what works in the sandbox all the same ---


def test_files_are_enough_for_the_connections(host: Any) -> None:
    connections = int(re.findall(r"worker_connections (\d+);", host.check_output("nginx -T 2>/dev/null"))[0])
    for worker in host.check_output("pgrep -u www-data nginx").split():
        limit = re.findall(r"Max open files +(\d+)", host.check_output(f"cat /proc/{worker}/limits"))
        assert int(limit[0]) >= 2 * connections


@pytest.mark.parametrize(("path", "body"), [("home", "at home"), ("cached", "old"), ("stored/new", "sent")])
def test_other_sites_serve_homes_and_write_caches_and_uploads(host: Any, path: str, body: str) -> None:
    url = f"http://old.example.org/{path}"
    if "new" in path:
        assert fetch(host, url, "-X", "PUT", "-d", "sent").status in (201, 204)
    assert fetch(host, url).body == body


def test_logs_are_rotated(host: Any) -> None:
    host.check_output("cd /var/log/nginx; mv access.log access.log.1; systemctl kill -s USR1 nginx")
    host.check_output("cd /var/log/nginx; timeout 20 sh -c 'until [ -e access.log ]; do sleep 0.1; done'")
    fetch(host, "https://shop.example.com/rotated")
    assert "/rotated" in host.check_output("cat /var/log/nginx/access.log")
    assert "alert" not in host.check_output("tail -n 3 /var/log/nginx/error.log")


@pytest.fixture
def other_site(host: Any) -> Iterator[None]:
    """One of those that have their socket in /tmp, and was here before the sandbox."""
    site = "server { listen 80; server_name tmp.example.org; location / { proxy_pass http://unix:/tmp/app.sock; } }"
    host.check_output(f"echo '{site}' >/etc/nginx/sites-enabled/tmp; rm {DROPINS}/groundwork.conf")
    host.check_output("systemctl daemon-reload; systemctl restart nginx")
    yield
    host.check_output(f"rm -f /etc/nginx/sites-enabled/tmp {DROPINS}/override.conf; systemctl reload nginx")
    assert "failed=0" in play().stdout
    assert host.check_output("systemctl show --value -p PrivateTmp nginx") == "yes"


def test_a_sandbox_that_another_site_cannot_live_in_never_lands(host: Any, other_site: None) -> None:  # noqa: ARG001
    run = play()
    assert "a site of this server has a socket in /tmp" in " ".join((run.stdout + run.stderr).split())
    assert not host.file(f"{DROPINS}/groundwork.conf").exists
    host.check_output(f"printf '[Service]\\nPrivateTmp=no\\n' >{DROPINS}/override.conf")
    run = play()
    assert "failed=0" in run.stdout
    assert "RUNNING HANDLER [groundwork.django.nginx_tls : Restart nginx]" in run.stdout
    assert host.check_output("systemctl show --value -p PrivateTmp -p NoNewPrivileges nginx").split() == ["no", "yes"]
    assert "changed=0" in play().stdout


# --- dev-sec nginx-baseline, bdd69d3 ---


def test_nginx_01_workers_are_not_root(host: Any) -> None:
    users = host.check_output("ps -C nginx -o user=,args= | grep worker").splitlines()
    assert {line.split()[0] for line in users} == {"www-data"}


def test_nginx_02_nobody_else_writes_the_configuration(host: Any) -> None:
    """The control also wants nginx.conf unreadable; it is Debian's file, and holds no secret."""
    assert host.check_output("find -L /etc/nginx ! -user root -o ! -group root -o -perm /022") == ""
    assert host.file("/etc/nginx/tls").mode == 0o700


def test_nginx_03_there_is_no_example_site(host: Any) -> None:
    assert host.run("ls /etc/nginx/conf.d/default.conf /etc/nginx/sites-enabled/default").stdout == ""


def test_nginx_04_there_is_one_nginx(host: Any) -> None:
    assert host.check_output("pgrep -fc 'nginx: master'") == "1"


@pytest.mark.parametrize("path", ["/", "/static/none", "/die"])
def test_nginx_05_no_version_is_told(host: Any, path: str) -> None:
    answer = fetch(host, f"https://shop.example.com{path}")
    assert answer.one("server") == "nginx"
    assert "nginx/" not in answer.body


@pytest.mark.parametrize(
    ("options", "status"), [(["-H", f"X: {'a' * 9000}"], 400), (["--data-binary", "@/tmp/large"], 413)]
)
def test_nginx_06_heads_and_bodies_have_a_limit(host: Any, options: list[str], status: int) -> None:
    host.check_output("head -c 1048577 /dev/zero >/tmp/large")
    assert fetch(host, "https://shop.example.com/", "--http1.1", *options).status == status


def test_nginx_08_pages_are_not_framed_by_strangers(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/").one("x-frame-options") == "DENY"


def test_nginx_10_types_are_not_guessed(host: Any) -> None:
    assert fetch(host, "https://shop.example.com/").one("x-content-type-options") == "nosniff"


@pytest.mark.parametrize(("version", "welcome"), [("1.0", False), ("1.1", False), ("1.2", True), ("1.3", True)])
def test_nginx_12_only_tls_1_2_and_1_3(host: Any, version: str, welcome: bool) -> None:
    """The rest follows Mozilla's guidelines of 2026: no DHE, so no parameters for it, and the client's order."""
    command = f"openssl s_client -connect 127.0.0.1:443 -servername shop.example.com -tls{version.replace('.', '_')}"
    command = command.replace("_0", "") + " -cipher ALL:@SECLEVEL=0 </dev/null"
    assert (host.run(command).rc == 0) is welcome


def test_nginx_13_hsts(host: Any) -> None:
    """Half a year at least, once it is raised."""
    header = str(fetch(host, **STRICT).one("strict-transport-security"))
    assert int(header.partition("max-age=")[2].partition(";")[0]) >= 15768000


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "BREW"])
def test_nginx_14_other_methods_are_refused(host: Any, method: str) -> None:
    assert fetch(host, "https://shop.example.com/", "-X", method).status == 405


def test_nginx_15_what_nginx_sends_has_a_content_security_policy(host: Any) -> None:
    """That of pages is the application's affair: nobody else knows which scripts they need."""
    assert "default-src" in str(fetch(host, "https://shop.example.com/static/app.css").one("content-security-policy"))
