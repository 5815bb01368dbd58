# Managed by Ansible (groundwork.django.nginx_tls): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What became of the certificate of each site, kept beside it as JSON.

The record is {"server", "issued", "failure": {"reason", "time", "until", "server", "domains"}}; the first two tell of
the certificate that is there, and stay when a later attempt fails.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import certificate
from settings import SERVED, SITES, Failure, Settings, Site

Record = dict[str, Any]


def pem(site: Site) -> str:
    """Return the last certificate of a CA."""
    return _text(SITES / f"{site.name}.pem")


def served(site: Site) -> str:
    return _text(SERVED / f"{site.name}.pem")


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def record(site: Site) -> Record:
    try:
        read: Record = json.loads((SITES / f"{site.name}.json").read_text())
    except (OSError, ValueError):
        return {}
    return read


def write(path: Path, text: str) -> None:
    """Write it whole or not at all, for nobody else to read."""
    new = path.with_name(f".{path.name}")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    new.replace(path)


def keep(site: Site, new: str, server: str) -> None:
    write(SITES / f"{site.name}.pem", new)
    _keep(site, {"server": server, "issued": time.time()})


def keep_failure(site: Site, failure: Failure, server: str) -> None:
    about = {"reason": str(failure), "time": time.time(), "until": failure.until}
    _keep(site, {**record(site), "failure": {**about, "server": server, "domains": site.domains}})


def forget_failure(site: Site) -> None:
    """Forget why there was no other certificate, once none is needed."""
    if "failure" in (known := record(site)):
        del known["failure"]
        _keep(site, known)


def _keep(site: Site, changed: Record) -> None:
    write(SITES / f"{site.name}.json", json.dumps(changed, indent=1) + "\n")


def forget_others(sites: list[Site]) -> None:
    names = {site.name for site in sites}
    for path in SITES.iterdir():
        if path.stem not in names:
            path.unlink()


def is_due(site: Site, settings: Settings, now: float) -> bool:
    """Tell whether there is no certificate for these domains, by this CA, with a third of its life left."""
    there = certificate.read(pem(site))
    return (
        there is None
        or there.names != set(site.domains)
        or record(site).get("server") != settings.server
        or there.is_old(now)
    )


def must_wait(site: Site, settings: Settings, now: float) -> bool:
    """Tell whether the CA wants to be left alone with what has not changed since."""
    failure = record(site).get("failure", {})
    asked = failure.get("server") == settings.server and failure.get("domains") == site.domains
    return asked and float(failure["until"]) > now


def serves(site: Site, known: Mapping[str, Any], settings: Settings, now: float) -> bool:
    """Tell whether visitors get what they should, be it that it will end soon."""
    there = certificate.read(pem(site))
    return (
        there is not None
        and pem(site) == served(site)
        and there.names >= set(site.domains)
        and there.until > now
        and known.get("server") == settings.server
    )
