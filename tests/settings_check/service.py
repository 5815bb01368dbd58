"""A service with an account of its own: nobody, where the tests run as root."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from settings_check.interpreters import environment

from plugins.module_utils._settings_check.check import Check
from plugins.modules.django_settings_check import ARGUMENTS

SETTINGS = """\
from pathlib import Path
SECRET_KEY = "{key}"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "shop"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": Path(__file__).parent / "db.sqlite3"}}}}
ROOT_URLCONF = "shop.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
KEY = "k7#Zq81vRw2xLp94TnYb63HsDf05Gm-JcXe8Uo1"
WSGI = """\
import os
from django.core.wsgi import get_wsgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings")
application = get_wsgi_application()
"""


class Service:
    """A project that everybody can read, and the interpreter that runs it."""

    def __init__(self, folder: Path, virtualenv: Path) -> None:
        self.folder, self.virtualenv = folder, virtualenv
        self.account = pwd.getpwnam("nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
        self.project = folder / "project"

    def write(self, settings: str = "", **files: str) -> None:
        """Begin a new project, in a folder of the account: only the module keeps it from writing there."""
        shutil.rmtree(self.project, ignore_errors=True)
        named = {name.replace("__", "/") + ".py": text for name, text in files.items()}
        basic = {"shop/__init__.py": "", "shop/urls.py": "urlpatterns = []\n", "shop/wsgi.py": WSGI}
        for name, text in {**basic, "shop/settings.py": SETTINGS.format(key=KEY) + settings, **named}.items():
            path = self.project / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        if os.geteuid() == 0:
            for path in (self.project, *self.project.rglob("*")):
                os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def options(self, **given: Any) -> dict[str, Any]:
        return {
            "chdir": str(self.project),
            "virtualenv": str(self.virtualenv),
            "application": "shop.wsgi",
            "user": self.account.pw_name,
            "timeout": 20,
            **given,
        }

    def check(self, **given: Any) -> dict[str, Any]:
        defaults = {name: option.get("default") for name, option in ARGUMENTS.items()}
        return Check({**defaults, **self.options(**given)}, check_mode=False).run()

    def manage(self, *arguments: str) -> None:
        command = [str(self.virtualenv / "bin/python"), "-B", "-m", "django", *arguments]
        variables = {"DJANGO_SETTINGS_MODULE": "shop.settings", "PATH": os.environ["PATH"]}
        switch: dict[str, Any] = {"user": self.account.pw_uid} if os.geteuid() == 0 else {}
        subprocess.run(command, check=True, cwd=self.project, env={**variables, "PYTHONPATH": "."}, **switch)

    def files(self) -> set[str]:
        return {str(path.relative_to(self.project)) for path in self.project.rglob("*")}

    def processes(self) -> set[int]:
        """Those that run in the project, by their numbers: others may be at work as the same account."""
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (path / "cwd").resolve() == self.project.resolve():
                    found.add(int(path.name))
        return found


@contextlib.contextmanager
def make_service() -> Iterator[Service]:
    """Where its account can read it: the folders of the tests and of pytest may be closed to others."""
    django = environment("5.2")
    if django is None or not Path("/usr/bin/python3").exists():
        pytest.skip("this needs Debian's Python, which every account can run, and another one for Django 5.2")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        virtualenv = Path(folder) / "venv"
        subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", virtualenv], check=True)
        (target,) = virtualenv.glob("lib/python3*/site-packages")
        (source,) = django.parents[1].glob("lib/python3*/site-packages")
        for package in ("django", "asgiref", "sqlparse"):
            shutil.copytree(source / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run([virtualenv / "bin/python", "-m", "compileall", "-q", target], check=True)
        yield Service(Path(folder), virtualenv)
