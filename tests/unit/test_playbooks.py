"""What the playbooks work out on the control node, with Ansible itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def worked_out(name: str, folder: Path, *words: str) -> str:
    """Return a variable of vars/wiring.yml, as it is for somebody who stands in this folder."""
    ansible = str(Path(sys.executable).with_name("ansible"))
    wiring = f"@{ROOT / 'playbooks/vars/wiring.yml'}"
    command = [ansible, "localhost", "--inventory", "localhost,", "--connection", "local", "--extra-vars", wiring]
    asked = ["--module-name", "ansible.builtin.debug", "--args", f"var={name}", *words]
    done = subprocess.run([*command, *asked], cwd=folder, capture_output=True, text=True, check=True)
    found = re.search(rf'"{name}": "(.*)"', done.stdout)
    assert found, done.stdout
    return found[1]


def test_the_file_of_the_secrets_is_seen_from_where_one_stands(tmp_path: Path) -> None:
    given = worked_out("__django_secrets_file", tmp_path, "--extra-vars", "django_secrets_file=vault/shop.yml")
    assert given == str(tmp_path / "vault/shop.yml")
