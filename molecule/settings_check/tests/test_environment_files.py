"""What a service gets from its environment files is what the module takes it for."""

from __future__ import annotations

import base64
import json
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "molecule" / "shared")]

import envfiles  # shared by the scenarios, not installed

from plugins.module_utils._settings_check import envfile

COUNT = 10_000


@pytest.fixture(scope="module")
def systemd(host: Any) -> Any:
    """Ask systemd on the host about all files, in one go."""
    program = base64.b64encode(zlib.compress(Path(envfiles.__file__).read_bytes())).decode()
    unpack = f"import base64, zlib; exec(zlib.decompress(base64.b64decode('{program}')).decode())"
    answers = json.loads(host.check_output(f'python3 -c "{unpack}" {COUNT}'))
    assert answers["digest"] == envfiles.digest(COUNT), "the host generates other files than this machine"
    return answers


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("envfiles")
    for seed in range(COUNT):
        (folder / envfiles.name_of(seed)).write_bytes(envfiles.content_of(seed))
    return folder


def test_a_service_gets_what_we_read_from_ten_thousand_files(systemd: Any, folder: Path) -> None:
    batches = envfiles.batches(COUNT)
    assert len(systemd["batches"]) == len(batches)
    disagreements = []
    names = 0
    for files, actual in zip(batches, systemd["batches"]):
        ours = envfile.read([file.replace(str(envfiles.FOLDER), str(folder)) for file in files], systemd["version"])
        theirs = {name: value for name, value in (actual or {}).items() if name not in systemd["without_files"]}
        names += len(theirs)
        disagreements += [
            (name, ours.variables.get(name), theirs.get(name))
            for name in {*ours.variables, *theirs}
            if ours.variables.get(name) != theirs.get(name)
        ]
    assert disagreements == []
    assert names > COUNT, "the files have too little in them to prove anything"


def test_systemd_starts_nothing_with_a_file_that_we_refuse(systemd: Any) -> None:
    accepted = [is_accepted(envfiles.content_of(seed), systemd["version"]) for seed in range(100)]
    assert accepted == systemd["accepted_alone"]
    assert 0 < accepted.count(False) < 50


def is_accepted(content: bytes, version: int) -> bool:
    try:
        envfile.parse(content, "/etc/shop/env", version)
    except envfile.EnvFileError:
        return False
    return True
