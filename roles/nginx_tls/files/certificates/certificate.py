# Managed by Ansible (groundwork.django.nginx_tls): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates and keys, by openssl."""

from __future__ import annotations

import re
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc")


@dataclass(frozen=True)
class Certificate:
    names: frozenset[str]
    since: float
    until: float

    def is_old(self, now: float) -> bool:
        """Tell whether less than a third of its life is left, be that of 90 days or of 6."""
        return self.until - now < (self.until - self.since) / 3


def parse(shown: str) -> Certificate:
    """Read what openssl shows."""
    since, until = (
        ssl.cert_time_to_seconds(date) for date in re.findall(r"^not(?:Before|After)=(.+)", shown, re.MULTILINE)
    )
    return Certificate(frozenset(re.findall(r"DNS:([^,\s]+)", shown)), since, until)


def read(pem: str) -> Certificate | None:
    """Return what the first certificate of a file says; None where there is none."""
    command = ("openssl", "x509", "-noout", "-dates", "-ext", "subjectAltName")
    shown = subprocess.run(command, input=pem, capture_output=True, text=True, check=False)
    return None if shown.returncode else parse(shown.stdout)


def request(domains: list[str]) -> tuple[str, str]:
    """Return a new key, and a request for a certificate of it."""
    return _new(domains, "-subj", "/")


def selfsigned(name: str, domains: list[str]) -> str:
    """Return a certificate to begin with, and its key: nginx needs one before a CA can ask it for a proof."""
    key, certificate = _new(domains, "-subj", f"/CN={name}", "-x509", "-days", "30")
    return certificate + key


def _new(domains: list[str], *options: str) -> tuple[str, str]:
    names = "subjectAltName=" + ",".join(f"DNS:{domain}" for domain in domains)
    with tempfile.TemporaryDirectory() as folder:
        key, out = Path(folder, "key"), Path(folder, "out")
        command = ["openssl", "req", "-new", *NEW_KEY, "-keyout", str(key), "-out", str(out), "-addext", names]
        subprocess.run([*command, *options], capture_output=True, check=True)
        return key.read_text(), out.read_text()
