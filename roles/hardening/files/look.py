# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell as JSON what the role hardening must not disturb on this server. Reads, and changes nothing.

Gets on standard input {"table", "unit", "undo": names of what the role makes, "kernel": [names of sysctl]}.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

SECONDS = 10
SSH = re.compile(r'\(\("(?:sshd[^"]*|dropbear)"')
TIME_SERVICES = ("chrony", "ntpsec", "ntp", "openntpd")


def output(*command: str) -> str:
    """Return what a program prints; nothing, where there is none, or none that answers."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd="/").stdout
    return ""


def lines(*paths: Path) -> Iterator[str]:
    """Return the lines of files, those that are there, without comments and blanks."""
    for path in paths:
        with contextlib.suppress(OSError):
            text = path.read_text(errors="replace")
            yield from (line.strip() for line in text.splitlines() if line.strip() and line.strip()[0] not in "#;")


# --- SSH ---


def ssh_ports(settings: dict[str, list[str]]) -> list[int]:
    """Return every port that SSH has now, also the one of the connection that this came by."""
    ports = {int(port) for port in settings.get("port", [])}
    waiting = {one["port"]: one["program"] for one in listeners() if one["protocol"] == "tcp"}
    ports |= {port for port, program in waiting.items() if program in ("sshd", "dropbear")}
    for row in output("ss", "-Htnp").splitlines():
        # Where systemd listens for it, only its connections tell. Those that it forwards begin at ports of no listener.
        port = int(row.split()[3].rsplit(":", 1)[1])
        if SSH.search(row) and port in waiting:
            ports.add(port)
    return sorted(ports)


def has_key(account: pwd.struct_passwd, settings: dict[str, list[str]]) -> bool:
    """Tell whether an account can come in with a key."""
    if settings.get("authorizedkeyscommand", ["none"]) != ["none"]:
        return True
    for pattern in " ".join(settings.get("authorizedkeysfile", [])).split():
        path = pattern.replace("%h", account.pw_dir).replace("%u", account.pw_name).replace("%U", str(account.pw_uid))
        if any(lines(Path(account.pw_dir) / path)):
            return True
    return False


def has_password(account: pwd.struct_passwd) -> bool:
    hashes = {line.split(":")[0]: line.split(":")[1] for line in lines(Path("/etc/shadow"))}
    return hashes.get(account.pw_name, "").startswith("$") and not account.pw_shell.endswith(("nologin", "false"))


def own_account() -> pwd.struct_passwd:
    """Return the account that Ansible logged in with."""
    with contextlib.suppress(OSError, KeyError, ValueError):
        name = os.environ.get("SUDO_USER")
        return pwd.getpwnam(name) if name else pwd.getpwuid(int(Path("/proc/self/loginuid").read_text()))
    return pwd.getpwuid(0)


def before_ours(name: str) -> dict[str, str]:
    """Return what drop-ins set that sshd reads before the one with this name: their word counts."""
    found: dict[str, str] = {}
    for path in sorted(Path("/etc/ssh/sshd_config.d").glob("*.conf")):
        for line in lines(path) if path.name < name else ():
            keyword = re.split(r"[\s=]", line)[0].lower()
            if keyword == "match":
                break
            found.setdefault(keyword, str(path))
    return found


def ssh() -> dict[str, Any]:
    settings: dict[str, list[str]] = {}
    for line in output("sshd", "-T").splitlines():
        keyword, *value = line.split(" ", maxsplit=1)
        settings.setdefault(keyword, []).extend(value)
    own = own_account()
    known = (output("ssh", "-Q", kind) for kind in ("kex", "cipher", "mac", "key-sig"))
    return {
        "installed": bool(settings),
        "ports": ssh_ports(settings),
        "account": own.pw_name,
        "has_key": has_key(own, settings),
        "accepts_passwords": settings.get("passwordauthentication") == ["yes"],
        "interactive": "keyboard-interactive" in " ".join(settings.get("authenticationmethods", [])),
        "only_password": [
            account.pw_name for account in pwd.getpwall() if has_password(account) and not has_key(account, settings)
        ],
        "algorithms": " ".join(known).split(),
        "elsewhere": before_ours("60-groundwork.conf"),
    }


# --- The firewall ---


def listeners() -> list[dict[str, Any]]:
    """Return the ports that can be reached from elsewhere."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for row in output("ss", "-Htulnp").splitlines():
        address, port = row.split()[4].rsplit(":", 1)
        program = re.search(r'\(\("([^"]+)"', row)
        name = program.group(1) if program else "the kernel"
        if not address.startswith(("127.", "[::1]", "[::ffff:127.")):
            found[row.split()[0], int(port)] = {"protocol": row.split()[0], "port": int(port), "program": name}
    return [found[key] for key in sorted(found)]


def chains() -> list[dict[str, Any]]:
    """Return the chains of nftables, those of iptables among them."""
    shown = output("nft", "-j", "list", "chains")
    return [item["chain"] for item in json.loads(shown or '{"nftables": []}')["nftables"] if "chain" in item]


def foreign_firewall(table: str) -> str:
    """Name the firewall that somebody else has switched on here."""
    if "ENABLED=yes" in lines(Path("/etc/ufw/ufw.conf")):
        return "ufw"
    if output("systemctl", "is-active", "firewalld.service").strip() == "active":
        return "firewalld"
    for chain in chains():
        if chain.get("hook") == "input" and chain.get("policy") == "drop" and chain["table"] != table:
            return f"the table {chain['family']} {chain['table']} of nftables"
    return ""


# --- The rest ---


def kernel(wanted: Iterable[str]) -> dict[str, Any]:
    """Return the values that can be changed here; a container may not, and not every kernel has all of them."""
    values = {}
    for key in wanted:
        with contextlib.suppress(OSError), Path("/proc/sys", key.replace(".", "/")).open("r+") as handle:
            values[key] = " ".join(handle.read().split())
    files = [path for path in Path("/etc/sysctl.d").glob("*.conf") if path.name != "60-groundwork.conf"]
    keys = (line.split("=")[0].strip().lstrip("-") for line in lines(Path("/etc/sysctl.conf"), *files))
    return {"values": values, "elsewhere": sorted({key.replace("/", ".") for key in keys})}


def is_changed(path: str, original: str) -> bool:
    """Tell whether a file is there and says something else than the package's."""
    return Path(path).exists() and list(lines(Path(path))) != list(lines(Path(original)))


def time_service() -> str:
    """Name the service that keeps the clock already."""
    installed = output("dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\n", *TIME_SERVICES)
    return next((line.split()[1] for line in installed.splitlines() if line.startswith("installed ")), "")


def main() -> None:
    asked = json.load(sys.stdin)
    told = {
        "ssh": ssh(),
        "listeners": listeners(),
        "firewall": {
            "on": any(chain["table"] == asked["table"] for chain in chains()),
            "other": foreign_firewall(asked["table"]),
            "unit": Path(asked["unit"]).exists(),
        },
        "undo_waits": output("systemctl", "is-active", asked["undo"]).strip() == "active",
        "kernel": kernel(asked["kernel"]),
        "container": bool(output("systemd-detect-virt", "--container").strip() not in ("", "none")),
        "time": time_service(),
        "journal_elsewhere": any("=" in line for line in lines(Path("/etc/systemd/journald.conf"))),
        "upgrades_elsewhere": is_changed(
            "/etc/apt/apt.conf.d/50unattended-upgrades", "/usr/share/unattended-upgrades/50unattended-upgrades"
        ),
        "packages": output("dpkg-query", "--show", "--showformat=${Package} ", "unattended-upgrades").split(),
    }
    json.dump(told, sys.stdout)


main()
