#!/usr/bin/env python3
"""Run molecule scenarios, some side by side, and hold each to what molecule itself does not check.

    scenarios.py [SCENARIO...]      all of them without a name

Besides a green molecule run, a scenario must print no deprecation warning, and its check after the converge must
report no change. Test hosts disappear with this process, however it ends.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / ".cache" / "logs"
# On two cores: each scenario waits for packages, services and timers for more than half of its time.
SIDE_BY_SIDE = 3
LIMIT_SECONDS = 50 * 60
# Of a line in the report: a test that failed prints what a whole playbook said. The logs have all of it.
LINE = 600
# By these words one knows the lines that say what failed: a test, a task that changed something again, a task.
CULPRITS = ("FAILED ", "ERROR tests/", "* ", "fatal: [", "[ERROR]:")
# Takes the places of two: it measures what visitors notice, which many neighbours would disturb.
WIDE = "deploy"
# Runs with the oldest ansible-core that the collection supports; all others with the newest.
OLDEST = {"bookworm"}
# What users have: Ansible as it is. All others run with Mitogen, which needs half of the processor's time.
PLAIN = OLDEST | {"hardening"}
# By these words one knows the warnings that Mitogen itself causes.
OF_MITOGEN = ("strategy plugins not included in ansible.builtin", "`_loader` internal attribute")
# The long ones first, so that the end is not one long scenario alone.
LONG = (
    *(WIDE, "default", "fleet", "security", "restore", "guides", "backups_remote", "acme", "bookworm", "django_app"),
    *("backups", "gunicorn", "interrupted", "nginx_tls", "internal_tls", "redis_tunnel", "backups_store", "hardening"),
)

places = threading.Semaphore(SIDE_BY_SIDE)
# Who waits for a place is overtaken by none.
turn = threading.Lock()


def all_scenarios() -> list[str]:
    found = {path.parent.name for path in ROOT.glob("molecule/*/molecule.yml")}
    return [name for name in LONG if name in found] + sorted(found - {*LONG})


def environment(scenario: str) -> dict[str, str]:
    venv = ROOT / ".venv"
    if scenario in OLDEST:
        venv = ROOT / ".cache" / "venv-oldest"
        subprocess.run([ROOT / "tests/setup.sh", venv, ROOT / "tests/requirements-oldest.txt"], check=True)
    system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    mitogen = {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(ROOT / "tests" / "strategy")}
    return {
        **os.environ,
        **({} if scenario in PLAIN else mitogen),
        "PATH": f"{venv}/bin:{system}",
        "ANSIBLE_HOME": str(ROOT / ".cache" / f"ansible-{scenario}"),
        "MOLECULE_GLOB": "molecule/*/molecule.yml",
        "NO_COLOR": "1",
        "TESTBED_OWNER": str(os.getpid()),
    }


def complaints(log: str) -> list[str]:
    """What is wrong with a run that molecule calls a success."""
    warnings = [line for line in log.splitlines() if "[DEPRECATION WARNING]" in line]
    found = [line for line in warnings if not any(word in line for word in OF_MITOGEN)]
    checks = log.split("> check] Executing")
    if len(checks) > 2:
        recap = re.findall(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", checks[2].split("> verify]")[0], re.MULTILINE)
        found += [f"the check after the converge would change {n} things on {host}" for host, n in recap if n != "0"]
    return found


def run(scenario: str) -> tuple[str, float, list[str]]:
    with contextlib.ExitStack() as taken:
        with turn:
            for _place in range(2 if scenario == WIDE else 1):
                taken.enter_context(places)
        return test(scenario)


def test(scenario: str) -> tuple[str, float, list[str]]:
    started = time.monotonic()
    log = LOGS / f"{scenario}.log"
    with log.open("w") as output:
        try:
            status = subprocess.run(
                ["molecule", "test", "--scenario-name", scenario],
                cwd=ROOT,
                env=environment(scenario),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                timeout=LIMIT_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = -1
            # Its tests go on, but have nothing left to load the machine with.
            destroy = ["molecule", "destroy", "--scenario-name", scenario]
            subprocess.run(destroy, cwd=ROOT, env=environment(scenario), stdout=output, stderr=output, check=False)
    text = log.read_text(errors="replace")
    problems = [] if status == 0 else [f"molecule ended with status {status}:", *text.splitlines()[-150:]]
    return scenario, time.monotonic() - started, problems + complaints(text)


def shortened(line: str) -> str:
    return line if len(line) <= LINE else f"{line[: LINE // 2]} [...] {line[-LINE // 2 :]}"


def report(scenario: str, seconds: float, problems: list[str]) -> list[str]:
    """Tell how a scenario went; return the lines that say what failed."""
    print(f"{scenario:12} {'FAILED' if problems else 'passed'} in {seconds:.0f} s", flush=True)
    for line in problems:
        print(f"    {shortened(line)}", flush=True)
    culprits = [line for line in problems if line.startswith(CULPRITS)]
    return [f"{scenario}: {shortened(line)}" for line in dict.fromkeys(culprits or problems[:1])]


def main() -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    names = sys.argv[1:] or all_scenarios()
    unknown = set(names) - set(all_scenarios())
    if unknown:
        sys.exit(f"no such scenario: {', '.join(unknown)}; there are: {', '.join(all_scenarios())}")
    with concurrent.futures.ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        ended = concurrent.futures.as_completed([pool.submit(run, name) for name in names])
        failures = [report(*future.result()) for future in ended]
    failed = sum(map(bool, failures))
    print("\n".join([f"scenarios: {len(names) - failed} passed, {failed} failed", *itertools.chain(*failures)]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
