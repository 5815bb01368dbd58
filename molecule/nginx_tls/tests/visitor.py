"""Ways to visit a site, shared by the tests of this scenario."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from pathlib import Path
from typing import Any, NamedTuple

TLS = Path("/etc/nginx/tls")


class Answer(NamedTuple):
    status: int
    headers: list[tuple[str, str]]
    body: str

    def all(self, name: str) -> list[str]:
        return [value for header, value in self.headers if header == name]

    def one(self, name: str) -> str | None:
        values = self.all(name)
        assert len(values) < 2, f"{name} is set more than once: {values}"
        return values[0] if values else None


def parse(text: str) -> Answer:
    head, _, body = text.replace("\r", "").partition("\n\n")
    status, *lines = head.splitlines()
    headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    return Answer(int(status.split()[1]), headers, body)


def fetch(host: Any, url: str, *options: str, authority: str = "shop.crt") -> Answer:
    """Visit with curl, as a browser that trusts the certificate."""
    words = " ".join(f"'{word}'" for word in (*options, url))
    trust = f"--cacert {TLS / authority}"
    return parse(host.check_output(f"curl -sSi --path-as-is --connect-to ::127.0.0.1: {trust} {words}"))


def seen(answer: Answer) -> dict[str, list[str]]:
    """What the application saw of a request, by header."""
    headers: dict[str, list[str]] = {}
    for name, value in json.loads(answer.body)["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    return headers


def connect(address: str, name: str | None = None) -> socket.socket:
    """Open a raw connection, with TLS if there is a name to ask for."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((address, 443 if name else 80), timeout=40)
    return context.wrap_socket(plain, server_hostname=name) if name else plain


def talk(address: str, request: str | bytes, name: str | None = None) -> bytes:
    """Say something over a raw connection, and return all that comes back."""
    with connect(address, name) as connection:
        received = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(request.encode() if isinstance(request, str) else request)
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(65536):
                received += part
        return received
