#!/usr/bin/env python3
"""Visitors of a test site, so many requests a second, until the end of standard input.

    load.py DOMAIN ADDRESS CERTIFICATE REQUESTS_PER_SECOND [again]

Each visitor keeps a connection and a session. Of ten requests one is a POST of the form, three are pages with a
session, and six ask for the state of the process. Each answer is one line of JSON on standard output. With `again`,
who finds a kept connection closed asks once more over a new one, as browsers do.
"""

from __future__ import annotations

import http.client
import itertools
import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import urlencode

VISITORS = 16
ONE_AT_A_TIME = threading.Lock()
Headers = dict[str, str]


class Visitor(threading.Thread):
    def __init__(self, domain: str, address: str, trust: ssl.SSLContext, pause: float, *, again: bool) -> None:
        super().__init__(daemon=True)
        self.domain, self.address, self.trust, self.pause, self.again = domain, address, trust, pause, again
        self.connection: http.client.HTTPSConnection | None = None
        self.cookies: Headers = {}
        self.token = ""
        self.leaving = threading.Event()

    def run(self) -> None:
        due = time.monotonic()
        for number in itertools.count():
            if self.leaving.is_set():
                return
            self.step(number % 10)
            due = max(due + self.pause, time.monotonic() - 5)
            self.leaving.wait(max(0, due - time.monotonic()))

    def step(self, kind: int) -> None:
        if kind == 1 and self.token:
            fields = {"csrfmiddlewaretoken": self.token, "author": "Ada", "message": "hello"}
            self.ask("POST", "/", urlencode(fields))
        elif kind in (0, 4, 7):
            self.ask("GET", "/")
        else:
            self.ask("GET", "/status/")

    def ask(self, method: str, path: str, body: str | None = None) -> None:
        began = time.time()
        try:
            status, text = self.answer_of_kept(method, path, body)
        except (OSError, http.client.HTTPException) as error:
            self.connection = None
            status, text = 0, f"{type(error).__name__}: {error}"
        found = re.search(r'"release": "[^"]*/([^/"]+)"', text)
        line: dict[str, Any] = {
            "at": began,
            "seconds": time.time() - began,
            "request": f"{method} {path}",
            "status": status,
        }
        line["release"] = found.group(1) if found else ""
        if status not in (200, 302):
            line["said"] = text[:300]
        with ONE_AT_A_TIME:
            print(json.dumps(line), flush=True)

    def answer_of_kept(self, method: str, path: str, body: str | None) -> tuple[int, str]:
        is_kept = self.connection is not None
        try:
            return self.answer(method, path, body)
        except ConnectionError:
            if not (is_kept and self.again):
                raise
        self.connection = None
        return self.answer(method, path, body)

    def answer(self, method: str, path: str, body: str | None) -> tuple[int, str]:
        if self.connection is None:
            self.connection = http.client.HTTPSConnection(self.domain, timeout=30)
            plain = socket.create_connection((self.address, 443), timeout=30)
            self.connection.sock = self.trust.wrap_socket(plain, server_hostname=self.domain)
        headers = {
            "Referer": f"https://{self.domain}/",
            "Cookie": "; ".join("=".join(pair) for pair in self.cookies.items()),
        }
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        self.connection.request(method, path, body=body, headers=headers)
        response = self.connection.getresponse()
        text = response.read().decode(errors="replace")
        for line in response.headers.get_all("Set-Cookie") or []:
            name, _, value = line.partition(";")[0].partition("=")
            self.cookies[name] = value
        self.token = self.cookies.get("csrftoken", "")
        if response.will_close:
            self.connection.close()
            self.connection = None
        return response.status, text


class Answer(NamedTuple):
    at: float
    seconds: float
    request: str
    status: int
    release: str
    said: str = ""


class Traffic:
    """Visitors while the block runs; afterwards their answers."""

    def __init__(self, domain: str, address: str, certificate: Path, rate: int, *, again: bool = False) -> None:
        command = [sys.executable, __file__, domain, address, str(certificate), str(rate), *(["again"] * again)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answers: list[Answer] = []
        self.wanted = rate

    def __enter__(self) -> Traffic:  # noqa: PYI034 (Self is newer than the Python that the linter assumes)
        self.began = time.time()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()
        return self

    def read(self) -> None:
        assert self.process.stdout
        self.answers += (Answer(**json.loads(line)) for line in self.process.stdout)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.reader.join()
        self.process.wait()
        self.seconds = time.time() - self.began

    @property
    def failures(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status not in (200, 302)]

    @property
    def rate(self) -> float:
        return len(self.answers) / self.seconds

    def percentile(self, share: float, since: float = 0, until: float = float("inf")) -> float:
        """The seconds within which that share of the answers came that were asked for in a window."""
        times = sorted(answer.seconds for answer in self.answers if since <= answer.at < until)
        return times[min(int(len(times) * share), len(times) - 1)]


def main() -> None:
    domain, address, certificate, rate, *again = sys.argv[1:]
    trust = ssl.create_default_context(cafile=certificate)
    visitors = [Visitor(domain, address, trust, VISITORS / int(rate), again=bool(again)) for _ in range(VISITORS)]
    for visitor in visitors:
        visitor.start()
        time.sleep(1 / int(rate))
    sys.stdin.read()
    for visitor in visitors:
        visitor.leaving.set()
    for visitor in visitors:
        visitor.join(timeout=30)


if __name__ == "__main__":
    main()
