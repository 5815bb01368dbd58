"""A virtual environment for each version of Django, kept in .cache."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Versions of Django, and the versions of Python to run them on, best first.
PYTHONS = {
    "4.2": ("3.11", "3.12", "3.10", "3.9"),
    "5.2": ("3.12", "3.11", "3.13"),
    "6.0": ("3.12", "3.13"),
    "6.1": ("3.13", "3.12"),
}
PACKAGES = ("django-redis", "psycopg[binary]", "redis", "whitenoise")


def runs(python: str, version: str) -> bool:
    code = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    except OSError:
        return False
    return done.stdout.strip() == version


def find_python(version: str) -> str | None:
    """Names on the PATH first, then what pyenv has: its shims of versions that are not active only fail."""
    candidates = [f"python{version}", "python3"]
    if shutil.which("pyenv"):
        listed = subprocess.run(["pyenv", "versions", "--bare"], capture_output=True, text=True, check=True)
        for name in listed.stdout.split():
            if name.startswith(version + "."):
                prefix = subprocess.run(["pyenv", "prefix", name], capture_output=True, text=True, check=True)
                candidates.append(prefix.stdout.strip() + "/bin/python3")
    return next((each for each in candidates if runs(each, version)), None)


def environment(django: str) -> Path | None:
    """The interpreter that has this version of Django, made when there is none; None without a Python for it."""
    found = next(((each, python) for each in PYTHONS[django] if (python := find_python(each))), None)
    if found is None:
        return None
    version, python = found
    folder = ROOT / f".cache/django-{django}-py{version}"
    wanted = "\n".join((f"django=={django}.*", *PACKAGES))
    stamp = folder / ".installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([python, "-m", "venv", str(folder)], check=True)
        pip = [str(folder / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *wanted.split("\n")], check=True, env={**os.environ, "PIP_NO_INPUT": "1"})
        stamp.write_text(wanted)
    return folder / "bin/python"
