"""What is left of runs that somebody killed, and what the next one makes of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

from browser import Browser  # shared by the scenarios, not installed

DOMAIN = "guestbook.test"
FAR_MORE_THAN_THERE_ARE_TASKS = 150


def converge(**settings: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = ["ansible-playbook", "--inventory", EPHEMERAL / "inventory", "groundwork.django.site"]
    return subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)


def test_a_run_that_is_killed_after_any_of_its_changes_is_finished_by_the_next(host: Any, tmp_path: Path) -> None:
    seed = os.environ.get("KILLER_SEED", str(time.time_ns()))
    print(f"KILLER_SEED={seed}")
    killed_after = tmp_path / "tasks"
    killed_after.touch()
    settings = {"ANSIBLE_CALLBACKS_ENABLED": "killer", "KILLER_LIST": str(killed_after), "KILLER_SEED": seed}
    for _ in range(FAR_MORE_THAN_THERE_ARE_TASKS):
        run = converge(**settings)
        if run.returncode != -signal.SIGKILL:
            break
    tasks = killed_after.read_text().splitlines()
    assert run.returncode == 0, f"after {tasks[-1:]}:\n{run.stdout[-5000:]}{run.stderr[-5000:]}"
    # A fifth of what a run from beginning to end has, chosen anew each time, and all handlers.
    assert len(tasks) > 8, tasks
    assert any("Restart" in task or "Reload" in task for task in tasks)
    assert re.search(r" changed=0 ", converge().stdout)

    certificate = host.check_output("cat /etc/nginx/tls/guestbook.crt")
    guest = Browser(DOMAIN, host.ansible.get_variables()["ansible_host"], certificate)
    assert guest.get("/").status == 200
    assert guest.get("/health/").status == 200
    assert guest.get("/admin/login/").status == 200
    # Each service runs with what was written for it, although the handlers of most runs were lost.
    assert host.check_output("systemctl --failed --quiet") == ""
    assert host.check_output("runuser -u postgres -- psql -XAtc 'SHOW log_min_duration_statement'") == "500ms"
    pending = "SELECT count(*) FROM pg_settings WHERE pending_restart"
    assert host.check_output(f"runuser -u postgres -- psql -XAtc '{pending}'") == "0"
    host.check_output("guestbook-manage check --deploy --fail-level ERROR")
    host.check_output("systemctl is-active --quiet backups-media.timer django-guestbook-clearsessions.timer")
