# Managed by Ansible (groundwork.django.gunicorn): changes made here are overwritten.
# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What stands in front of a Django project in each process of gunicorn; the configuration of gunicorn loads it.

A path says whether the project's databases and caches answer. No middleware, no redirect and no check of the host
name is in the way. And WebSockets are closed in order when the process is to stop, while requests may finish.
"""

from __future__ import annotations

import asyncio
import importlib
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

SECONDS = 3
PROBE = "groundwork-health"
# The status of a WebSocket whose server stops: RFC 6455, 7.4.1.
GOING_AWAY = 1001

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
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
    questions: list[tuple[str, Callable[[Any], None], Any, str]]
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


class Retirement:
    """Ends once gunicorn has told its process to stop."""

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.watching: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        if self.watching is None:
            self.watching = asyncio.create_task(self.watch())
        await asyncio.shield(self.watching)

    async def watch(self) -> None:
        while self.worker.alive:  # noqa: ASYNC110
            await asyncio.sleep(0.5)  # gunicorn tells nobody; it can only be looked up


def closing(receive: Receive, send: Send, retirement: Retirement) -> Receive:
    """Give the project its messages, and in the end one that the WebSocket is closed; its visitor is told as well."""

    async def receive_until_the_end() -> Message:
        message, end = asyncio.ensure_future(receive()), asyncio.ensure_future(retirement())
        await asyncio.wait({message, end}, return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if message.done():
            return message.result()
        message.cancel()
        await send({"type": "websocket.close", "code": GOING_AWAY})
        return {"type": "websocket.disconnect", "code": GOING_AWAY}

    return receive_until_the_end


def wsgi(project: Callable[..., Any], path: str) -> Callable[..., Any]:
    health = Health()

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        if environ["PATH_INFO"] != path:
            return project(environ, start_response)
        status, headers, body = health.answer()
        start_response(status, headers)
        return [body]

    return application


def asgi(project: Callable[..., Any], path: str, worker: Any) -> Callable[..., Any]:
    """Without a path, the project has one of its own."""
    health, retirement = Health(), Retirement(worker)

    async def application(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await project(scope, closing(receive, send, retirement), send)
        elif scope["type"] == "http" and scope["path"] == path:
            status, headers, body = await asyncio.to_thread(health.answer)
            encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
            await send({"type": "http.response.start", "status": int(status.split()[0]), "headers": encoded})
            await send({"type": "http.response.body", "body": body})
        else:
            await project(scope, receive, send)

    return application
