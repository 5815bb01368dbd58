# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Tries the repositories before anything that is in use changes: each must open, or be empty.

Standard input is {"files": [{"path", "content"}], "repositories": [{"name", "number"}], "databases", "media"}, with the
files that the role is about to write. Standard output says what is wrong.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

BOUND = ["timeout", "--kill-after=5", "60"]
NOT_THERE = {"pgbackrest": 1, "restic": 10}
OTHER_KEY = 95
NOT_THERE_BEFORE_0_17 = "Is there a repository at the following location?"


def refused(program: str, command: list[str], environment: dict[str, str]) -> str:
    """Return why a program cannot get in, or nothing. What it prints may be secret."""
    done = subprocess.run(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **environment},
        cwd="/",
        text=True,
        check=False,
    )
    if done.returncode in (0, NOT_THERE[program]) or NOT_THERE_BEFORE_0_17 in done.stderr:
        return ""
    if program == "pgbackrest" and done.returncode == OTHER_KEY:
        return "it was made with another backups_encryption_key"
    if done.returncode in (124, 137):
        return f"{program} had no answer within 60 seconds"
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    telling = [line for line in lines if "ERROR: " in line or "Fatal: " in line]
    return " ".join(telling or lines[-1:])[:600] or f"{program} ended with {done.returncode}"


def main() -> None:
    given = json.load(sys.stdin)
    os.umask(0o022)
    paths = [file["path"] for file in given["files"]]
    with tempfile.TemporaryDirectory(prefix="backups-") as folder:
        owner = "postgres" if given["databases"] else "root"
        shutil.chown(folder, group=owner)
        Path(folder).chmod(0o750)
        for file in given["files"]:
            content = file["content"]
            for path in paths:  # they name each other
                content = content.replace(path, folder + path)
            copy = Path(folder + file["path"])
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch(mode=0o400)
            copy.write_text(content)
            shutil.chown(copy, owner)
        for repository in given["repositories"]:
            name, reason = repository["name"], ""
            if given["databases"]:
                command = ["runuser", "-u", owner, "--", *BOUND, "pgbackrest", f"--config={folder}/etc/pgbackrest.conf"]
                command += ["--log-level-console=off", "--log-level-stderr=error", "--stanza=main"]
                command += [f"--repo={repository['number']}", "repo-get", "--ignore-missing"]
                reason = refused("pgbackrest", [*command, "archive/main/archive.info"], {})
            if given["media"] and not reason:
                access = json.loads(Path(f"{folder}/etc/backups/repositories/{name}.json").read_text())
                environment = {"RESTIC_PASSWORD_FILE": f"{folder}/etc/backups-media.key", **access["environment"]}
                command = [*BOUND, "restic", "--no-cache", *access["arguments"], "cat", "config"]
                reason = refused("restic", command, environment)
            if reason:
                print(f"The repository {name} cannot be used: {reason}")


if __name__ == "__main__":
    main()
