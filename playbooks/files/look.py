# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tell as JSON what a report needs to know of this server. Reads, and changes nothing.

Gets on standard input {"runs": [...], "apps": [{"name", "domain", "root", "socket", "health_path"}...]}, with `app` and
`web` in `runs` where this server has them.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SECONDS = 10


def output(*command: str, given: str | None = None) -> str:
    """Return what a program prints; nothing, where there is none, or none that answers."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(
            command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd="/", input=given
        ).stdout
    return ""


def listeners() -> Iterator[dict[str, Any]]:
    """Return who waits for connections from elsewhere."""
    for line in output("ss", "-Htlnp").splitlines():
        address, port = line.split()[3].rsplit(":", 1)
        program = re.search(r'\(\("([^"]+)"', line)
        if not address.startswith(("127.", "[::1]", "[::ffff:127.")):
            yield {"address": address, "port": int(port), "program": program.group(1) if program else "?"}


def renewals() -> dict[str, dict[str, str]]:
    """Return why certificates could not be had or renewed, by the name of the app."""
    with contextlib.suppress(ValueError):
        told = json.loads(output("/usr/local/sbin/nginx-tls-certificates", "look"))
        return {
            name: {"severity": severity, "reason": reason}
            for key, severity in (("failed", "error"), ("warned", "warning"))
            for name, reason in told[key].items()
        }
    return {}


def certificate(domain: str) -> dict[str, Any]:
    """Return until when the certificate holds that visitors of this server get."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # self-signed ones are looked at, too
    try:
        with (
            socket.create_connection(("127.0.0.1", 443), timeout=SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=domain) as secured,
        ):
            pem = ssl.DER_cert_to_PEM_cert(secured.getpeercert(binary_form=True) or b"")
    except OSError as error:
        return {"error": str(error)}
    said = output("openssl", "x509", "-noout", "-dates", "-checkhost", domain, given=pem)
    dates = dict(re.findall(r"^(not\w+)=(.+)", said, re.MULTILINE))
    if not dates:
        return {"error": "openssl does not read its certificate"}
    return {
        "since": ssl.cert_time_to_seconds(dates["notBefore"]),
        "until": ssl.cert_time_to_seconds(dates["notAfter"]),
        "for_domain": "does match" in said,
    }


class LocalConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SECONDS)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def health(app: dict[str, str]) -> dict[str, Any]:
    connection = LocalConnection(app["socket"])
    try:
        connection.request("GET", app["health_path"], headers={"Host": app["domain"], "X-Forwarded-Proto": "https"})
        answer = connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        return {"status": 0, "said": str(error)}
    else:
        return {"status": answer.status, "said": answer.headers.get("X-Health", answer.reason)}
    finally:
        connection.close()


def release(root: Path) -> str:
    with contextlib.suppress(OSError):
        return (root / "current").readlink().name
    return ""


def last_deployment(root: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError, IndexError):
        last: dict[str, Any] = json.loads((root / "deployments.log").read_text().splitlines()[-1])
        return last
    return {}


def record(path: str) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        read: dict[str, Any] = json.loads(Path(path).read_text())
        return read
    return {}


def backups() -> dict[str, Any]:
    """Return what the services of the backups have noted. To ask a repository may take minutes."""
    state = "/var/lib/backups"
    settings = record("/etc/backups/settings.json")
    runs = {"databases": [f"postgres/{kind}" for kind in ("full", "diff", "incr")], "media": ["media/media"]}
    kept = {"databases": settings.get("cluster"), "media": settings.get("saved")}
    stamps = [path.stat().st_mtime for path in Path(state).glob("*/created-*")]
    return {
        "settings": settings,
        "since": max(stamps, default=None),
        "runs": {
            kind: [found for found in (record(f"{state}/{name}.json") for name in names) if found]
            for kind, names in runs.items()
            if kept[kind]
        },
        "drills": {"databases": record(f"{state}/postgres/drill.json"), "media": record(f"{state}/media/drill.json")},
        "report": record(f"{state}/report.json"),
    }


def failed_units() -> list[str]:
    return [
        line.split()[0] for line in output("systemctl", "list-units", "--failed", "--plain", "--no-legend").splitlines()
    ]


def disks() -> dict[str, int]:
    """Return how full, in percent, the file systems are on which something grows."""
    places = ["/", "/srv", "/srv/backups", "/var/lib", "/var/backups"]
    lines = output("df", "--output=pcent,target", *places).splitlines()[1:]
    return {target: int(used.rstrip("%")) for used, target in (line.split(maxsplit=1) for line in lines)}


def main() -> None:
    asked = json.load(sys.stdin)
    apps: dict[str, dict[str, Any]] = {app["name"]: {} for app in asked["apps"]}
    not_renewed = renewals()
    for app in asked["apps"]:
        root, seen = Path(app["root"]), apps[app["name"]]
        if "app" in asked["runs"]:
            seen |= {"release": release(root), "last_deployment": last_deployment(root), "health": health(app)}
        if "web" in asked["runs"]:
            seen["certificate"] = {**certificate(app["domain"]), "renewal": not_renewed.get(app["name"])}
    found = {
        "now": time.time(),
        "apps": apps,
        "listeners": list(listeners()),
        "backups": backups(),
        "failed_units": failed_units(),
        "disks": disks(),
    }
    json.dump(found, sys.stdout)


main()
