"""What a restore holds back meanwhile is let go again, whatever happens."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles/backups/files/backups"


@pytest.fixture
def restore(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    known = set(sys.modules)
    monkeypatch.syspath_prepend(PROGRAM)
    module = importlib.import_module("restore")
    monkeypatch.setattr(module, "HELD", tmp_path / "held.json")
    yield module
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize("fails", ["stop", "swap", ""])
def test_visitors_come_in_again_and_units_run_again(
    restore: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str
) -> None:
    calls = []

    def systemctl(*command: str, **_options: Any) -> str:
        calls.append(command[1])
        if command[1] == fails:
            raise restore.Failure("it does not stop")
        return "gunicorn-shop@a.service loaded active running\n"

    monkeypatch.setattr(restore, "run", systemctl)
    flag = tmp_path / "shop.on"
    request = restore.Request(None, None, False, ["shop"], [], ["gunicorn-shop@a.service"], [str(flag)])  # noqa: FBT003
    seen = False
    with suppress(restore.Failure), restore._held(request):  # noqa: SLF001 - nothing else stops and starts
        seen = flag.exists()
        if fails == "swap":
            raise restore.Failure("it does not start")
    assert seen is (fails != "stop")
    assert calls == ["list-units", "stop", "start"]
    assert not flag.exists()
    assert not restore.HELD.exists()
