# Managed by Ansible (groundwork.django.nginx_tls): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the inventory says about the certificates of this server, and where they are kept."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FILE = Path("/etc/nginx-tls/settings.json")
STATE = Path("/var/lib/nginx-tls")
ACCOUNT = STATE / "account.pem"
SITES = STATE / "sites"
# Where nginx reads them.
SERVED = Path("/etc/nginx/tls")
# What nginx shows to a CA while the service runs.
PROOFS = Path("/run/nginx-tls/.well-known/acme-challenge")


class Failure(Exception):  # noqa: N818 - no error of this program, but the news that it has for the operator
    """Why there is no new certificate and what to do, in words for the operator."""

    def __init__(self, reason: str, until: float = 0) -> None:
        super().__init__(reason)
        self.until = until
        """Before this moment, in seconds since 1970, the CA is not to be asked again."""


@dataclass(frozen=True)
class Site:
    name: str
    domains: list[str]


@dataclass(frozen=True)
class Settings:
    sites: list[Site]
    server: str
    """URL of the directory of the CA."""
    email: str
    ca_file: str
    """By which the CA's own HTTPS is trusted; empty: as usual."""
    reachability_check: bool


def read() -> Settings:
    given: dict[str, Any] = json.loads(FILE.read_text())
    return Settings(sites=[Site(*site) for site in given.pop("sites").items()], **given)


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
