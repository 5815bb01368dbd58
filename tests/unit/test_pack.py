"""From a project, as it lies there, to the archive of a release and to what uv is told about its requirements."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles/django_app/files/pack.py"
RECIPE = {
    "directory": ".",
    "settings": "config.settings",
    "requirements": [],
    "extras": [],
    "dependency_groups": [],
    "packages": [],
    "wheels_only": True,
    "platform": "",
    "python": ["/usr/bin/python3", "3.13"],
}
PROJECT = """
[project]
name = 'shop'
version = '1'
[project.optional-dependencies]
pg = []
[dependency-groups]
prod = []
dev = []
"""
PIPFILE = {
    "_meta": {"sources": []},
    "default": {
        "django": {"version": "==5.2.8", "hashes": ["sha256:aa", "sha256:bb"], "markers": "python_version >= '3.10'"},
        "psycopg": {"version": "==3.3.9", "extras": ["binary", "pool"], "hashes": ["sha256:cc"], "index": "pypi"},
        "ours": {"git": "https://git.example.com/ours.git", "ref": "0123abc"},
        "shared": {"path": "libs/shared"},
        "shop": {"editable": True, "path": "."},
    },
    "develop": {"pytest": {"version": "==9.0"}},
    "production": {"sentry-sdk": {"version": "==2.0", "hashes": ["sha256:dd"]}},
}


@pytest.fixture(scope="module")
def pack() -> types.ModuleType:
    specification = importlib.util.spec_from_file_location("pack", PROGRAM)
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    put(root / "manage.py")
    put(root / "config/settings.py")
    return root


@pytest.fixture
def ask(pack: types.ModuleType, tmp_path: Path, project: Path) -> Callable[..., Any]:
    def run(source: Any = project, **asked: Any) -> Any:
        others = {name: value for name, value in asked.items() if name not in RECIPE}
        request = dict.fromkeys(("version", "key", "overlay"), "") | {"files": {}, "salt": "salt", "python": "3.13.5"}
        recipe = {**RECIPE, **{name: value for name, value in asked.items() if name in RECIPE}}
        words = {"name": "shop", "source": str(source), **others}
        return pack.pack({**request, **words, "recipe": recipe}, tmp_path / "cache")

    return run


@pytest.fixture
def refused(pack: types.ModuleType, ask: Callable[..., Any]) -> Callable[..., str]:
    """Return why it cannot be deployed."""

    def run(*words: Any, **asked: Any) -> str:
        with pytest.raises(pack.ProjectError) as refusal:
            ask(*words, **asked)
        return str(refusal.value)

    return run


def put(path: Path, content: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def packed(answer: dict[str, Any]) -> dict[str, str]:
    """Return the files of the archive."""
    with tarfile.open(answer["archive"]) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        return {name: file.read().decode() for name, file in files.items() if file}


def words(answer: dict[str, Any]) -> list[str]:
    return [" ".join(run).replace("--quiet ", "") for run in answer["installs"]]


# --- Requirements ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["uv.lock", "poetry.lock", "requirements.txt", "pyproject.toml"], "uv.lock"),
        (["poetry.lock", "requirements.txt", "pyproject.toml"], "poetry.lock"),
        (["pylock.toml", "poetry.lock"], "pylock.toml"),
        (["Pipfile.lock", "requirements.txt"], "Pipfile.lock"),
        (["requirements.txt", "requirements/production.txt", "pyproject.toml"], "requirements.txt"),
        (["requirements/base.txt", "requirements/production.txt", "pyproject.toml"], "requirements/production.txt"),
        (["requirements/local.txt", "requirements/prod.txt"], "requirements/prod.txt"),
        (["requirements-dev.txt", "requirements-prod.txt"], "requirements-prod.txt"),
        # Which of them?
        (["requirements/prod.txt", "requirements/production.txt", "pyproject.toml"], "pyproject.toml"),
        (["requirements.txt", "site/requirements.txt"], "site/requirements.txt"),
        (["uv.lock", "site/requirements.txt"], "uv.lock"),
    ],
)
def test_without_a_word_the_most_exact_file_beside_manage_or_at_the_top_is_taken(
    pack: types.ModuleType, project: Path, files: list[str], chosen: str
) -> None:
    for name in files:
        put(project / name, PROJECT)
    assert pack.usual(project, pack.files(project), Path("site")) == [chosen]


def test_a_pyproject_for_tools_alone_tells_no_requirements(project: Path, ask: Any, refused: Any) -> None:
    put(project / "pyproject.toml", "[tool.ruff]\nline-length = 100\n")
    put(project / "requirements/base.txt")
    put(project / "requirements/dev.txt")
    assert "requirements files (requirements/base.txt, requirements/dev.txt)" in refused()
    assert ask(packages=["Django>=5"])["installs"] == []


def test_what_git_ignores_is_no_file_of_the_project(project: Path, ask: Any, refused: Any) -> None:
    put(project / ".gitignore", "*.lock\n")
    put(project / "uv.lock")
    put(project / "requirements.txt", "django")
    commit(project)
    assert words(ask()) == ["pip install --no-build -r requirements.txt"]
    assert refused(requirements=["uv.lock"]).endswith("'uv.lock' in " + str(project) + "; git ignores it")


@pytest.mark.parametrize(
    ("file", "asked", "run"),
    [
        ("requirements.txt", {}, "pip install --no-build -r requirements.txt"),
        ("requirements.txt", {"wheels_only": False}, "pip install -r requirements.txt"),
        (
            "back/pyproject.toml",
            {"requirements": ["back/pyproject.toml"], "extras": ["pg"], "dependency_groups": ["prod"]},
            "pip install --no-build -r back/pyproject.toml --extra pg --group back/pyproject.toml:prod",
        ),
        ("uv.lock", {}, "sync --frozen --no-install-project --project . --no-dev --no-build"),
        (
            "uv.lock",
            {"extras": ["pg"], "dependency_groups": ["dev"]},
            "sync --frozen --no-install-project --project . --extra pg --group dev --no-build",
        ),
    ],
)
def test_uv_is_told_what_the_file_is(project: Path, ask: Any, file: str, asked: dict[str, Any], run: str) -> None:
    put(project / "pyproject.toml", PROJECT)
    put(project / file, PROJECT)
    assert words(ask(**asked)) == [run]


def test_where_one_requirement_has_a_hash_every_one_must(project: Path, ask: Any) -> None:
    put(project / "requirements.txt", "django==5.2.8 \\\n    --hash=sha256:aa\n")
    assert words(ask()) == ["pip install --no-build --require-hashes -r requirements.txt"]


def test_poetry_writes_down_what_uv_installs(project: Path, ask: Any) -> None:
    put(project / "poetry.lock")
    put(project / "pyproject.toml", "[tool.poetry]\nextras = { pg = ['psycopg'] }\ngroup = { prod = {} }\n")
    export, install = words(ask(extras=["pg"], dependency_groups=["prod"]))
    assert export.startswith("tool run --no-build --python /usr/bin/python3 --from poetry==")
    assert export.endswith("--project . export --without-urls --extras pg --with prod --output .requirements.txt")
    assert install == "pip install --no-build --no-deps -r .requirements.txt"


def test_a_pipfile_lock_is_installed_as_it_says(project: Path, ask: Any, refused: Any) -> None:
    put(project / "back/Pipfile.lock", json.dumps(PIPFILE))
    answer = ask(requirements=["back/Pipfile.lock"], dependency_groups=["production"])
    assert words(answer) == ["pip install --no-build --no-deps -r .requirements.txt"]
    assert packed(answer)[".requirements.txt"].splitlines() == [
        "django==5.2.8 ; python_version >= '3.10' --hash=sha256:aa --hash=sha256:bb",
        "psycopg[binary,pool]==3.3.9 --hash=sha256:cc",
        "ours @ git+https://git.example.com/ours.git@0123abc",
        "shared @ ./back/libs/shared",
        "sentry-sdk==2.0 --hash=sha256:dd",
    ]
    message = refused(requirements=["back/Pipfile.lock"], dependency_groups=["prod"])
    assert "has no 'prod', only develop, production" in message


def test_what_a_lock_says_comes_before_further_files(project: Path, ask: Any) -> None:
    put(project / "uv.lock")
    put(project / "pyproject.toml", PROJECT)
    put(project / "extra.txt", "whitenoise")
    runs = words(ask(requirements=["extra.txt", "uv.lock"], dependency_groups=["prod"]))
    assert [run.split()[0] for run in runs] == ["sync", "pip"]
    assert runs[1] == "pip install --no-build -r extra.txt"


@pytest.mark.parametrize("key", ["extras", "dependency_groups"])
def test_extras_and_groups_that_no_file_can_have_are_refused(project: Path, refused: Any, key: str) -> None:
    put(project / "requirements.txt", "django")
    assert f"django_app_{key}: requirements.txt knows none, only uv.lock, pyl" in refused(**{key: ["prod"]})


@pytest.mark.parametrize(
    ("file", "there_are"),
    [
        ("uv.lock", "pg, My_Extra"),
        ("poetry.lock", "pg, My_Extra"),
        ("pyproject.toml", "pg, My_Extra"),
        ("pylock.toml", "of a lock"),
        ("pylock.prod.toml", "of a lock"),
    ],
)
def test_extras_that_the_project_does_not_have_are_named_with_those_that_it_has(
    project: Path, refused: Any, ask: Any, file: str, there_are: str
) -> None:
    put(project / "pyproject.toml", PROJECT.replace("pg = []", "pg = []\nMy_Extra = []"))
    if file != "pyproject.toml":
        put(project / file, "extras = ['of a lock']")
    message = refused(requirements=[file], extras=["postgres"])
    assert message == f"django_app_extras: {file} has no 'postgres'; there are: {there_are}"
    if "My" in there_are:
        assert ask(requirements=[file], extras=["my-extra"])


def test_groups_that_the_project_does_not_have_are_named_with_those_that_it_has(project: Path, refused: Any) -> None:
    put(project / "uv.lock")
    put(project / "pyproject.toml", PROJECT)
    assert "uv.lock has no 'production'; there are: prod, dev" in refused(dependency_groups=["production"])


@pytest.mark.parametrize("file", ["pdm.lock", "conda-lock.yml", "Pipfile", "package.json"])
def test_a_file_that_nothing_can_read_is_refused_with_those_that_can_be_read(
    project: Path, refused: Any, file: str
) -> None:
    put(project / file)
    message = refused(requirements=[file])
    assert message.startswith(f"django_app_requirements: {file} cannot be read here; name requirements files for pip")
    assert ("pdm export" in message) == (file == "pdm.lock")


def test_a_lock_that_nothing_can_read_is_not_passed_over(project: Path, ask: Any, refused: Any) -> None:
    put(project / "pyproject.toml", PROJECT)
    put(project / "pdm.lock")
    assert "pdm.lock cannot be read here" in refused()
    assert ask(requirements=["pyproject.toml"])
    put(project / "pylock.toml")
    assert words(ask()) == ["pip install --no-build -r pylock.toml"]


def test_a_lock_without_its_pyproject_is_refused(project: Path, refused: Any) -> None:
    put(project / "back/uv.lock")
    assert "beside back/uv.lock is no pyproject.toml" in refused(requirements=["back/uv.lock"])


def test_packages_that_are_sent_are_those_for_the_server(
    project: Path, ask: Any, refused: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    put(project / "requirements.txt", "django")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    there = {"platform": "aarch64-manylinux_2_36"}
    assert refused(**there).startswith("django_app_send_packages: there is no uv on the control node; install it")
    put(tmp_path / "uv").chmod(0o700)
    answer = ask(**there, python=["/usr/bin/python3", "3.99"])
    assert (answer["uv"], answer["python"]) == (str(tmp_path / "uv"), "3.99")
    assert words(answer) == ["pip install --no-build --python-platform aarch64-manylinux_2_36 -r requirements.txt"]
    here = "{}.{}".format(*sys.version_info)
    assert ask(**there, python=["/usr/bin/python3", here])["python"] == str(tmp_path / "python")


def test_a_project_that_wants_another_python_is_refused(project: Path, ask: Any, refused: Any) -> None:
    put(project / "pyproject.toml", "[project]\nname = 'shop'\nrequires-python = '>=3.11'\n")
    assert ask()["id"]
    put(project / "pyproject.toml", "[project]\nname = 'shop'\nrequires-python = '>=3.14'\n")
    assert "wants Python >=3.14, but /usr/bin/python3 on the server is 3.13.5" in refused()


# --- Repositories ---------------------------------------------------------------

# Stands in for ssh: with the right key, in a file of which nobody else can read, it runs the program here.
SSH = """#!/bin/sh
while [ "$1" != -i ]; do shift; done
echo "$2" >>"$0.keys"
case "$(stat -c %a "$2") $(cat "$2")" in
    "600 the key") for command; do :; done; exec sh -c "$command";;
    *) echo "git@host: Permission denied (publickey)." >&2; exit 255;;
esac
"""

GIT = [
    "git",
    *("-c", "user.name=t", "-c", "user.email=t@example.com"),
    *("-c", "url./.insteadOf=ssh://git@host/", "-c", "protocol.file.allow=always"),
]


def commit(root: Path, *, submodule: str = "") -> Path:
    def git(*words: str) -> None:
        subprocess.run([*GIT, *words], cwd=root, check=True)

    git("init", "--quiet")
    if submodule:
        git("submodule", "--quiet", "add", submodule, "libs")
    git("add", "--all")
    git("commit", "--quiet", "--message", "v1")
    git("tag", "v1")
    return root


def test_a_key_opens_a_private_repository_and_its_submodules(
    project: Path, ask: Any, refused: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = put(tmp_path / "ssh", SSH)
    program.chmod(0o700)
    monkeypatch.setenv("GIT_SSH_COMMAND", str(program))
    put(project / "requirements.txt", "django")
    inner = commit(put(tmp_path / "inner/deep.py", "deep").parent)
    libs = commit(put(tmp_path / "libs/lib.py", "lib").parent, submodule=f"ssh://git@host{inner}")
    commit(project, submodule=f"ssh://git@host{libs}")
    private = f"ssh://git@host{project}"
    denied = f"cannot read ssh://host{project}: git@host: Permission denied"
    assert denied in refused(private, version="v1", key="another key\n")
    answer = ask(private, version="v1", key="the key")
    assert {"manage.py", "libs/lib.py", "libs/libs/deep.py"} <= set(packed(answer))
    assert not any(name.startswith(".git/") for name in packed(answer))
    used = set(Path(f"{program}.keys").read_text().split())
    assert used
    assert not [path for path in used if Path(path).exists()], "the key stays nowhere"


def test_a_login_opens_a_repository_and_its_submodules_and_is_in_no_list_of_processes(
    ask: Any, pack: types.ModuleType, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = put(tmp_path / "project/requirements.txt", "django").parent
    libs = commit(put(tmp_path / "libs/lib.py", "lib").parent)
    (project / ".gitmodules").write_text('[submodule "libs"]\npath = libs\nurl = ../libs.git\n')
    link = subprocess.run(["git", "rev-parse", "HEAD"], cwd=libs, check=True, capture_output=True, text=True).stdout
    commit(project)
    index = ["git", "update-index", "--add", "--cacheinfo", f"160000,{link.strip()},libs"]
    subprocess.run(index, cwd=project, check=True)
    subprocess.run([*GIT, "commit", "--quiet", "--amend", "--no-edit"], cwd=project, check=True)
    for root in (project, libs):
        subprocess.run(["git", "clone", "--quiet", "--bare", root, f"{root}.git"], check=True)
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    answer = ask(f"http://me%40home:open%20sesame@{served}/project.git", version="HEAD")
    assert {"manage.py", "libs/lib.py"} <= set(packed(answer))
    assert pack.look(f"http://me%40home:open%20sesame@{served}/libs.git", "") == {}
    with pytest.raises(pack.ProjectError, match="Authentication failed"):
        pack.look(f"http://me%40home:wrong@{served}/libs.git", "")
    trace = (tmp_path / "trace").read_text()
    assert f"remote-http http://{served}/libs.git" in trace.replace("'", "")
    assert "sesame" not in trace + str(answer)
    assert "GROUNDWORK_PASSWORD" not in os.environ


def test_a_repository_that_is_away_is_named_without_its_password(refused: Any) -> None:
    message = refused("https://me:secret@127.0.0.1:9/shop.git", version="main")
    assert message.startswith("django_app_source: git cannot read https://127.0.0.1:9/shop.git: fatal: ")
    assert "secret" not in message


@pytest.mark.parametrize(
    ("source", "version", "message"),
    [
        ("/no/such", "", "django_app_source: '/no/such' is neither a directory here nor the URL of a git repository"),
        ("file:///no/such.git", "v1", "django_app_source: git cannot read file:///no/such.git: fatal: "),
        ("file://{project}", "", "django_app_version: name a branch, tag or commit"),
        ("file://{project}", "v3", "django_app_version: there is no branch, tag or commit 'v3' in file://"),
    ],
)
def test_a_source_that_is_not_there_is_named(
    project: Path, refused: Any, source: str, version: str, message: str
) -> None:
    commit(project)
    assert refused(source.format(project=project), version=version).startswith(message)


def test_the_same_content_is_the_same_release_wherever_it_lies(ask: Any, project: Path, tmp_path: Path) -> None:
    put(project / "requirements.txt", "django")
    first = ask()
    copy = tmp_path / "elsewhere"
    subprocess.run(["cp", "--recursive", project, copy], check=True)
    assert ask(copy)["id"] == first["id"]
    assert ask(extras=[], packages=["sentry-sdk"])["id"] != first["id"]
    put(copy / "new.py")
    assert ask(copy)["id"] != first["id"]


# --- Layouts --------------------------------------------------------------------


def test_a_project_without_a_manage_py_gets_one(project: Path, ask: Any) -> None:
    put(project / "requirements.txt", "django")
    (project / "manage.py").unlink()
    assert "execute_from_command_line" in packed(ask())["manage.py"]
    assert not (project / "manage.py").exists()
    # Its settings may come with a package.
    put(project / "site/readme.txt")
    assert "site/manage.py" in packed(ask(directory="site", settings="some_package.settings"))


@pytest.mark.parametrize(
    ("there", "directory", "hint"),
    [
        ("site/manage.py", ".", "; it may be 'site'"),
        ("back/end/manage.py", "back", "; it may be 'back/end'"),
        ("manage.py", "nowhere", "; it may be '.'"),
        ("readme.txt", "nowhere", "'nowhere' of "),
    ],
)
def test_the_wrong_directory_is_named(refused: Any, tmp_path: Path, there: str, directory: str, hint: str) -> None:
    put(tmp_path / "other" / there)
    message = refused(tmp_path / "other", directory=directory)
    assert message.startswith(f"django_app_directory: there is no manage.py in {directory!r} of ")
    assert hint in message


def test_settings_beside_another_manage_py_are_found(project: Path, ask: Any) -> None:
    put(project / "src/shop/settings/__init__.py")
    put(project / "requirements.txt", "django")
    assert "src/manage.py" in packed(ask(directory="src", settings="shop.settings"))


def test_files_with_secrets_name_the_release_and_are_not_in_its_archive(project: Path, ask: Any) -> None:
    put(project / "requirements.txt", "django")
    put(project / "config/local.py", "shipped")
    one, other = ({"config/local.py": f"PASSWORD = '{word}'"} for word in ("canary", "another"))
    answer = ask(files=one)
    assert "canary" not in str(answer) + str(packed(answer))
    assert answer["id"] == ask(files=one)["id"]
    assert len({answer["id"], ask()["id"], ask(files=other)["id"], ask(files=one, salt="grains")["id"]}) == 4


@pytest.mark.parametrize("path", ["nowhere/local.py", "out/local.py"])
def test_a_file_belongs_into_a_folder_of_the_project(project: Path, refused: Any, path: str) -> None:
    put(project / "requirements.txt", "django")
    (project / "out").symlink_to("/etc")
    assert refused(files={path: ""}) == f"django_app_files: the source has no folder for {path!r}"
