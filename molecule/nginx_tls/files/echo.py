"""Answer each request with what came in, on a unix socket, over connections that stay open."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import sys
import time
from typing import Any

STATUS = {"/moved": 302, "/missing": 404, "/crash": 500, "/busy": 503}
POLICIES = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "unsafe-none",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'self'",
    "Strict-Transport-Security": "max-age=60",
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    served = 0

    def log_request(self, *_: object) -> None:
        """Say nothing about what went well."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.served += 1
        seen = {"headers": self.headers.items(), "size": len(body), "served_on_this_connection": self.served}
        if self.path.startswith("/slow"):
            time.sleep(4 if "very" in self.path else 1)
        if self.path.startswith("/die"):
            print(self.command, self.path, file=sys.stderr, flush=True)
            self.close_connection = True
            return
        answer = (json.dumps(seen) + "\n").encode()
        if self.headers.get("Upgrade") == "websocket":
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "upgrade")
            self.end_headers()
            self.close_connection = True
            self.wfile.write(b"echo:" + self.connection.recv(100))
            return
        self.send_response(STATUS.get(self.path, 200))
        if self.path == "/busy":
            self.send_header("Retry-After", "7")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer) + (2000 if self.path == "/long" else 0)))
        self.send_header("Set-Cookie", "sessionid=1; Secure")
        if self.path == "/django":
            for name, value in POLICIES.items():
                self.send_header(name, value)
        if self.path == "/framed":
            self.send_header("Content-Security-Policy", "frame-ancestors https://partner.example.net")
        if self.path == "/moved":
            self.send_header("Location", "/")
        self.end_headers()
        self.wfile.write(answer + (b" " * 2000 if self.path == "/long" else b""))

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815


class Server(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 512
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("nginx", 0)  # http.server expects the address of a client


if __name__ == "__main__":
    path = sys.argv[1]
    if os.path.exists(path):  # noqa: PTH110
        os.unlink(path)  # noqa: PTH108
    os.umask(0)
    Server(path, Handler).serve_forever()
