"""Mitogen's strategy, without what costs the tests more than it brings.

It pins its processes to processors: test hosts are started by a task, inherit what it may use, and would share one
processor for as long as they live. And for each task with a module of a collection it searches all that are installed.
"""

from __future__ import annotations

from typing import Any

import ansible.collections.list
import ansible_mitogen.affinity
import ansible_mitogen.strategy
from ansible.plugins.strategy import linear

# This one and those that it depends on.
OURS = ["groundwork.django", "ansible.posix", "community.crypto", "community.general", "community.postgresql"]
FOUND = list(ansible.collections.list.list_collection_dirs(coll_filter=OURS))


def list_collection_dirs(**_filters: Any) -> list[bytes]:
    return FOUND


ansible.collections.list.list_collection_dirs = list_collection_dirs
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, linear.StrategyModule):  # type: ignore[misc]
    """Ansible looks for this name."""
