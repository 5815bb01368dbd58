"""A visitor of a test site: asks by name, trusts one certificate, keeps cookies."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
import uuid
from typing import NamedTuple
from urllib.parse import urlencode

Headers = dict[str, str]


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")


class Browser:
    """One visitor of one site, which is `domain` at `address`."""

    def __init__(self, domain: str, address: str, certificate: str) -> None:
        self.domain, self.address = domain, address
        self.trust = ssl.create_default_context(cadata=certificate)
        self.cookies: dict[tuple[str, str], str] = {}  # by path and name

    def ask(self, method: str, path: str, body: bytes | None = None, headers: Headers | None = None) -> Answer:
        connection = http.client.HTTPSConnection(self.domain, timeout=30)
        plain = socket.create_connection((self.address, 443), timeout=30)
        connection.sock = self.trust.wrap_socket(plain, server_hostname=self.domain)
        cookies = self.cookies_for(path.partition("?")[0])
        sent = {"Referer": f"https://{self.domain}/", **({"Cookie": cookies} if cookies else {}), **(headers or {})}
        started = time.monotonic()
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read(), time.monotonic() - started)
        finally:
            connection.close()
        for line in response.headers.get_all("Set-Cookie") or []:
            # SimpleCookie refuses attributes that it does not know, such as Partitioned.
            name, _, value = line.partition(";")[0].partition("=")
            of = re.search(r";\s*path=([^;]+)", line, re.IGNORECASE)
            self.cookies[of[1] if of else "/", name] = value
        return answer

    def cookies_for(self, page: str) -> str:
        """Return those for a page; of the same name, the one with the longest path is the first (RFC 6265, 5.4)."""
        there = [of for of in self.cookies if f"{page}/".startswith(f"{of[0].rstrip('/')}/")]
        return "; ".join(f"{of[1]}={self.cookies[of]}" for of in sorted(there, key=lambda of: -len(of[0])))

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, path: str, fields: dict[str, str], upload: tuple[str, str, bytes] | None = None) -> Answer:
        """Fill in the form at `path` and send it; `upload` is the field, the file name and the content."""
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', self.get(path).text)
        fields = {"csrfmiddlewaretoken": token.group(1) if token else "", **fields}
        if upload is None:
            kind = "application/x-www-form-urlencoded"
            return self.ask("POST", path, urlencode(fields).encode(), {"Content-Type": kind})
        boundary = uuid.uuid4().hex
        parts = [f'name="{name}"\r\n\r\n{value}'.encode() for name, value in fields.items()]
        field, filename, content = upload
        parts.append(f'name="{field}"; filename="{filename}"\r\n\r\n'.encode() + content)
        body = b"".join(f"--{boundary}\r\nContent-Disposition: form-data; ".encode() + part + b"\r\n" for part in parts)
        body += f"--{boundary}--\r\n".encode()
        return self.ask("POST", path, body, {"Content-Type": f"multipart/form-data; boundary={boundary}"})
