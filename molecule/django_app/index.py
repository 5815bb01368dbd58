"""A private package index with one package, `ours`, for who knows the login in the file beside it."""

from __future__ import annotations

import base64
import functools
import http.server
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LOGIN = base64.b64encode((HERE / "login").read_bytes()).decode()
CONTENT = {
    "ours.py": "SECRET_RECIPE = 'flour'\n",
    "ours-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: ours\nVersion: 1.0\n",
    "ours-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}


class Handler(http.server.SimpleHTTPRequestHandler):
    def send_head(self) -> Any:
        if self.headers.get("Authorization") != f"Basic {LOGIN}":
            self.send_error(401)
            return None
        return super().send_head()


def main() -> None:
    folder = HERE / "site/simple/ours"
    folder.mkdir(parents=True, exist_ok=True)
    record = "ours-1.0.dist-info/RECORD"
    with zipfile.ZipFile(folder / "ours-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {**CONTENT, record: "".join(f"{each},,\n" for each in (*CONTENT, record))}.items():
            wheel.writestr(name, text)
    handler = functools.partial(Handler, directory=str(HERE / "site"))
    http.server.ThreadingHTTPServer(("", 8099), handler).serve_forever()


if __name__ == "__main__":
    main()
