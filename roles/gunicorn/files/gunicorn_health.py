# Managed by Ansible (groundwork.django.gunicorn): changes made here are overwritten.
# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A path at which each process of gunicorn says whether the databases and the caches of its Django project answer.

It stands in front of the project: no middleware, no redirect and no check of the host name is in the way. Loaded by the
configuration of gunicorn, so it runs in the project's Python.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Callable
from typing import Any

SECONDS = 3
PROBE = "groundwork-health"

Answer = tuple[str, list[tuple[str, str]], bytes]


class Health:
    """Asks once at a time, however many want to know, and waits no longer than SECONDS."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.asking: threading.Thread | None = None
        self.found: dict[str, str] = {}

    def complaints(self) -> dict[str, str]:
        with self.lock:
            if self.asking is None or not self.asking.is_alive():
                self.found = {}
                self.asking = threading.Thread(target=ask_everything, args=[self.found], daemon=True)
                self.asking.start()
            asking, found = self.asking, self.found
        asking.join(SECONDS)
        return dict(found)

    def answer(self) -> Answer:
        """Return status, headers and body of an answer that tells no more than names."""
        complaints = self.complaints()
        said = ", ".join(f"{name}: {complaint}" for name, complaint in complaints.items()) or "well"
        body = f"{said}\n".encode()
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Health", said),
        ]
        return "503 Service Unavailable" if complaints else "200 OK", headers, body


def ask_everything(found: dict[str, str]) -> None:
    """Ask whatever Django's settings name; at any time, `found` holds what has not answered well."""
    if "django" not in sys.modules:
        return
    found["settings"] = "cannot be read"
    databases = importlib.import_module("django.db").connections
    caches = importlib.import_module("django.core.cache").caches
    questions = [(f"database {name}", ask_database, databases, name) for name in databases]
    questions += [(f"cache {name}", ask_cache, caches, name) for name in caches]
    del found["settings"]
    for label, ask, services, name in questions:
        found[label] = f"no answer within {SECONDS} s"
        try:
            ask(services[name])
            del found[label]
        except Exception as error:  # noqa: BLE001 (whatever it is, that service does not answer)
            found[label] = type(error).__name__


def ask_database(connection: Any) -> None:
    if connection.vendor == "unknown":  # a project without a database
        return
    try:
        connection.ensure_connection()
        if not connection.is_usable():
            raise ConnectionError
    finally:
        connection.close()


def ask_cache(cache: Any) -> None:
    cache.set(PROBE, "well", 60)
    # Some caches are told to hide that their server is away.
    if cache.get(PROBE) != "well" and type(cache).__name__ != "DummyCache":
        raise ConnectionError


def in_front_of_wsgi(project: Callable[..., Any], path: str) -> Callable[..., Any]:
    health = Health()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] != path:
            return project(environ, start_response)
        status, headers, body = health.answer()
        start_response(status, headers)
        return [body]

    return application


def in_front_of_asgi(project: Callable[..., Any], path: str) -> Callable[..., Any]:
    health = Health()

    async def application(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http" or scope["path"] != path:
            await project(scope, receive, send)
            return
        status, headers, body = await asyncio.to_thread(health.answer)
        encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": int(status.split()[0]), "headers": encoded})
        await send({"type": "http.response.body", "body": body})

    return application
