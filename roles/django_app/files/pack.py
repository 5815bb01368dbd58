# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Turn a project into the archive of a release, on the control node.

Reads a JSON object from standard input and answers with one on standard output:

    in:   name, source, version, directory, requirements, packages, overlay, recipe
    out:  id, archive, commit, lock, requirements, hashes   or   error

The id names the content: the same project and the same recipe give the same id
on every machine. Nothing is ever written into the user's directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GIT_URL = re.compile(r"([a-z][a-z+]*://|[\w.-]+@[\w.-]+:)")
LEFT_OUT = {".git", ".hg", ".svn", ".venv", "__pycache__", "node_modules"}
EPOCH = 315_532_800  # 1980: older files cannot be put into a zip file, which some builds do
KEPT_ARCHIVES = 3


class ProjectError(Exception):
    """What the user must put right."""


def git(*words: str, cwd: Path | None = None) -> str:
    """Run git without ever asking a question; its last line is the reason when it fails."""
    silent = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes")}
    # LC_ALL: messages that can be searched for; GIT_DIR and the like would lead to another repository.
    base = {name: value for name, value in os.environ.items() if not name.startswith("GIT_DIR")}
    command = ["git", "-c", "advice.detachedHead=false", *words]
    try:
        done = subprocess.run(
            command, cwd=cwd, env={**base, "LC_ALL": "C.UTF-8", **silent}, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise ProjectError("git is not installed on the control node") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("fatal:", "error:"))]
        raise ProjectError((lines or done.stderr.splitlines() or ["git failed"])[0])
    return done.stdout


def without_password(url: str) -> str:
    return re.sub(r"//[^/@]+@", "//", url)


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Several hosts and several playbooks may ask at once."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (cache / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# --- where the files come from ----------------------------------------------


def fetch(url: str, version: str, cache: Path) -> tuple[Path, str]:
    """Return a mirror of the repository and the commit that `version` means today."""
    mirror = cache / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}.git"
    if not (mirror / "HEAD").exists():
        git("init", "--quiet", "--bare", str(mirror))
    known = re.fullmatch(r"[0-9a-f]{40}", version) and resolved(mirror, version)
    if not known:
        try:
            git("fetch", "--quiet", "--force", "--prune", url, "+refs/*:refs/*", cwd=mirror)
        except ProjectError as error:
            reason = str(error).replace(url, without_password(url))
            raise ProjectError(f"django_app_source: git cannot read {without_password(url)}: {reason}") from error
    commit = known or resolved(mirror, version)
    if not commit:
        raise ProjectError(
            f"django_app_version: there is no branch, tag or commit {version!r} in {without_password(url)}"
        )
    return mirror, commit


def resolved(mirror: Path, version: str) -> str:
    for name in (f"refs/tags/{version}", f"refs/heads/{version}", version):
        with contextlib.suppress(ProjectError):
            return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=mirror).strip()
    return ""


def check_out(mirror: Path, url: str, commit: str, target: Path) -> None:
    git("clone", "--quiet", "--shared", "--no-checkout", str(mirror), str(target))
    git("remote", "set-url", "origin", url, cwd=target)  # submodules may be named relative to it
    git("checkout", "--quiet", "--detach", commit, cwd=target)
    if (target / ".gitmodules").exists():
        git("submodule", "--quiet", "update", "--init", "--recursive", cwd=target)


def files(root: Path, *, honour_git: bool = True) -> list[str]:
    """Name the files of the project, sorted: in a git checkout what git does not ignore, else all but the usual."""
    if honour_git:
        with contextlib.suppress(ProjectError):
            git("rev-parse", "--is-inside-work-tree", cwd=root)
            return sorted(_listed_by_git(root))
    return sorted(_walked(root))


def _listed_by_git(root: Path) -> Iterator[str]:
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=root)
    for name in set(listed.split("\0")) - {""}:
        path = root / name
        if path.is_dir() and not path.is_symlink():  # a submodule
            yield from (f"{name.rstrip('/')}/{inner}" for inner in files(path))
        elif os.path.lexists(path):
            yield name


def _walked(root: Path) -> Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        here = Path(folder)
        links = [name for name in folders if (here / name).is_symlink()]
        for name in (*names, *links):
            if name not in LEFT_OUT and not name.endswith(".pyc"):
                yield (here / name).relative_to(root).as_posix()


# --- what the project needs -------------------------------------------------


def needs(root: Path, request: dict[str, Any]) -> dict[str, Any]:
    """Find how the requirements are installed, before any server is touched."""
    directory, asked = Path(request["directory"]), request["requirements"]
    if not (root / directory / "manage.py").is_file():
        found = [path.parent.name for path in sorted(root.glob("*/manage.py"))]
        raise ProjectError(
            f"django_app_directory: there is no manage.py in {request['directory']!r} of {request['shown']}"
            + (f"; it may be {found[0]!r}" if found else "")
        )
    for name in asked:
        if not (root / name).is_file():
            raise ProjectError(f"django_app_requirements: there is no file {name!r} in {request['shown']}")
    if not asked:
        candidates = [
            folder / name
            for name in ("uv.lock", "requirements.txt", "pyproject.toml")
            for folder in dict.fromkeys([directory, Path()])
        ]
        asked = [path.as_posix() for path in candidates if (root / path).is_file()][:1]
    if not asked and not any(re.match(r"django\b(?!-)", package, re.IGNORECASE) for package in request["packages"]):
        raise ProjectError(
            f"django_app_requirements: {request['shown']} has no uv.lock, requirements.txt or pyproject.toml; "
            "name the project's requirement files, or list what it needs in django_app_packages"
        )
    locks = [name for name in asked if Path(name).name == "uv.lock"]
    return {
        "lock": Path(locks[0]).parent.as_posix() if locks else "",
        "requirements": [name for name in asked if name not in locks],
        "hashes": any("--hash=" in (root / name).read_text() for name in asked if name not in locks),
    }


# --- the archive ------------------------------------------------------------


def digest(root: Path, names: list[str]) -> str:
    total = hashlib.sha256()
    entry: list[str | int]
    for name in names:
        path = root / name
        if path.is_symlink():
            entry = [name, "link", os.readlink(path)]  # noqa: PTH115 (as it is written, not as a path)
        else:
            entry = [name, mode(path), hashlib.sha256(path.read_bytes()).hexdigest()]
        total.update(json.dumps(entry).encode())
    return total.hexdigest()


def mode(path: Path) -> int:
    """What the umask of the control node did is not part of the project."""
    return 0o755 if path.stat().st_mode & 0o100 else 0o644


def write(archive: Path, root: Path, names: list[str], added: dict[str, str]) -> None:
    unfinished = archive.with_name(f".{archive.name}")
    with (
        unfinished.open("wb") as raw,
        gzip.GzipFile("", "wb", 6, raw, EPOCH) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in names:
            if name in added:
                continue
            path = root / name
            member = tarfile.TarInfo(name)
            if path.is_symlink():
                member.type, member.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115
                tar.addfile(plain(member, 0o777))
                continue
            member.size = path.stat().st_size
            with path.open("rb") as content:
                tar.addfile(plain(member, mode(path)), content)
        for name, text in added.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(plain(member, 0o644), io.BytesIO(text.encode()))
    unfinished.rename(archive)


def plain(member: tarfile.TarInfo, permissions: int) -> tarfile.TarInfo:
    member.mtime, member.mode = EPOCH, permissions
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def pack(request: dict[str, Any], cache: Path) -> dict[str, Any]:
    source, recipe = request["source"], json.dumps([request["recipe"], request["overlay"]], sort_keys=True)
    remote = bool(GIT_URL.match(source))
    request["shown"] = without_password(source) if remote else source
    if remote and not request["version"]:
        raise ProjectError("django_app_version: name a branch, tag or commit; it is required for a git repository")
    commit = ""
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(cache))
        if remote:
            mirror, commit = fetch(source, request["version"], cache)
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=cache))) / "source"
            check_out(mirror, source, commit, root)
            names = files(root, honour_git=False)
        else:
            root = Path(source).expanduser()
            if not root.is_dir():
                raise ProjectError(
                    f"django_app_source: {source!r} is neither a directory here nor the URL of a git repository"
                )
            # What an outer checkout ignores as a whole, such as a generated project, is taken as it lies there.
            names = files(root) or files(root, honour_git=False)
        found = needs(root, request)
        content = digest(root, names)
        build = hashlib.sha256(f"{content} {recipe}".encode()).hexdigest()[:8]
        release = f"{(commit or content)[:12]}-{build}"
        facts = {"id": release, "commit": commit, "version": request["version"], "source": request["shown"]}
        added = {".release.json.unfinished": json.dumps(facts, indent=1) + "\n"}
        if request["overlay"]:
            added[f"{Path(request['directory'], 'groundwork_settings.py').as_posix()}"] = request["overlay"]
        archive = cache / f"{release}.tar.gz"
        if not archive.exists():
            write(archive, root, names, added)
        archive.touch()
        for old in sorted(cache.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)[:-KEPT_ARCHIVES]:
            old.unlink()
    return {**facts, **found, "archive": str(archive)}


def main() -> None:
    request = json.load(sys.stdin)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    try:
        answer = pack(request, Path(home, "groundwork.django", request["name"]))
    except ProjectError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
