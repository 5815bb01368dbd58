"""Static files are compressed when they are new, and only then."""

from __future__ import annotations

import gzip
import importlib.util
import os
import sys
import types
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles/django_app/files/compress.py"
STYLE = "body { margin: 0 }\n" * 100


@pytest.fixture
def compress(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> types.ModuleType:
    """Load the program, with a brotli that only Debian has."""
    monkeypatch.setitem(sys.modules, "brotli", types.SimpleNamespace(compress=lambda content: b"br" + content))
    specification = importlib.util.spec_from_file_location("compress", PROGRAM)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    monkeypatch.setattr(sys, "argv", ["compress.py", str(tmp_path / "new"), str(tmp_path / "published")])
    return module


def put(path: Path, content: str = STYLE, time: int = 1000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (time, time))
    return path


def test_a_new_file_gets_both_forms_as_old_as_itself(compress: types.ModuleType, tmp_path: Path) -> None:
    style = put(tmp_path / "new/css/app.css")
    compress.main()
    assert gzip.decompress(Path(f"{style}.gz").read_bytes()).decode() == STYLE
    assert Path(f"{style}.br").read_text() == "br" + STYLE
    assert {path.stat().st_mtime for path in style.parent.iterdir()} == {1000}


@pytest.mark.parametrize(("name", "content"), [("photo.png", STYLE), ("small.css", "body {}"), ("empty.js", "")])
def test_what_would_not_become_smaller_is_left_alone(
    compress: types.ModuleType, tmp_path: Path, name: str, content: str
) -> None:
    put(tmp_path / "new" / name, content)
    compress.main()
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_what_was_published_before_is_taken_over(compress: types.ModuleType, tmp_path: Path) -> None:
    put(tmp_path / "published/app.css", time=500)
    put(tmp_path / "published/app.css.br", "done", 500)
    put(tmp_path / "published/changed.css", "other" * 1000, 500)
    put(tmp_path / "published/changed.css.br", "done", 500)
    style, changed = put(tmp_path / "new/app.css"), put(tmp_path / "new/changed.css", STYLE * 2)
    compress.main()
    assert Path(f"{style}.br").read_text() == "done"
    assert gzip.decompress(Path(f"{style}.gz").read_bytes()).decode() == STYLE
    assert {Path(f"{style}{form}").stat().st_mtime for form in ("", ".br", ".gz")} == {500}
    assert Path(f"{changed}.br").read_text() == "br" + STYLE * 2
    assert changed.stat().st_mtime == 1000


def test_two_names_of_one_content_are_compressed_once(compress: types.ModuleType, tmp_path: Path) -> None:
    put(tmp_path / "new/app.0123456789ab.css")
    put(tmp_path / "new/app.css", time=2000)
    compress.main()
    for form in (".br", ".gz"):
        first, second = (tmp_path / f"new/{name}{form}" for name in ("app.css", "app.0123456789ab.css"))
        assert first.samefile(second)
        assert first.stat().st_mtime == (tmp_path / "new/app.css").stat().st_mtime


def test_links_of_the_project_lead_nowhere(compress: types.ModuleType, tmp_path: Path) -> None:
    secret = put(tmp_path / "secret/key.txt")
    (tmp_path / "new").mkdir()
    (tmp_path / "new/key.txt").symlink_to(secret)
    (tmp_path / "new/folder").symlink_to(secret.parent)
    put(tmp_path / "new/app.css")
    (tmp_path / "new/app.css.br").symlink_to(tmp_path / "victim")
    compress.main()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "app.css", "app.css.br", "app.css.gz", "folder", "key.txt",
    ]  # fmt: skip
    assert not (tmp_path / "victim").exists()
    assert [path.name for path in secret.parent.iterdir()] == ["key.txt"]


def test_static_files_that_are_elsewhere_stay_as_they_are(compress: types.ModuleType, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/app.css")
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    compress.main()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["app.css"]
