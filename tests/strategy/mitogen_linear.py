"""Mitogen's strategy, without what costs the tests more than it brings.

It pins its processes to processors: test hosts are started by a task, inherit what it may use, and would share one
processor for as long as they live. And for each task with a module of a collection it searches all that are installed.

Ansible itself parses vars_files anew for each task and host, copies all variables for each lookup of a template, and
compiles each template anew in each of its processes, of which there is one for each task. Here it does so once. Nor do
these collect garbage: they end soon, and looking for it copies the memory that they share with the one they come from.
"""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path
from typing import Any

import ansible.collections.list
import ansible_mitogen.affinity
import ansible_mitogen.strategy
from ansible._internal._templating._engine import _TemplateCompileContext
from ansible._internal._templating._jinja_bits import AnsibleEnvironment
from ansible.constants import config
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import lookup_loader
from ansible.plugins.strategy import linear
from jinja2 import FileSystemBytecodeCache

# This one and those that it depends on.
OURS = ["groundwork.django", "ansible.posix", "community.crypto", "community.general", "community.postgresql"]
FOUND = list(ansible.collections.list.list_collection_dirs(coll_filter=OURS))
COMPILED = Path(config.get_config_value("ANSIBLE_HOME")) / "compiled"

compiled = FileSystemBytecodeCache(str(COMPILED))
compile_anew = AnsibleEnvironment.compile
load = DataLoader.load_from_file


def list_collection_dirs(**_filters: Any) -> list[bytes]:
    return FOUND


def load_once(self: DataLoader, file_name: str, cache: str = "all", **options: Any) -> Any:
    return load(self, file_name, cache="all" if cache == "vaulted" else cache, **options)


def compile_once(self: AnsibleEnvironment, source: Any, *args: Any, **options: Any) -> Any:
    context = _TemplateCompileContext.current(optional=True)  # a template that another one includes has none
    escapes = context is None or context.escape_backslashes
    overlay = (self.variable_start_string, self.comment_start_string, self.trim_blocks, self.lstrip_blocks)
    bucket = compiled.get_bucket(self, repr((source, escapes, overlay, args, options)), None, "")
    if bucket.code is None:
        bucket.code = compile_anew(self, source, *args, **options)
        compiled.set_bucket(bucket)
    return bucket.code


COMPILED.mkdir(parents=True, exist_ok=True)
os.register_at_fork(after_in_child=gc.disable)
AnsibleEnvironment.compile = compile_once
DataLoader.load_from_file = load_once
sys.modules[lookup_loader.get("ansible.builtin.template", class_only=True).__module__].deepcopy = dict  # type: ignore[attr-defined]
ansible.collections.list.list_collection_dirs = list_collection_dirs
ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()


class StrategyModule(ansible_mitogen.strategy.StrategyMixin, linear.StrategyModule):  # type: ignore[misc]
    """Ansible looks for this name."""
