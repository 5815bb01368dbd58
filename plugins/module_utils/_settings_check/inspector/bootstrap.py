"""The program that the project's interpreter reads from its standard input; a call of `start` is put behind it."""

from __future__ import annotations

import os
import sys


def start(text: str) -> None:
    """Set up what the inspector needs, before anything else of the world is imported, and end without a farewell."""
    result, process = os.dup(1), os.getpid()
    # Whatever the project prints is not taken for a result.
    os.dup2(2, 1)
    # Nor is its folder looked through for modules of Python.
    sys.path[:] = [path for path in sys.path if path]
    import importlib.abc
    import importlib.util
    import json
    from typing import Any

    payload = json.loads(text)

    class Sources(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
        """Imports the package from the text that came along: no file is made, and none needs to be readable."""

        def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> Any:
            if fullname in payload["sources"]:
                return importlib.util.spec_from_loader(fullname, self)
            return None

        def is_package(self, fullname: str) -> bool:
            return bool(fullname == payload["package"])

        def get_source(self, fullname: str) -> Any:
            return payload["sources"][fullname]

    def emit(record: Any) -> None:
        # A child that the project has forked has nothing to tell.
        if os.getpid() != process:
            os._exit(0)
        line = json.dumps(record).encode() + b"\n"
        while line:
            line = line[os.write(result, line) :]

    sys.meta_path.insert(0, Sources())
    for name in payload["sources"]:
        importlib.import_module(name)
    sys.modules[payload["package"] + ".stages"].main(payload["config"], emit)
    # Threads that the project has started are not waited for.
    os._exit(0)
