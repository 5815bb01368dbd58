"""What the tests of this scenario share."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
ROOT = Path(__file__).resolve().parents[3]
LOGIN = yaml.safe_load((EPHEMERAL / "instance_config.yml").read_text())
KEY = LOGIN[0]["identity_file"]
ADDRESS = {host["instance"]: host["address"] for host in LOGIN}
OPTIONS = ["-i", KEY, "-o", f"UserKnownHostsFile={Path(KEY).with_name('known_hosts')}", "-o", "IdentitiesOnly=yes"]
TABLE = "nft list table inet groundwork"
SCAN = "nmap -Pn -n --min-rate 2000 --max-retries 2 -oG -"


def play(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the role as its administrator would."""
    playbook = ROOT / "molecule/hardening/converge.yml"
    return subprocess.run(
        ["ansible-playbook", "--inventory", str(EPHEMERAL / "inventory"), *words, str(playbook)],
        env={
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache" / "collections"),
            "ANSIBLE_CONFIG": str(EPHEMERAL / "ansible.cfg"),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def ssh(*words: str, port: int = 22) -> list[str]:
    """Return the command that logs in to the server from here."""
    return ["ssh", "-q", *OPTIONS, "-o", "ConnectTimeout=3", "-p", str(port), f"root@{ADDRESS['site1']}", *words]


def reboot() -> None:
    name = Path(KEY).parent.name
    subprocess.run([sys.executable, ROOT / "molecule/shared/testbed.py", "reboot", name, "site1"], check=True)


def listen(*ports: int) -> str:
    """Return a command that starts a service that anybody can reach, on each of the ports."""
    return "; ".join(
        f"systemd-run --quiet --collect --unit=service-{port} {shlex.join(['python3', '-m', 'http.server', str(port)])}"
        for port in ports
    )


def silence(*ports: int) -> str:
    return f"systemctl stop {' '.join(f'service-{port}' for port in ports)}"
