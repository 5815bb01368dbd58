"""Stands in for get-pip.py: installs with the pip that Python itself brings along."""

import ensurepip
import sys
from pathlib import Path

if __name__ == "__main__":
    # Debian keeps it beside its Python.
    places = (Path(ensurepip.__file__).parent / "_bundled", Path(sys.base_prefix, "share/python-wheels"))
    wheel = max(wheel for place in places for wheel in place.glob("pip-*.whl"))
    sys.path.insert(0, str(wheel))
    from pip._internal.cli.main import main

    wanted = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
    sys.exit(main(["install", "--upgrade", "--force-reinstall", *wanted]))
