# Managed by Ansible (groundwork.django.nginx_tls): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Certificates by ACME for the sites of nginx. By hand: nginx-tls-certificates now."""

from __future__ import annotations

import argparse
import json
import ssl
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import certificate
import reach
import settings
import state
from settings import PROOFS, SERVED, SITES, Failure, Settings, Site

UNIT = "nginx-tls-certificates"


def obtain(known: Settings) -> bool:
    """Get the certificates that are due: what the service does, under an account of its own."""
    SITES.mkdir(exist_ok=True)
    PROOFS.mkdir(parents=True, exist_ok=True)
    for folder in (PROOFS.parent, PROOFS):
        folder.chmod(0o755)
    state.forget_others(known.sites)
    now = time.time()
    due = []
    for site in known.sites:
        if not state.is_due(site, known, now):
            state.forget_failure(site)
        elif not state.must_wait(site, known, now) and _attempt(site, known, lambda site: _reach(site, known)):
            due.append(site)
    if due:
        _order(due, known)
    return True


def _reach(site: Site, known: Settings) -> None:
    if known.reachability_check:
        reach.check(site.domains)


def _order(due: list[Site], known: Settings) -> None:
    import authority  # noqa: PLC0415 - takes most of a second, and is seldom needed

    try:
        ca = authority.Authority(known)
    except Failure as failure:
        for site in due:
            _fail(site, known, failure)
        return
    for site in due:
        _attempt(site, known, lambda site: state.keep(site, ca.issue(site.domains), known.server))


def _attempt(site: Site, known: Settings, act: Callable[[Site], None]) -> bool:
    """Do something for a site, and let whatever happens be of no consequence for the others."""
    try:
        act(site)
    except Failure as failure:
        _fail(site, known, failure)
    except Exception as error:  # noqa: BLE001 - of this program or a library
        traceback.print_exc()
        _fail(site, known, Failure(f"{type(error).__name__}: {error}: see journalctl -u {UNIT}"))
    else:
        return True
    return False


def _fail(site: Site, known: Settings, failure: Failure) -> None:
    print(f"{site.name}: {failure}", file=sys.stderr)
    state.keep_failure(site, failure, known.server)


def install(known: Settings) -> bool:
    """Give nginx what has come, and return whether all is well."""
    before = {}
    for site in known.sites:
        new = state.pem(site)
        there = certificate.read(new)
        if there and there.until > time.time() and new != state.served(site):
            before[site.name] = state.served(site)
            _put(site.name, new)
    # It reads everything before it tells the nginx that runs, which keeps what it has if that fails.
    if before and subprocess.run(["systemctl", "try-reload-or-restart", "nginx.service"], check=False).returncode:
        for name, old in before.items():
            _put(name, old)
    return not looked(known)["failed"] and not any("failure" in state.record(site) for site in known.sites)


def _put(name: str, pem: str) -> None:
    trial = SERVED / f".{name}.trial"
    state.write(trial, pem)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(trial)
    trial.replace(SERVED / f"{name}.pem")


def bootstrap(known: Settings) -> bool:
    """Give each site that has no certificate one to begin with."""
    for site in known.sites:
        if not state.served(site):
            state.write(SERVED / f"{site.name}.pem", certificate.selfsigned(site.name, site.domains))
    return True


def looked(known: Settings) -> dict[str, Any]:
    now = time.time()
    failed: dict[str, str] = {}
    warned: dict[str, str] = {}
    due = []
    for site in known.sites:
        record = state.record(site)
        if state.is_due(site, known, now):
            reason = record.get("failure", {}).get("reason")
            if reason:
                (warned if state.serves(site, record, known, now) else failed)[site.name] = reason
            if not state.must_wait(site, known, now):
                due.append(site.name)
        elif state.pem(site) != state.served(site):
            failed[site.name] = "nginx does not take over its new certificate: see journalctl -u nginx"
            due.append(site.name)
    lacking = [site.name for site in known.sites if not state.served(site)]
    return {"lacking": lacking, "due": due, "failed": failed, "warned": warned}


def look(known: Settings) -> bool:
    """Tell as JSON what there is to do and what went wrong. Asks nobody."""
    json.dump({**looked(known), "scheduled": _scheduled()}, sys.stdout)
    return True


def _scheduled() -> bool:
    properties = "--property=ActiveState,UnitFileState,NeedDaemonReload"
    command = ["systemctl", "show", properties, f"{UNIT}.timer", f"{UNIT}.service"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    # Only the timer can be active or enabled.
    return {"ActiveState=active", "UnitFileState=enabled"} <= set(shown) and "NeedDaemonReload=yes" not in shown


def now(known: Settings) -> bool:
    """Run the service at once, and tell as JSON how it went."""
    before = [state.served(site) for site in known.sites]
    started = subprocess.run(["systemctl", "start", f"{UNIT}.service"], check=False)
    found = looked(known)
    changed = before != [state.served(site) for site in known.sites]
    json.dump({**found, "changed": changed}, sys.stdout)
    return started.returncode == 0


ACTIONS: dict[str, Callable[[Settings], bool]] = {
    action.__name__: action for action in (now, look, obtain, install, bootstrap)
}


def main() -> int:
    parser = argparse.ArgumentParser(prog=UNIT, description="Certificates by ACME for the sites of nginx.")
    actions = parser.add_subparsers(required=True, metavar="ACTION", dest="action")
    for name, action in ACTIONS.items():
        actions.add_parser(name, help=action.__doc__, description=action.__doc__)
    return 0 if ACTIONS[parser.parse_args().action](settings.read()) else 1


if __name__ == "__main__":
    sys.exit(main())
