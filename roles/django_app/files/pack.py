# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Turn a project into the archive of a release, on the control node.

Reads a JSON object from standard input and answers with one on standard output:

    in:   name, source, version, key (for a repository by SSH), python (its version on the server, if it is there),
          overlay, files (for the release, but not for the archive), salt, recipe
    out:  id, archive, commit, installs   or   error;
          where the packages are sent along, too: uv and python, by which they are brought here, and packages, for them

The id names the content: the same project and the same recipe give the same id
on every machine. Nothing is ever written into the user's directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import gzip
import hashlib
import hmac
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

GIT_URL = re.compile(r"([a-z][a-z+]*://|[\w.-]+@[\w.-]+:)")
LEFT_OUT = {".git", ".hg", ".svn", ".venv", "__pycache__", "node_modules"}
SSH = "ssh -oBatchMode=yes -oConnectTimeout=20"  # with the hosts that the control node knows
LOGIN = re.compile(r"(https?://)([^/@]+)@([^/]+)")
# Tells git the login by way of the environment, which nobody else can read. A URL is in the list of processes.
HELPER = (
    '!f() { test get != "$1" || printf "username=%s\\npassword=%s\\n" "$GROUNDWORK_USER" "$GROUNDWORK_PASSWORD"; }; f'
)
EPOCH = 315_532_800  # 1980: older files cannot be put into a zip file, which some builds do
KEPT_ARCHIVES = 3

# What may tell the requirements, the best first. A pattern counts only where one file fits it.
FILES = (
    "uv.lock",
    "pylock.toml",
    "poetry.lock",
    "Pipfile.lock",
    "requirements.txt",
    "requirements/prod*.txt",
    "requirements-prod*.txt",
    "pyproject.toml",
)
LOCKS = {"uv.lock", "poetry.lock", "Pipfile.lock"}
WITH_EXTRAS = {"uv.lock", "pylock.toml", "poetry.lock", "pyproject.toml"}
WITH_GROUPS = WITH_EXTRAS | {"Pipfile.lock"}
# What is certainly none for pip, and nothing else that can be read here.
UNREADABLE = re.compile(
    r"(.*/)?(Pipfile|(?!(uv|poetry|Pipfile)\.lock|pylock(\.[^./]+)?\.toml|pyproject\.toml)[^/]+\.(lock|toml|ya?ml|json))"
)
# Locks of others, and what writes one beside them that can be read.
FOREIGN = {"pdm.lock": "pdm export --format pylock --output pylock.toml"}
# Poetry runs in an environment of its own, made of wheels alone, and leaves nothing else in the release.
POETRY = (
    *("--from", "poetry==2.5.1", "--with", "poetry-plugin-export==1.10.1", "poetry", "--no-interaction", "--no-ansi"),
)
PYTHON = "/usr/bin/python3"  # of a server
CONVERTED = ".requirements.txt"
# For a project that has none: what `python -m django` does, where everybody looks for it.
MANAGE = """# Managed by Ansible (groundwork.django.django_app): part of a release, never edited.
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    execute_from_command_line(sys.argv)
"""


class ProjectError(Exception):
    """What the user must put right."""


def git(*words: str, cwd: Path | None = None) -> str:
    """Run git without ever asking a question; its last line is the reason when it fails."""
    silent = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", SSH)}
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
        raise ProjectError(without_password(reason(done.stderr.splitlines())))
    return done.stdout


def reason(lines: list[str]) -> str:
    """Pick the line that says why; after it comes advice."""
    for number, line in enumerate(lines):
        if number and "Could not read from remote repository" in line:
            return lines[number - 1]  # of ssh
        if line.startswith(("fatal:", "error:")):
            return line
    return (lines or ["git failed"])[0]


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Give programs these variables for a while."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def login_for_http(url: str) -> Iterator[None]:
    """Let git use the login of this URL, also for submodules on the same host, and store it nowhere."""
    login = LOGIN.match(url)
    if not login:
        yield
        return
    user, _colon, password = login[2].partition(":")
    number, place = int(os.environ.get("GIT_CONFIG_COUNT", "0")), f"credential.{login[1]}{login[3]}.helper"
    variables = {"GROUNDWORK_USER": unquote(user), "GROUNDWORK_PASSWORD": unquote(password)}
    for helper in ("", HELPER):  # the first switches off those of the user
        variables |= {f"GIT_CONFIG_KEY_{number}": place, f"GIT_CONFIG_VALUE_{number}": helper}
        number += 1
    with environment({**variables, "GIT_CONFIG_COUNT": str(number)}):
        yield


@contextlib.contextmanager
def key_for_ssh(key: str) -> Iterator[None]:
    """Let git use this key, also for submodules, and none of the agent."""
    if not key:
        yield
        return
    before = os.environ.get("GIT_SSH_COMMAND", SSH)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "key")
        path.touch(0o600)
        path.write_text(f"{key.strip()}\n")  # the last line must have an end
        with environment({"GIT_SSH_COMMAND": f"{before} -oIdentitiesOnly=yes -i {shlex.quote(str(path))}"}):
            yield


def without_password(text: str) -> str:
    return re.sub(r"//[^/@]+@", "//", text)


def without_login(url: str) -> str:
    return LOGIN.sub(r"\1\3", url)


@contextlib.contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Several hosts and several playbooks may ask at once."""
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (cache / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


# --- where the files come from ----------------------------------------------


def fetch(url: str, version: str, cache: Path) -> tuple[Path, str]:
    """Return a mirror of the repository, and the commit that `version` means today, or nothing."""
    mirror = cache / f"{hashlib.sha256(url.encode()).hexdigest()[:12]}.git"
    if not (mirror / "HEAD").exists():
        git("init", "--quiet", "--bare", str(mirror))
    known = re.fullmatch(r"[0-9a-f]{40}", version) and resolved(mirror, version)
    if not known:
        git("fetch", "--quiet", "--force", "--prune", url, "+refs/*:refs/*", cwd=mirror)
    return mirror, known or resolved(mirror, version)


def resolved(mirror: Path, version: str) -> str:
    for name in (f"refs/tags/{version}", f"refs/heads/{version}", version):
        with contextlib.suppress(ProjectError):
            return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=mirror).strip()
    return ""


def bring(url: str, version: str, cache: Path, target: Path) -> str:
    """Check out the version with its submodules, and return its commit."""
    try:
        mirror, commit = fetch(url, version, cache)
        if commit:
            check_out(mirror, url, commit, target)
    except ProjectError as error:
        raise ProjectError(f"django_app_source: git cannot read {without_password(url)}: {error}") from error
    if not commit:
        raise ProjectError(
            f"django_app_version: there is no branch, tag or commit {version!r} in {without_password(url)}"
        )
    return commit


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


def check_directory(root: Path, shown: str, recipe: dict[str, Any]) -> bool:
    """Return whether the project has a manage.py, unless the directory is the wrong one."""
    place = root / recipe["directory"]
    if (place / "manage.py").is_file():
        return True
    module = place / recipe["settings"].replace(".", "/")
    others = [path for pattern in ("manage.py", "*/manage.py", "*/*/manage.py") for path in sorted(root.glob(pattern))]
    # Settings that are in neither place may come with a package.
    if not place.is_dir() or (others and not (module.is_dir() or module.with_suffix(".py").is_file())):
        raise ProjectError(
            f"django_app_directory: there is no manage.py in {recipe['directory']!r} of {shown}"
            + (f"; it may be {others[0].parent.relative_to(root).as_posix()!r}" if others else "")
        )
    return False


def needs(root: Path, names: list[str], shown: str, recipe: dict[str, Any]) -> tuple[list[list[str]], dict[str, str]]:
    """Say, before any server is touched, which runs of uv install what is required, and which files they need."""
    directory, asked, packages = Path(recipe["directory"]), recipe["requirements"], recipe["packages"]
    for name in asked:
        if Path(name).as_posix() not in names:
            why = "; git ignores it" if (root / name).exists() else ""
            raise ProjectError(f"django_app_requirements: there is no file {name!r} in {shown}{why}")
        if UNREADABLE.fullmatch(name):
            raise ProjectError(unreadable(name))
    chosen = asked or usual(root, names, directory)
    foreign = [name for name in names if Path(name).name in FOREIGN and Path(name).parent in (directory, Path())]
    if foreign and not asked and {Path(name).name for name in chosen} <= {"pyproject.toml"}:
        raise ProjectError(unreadable(foreign[0]))
    if not chosen and not any(re.match(r"django\b(?!-)", package, re.IGNORECASE) for package in packages):
        others = [name for name in names if re.fullmatch(r"[^/]*requirements[^/]*/[^/]+\.txt", name)]
        raise ProjectError(
            f"django_app_requirements: {shown} has no {', '.join(FILES)}; name the project's requirements files"
            + (f" ({', '.join(others)})" if others else "")
            + ", or list what it needs in django_app_packages"
        )
    return installation(root, chosen, recipe)


def usual(root: Path, names: list[str], directory: Path) -> list[str]:
    """Return the file that says the most exactly what to install, where nobody has named one."""
    for pattern in FILES:
        for folder in dict.fromkeys([directory, Path()]):
            found = fnmatch.filter(names, (folder / pattern).as_posix())
            # A pyproject.toml may be there for the sake of tools alone.
            if len(found) == 1 and (pattern != "pyproject.toml" or "project" in toml(root / found[0])):
                return found
    return []


def kind(name: str) -> str:
    """Return the usual name of such a file: a pylock.toml may have a word more in its own."""
    return re.sub(r"^pylock\..+\.toml$", "pylock.toml", Path(name).name)


def unreadable(name: str) -> str:
    remedy = FOREIGN.get(Path(name).name, "")
    return (
        f"django_app_requirements: {name} cannot be read here; name requirements files for pip, or one of "
        f"{', '.join(FILES[:4])}, pyproject.toml" + (f", such as what this writes: {remedy}" if remedy else "")
    )


def toml(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text())
    except ValueError as error:
        raise ProjectError(f"django_app_source: {path.name} cannot be read: {error}") from error
    return content


def installation(root: Path, names: list[str], recipe: dict[str, Any]) -> tuple[list[list[str]], dict[str, str]]:
    """Write down the runs of uv, those from a lock first: one of them removes what it does not know."""
    extras, groups, kinds = recipe["extras"], recipe["dependency_groups"], {kind(name) for name in names}
    if extras and not kinds & WITH_EXTRAS:
        raise ProjectError(f"django_app_extras: {', '.join(names) or 'no file'} knows none, only {among(WITH_EXTRAS)}")
    if groups and not kinds & WITH_GROUPS:
        raise ProjectError(
            f"django_app_dependency_groups: {', '.join(names) or 'no file'} knows none, only {among(WITH_GROUPS)}"
        )
    for name in names:
        check_offer(root, Path(name), extras, groups)
    options = ["--no-build"] if recipe["wheels_only"] else []
    options += ["--python-platform", recipe["platform"]] if recipe["platform"] else []
    install = ["pip", "install", "--quiet", *options]
    runs: list[list[str]] = []
    added: dict[str, str] = {}
    plain = [name for name in names if Path(name).name not in LOCKS]
    for path in [Path(name) for name in names if name not in plain]:
        project = ["--project", path.parent.as_posix()]
        if path.name == "uv.lock":
            chosen = [*each("--extra", extras), *each("--group", groups), *([] if "dev" in groups else ["--no-dev"])]
            runs.append(["sync", "--quiet", "--frozen", "--no-install-project", *project, *chosen, *options])
        elif path.name == "poetry.lock":
            chosen = [*each("--extras", extras), *each("--with", groups)]
            tool = [
                "tool",
                "run",
                "--quiet",
                "--no-build",
                "--python",
                sys.executable if recipe["platform"] else PYTHON,
            ]
            runs.append([*tool, *POETRY, *project, "export", "--without-urls", *chosen, "--output", CONVERTED])
            runs.append([*install, "--no-deps", "-r", CONVERTED])
        else:
            added[CONVERTED] = from_pipfile(root, path, groups)
            runs.append([*install, "--no-deps", "-r", CONVERTED])
    if plain:
        hashes = any("--hash=" in (root / name).read_text() for name in plain)
        files_with_groups = [name for name in plain if kind(name) in WITH_GROUPS]
        chosen = [f"{name}:{group}" for name in files_with_groups for group in groups]
        chosen = [*each("--extra", extras if files_with_groups else []), *each("--group", chosen)]
        runs.append([*install, *(["--require-hashes"] if hashes else []), *each("-r", plain), *chosen])
    return runs, added


def check_offer(root: Path, path: Path, extras: list[str], groups: list[str]) -> None:
    """Compare what is asked for with what the file offers: for a lock of a project, what its pyproject.toml does."""
    lock = path.name in ("uv.lock", "poetry.lock")
    place = root / path.parent / "pyproject.toml" if lock else root / path
    if place.suffix != ".toml":
        return
    if not place.is_file():
        raise ProjectError(f"django_app_requirements: beside {path} is no pyproject.toml, which belongs to it")
    content = toml(place)
    project, tools = content.get("project", {}), content.get("tool", {})
    poetry = tools.get("poetry", {})
    if kind(path.name) == "pylock.toml":
        offered = {"extras": content.get("extras", []), "dependency_groups": content.get("dependency-groups", [])}
    else:
        dev = ["dev"] if any("dev-dependencies" in tools.get(name, {}) for name in ("uv", "poetry")) else []
        offered = {
            "extras": [*project.get("optional-dependencies", {}), *poetry.get("extras", {})],
            "dependency_groups": [*content.get("dependency-groups", {}), *poetry.get("group", {}), *dev],
        }
    if "optional-dependencies" in project.get("dynamic", []):
        extras = []  # which only a build of the project could tell
    for key, asked in (("extras", extras), ("dependency_groups", groups)):
        known = {canonicalize_name(name): name for name in offered[key]}
        for name in asked:
            if canonicalize_name(name) not in known:
                there_are = ", ".join(known.values()) or "none"
                raise ProjectError(f"django_app_{key}: {path} has no {name!r}; there are: {there_are}")


def check_python(root: Path, version: str, recipe: dict[str, Any]) -> None:
    for path in (root / recipe["directory"] / "pyproject.toml", root / "pyproject.toml"):
        wanted = toml(path).get("project", {}).get("requires-python", "") if path.is_file() else ""
        if version and not SpecifierSet(wanted).contains(version, prereleases=True):
            raise ProjectError(
                f"django_app_python: the project wants Python {wanted}, but {recipe['python'][0]} on the server is "
                f"{version}; name another that is there"
            )


def among(names: set[str]) -> str:
    return ", ".join(name for name in FILES if name in names)


def each(option: str, values: list[str]) -> list[str]:
    return [word for value in values for word in (option, value)]


def from_pipfile(root: Path, lock: Path, groups: list[str]) -> str:
    """Write a Pipfile.lock as a requirements file. Everything is in it, with hashes."""
    content = json.loads((root / lock).read_text())
    lines = []
    for group in ["default", *groups]:
        if group not in content:
            there_are = ", ".join(name for name in content if name not in ("_meta", "default"))
            raise ProjectError(f"django_app_dependency_groups: {lock} has no {group!r}, only {there_are or 'default'}")
        for name, entry in content[group].items():
            if entry.get("path") == ".":
                continue  # the project itself
            extras = f"[{','.join(entry['extras'])}]" if entry.get("extras") else ""
            markers = f" ; {entry['markers']}" if entry.get("markers") else ""
            hashes = "".join(f" --hash={value}" for value in entry.get("hashes", []))
            lines.append(f"{name}{extras}{origin(lock, entry)}{markers}{hashes}\n")
    return "".join(lines)


def origin(lock: Path, entry: dict[str, Any]) -> str:
    if "git" in entry:
        return f" @ git+{entry['git']}@{entry['ref']}"
    if "path" in entry:
        return f" @ ./{(lock.parent / entry['path']).as_posix()}"
    return str(entry.get("version") or f" @ {entry['file']}")


def sealed(root: Path, files: dict[str, str], salt: str) -> str:
    """Name the content of files that may hold secrets by a number from which nobody can find out what they contain."""
    for name in files:
        folder = (root / name).parent
        if not folder.is_dir() or not folder.resolve().is_relative_to(root.resolve()):
            raise ProjectError(f"django_app_files: the source has no folder for {name!r}")
    return hmac.digest(salt.encode(), json.dumps(files, sort_keys=True).encode(), "sha256").hex() if files else ""


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
    source, recipe = request["source"], request["recipe"]
    remote = bool(GIT_URL.match(source))
    shown = without_password(source) if remote else source
    if remote and not request["version"]:
        raise ProjectError("django_app_version: name a branch, tag or commit; it is required for a git repository")
    commit = ""
    here = by_uv(recipe) if recipe["platform"] else {}
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(cache))
        if remote:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=cache))) / "source"
            stack.enter_context(login_for_http(source))
            stack.enter_context(key_for_ssh(request["key"]))
            commit = bring(without_login(source), request["version"], cache, root)
            names = files(root, honour_git=False)
        else:
            root = Path(source).expanduser()
            if not root.is_dir():
                raise ProjectError(
                    f"django_app_source: {source!r} is neither a directory here nor the URL of a git repository"
                )
            # What an outer checkout ignores as a whole, such as a generated project, is taken as it lies there.
            names = files(root) or files(root, honour_git=False)
        has_manage = check_directory(root, shown, recipe)
        installs, added = needs(root, names, shown, recipe)
        check_python(root, request["python"], recipe)
        content = digest(root, names)
        secrets = sealed(root, request["files"], request["salt"])
        decides = json.dumps([recipe, request["overlay"], secrets], sort_keys=True)
        build = hashlib.sha256(f"{content} {decides}".encode()).hexdigest()[:8]
        release = f"{(commit or content)[:12]}-{build}"
        facts = {"id": release, "commit": commit, "version": request["version"], "source": shown}
        added[".release.json.unfinished"] = json.dumps(facts, indent=1) + "\n"
        if request["overlay"]:
            added[Path(recipe["directory"], "groundwork_settings.py").as_posix()] = request["overlay"]
        if not has_manage:
            added[Path(recipe["directory"], "manage.py").as_posix()] = MANAGE
        archive = cache / f"{release}.tar.gz"
        if not archive.exists():
            write(archive, root, names, added)
        archive.touch()
        for old in sorted(cache.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)[:-KEPT_ARCHIVES]:
            old.unlink()
            old.with_suffix(".packages").unlink(missing_ok=True)
    return {
        **facts,
        "installs": installs,
        "archive": str(archive),
        "packages": f"{archive.with_suffix('.packages')}",
        **here,
    }


def by_uv(recipe: dict[str, Any]) -> dict[str, str]:
    """Find the uv of the control node, and a Python like that of the server: the one that runs this, or uv's own."""
    uv = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if not uv:
        raise ProjectError(
            "django_app_send_packages: there is no uv on the control node; install it there: "
            f"{sys.executable} -m pip install uv"
        )
    version = recipe["python"][1]
    return {"uv": uv, "python": sys.executable if version == "{}.{}".format(*sys.version_info) else version}


def look(url: str, key: str) -> dict[str, str]:
    """See whether git can read a repository."""
    with login_for_http(url), key_for_ssh(key):
        git("ls-remote", "--exit-code", without_login(url), "HEAD")
    return {}


def main() -> None:
    request = json.load(sys.stdin)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    try:
        if "repository" in request:
            answer = look(request["repository"], request["key"])
        else:
            answer = pack(request, Path(home, "groundwork.django", request["name"]))
    except ProjectError as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
