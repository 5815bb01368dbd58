"""Mitogen's strategy, without the pinning of its processes to processors.

Test hosts are started by a task, inherit what it may use, and would share one processor for as long as they live.
"""

from __future__ import annotations

import ansible_mitogen.affinity
import ansible_mitogen.strategy
from ansible.plugins.strategy import linear

ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, linear.StrategyModule):  # type: ignore[misc]
    """Ansible looks for this name."""
