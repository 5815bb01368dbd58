# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what tells how a project is deployed, on the control node; plugins/module_utils/_project.py understands it.

Reads a JSON object from standard input and answers with one on standard output:

    in:   source: a directory, or the URL of a git repository; git: which of them
    out:  texts: files by their path; version and kind: its name, and whether it is a tag or a branch   or   error
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

SECONDS = 300
LONGEST, MOST = 200_000, 500
LEFT_OUT = re.compile(r"(^|/)(\..*|__pycache__|node_modules|site-packages|migrations|tests?|v?env|media)/")
# Read whatever is in them. Other Python files are, if they look as if they were settings or named them.
OF_INTEREST = re.compile(
    r"(.*/)?((manage|wsgi|asgi|celery\w*|production|prod)\.py|uv\.lock|poetry\.lock|Pipfile(\.lock)?|py(project|lock)\.toml"
    r"|setup\.py|environment\.ya?ml|([\w.-]*requirements[\w.-]*|requirements/[\w.-]+)\.txt)"
)
TELLING = re.compile(r"INSTALLED_APPS|SECRET_KEY|DATABASES|DJANGO_SETTINGS_MODULE|\benv|getenv|Celery\(|import \*")
RELEASE = re.compile(r"([A-Za-z]+[-_/])*v?\d+(\.\d+)*")


class SourceError(Exception):
    """What the user must put right."""


def git(*words: str) -> str:
    """Run git without ever asking a question; the line that says why it failed is the reason."""
    ssh = os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes -oConnectTimeout=20")
    base = {name: value for name, value in os.environ.items() if not name.startswith("GIT_DIR")}
    try:
        done = subprocess.run(
            ["git", "-c", "advice.detachedHead=false", *words],
            env={**base, "LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": ssh},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise SourceError("git is not installed on this machine") from None
    except subprocess.TimeoutExpired:
        raise SourceError(f"no answer within {SECONDS} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("fatal:", "error:"))]
        raise SourceError((lines or done.stderr.splitlines() or ["git failed"])[0])
    return done.stdout


def newest(url: str) -> dict[str, str]:
    """Name what to deploy of a repository: its newest release, or its default branch where there is none."""
    tags = re.findall(r"refs/tags/(.+)", git("ls-remote", "--tags", "--refs", "--sort=-version:refname", url))
    for tag in tags:
        if RELEASE.fullmatch(tag):
            return {"version": tag, "kind": "tag"}
    head = re.match(r"ref: refs/heads/(\S+)\s+HEAD", git("ls-remote", "--symref", url, "HEAD"))
    if not head:
        raise SourceError("it has no tag and no default branch")
    return {"version": head.group(1), "kind": "branch"}


def names(root: Path) -> list[str]:
    """Name the files that a deployment would take: in a checkout, those that git does not ignore."""
    try:
        listed = git("-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0")
    except SourceError:
        listed = []
    # What an outer checkout ignores as a whole is taken as it lies there.
    return sorted(set(listed) - {""}) or list(walked(root))


def walked(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        here = Path(folder).relative_to(root)
        folders[:] = sorted(name for name in folders if not LEFT_OUT.search(f"{name}/"))
        yield from ((here / name).as_posix() for name in sorted(files))


def texts(root: Path) -> dict[str, str]:
    """Return the files of interest, of too many those in the upper folders."""
    found: dict[str, str] = {}
    for name in sorted(names(root), key=lambda name: (name.count("/"), name)):
        path = root / name
        wanted = OF_INTEREST.fullmatch(name)
        if len(found) == MOST or LEFT_OUT.search(name) or not (wanted or name.endswith(".py")):
            continue
        if path.is_file():
            with path.open(errors="replace") as file:
                text = file.read(LONGEST)
            if wanted or TELLING.search(text):
                found[str(PurePosixPath(name))] = text
    return found


def read(source: str, *, remote: bool) -> dict[str, object]:
    if not remote:
        return {"texts": texts(Path(source)), "version": "", "kind": ""}
    version = newest(source)
    with tempfile.TemporaryDirectory() as folder:
        git("clone", "--quiet", "--depth=1", "--branch", version["version"], "--", source, folder)
        return {"texts": texts(Path(folder)), **version}


def main() -> None:
    request = json.load(sys.stdin)
    try:
        answer = read(request["source"], remote=request["git"])
    except (SourceError, OSError) as error:
        shown = re.sub(r"//[^/@]+@", "//", request["source"])
        answer = {"error": f"{error}".replace(request["source"], shown)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
