"""Pebble behind limits, which it has none of: everything is passed on, but orders only while /run/limits is not there.

limits.py CERTIFICATE KEY
"""

from __future__ import annotations

import http.client
import http.server
import json
import ssl
import sys
from pathlib import Path

LIMITED = Path("/run/limits")
TRUSTING = ssl.create_default_context()
TRUSTING.check_hostname, TRUSTING.verify_mode = False, ssl.CERT_NONE
PROBLEM = {
    "type": "urn:ietf:params:acme:error:rateLimited",
    "detail": "too many certificates already issued for this exact set of identifiers",
    "status": 429,
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/order-plz" and LIMITED.exists():
            headers = {"Content-Type": "application/problem+json", "Retry-After": "7200"}
            self.answer(429, list(headers.items()), json.dumps(PROBLEM).encode())
            return
        # Pebble makes its URLs of the Host that it is asked for, and only that is signed.
        pebble = http.client.HTTPSConnection("127.0.0.1", 14000, context=TRUSTING)
        pebble.request(self.command, self.path, body, dict(self.headers))
        found = pebble.getresponse()
        self.answer(found.status, found.getheaders(), found.read())

    do_GET = do_HEAD = do_POST  # noqa: N815

    def answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name not in ("Content-Length", "Date", "Transfer-Encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    server = http.server.ThreadingHTTPServer(("", 14001), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
