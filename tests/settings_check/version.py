"""Looks at projects with one version of Django."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from settings_check.interpreters import ROOT
from settings_check.projects import ENVIRONMENT, GOOD_OPTIONS, Case, collect_static, write_project

Finding = dict[str, str]


class Django:
    """One version of Django, with a process that looks at projects."""

    def __init__(self, version: str, python: Path, folder: Path) -> None:
        self.version, self.python = version, python
        self.number = tuple(map(int, version.split(".")))
        # Shared by all projects: the good one has it, and collecting takes a second.
        self.static = folder / "static"
        self.folder = folder
        write_project(folder / "collector", self.number, self.static, Case("collector"))
        collect_static(python, folder / "collector", **ENVIRONMENT)
        self._server = subprocess.Popen(
            [python, "-B", ROOT / "tests/settings_check/serve.py", ROOT / "plugins/module_utils/_settings_check"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def close(self) -> None:
        assert self._server.stdin
        self._server.stdin.close()
        self._server.wait()

    def inspect(self, project: Path, options: dict[str, Any], **environment: str) -> list[Finding]:
        """Everything the rules say about a project."""
        server = self._server
        assert server.stdin
        assert server.stdout
        complete = {**GOOD_OPTIONS, "chdir": str(project), **options}
        variables = {**ENVIRONMENT, **environment}
        server.stdin.write(json.dumps({"project": str(project), "options": complete, "environment": variables}) + "\n")
        server.stdin.flush()
        answer = json.loads(server.stdout.readline())
        assert not answer["skipped"], "\n".join(answer["skipped"])
        findings: list[Finding] = answer["findings"]
        return findings

    def findings(self, case: Case) -> list[Finding]:
        project = self.folder / f"case-{len(list(self.folder.iterdir()))}"
        write_project(project, self.number, self.static, case)
        return self.inspect(project, case.options)
