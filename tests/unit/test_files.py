"""What the module `files` leaves on a disk, and what it says about it."""

from __future__ import annotations

import getpass
import grp
import json
import os
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

from plugins.modules import files

ACCOUNT = {"owner": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name}
TEXT = "# Managed\nport 6379\npassword canary-of-a-secret\n"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the module as Ansible does, and return its answer."""

    def run(*described: dict[str, Any], **settings: Any) -> dict[str, Any]:
        arguments = {"files": [{**ACCOUNT, **file} for file in described]}
        arguments.update({f"_ansible_{name}": value for name, value in settings.items()})
        mask = os.umask(0o022)
        try:
            with patch_module_args(arguments), pytest.raises(SystemExit):
                files.main()
        finally:
            # With Mitogen the next module runs in this process.
            assert os.umask(mask) == 0o022
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return run


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_is_no_longer_listed_goes_from_a_directory_that_is_all_ours(run: Any, tmp_path: Path) -> None:
    folder, kept, secret = tmp_path / "ours", tmp_path / "ours/kept", tmp_path / "ours/secret"
    ours = {"path": str(folder), "state": "directory", "purge": True}
    run(ours, {"path": str(kept), "content": TEXT}, {"path": str(secret), "content": TEXT})
    (folder / "sub").mkdir()
    (tmp_path / "outside").write_text(TEXT)
    (folder / "link").symlink_to(tmp_path / "outside")

    described = (ours, {"path": str(kept), "content": TEXT})
    checked = run(*described, check_mode=True)
    assert checked["written"] == sorted([str(folder / "link"), str(secret)])
    assert "canary" not in json.dumps(checked)
    assert secret.exists()
    assert run(*described)["written"] == checked["written"]
    assert sorted(path.name for path in folder.iterdir()) == ["kept", "sub"]
    assert (tmp_path / "outside").exists()
    assert run(*described)["changed"] is False


def test_a_file_that_should_not_be_there_is_removed_once(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "dropin.conf"
    path.write_text(TEXT)
    described = {"path": str(path), "content": TEXT, "state": "absent"}
    assert run(described, check_mode=True)["written"] == [str(path)]
    assert path.exists()
    answer = run(described, diff=True)
    assert answer["written"] == [str(path)]
    assert answer["diff"]["prepared"] == f"{path}: removed\n"
    assert not path.exists()
    assert run(described)["changed"] is False


def test_files_and_their_directories_are_made_once(run: Any, tmp_path: Path) -> None:
    folder, public, secret = tmp_path / "redis", tmp_path / "redis/redis.conf", tmp_path / "redis/users.acl"
    described = (
        {"path": str(folder), "state": "directory", "mode": "0750"},
        {"path": str(public), "content": TEXT},
        {"path": str(secret), "content": TEXT, "mode": "0400", "diff": False},
    )
    first, second = run(*described), run(*described)
    assert first["changed"] is True
    assert first["written"] == sorted(map(str, (folder, public, secret)))
    assert (mode(folder), mode(public), mode(secret)) == (0o750, 0o644, 0o400)
    assert public.read_text() == secret.read_text() == TEXT
    assert (second["changed"], second["written"], second["restart"]) == (False, [], [])


def test_drift_of_content_and_of_permissions_is_repaired(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    described = {"path": str(path), "content": TEXT, "mode": "0600"}
    run(described)
    for harm in (lambda: path.write_text("other\n"), lambda: path.chmod(0o666), path.unlink):
        harm()
        answer = run(described)
        assert answer["written"] == [str(path)]
        assert str(path) in answer["diff"]["prepared"]
        assert (path.read_text(), mode(path)) == (TEXT, 0o600)


def test_a_link_is_replaced_and_not_followed_to_write(run: Any, tmp_path: Path) -> None:
    (tmp_path / "vendor").write_text("theirs\n")
    (tmp_path / "file").symlink_to(tmp_path / "vendor")
    run({"path": str(tmp_path / "file"), "content": TEXT})
    assert (tmp_path / "vendor").read_text() == "theirs\n"
    assert (tmp_path / "file").read_text() == TEXT


def test_check_mode_shows_what_would_change_and_changes_nothing(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("# Managed\nport 1\n")
    path.chmod(0o600)
    described = ({"path": str(tmp_path / "new"), "state": "directory"}, {"path": str(path), "content": TEXT})
    answer = run(*described, check_mode=True)
    assert answer["written"] == [str(path), str(tmp_path / "new")]
    assert "-port 1\n+port 6379\n" in answer["diff"]["prepared"]
    assert (path.read_text(), mode(path)) == ("# Managed\nport 1\n", 0o600)
    assert not (tmp_path / "new").exists()


def test_check_mode_knows_that_an_account_may_be_made_before(run: Any, tmp_path: Path) -> None:
    described = {"path": str(tmp_path), "state": "directory", "mode": "0700", "owner": "not-yet", "group": "not-yet"}
    answer = run(described, check_mode=True)
    assert answer["written"] == [str(tmp_path)]
    assert f"{tmp_path}: owner -> not-yet\n{tmp_path}: group -> not-yet\n" in answer["diff"]["prepared"]
    assert "failed to look up user not-yet" in run(described)["msg"]


def test_a_secret_is_in_no_part_of_the_answer(run: Any, tmp_path: Path) -> None:
    secret = {"path": str(tmp_path / "secret"), "content": TEXT, "diff": False}
    assert "canary" not in json.dumps(run(secret))
    (tmp_path / "secret").write_text("another canary\n")
    assert "secret: another content, which is not shown" in run(secret, check_mode=True)["diff"]["prepared"]
    assert "canary" not in json.dumps(run(secret))


def test_content_that_is_found_bad_is_not_put_in_place(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("good\n")
    refused = run({"path": str(path), "content": "bad\n", "validate": "grep good %s"})
    assert refused["failed"] is True
    assert f"{path}: the new content is not valid" in refused["msg"]
    assert path.read_text() == "good\n"
    assert run({"path": str(path), "content": "very good\n", "validate": "grep good %s"})["changed"] is True


def test_a_directory_that_is_missing_is_named(run: Any, tmp_path: Path) -> None:
    refused = run({"path": str(tmp_path / "none/file"), "content": TEXT})
    assert str(tmp_path / "none") in refused["msg"]


def test_a_file_needs_content(run: Any, tmp_path: Path) -> None:
    assert "content" in run({"path": str(tmp_path / "file")})["msg"]


NEVER_RAN = "ActiveState=inactive\nInactiveExitTimestamp=\nStateChangeTimestamp=\n"
RUNS = """\
ActiveState=active
InactiveExitTimestamp=Sat 2026-11-21 06:42:38.250000 UTC
StateChangeTimestamp=Sat 2026-11-21 06:42:39.000001 UTC
"""


def test_the_words_of_systemd_are_understood() -> None:
    assert files.parse_unit(NEVER_RAN) == files.Unit(running=False, times={})
    unit = files.parse_unit(RUNS)
    assert unit.running
    assert unit.times["start"] == datetime(2026, 11, 21, 6, 42, 38, 250000, tzinfo=timezone.utc)
    assert unit.times["reload"].microsecond == 1


def test_a_file_that_is_younger_than_its_unit_is_news(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text(TEXT)
    written = datetime.fromtimestamp(path.stat().st_mtime, timezone.utc)
    second = timedelta(seconds=1)
    assert files.is_news(str(path), written - second)
    assert not files.is_news(str(path), written + second)
    assert not files.is_news(str(path), None)
    assert not files.is_news(str(tmp_path / "none"), written)


def test_a_file_that_is_written_elsewhere_gets_its_access_here(run: Any, tmp_path: Path) -> None:
    key = tmp_path / "key"
    described = {"path": str(key), "mode": "0600"}
    assert run(described)["msg"] == f"{key}: there is no such file, and no content for one"
    assert run(described, check_mode=True)["changed"] is False
    key.write_text("made elsewhere\n")
    key.chmod(0o644)
    assert run(described)["written"] == [str(key)]
    assert (key.read_text(), mode(key)) == ("made elsewhere\n", 0o600)
    assert run(described)["changed"] is False
