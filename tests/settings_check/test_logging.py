"""What is told from LOGGING alone is what Python would do."""

from __future__ import annotations

import subprocess

from settings_check.interpreters import ROOT
from settings_check.version import Django


def test_errors_are_lost_where_the_rule_says_so_and_nowhere_else(django: Django) -> None:
    paths = ROOT / "tests/settings_check/compare_logging.py", ROOT / "plugins/module_utils/_settings_check"
    command = [str(django.python), "-B", *map(str, paths), "a seed", "2000"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr
    lost = int(done.stdout)
    assert 500 < lost < 1900
