#!/usr/bin/env python3
"""How long site.yml takes for one app, against a shell script that installs and starts the same things by hand.

Then how long deployments take, and what visitors notice of them.

Machines are noisy, so the figures to quote are the ratios of one run. Each contestant gets a fresh host; the script is
the floor, because it checks nothing, secures nothing and cannot be run twice.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

import bench_deploy  # noqa: E402
import testbed  # noqa: E402

import demo  # noqa: E402 (the same site and inventory)

FOLDER = ROOT / ".cache" / "bench"
MITOGEN = "mitogen==0.3.54"
# They run on the control node, or nowhere at all.
FREE = {
    "assert",
    "debug",
    "include_role",
    "include_tasks",
    "import_role",
    "include_vars",
    "meta",
    "validate_argument_spec",
}


def floor(bed: testbed.Bed) -> float:
    """Time the script, fed with the source of the app."""
    host = next(iter(bed["hosts"]))
    started = time.monotonic()
    source = subprocess.run(["tar", "-C", str(ROOT / "demo"), "-cz", "."], capture_output=True, check=True).stdout
    ssh = testbed.ssh_command(bed, host)
    subprocess.run([*ssh, "mkdir -p /srv/app && tar -xzC /srv/app"], input=source, check=True)
    script = (ROOT / "tests" / "floor.sh").read_text()
    subprocess.run([*ssh, "sh -eu"], input=script, text=True, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def converge(inventory: Path, **settings: str) -> tuple[float, dict[str, Any]]:
    """Time one run of site.yml and return what happened in it."""
    report = FOLDER / "report.json"
    environment = {
        **os.environ,
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_JSON_INDENT": "0",
        **settings,
    }
    started = time.monotonic()
    with report.open("w") as output:
        command = ["ansible-playbook", "-i", str(inventory), "groundwork.django.site"]
        done = subprocess.run(command, env=environment, stdout=output, check=False)
    seconds = time.monotonic() - started
    result: dict[str, Any] = json.loads(report.read_text())
    if done.returncode:
        failures = [host["msg"] for task in tasks(result) for host in task["hosts"].values() if host.get("failed")]
        sys.exit(f"site.yml failed: {failures}")
    return seconds, result


def tasks(result: dict[str, Any]) -> list[dict[str, Any]]:
    return [task for play in result["plays"] for task in play["tasks"]]


def module_runs(result: dict[str, Any]) -> int:
    """Count what was started on the host: each item of a loop, and nothing that was skipped or ran elsewhere."""
    count = 0
    for task in tasks(result):
        for answer in task["hosts"].values():
            if answer.get("action", "").rsplit(".", 1)[-1] in FREE or "_ansible_delegated_vars" in answer:
                continue
            items = answer.get("results", [answer])
            count += sum(1 for item in items if not item.get("skipped"))
    return count


def mitogen() -> dict[str, str]:
    folder = FOLDER / "mitogen"
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--target", folder, MITOGEN], check=True)
    plugins = folder / "ansible_mitogen" / "plugins" / "strategy"
    return {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(plugins), "PYTHONPATH": str(folder)}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str]] = []
    bed = testbed.up("bench", ["floor1", "site1"], "trixie", owner=os.getpid())
    try:
        by_hand = floor(bed)
        inventory = demo.write_inventory(bed, "site1", FOLDER)
        bench_deploy.use_copy(inventory)
        (FOLDER / "django_secrets.yml").unlink(missing_ok=True)
        first, first_result = converge(inventory)
        second, second_result = converge(inventory)
        faster, _ = converge(inventory, **mitogen())
        rows = [
            ("by hand (the floor)", f"{by_hand:6.1f} s"),
            ("first converge", f"{first:6.1f} s   {first / by_hand:.2f} x the floor"),
            ("second run", f"{second:6.1f} s   {second / by_hand:.2f} x the floor"),
            ("second run with Mitogen", f"{faster:6.1f} s   {faster / by_hand:.2f} x the floor"),
            ("module runs, first", f"{module_runs(first_result):6}"),
            ("module runs, second", f"{module_runs(second_result):6}"),
            *bench_deploy.rows(bed, "site1", inventory),
        ]
    finally:
        testbed.down("bench")
    for name, figure in rows:
        print(f"{name:34}{figure}")


if __name__ == "__main__":
    main()
