# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which host of the inventory runs what, by its groups, and how the others reach it."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from . import _store

Groups = Mapping[str, Sequence[str]]

# What a group of the inventory stands for. Where none of them stands apart, each host is a site of its own.
SERVICES = ("web", "app", "postgres", "redis", "backup")
ALL = frozenset(SERVICES) - {"backup"}
ONLY_ONE = ("postgres", "redis", "backup")


@dataclass(frozen=True)
class Place:
    """What one host runs, where the other services of its site are, and the addresses of all of them."""

    host: str
    runs: frozenset[str]
    apps: tuple[str, ...]
    web: tuple[str, ...]
    postgres: str
    redis: str
    backup: str
    """The host that keeps the backups of others, if there is one."""
    saved: tuple[str, ...]
    """Those others."""
    addresses: Mapping[str, str]

    @property
    def address(self) -> str:
        return self.addresses[self.host]

    def away(self, service: str) -> bool:
        """Whether the apps of this host reach that service over the network."""
        return "app" in self.runs and getattr(self, service) != self.host

    @property
    def by_itself(self) -> bool:
        """Whether visitors, apps and database are all on this host."""
        return {*self.web, *self.apps, self.postgres} == {self.host}

    @property
    def apart(self) -> bool:
        """Whether the web servers ask other hosts for the apps."""
        return set(self.web) != set(self.apps)

    def others(self, hosts: Sequence[str]) -> list[str]:
        """Return the addresses of these hosts without this one, which needs no network to reach itself."""
        return [self.addresses[host] for host in hosts if host != self.host]


def hosts_of(groups: Groups, *services: str) -> list[str]:
    """Return the hosts that run one of these services, in the order of the inventory."""
    wanted = {host for service in services for host in _runs(groups, service)}
    return [host for host in groups["all"] if host in wanted]


def alone(host: str) -> Place:
    """The place of a host that is a site of its own."""
    return Place(host, ALL, (host,), (host,), host, host, backup="", saved=(), addresses={})


def place(groups: Groups, host: str, addresses: Mapping[str, str]) -> Place:
    runs = frozenset(service for service in SERVICES if host in _runs(groups, service))
    there = Place(
        host,
        runs,
        apps=tuple(hosts_of(groups, "app")),
        web=tuple(hosts_of(groups, "web")),
        postgres=_runs(groups, "postgres")[0],
        redis=_runs(groups, "redis")[0],
        backup=next(iter(_runs(groups, "backup")), ""),
        saved=tuple(saved(groups)),
        addresses=addresses,
    )
    if together(groups) or "app" not in runs:
        return there
    return replace(there, apps=(host,), web=(host,), postgres=host, redis=host)


def saved(groups: Groups) -> list[str]:
    """Return the hosts that keep backups on another host of the inventory."""
    stores = _runs(groups, "backup")
    return [host for host in hosts_of(groups, "app", "postgres") if stores and host not in stores]


def addresses(groups: Groups, variables: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the IP address of each host that others connect to, or that they know by it."""
    needed = SERVICES if together(groups) else ("backup",)
    return {host: _resolved(_named(host, variables[host])) for host in hosts_of(groups, *needed)}


def app_hosts(groups: Groups) -> int:
    """On how many hosts the same apps run."""
    return len(_runs(groups, "app")) if together(groups) else 1


def problems(groups: Groups, variables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Say why the groups of the inventory make no site."""
    found = [f"group {name}: has no host" for name in SERVICES if name in groups and not groups[name]]
    found += [
        f"group {name}: has {', '.join(groups[name])}; this version runs it on one host"
        for name in ONLY_ONE
        if len(groups.get(name, [])) > 1 and (name == "backup" or set(groups[name]) != set(_runs(groups, "app")))
    ]
    apps = _runs(groups, "app")
    if not apps:
        found.append("group app: is missing; all hosts are in the group backup, so name the host that runs the apps")
    if found:
        return found
    if together(groups) and len(apps) > 1:
        found += [
            f"group {name}: is missing; the apps are on {', '.join(apps)}, so name the one host that runs it for them"
            for name in ("postgres", "redis")
            if name not in groups
        ]
    found += [
        f"group backup: {host} cannot be the name of a repository; name it in the inventory with letters, digits and "
        "_.- only, and give its address as ansible_host"
        for host in [*saved(groups), *_runs(groups, "backup")]
        if not re.fullmatch(_store.NAME, host)
    ]
    return found or [
        f"django_address of {host}: {_named(host, variables[host])} has no IP address here; give the one by which the "
        "other hosts reach it"
        for host, address in addresses(groups, variables).items()
        if not address
    ]


def _runs(groups: Groups, service: str) -> list[str]:
    """The hosts of a service: those of its group, or else those of the apps, or else all that are not for backups."""
    stores = list(groups.get("backup", []))
    if service == "backup":
        return stores
    return list(groups.get(service) or groups.get("app") or [host for host in groups["all"] if host not in stores])


def together(groups: Groups) -> bool:
    """Whether several hosts make up one site."""
    apps = set(_runs(groups, "app"))
    return any(set(_runs(groups, service)) != apps for service in ("web", "postgres", "redis"))


def _named(host: str, variables: Mapping[str, Any]) -> str:
    return str(variables.get("django_address") or variables.get("ansible_host") or host)


def _resolved(name: str) -> str:
    """Return an address as it is and, for a name, the one that the control node knows: empty if there is none."""
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return str(socket.getaddrinfo(name, None, family=socket.AF_INET, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return ""
