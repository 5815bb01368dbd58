# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Kills the run after a task that changed something, once for each task that the seed chooses."""

from __future__ import annotations

import os
import signal
import zlib
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: killer
type: aggregate
short_description: Kill a run after its first change that no earlier run was killed after
description: >-
  The file named by the environment variable KILLER_LIST keeps the names of the tasks. KILLER_SEED chooses a fifth of
  them, and all handlers.
requirements: [to be enabled]
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "killer"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: Any) -> None:
        path = Path(os.environ["KILLER_LIST"])
        name = result.task.get_name()
        chosen = " Re" in name or zlib.crc32(f"{os.environ['KILLER_SEED']} {name}".encode()) % 5 == 0
        if result.is_changed() and chosen and name not in path.read_text().splitlines():
            with path.open("a") as file:
                file.write(f"{name}\n")
            os.kill(os.getpid(), signal.SIGKILL)
