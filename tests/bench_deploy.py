"""How long a deployment takes, and what visitors notice of it. They share the machine with the server."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import testbed
from load import Traffic

import demo

RATE = 220
# Seconds of traffic before and after a deployment.
WINDOW = 10


def edit(project: Path) -> None:
    with (project / "guestbook/views.py").open("a") as file:
        file.write(f"# {time.time()}\n")


def require(project: Path) -> None:
    edit(project)
    with (project / "requirements.txt").open("a") as file:
        file.write("whitenoise\n")


KINDS: dict[str, Callable[[Path], None]] = {"code only": edit, "changed requirements": require}


def deploy(inventory: Path) -> float:
    started = time.monotonic()
    done = subprocess.run(
        ["ansible-playbook", "-i", str(inventory), "groundwork.django.deploy"],
        env={**os.environ, "ANSIBLE_PIPELINING": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"deploy.yml failed: {done.stdout[-2000:]}")
    return time.monotonic() - started


def latencies(visitors: Traffic, since: float = 0, until: float = float("inf")) -> str:
    return "/".join(f"{1000 * visitors.percentile(share, since, until):.0f}" for share in (0.5, 0.99))


def use_copy(inventory: Path) -> None:
    """Let the inventory name a project that can be changed, and allow what only visitors from one address do."""
    project = inventory.parent / "project"
    shutil.rmtree(project, ignore_errors=True)
    shutil.copytree(demo.ROOT / "demo", project)
    app = f"source: {project}\n        requests_per_second: 0"
    inventory.write_text(inventory.read_text().replace(f"source: {demo.ROOT / 'demo'}", app))


def rows(bed: testbed.Bed, host: str, inventory: Path) -> list[tuple[str, str]]:
    """Deploy each kind of change, first in silence, then among visitors."""
    project = inventory.parent / "project"
    certificate = inventory.parent / "certificate.pem"
    certificate.write_text(testbed.run(*testbed.ssh_command(bed, host), "cat /etc/nginx/tls/guestbook.crt"))
    found = []
    for name, change in KINDS.items():
        change(project)
        quiet = deploy(inventory)
        edit(project)
        with Traffic(demo.DOMAIN, bed["hosts"][host], certificate, RATE) as visitors:
            time.sleep(WINDOW)
            began = time.time()
            busy = deploy(inventory)
            ended = time.time()
            time.sleep(WINDOW)
        windows = (latencies(visitors, until=began), latencies(visitors, began, ended), latencies(visitors, ended))
        found += [
            (f"deployment, {name}", f"{quiet:6.1f} s   {busy:.1f} s under {visitors.rate:.0f} requests/s"),
            ("  failed requests", f"{len(visitors.failures):6}     of {len(visitors.answers)}"),
            ("  p50/p99 in ms", "  before {}, during {}, after {}".format(*windows)),
        ]
    return found
