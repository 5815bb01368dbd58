"""What stands in front of a project and says whether it is well."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "roles/gunicorn/files/gunicorn_front.py"


@pytest.fixture
def front() -> Any:
    spec = importlib.util.spec_from_file_location("gunicorn_front", SOURCE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Project:
    """As much of Django as is asked: databases and caches by name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.databases: dict[str, Any] = {"default": Database()}
        self.caches: dict[str, Any] = {"default": Cache()}
        parts = {"django": {}, "django.db": {"connections": self.databases}, "django.core": {}}
        for name, content in {**parts, "django.core.cache": {"caches": self.caches}}.items():
            module = ModuleType(name)
            vars(module).update(content)
            monkeypatch.setitem(sys.modules, name, module)


class Database:
    vendor = "postgresql"
    usable = True
    closed = 0

    def ensure_connection(self) -> None:
        pass

    def is_usable(self) -> bool:
        return self.usable

    def close(self) -> None:
        self.closed += 1


class Cache(dict[str, str]):
    def set(self, name: str, value: str, _seconds: int) -> None:
        self[name] = value


class ForgetfulCache(Cache):
    def set(self, name: str, value: str, _seconds: int) -> None:
        pass


class DummyCache(ForgetfulCache):
    pass


class Worker:
    alive = True


@pytest.fixture
def project(monkeypatch: pytest.MonkeyPatch) -> Project:
    return Project(monkeypatch)


def test_a_project_is_well_and_no_connection_stays(front: Any, project: Project) -> None:
    status, _headers, body = front.Health().answer()
    assert (status, body) == ("200 OK", b"well\n")
    assert project.databases["default"].closed == 1


def test_what_is_not_well_is_named_without_details(front: Any, project: Project) -> None:
    project.databases["default"].usable = False
    project.caches["pages"] = ForgetfulCache()
    project.caches["none"] = DummyCache()
    status, headers, body = front.Health().answer()
    assert status == "503 Service Unavailable"
    assert body == b"database default: ConnectionError, cache pages: ConnectionError\n"
    assert ("Cache-Control", "no-store") in headers


def test_a_silent_service_is_asked_once_and_waited_for_briefly(
    front: Any, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "SECONDS", 0.05)
    answered, asked = threading.Event(), []

    def connect() -> None:
        asked.append(1)
        answered.wait()

    project.databases["default"].ensure_connection = connect
    state = front.Health()
    assert [state.answer()[2] for _again in range(3)] == [b"database default: no answer within 0.05 s\n"] * 3
    assert asked == [1]
    answered.set()
    state.asking.join()
    assert state.answer()[2] == b"well\n"


def test_a_project_without_database_or_without_django_is_well(
    front: Any, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.databases["default"].vendor = "unknown"
    project.databases["default"].usable = False
    assert front.Health().answer()[0] == "200 OK"
    monkeypatch.delitem(sys.modules, "django")
    assert front.Health().answer()[0] == "200 OK"


@pytest.mark.usefixtures("project")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_settings_that_cannot_be_read_do_not_pass_for_well(front: Any) -> None:
    vars(sys.modules["django.db"])["connections"] = None
    assert front.Health().answer()[2] == b"settings: cannot be read\n"


@pytest.mark.usefixtures("project")
def test_other_paths_are_the_project_s(front: Any) -> None:
    application = front.wsgi(lambda _environ, _start: [b"page"], "/-/health")
    started: list[str] = []

    def start(status: str, _headers: Any) -> None:
        started.append(status)

    assert application({"PATH_INFO": "/"}, start) == [b"page"]
    assert application({"PATH_INFO": "/-/health"}, start) == [b"well\n"]
    assert started == ["200 OK"]


@pytest.mark.usefixtures("project")
def test_it_speaks_asgi_as_well(front: Any) -> None:
    reached, sent = [], []

    async def page(scope: Any, _receive: Any, _send: Any) -> None:
        reached.append(scope["type"])

    async def send(message: Any) -> None:
        sent.append(message)

    application = front.asgi(page, "/-/health", Worker())
    for scope in ({"type": "lifespan"}, {"type": "websocket", "path": "/-/health"}, {"type": "http", "path": "/x"}):
        asyncio.run(application(scope, None, send))
    assert reached == ["lifespan", "websocket", "http"]
    asyncio.run(application({"type": "http", "path": "/-/health"}, None, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 200


def test_a_websocket_ends_in_order_when_its_process_is_to_stop(front: Any) -> None:
    worker, sent, got = Worker(), [], []

    async def echo(_scope: Any, receive: Any, _send: Any) -> None:
        while True:
            got.append(await receive())
            if got[-1]["type"] == "websocket.disconnect":
                return
            worker.alive = False

    async def send(message: Any) -> None:
        sent.append(message)

    async def scenario() -> None:
        messages = asyncio.Queue[Any]()
        messages.put_nowait({"type": "websocket.connect"})
        await front.asgi(echo, "", worker)({"type": "websocket", "path": "/chat"}, messages.get, send)

    asyncio.run(scenario())
    assert [message["type"] for message in got] == ["websocket.connect", "websocket.disconnect"]
    assert sent == [{"type": "websocket.close", "code": 1001}]
