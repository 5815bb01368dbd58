#!/usr/bin/env python3
"""The demo site on a test host: `demo.py up` converges it with site.yml, `demo.py down` removes it."""

from __future__ import annotations

import os
import secrets
import shlex
import socket
import ssl
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

import testbed  # noqa: E402 (the test bed is a program of its own)

BED, HOST, DOMAIN = "demo", "demo1", "guestbook.test"
FOLDER = ROOT / ".cache" / "demo"

INVENTORY = """\
# All that somebody writes for a site. Besides, site.yml keeps generated secrets in django_secrets.yml beside this file.
all:
  hosts:
    {host}: {{ansible_host: {address}, ansible_user: root, ansible_ssh_private_key_file: {key}}}
  vars:
    ansible_python_interpreter: /usr/bin/python3
    ansible_ssh_common_args: {ssh_options}
    django_apps:
      guestbook:
        domains: [{domain}]
        source: {source}
        application: config.wsgi:application
        settings: config.settings
        schedules:
          - {{name: clearsessions, command: clearsessions, on_calendar: daily}}
          - {{name: count_entries, command: count_entries, on_calendar: hourly}}
"""

ACCOUNT = """\
from django.contrib.auth import get_user_model
admin, _ = get_user_model().objects.get_or_create(username="admin", is_staff=True, is_superuser=True)
admin.set_password({password!r})
admin.save()
"""

GOODBYE = """
The demo site answers over HTTPS. Look at it:

    curl --cacert {certificate} --resolve {domain}:443:{address} https://{domain}/

or add the line

    {address} {domain}

to /etc/hosts and open https://{domain}/ in a browser (it will warn of the self-signed certificate).
Log in at https://{domain}/admin/ as {user} with the password {password}

Its inventory:   {inventory}
Its server:      molecule/shared/testbed.py ssh {bed} {host}
Converge again:  {again}
Remove it:       make demo-clean
"""


def remote(bed: testbed.Bed, command: str, stdin: str | None = None) -> str:
    return testbed.run(*testbed.ssh_command(bed, HOST), command, stdin=stdin)


def write_inventory(bed: testbed.Bed, host: str, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "inventory.yml"
    path.write_text(
        INVENTORY.format(
            host=host,
            address=bed["hosts"][host],
            key=bed["key"],
            ssh_options=shlex.join(testbed.ssh_options(bed)),
            domain=DOMAIN,
            source=ROOT / "demo",
        ),
    )
    return path


def page(address: str, certificate: Path) -> str:
    """Ask for the first page as a browser would: by its name, and only of a server with the right certificate."""
    context = ssl.create_default_context(cafile=str(certificate))
    plain = socket.create_connection((address, 443), timeout=10)
    with context.wrap_socket(plain, server_hostname=DOMAIN) as secure:
        secure.sendall(f"GET / HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: secure.recv(65536), b"")).decode(errors="replace")
    if " 200 " not in answer.splitlines()[0]:
        sys.exit(f"the demo site does not answer as it should:\n{answer[:2000]}")
    return answer[:1200]


def up() -> None:
    if any(bed["name"] == BED for bed in testbed.beds()):
        bed = testbed.load(BED)
    else:
        (FOLDER / "django_secrets.yml").unlink(missing_ok=True)
        bed = testbed.up(BED, [HOST], "trixie", owner=None)
    inventory = write_inventory(bed, HOST, FOLDER)
    command = ["ansible-playbook", "-i", str(inventory), "groundwork.django.site"]
    settings = {"ANSIBLE_PIPELINING": "true", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml"}
    subprocess.run(command, env={**os.environ, **settings}, check=True)

    password = secrets.token_urlsafe(12)
    remote(bed, "guestbook-manage shell", stdin=ACCOUNT.format(password=password))
    certificate = FOLDER / "certificate.pem"
    certificate.write_text(remote(bed, "cat /etc/nginx/tls/guestbook.crt"))
    address = bed["hosts"][HOST]
    print(page(address, certificate))
    print(
        GOODBYE.format(
            certificate=certificate.relative_to(ROOT),
            domain=DOMAIN,
            address=address,
            user="admin",
            password=password,
            inventory=inventory.relative_to(ROOT),
            bed=BED,
            host=HOST,
            again="make demo",
        ),
    )


def main() -> None:
    if sys.argv[1:] == ["up"]:
        up()
    elif sys.argv[1:] == ["down"]:
        testbed.down(BED)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
