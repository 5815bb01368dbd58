# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what tells how a project is deployed, on the control node; plugins/module_utils/_project.py understands it.

Reads a JSON object from standard input and answers with one on standard output:

    in:   source: a directory, or the URL of a git repository; git: which of them
    out:  texts: files by their path; version and kind: its name, and whether it is a tag or a branch   or   error
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path

from pack import ProjectError, files, git, login_for_http, without_login, without_password

LONGEST, MOST = 200_000, 500
LEFT_OUT = re.compile(r"(^|/)(\..*|__pycache__|node_modules|site-packages|migrations|tests?|v?env|media)/")
# Read whatever is in them. Other Python files are, if they look as if they were settings or named them.
OF_INTEREST = re.compile(
    r"(.*/)?((manage|wsgi|asgi|celery\w*|production|prod)\.py|uv\.lock|poetry\.lock|Pipfile(\.lock)?|py(project|lock)\.toml"
    r"|setup\.py|environment\.ya?ml|([\w.-]*requirements[\w.-]*|requirements/[\w.-]+)\.txt)"
)
TELLING = re.compile(r"INSTALLED_APPS|SECRET_KEY|DATABASES|DJANGO_SETTINGS_MODULE|\benv|getenv|Celery\(|import \*")
RELEASE = re.compile(r"([A-Za-z]+[-_/])*v?\d+(\.\d+)*")


def newest(url: str) -> dict[str, str]:
    """Name what to deploy of a repository: its newest release, or its default branch where there is none."""
    tags = re.findall(r"refs/tags/(.+)", git("ls-remote", "--tags", "--refs", "--sort=-version:refname", url))
    for tag in tags:
        if RELEASE.fullmatch(tag):
            return {"version": tag, "kind": "tag"}
    head = re.match(r"ref: refs/heads/(\S+)\s+HEAD", git("ls-remote", "--symref", url, "HEAD"))
    if not head:
        raise ProjectError("it has no tag and no default branch")
    return {"version": head.group(1), "kind": "branch"}


def texts(root: Path) -> dict[str, str]:
    """Return the files of interest, of too many those in the upper folders."""
    found: dict[str, str] = {}
    # What an outer checkout ignores as a whole is taken as it lies there.
    names = files(root) or files(root, honour_git=False)
    for name in sorted(names, key=lambda name: (name.count("/"), name)):
        path = root / name
        wanted = OF_INTEREST.fullmatch(name)
        if len(found) == MOST or LEFT_OUT.search(name) or not (wanted or name.endswith(".py")):
            continue
        if path.is_file():
            with path.open(errors="replace") as file:
                text = file.read(LONGEST)
            if wanted or TELLING.search(text):
                found[name] = text
    return found


def read(source: str, *, remote: bool) -> dict[str, object]:
    if not remote:
        return {"texts": texts(Path(source)), "version": "", "kind": ""}
    url = without_login(source)
    with login_for_http(source), tempfile.TemporaryDirectory() as folder:
        version = newest(url)
        git("clone", "--quiet", "--depth=1", "--branch", version["version"], "--", url, folder)
        return {"texts": texts(Path(folder)), **version}


def main() -> None:
    request = json.load(sys.stdin)
    try:
        answer = read(request["source"], remote=request["git"])
    except (ProjectError, OSError) as error:
        answer = {"error": without_password(str(error))}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
