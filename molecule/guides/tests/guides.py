"""What the pages in docs/guides tell their readers to write and to run; `guides.py FOLDER` does it, each in a folder.

A block that begins with ```LANGUAGE PATH is a file, and one with ```console run is to be run; all others are not tried.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import yaml

PAGES = Path(__file__).resolve().parents[3] / "docs/guides"
BLOCK = re.compile(r"^```(\w+) (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Guide(NamedTuple):
    name: str
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
        Guide(page.stem, [(path, text) for _language, path, text in BLOCK.findall(page.read_text())])
        for page in sorted(PAGES.glob("*.md"))
    ]


def follow(guide: Guide, folder: Path) -> None:
    for path, text in guide.blocks:
        if path == "run":
            subprocess.run(["sh", "-euc", text], cwd=folder, check=True)
        else:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text)


def together(folder: Path) -> dict[str, Any]:
    """Return the variables of all guides, for one server."""
    apps, others = {}, dict[str, Any]()
    for guide in guides():
        name, app = guide.app
        # As it is seen from the folder in which a reader stands.
        here = folder / guide.name
        files = [{**file, "template": str(here / file["template"])} for file in app.get("files", [])]
        apps[name] = {**app, "source": str(here / app["source"]), "files": files}
        others.update(guide.variables)
    del others["ansible_user"]
    return {**others, "django_apps": apps}


def main() -> None:
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    for guide in guides():
        (folder / guide.name).mkdir(parents=True)
        follow(guide, folder / guide.name)
    (folder / "variables.yml").write_text(yaml.safe_dump(together(folder)))


if __name__ == "__main__":
    main()
