"""Answer each request with what came in, on unix sockets, over connections that stay open."""

from __future__ import annotations

import http.server
import json
import os
import platform
import socketserver
import sys
import threading
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
HEADERS = {
    "/django": POLICIES,
    "/framed": {"Content-Security-Policy": "frame-ancestors https://partner.example.net"},
    "/busy": {"Retry-After": "7"},
    "/moved": {"Location": "/"},
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
        seen |= {"host": platform.node(), "socket": self.server.server_address}
        if self.path.startswith("/slow"):
            time.sleep(4 if "very" in self.path else 1)
        if self.path.startswith("/die"):
            print(self.command, self.path, file=sys.stderr, flush=True)
            self.close_connection = True
        elif self.headers.get("Upgrade") == "websocket":
            self.upgrade()
        elif self.path == "/drip":
            self.drip()
        else:
            self.answer((json.dumps(seen) + "\n").encode() + (b" " * 2000 if self.path == "/long" else b""))

    def answer(self, body: bytes) -> None:
        self.send_response(STATUS.get(self.path, 200))
        headers = {"Content-Type": "application/json", "Set-Cookie": "sessionid=1; Secure"}
        headers |= HEADERS.get(self.path, {})
        if self.path.startswith("/hand-out/"):
            headers |= {"X-Accel-Redirect": self.path.removeprefix("/hand-out"), "Content-Type": ""}
        if self.path.endswith("?page"):
            headers["Content-Type"] = "text/html"
        if self.path.endswith("?named"):
            headers |= {"Content-Disposition": 'inline; filename="page.html"', "Cache-Control": "max-age=5"}
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def upgrade(self) -> None:
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "upgrade")
        self.end_headers()
        self.close_connection = True
        self.wfile.write(f"{self.server.server_address}:".encode() + self.connection.recv(100))

    def drip(self) -> None:
        """Say something, and the rest a moment later."""
        self.send_response(200)
        self.send_header("X-Accel-Buffering", "no")
        self.send_header("Content-Length", "2")
        self.end_headers()
        for drop in (b"1", b"2"):
            self.wfile.write(drop)
            time.sleep(1)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815


class Server(socketserver.ThreadingUnixStreamServer):
    request_queue_size = 512
    daemon_threads = True

    def get_request(self) -> tuple[Any, Any]:
        request, _ = super().get_request()
        return request, ("nginx", 0)  # http.server expects the address of a client


if __name__ == "__main__":
    os.umask(0)
    for path in sys.argv[1:]:
        if os.path.exists(path):  # noqa: PTH110
            os.unlink(path)  # noqa: PTH108
        threading.Thread(target=Server(path, Handler).serve_forever).start()
