# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the size of a server to PostgreSQL's settings."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ..module_utils._pgtune import IO_CONCURRENCY, pgtune

DOCUMENTATION = r"""
name: pgtune
short_description: Compute PostgreSQL settings from memory and processors
version_added: 0.1.0
author: The groundwork.django authors
description:
  - Applies the formulas of U(https://pgtune.leopard.in.ua) for a web application on Linux with PostgreSQL 15 or newer.
positional: cpus, max_connections, storage
options:
  _input:
    description: Megabytes of memory that PostgreSQL may count on.
    type: int
    required: true
  cpus:
    description: Number of processors.
    type: int
    required: true
  max_connections:
    description: Number of connections that PostgreSQL allows.
    type: int
    required: true
  storage:
    description: What the data lies on.
    type: str
    default: ssd
    choices: [ssd, nvme, san, hdd]
"""

EXAMPLES = r"""
- name: Show the settings for a server with 4 GB and 2 processors
  ansible.builtin.debug:
    msg: "{{ 4096 | groundwork.django.pgtune(cpus=2, max_connections=100) }}"
"""

RETURN = r"""
_value:
  description: Names and values, in the notation of C(postgresql.conf).
  type: dict
"""


def filter_pgtune(memory_mb: Any, cpus: Any, max_connections: Any, storage: str = "ssd") -> dict[str, str]:
    given = (memory_mb, cpus, max_connections)
    if any(not str(number).isdecimal() or int(number) < 1 for number in given) or storage not in IO_CONCURRENCY:
        raise AnsibleFilterError(
            f"pgtune: memory ({memory_mb} MB), processors ({cpus}) and connections ({max_connections}) must be "
            f"whole numbers above 0, and storage ({storage}) one of {', '.join(IO_CONCURRENCY)}"
        )
    return pgtune(int(memory_mb), int(cpus), int(max_connections), storage)


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"pgtune": filter_pgtune}
