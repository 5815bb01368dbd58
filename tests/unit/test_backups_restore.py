"""What a restore holds back meanwhile is let go again, whatever happens, and what was there is kept."""

from __future__ import annotations

import importlib
import json
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


@pytest.mark.parametrize("mounted", [False, True])
def test_a_directory_is_replaced_where_it_is_and_what_was_there_is_kept(
    restore: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mounted: bool
) -> None:
    media = tmp_path / "media"
    monkeypatch.setattr(Path, "is_mount", lambda path: mounted and path == media)
    media.mkdir()
    place = media.stat().st_ino
    stamps = [f"20261122T12000{second}" for second in range(3)]
    kept: list[str] = []
    for number, stamp in enumerate(stamps):
        staged = restore._folder_for(media, stamp) / "srv/shop/media"  # noqa: SLF001 - where the engine puts it
        staged.mkdir(parents=True)
        (staged / f"{number}.txt").touch()
        kept += restore._swap_directory(media, staged, stamp)  # noqa: SLF001 - nothing else replaces directories
    # The first was empty, and leaves nothing to keep.
    assert [sorted(entry.name for entry in Path(old).iterdir()) for old in kept] == [["0.txt"], ["1.txt"]]
    assert [entry.name for entry in media.iterdir() if not entry.name.startswith(".")] == ["2.txt"]
    assert not list(tmp_path.rglob("*restored*"))
    assert not mounted or media.stat().st_ino == place


def test_what_one_call_holds_another_one_lets_go(restore: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def systemctl(*command: str, **_options: Any) -> str:
        calls.append(command[1:])
        return "django-shop-mail.service loaded active running\n"

    monkeypatch.setattr(restore, "run", systemctl)
    flag = tmp_path / "shop.on"
    restore.hold(restore.Request(None, None, False, [], [], ["django-shop-*"], [str(flag)]))  # noqa: FBT003
    assert flag.exists()
    restore.release()
    assert calls[1:] == [("stop", "django-shop-mail.service"), ("start", "django-shop-mail.service")]
    assert not flag.exists()
    restore.release()
    assert len(calls) == 3


def cut_short(*_given: Any) -> None:
    raise KeyboardInterrupt


def test_what_one_call_fetches_another_one_swaps_once(
    restore: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def restic(_repository: Any, *arguments: str, **_options: Any) -> str:
        place = Path(arguments[arguments.index("--target") + 1] + str(tmp_path / "data"))
        place.mkdir(parents=True)
        (place / "saved.txt").touch()
        return ""

    def snapshots(_repository: Any, saved: Any) -> list[dict[str, Any]]:
        found = {"id": "1", "time": "2026-11-22T12:00:00+00:00", "paths": [str(saved.path)]}
        return [found] if saved.name == "shop-data" else []

    settings = importlib.import_module("settings")
    saved = [settings.Saved(f"shop-{name}", tmp_path / name, "shop") for name in ("data", "protected")]
    known = settings.Settings([settings.Repository("store", 1)], None, saved, 14, None, 26, True, tmp_path, "", [])  # noqa: FBT003
    request = restore.Request(None, None, False, [], ["shop-data", "shop-protected"], [], [])  # noqa: FBT003
    monkeypatch.setattr(restore, "RESULT", tmp_path / "restore.json")
    monkeypatch.setattr(restore.media, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(restore.media, "restic", restic)
    monkeypatch.setattr(restore.media, "snapshots", snapshots)
    for each in saved:
        each.path.mkdir()
        (each.path / "living.txt").touch()

    assert restore.fetch(known, request)
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["living.txt"]
    assert restore.swap(known, request)
    told = json.loads(restore.RESULT.read_text())
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["saved.txt"]
    assert [entry.name for entry in Path(*told["kept"]).iterdir()] == ["living.txt"]
    # Of this there was no version as old as that.
    assert [entry.name for entry in (tmp_path / "protected").iterdir()] == ["living.txt"]
    assert not restore.swap(known, request)
    assert "nothing was fetched" in json.loads(restore.RESULT.read_text())["reason"]
    assert [entry.name for entry in (tmp_path / "data").iterdir()] == ["saved.txt"]

    # Nor is it swapped again where a swap was cut short; what it was is gone by then.
    assert restore.fetch(known, request)
    with monkeypatch.context() as cut:
        cut.setattr(restore, "_swap_directory", cut_short)
        with pytest.raises(KeyboardInterrupt):
            restore.swap(known, request)
    assert restore.end(known)
    assert list(tmp_path.glob("*restored*")) == []
    assert not restore.swap(known, request)
    assert "nothing was fetched" in json.loads(restore.RESULT.read_text())["reason"]
