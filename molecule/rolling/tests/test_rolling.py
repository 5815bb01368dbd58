"""A deployment on several servers: one after the other, and none after the first that fails."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import testinfra

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
PROJECT = EPHEMERAL / "project"
testinfra_hosts = ["ansible://site1"]


@pytest.fixture
def other(host: Any) -> Any:
    del host
    return testinfra.get_host("ansible://site2", ansible_inventory=str(EPHEMERAL / "inventory"))


def deploy() -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = ["ansible-playbook", "--inventory", EPHEMERAL / "inventory", "groundwork.django.deploy"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def add(path: str, line: str) -> None:
    with (PROJECT / path).open("a") as file:
        file.write(f"{line}\n")


def record(host: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in host.check_output("cat /srv/guestbook/deployments.log").splitlines()]


def test_the_second_server_is_deployed_to_once_the_first_is_online(host: Any, other: Any) -> None:
    add("guestbook/views.py", "# another version")
    done = deploy()
    assert done.returncode == 0, done.stdout
    first, second = record(host)[-1], record(other)[-1]
    assert (first["outcome"], second["outcome"]) == ("online", "online")
    assert first["to"] == second["to"]
    # Times are whole seconds.
    began = datetime.fromisoformat(second["time"]).timestamp() - second["seconds"]
    assert began > datetime.fromisoformat(first["time"]).timestamp() - 1


def test_a_release_that_fails_on_the_first_server_never_reaches_the_second(host: Any, other: Any) -> None:
    before = record(other)
    add("config/wsgi.py", "import no_such_module_of_ours")
    assert deploy().returncode != 0
    assert record(host)[-1]["outcome"] == "failed"
    assert record(other) == before
    release = before[-1]["to"]
    for server in (host, other):
        assert server.check_output("readlink /srv/guestbook/current") == f"releases/{release}"
        answer = server.check_output("curl -sk --resolve guestbook.test:443:127.0.0.1 https://guestbook.test/status/")
        assert release in answer
    assert other.run(f"test -e /srv/guestbook/releases/{release}").rc == 0
    assert len(other.check_output("ls /srv/guestbook/releases").split()) == len(before)
