"""What the pages in docs/guides tell their readers to write and to run; `guides.py FOLDER` does it, each in a folder.

A block that begins with ```LANGUAGE PATH is a file, and one with ```console run is to be run; all others are not tried.
The inventory is the one that init writes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "docs/guides"
BLOCK = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INIT = re.compile(r"`ansible-playbook groundwork\.django\.init ([^`]+)`")
# What only the reader knows; the pages say so.
BY_HAND = {
    "environment": {"env"},
    "file-configured": {"files"},
    "wagtail": {"settings_overrides"},
}


class Guide(NamedTuple):
    name: str
    init: str
    blocks: list[tuple[str, str]]

    @property
    def variables(self) -> dict[str, Any]:
        found: dict[str, Any] = yaml.safe_load(dict(self.blocks)["inventory.yml"])["all"]["vars"]
        return found

    @property
    def app(self) -> tuple[str, dict[str, Any]]:
        (found,) = self.variables["django_apps"].items()
        name, app = found
        return name, app


def guides() -> list[Guide]:
    """Return the pages, each with its files and commands in their order."""
    return [
        Guide(page.stem, " ".join(INIT.findall(text)), [(path, text) for _language, path, text in BLOCK.findall(text)])
        for page in sorted(PAGES.glob("*.md"))
        for text in [page.read_text()]
    ]


def play(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ansible-playbook", *words],
        cwd=cwd,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".cache/collections")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def follow(guide: Guide, folder: Path) -> None:
    for path, text in guide.blocks:
        if path == "run":
            subprocess.run(["sh", "-euc", text], cwd=folder, check=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)
    done = play("groundwork.django.init", *guide.init.split(), "-e", "directory=written", cwd=folder)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def written(guide: Guide, folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder / guide.name / "written/group_vars/all.yml").read_text())
    return found


def together(folder: Path) -> dict[str, Any]:
    """Return the variables that init has written and readers have completed, for one server."""
    found: dict[str, Any] = {"django_apps": {}}
    for guide in guides():
        name, app = guide.app
        variables = written(guide, folder)
        apps = variables.pop("django_apps")
        apps[name] |= {key: app[key] for key in BY_HAND.get(guide.name, ())}
        for file in apps[name].get("files", []):
            file["template"] = str(folder / guide.name / file["template"])
        found["django_apps"] |= apps
        found |= variables
    return found


def main() -> None:
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    for guide in guides():
        (folder / guide.name).mkdir(parents=True)
        follow(guide, folder / guide.name)
    (folder / "variables.yml").write_text(yaml.safe_dump(together(folder)))


if __name__ == "__main__":
    main()
