"""A private package index with one package, `ours`, in two versions, for who knows the login in the file beside it."""

from __future__ import annotations

import base64
import functools
import http.server
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOGIN = base64.b64encode((HERE / "login").read_bytes()).decode()
# What each version requires.
VERSIONS = {"1.0": "", "2.0": "Requires-Dist: whitenoise>6.9.0\n"}


def content(version: str, requires: str) -> dict[str, str]:
    folder = f"ours-{version}.dist-info"
    files = {
        "ours.py": "SECRET_RECIPE = 'flour'\n",
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: ours\nVersion: {version}\n{requires}",
        f"{folder}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{folder}/RECORD"
    return {**files, record: "".join(f"{each},,\n" for each in (*files, record))}


class Handler(http.server.SimpleHTTPRequestHandler):
    def send_head(self) -> Any:
        if self.headers.get("Authorization") != f"Basic {LOGIN}":
            self.send_error(401)
            return None
        return super().send_head()


def main() -> None:
    folder = HERE / "site/simple/ours"
    folder.mkdir(parents=True, exist_ok=True)
    for version, requires in VERSIONS.items():
        with zipfile.ZipFile(folder / f"ours-{version}-py3-none-any.whl", "w") as wheel:
            for name, text in content(version, requires).items():
                wheel.writestr(name, text)
    handler = functools.partial(Handler, directory=str(HERE / "site"))
    http.server.ThreadingHTTPServer(("", 8099), handler).serve_forever()


if __name__ == "__main__":
    main()
