#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The files of a service, in one run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: files
short_description: Write the files of a service, and find what it has not read yet
version_added: 0.1.0
author: The groundwork.django authors (@groundwork-django)
description:
  - Writes any number of files and directories in one run, where M(ansible.builtin.template) and M(ansible.builtin.copy)
    need two or three for each file.
  - Compares the times of files with the time at which the systemd unit that reads them started, or was last reloaded.
    So a file that an earlier run wrote, before it was killed and its handlers with it, is found by the next run.
  - What a file contains is in no log and in no output, but for the differences that C(--diff) shows; see
    O(files[].diff).
attributes:
  check_mode:
    description: Says what would change, and changes nothing.
    support: full
  diff_mode:
    description: Shows what changes in the files.
    support: full
options:
  files:
    description: The files and directories, in the order in which they are made.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where it is. The directory that it is in must exist, or be listed before it.
        type: path
        required: true
      state:
        description: What it is. With C(absent), a file is removed.
        type: str
        choices: [file, directory, absent]
        default: file
      content:
        description:
          - What the file contains, for example from P(ansible.builtin.template#lookup).
          - Without it the file must be there already, and only its owner, group and mode are set.
        type: str
      owner:
        description: The account that it belongs to.
        type: str
        default: root
      group:
        description: The group that it belongs to.
        type: str
        default: root
      mode:
        description: Its permissions, as an octal number. The defaults are C(0644) for files, C(0755) for directories.
        type: str
      validate:
        description:
          - A command that fails if the content is bad, with C(%s) where the path of a copy belongs.
          - It runs before the file is replaced, and only when its content changes.
        type: str
      diff:
        description: Whether changes of the content are shown. Turn it off for files that hold secrets.
        type: bool
        default: true
      purge:
        description: Whether to remove all files from the directory that are not listed. Directories in it stay.
        type: bool
        default: false
      unit:
        description:
          - The systemd unit that reads it, with its suffix.
          - A directory is as young as the last file that was put into it or taken out of it.
        type: str
      watch:
        description: Paths of other files that O(files[].unit) reads, written elsewhere. Their times are compared too.
        type: list
        elements: path
        default: []
      read_on:
        description: When the unit reads it.
        type: str
        choices: [start, reload]
        default: start
"""

EXAMPLES = r"""
- name: Write the configuration
  groundwork.django.files:
    files:
      - {path: /etc/redis, state: directory, group: redis, mode: "0750"}
      - path: /etc/redis/redis.conf
        content: "{{ lookup('ansible.builtin.template', 'redis.conf.j2') }}"
        group: redis
        mode: "0640"
        unit: redis-server.service
  register: redis_files
  notify: Restart Redis # with the condition: redis_files.restart is truthy
"""

RETURN = r"""
written:
  description: The paths that were created, changed or removed.
  type: list
  elements: str
  returned: always
restart:
  description: Running units that started before one of their files changed.
  type: list
  elements: str
  returned: always
reload:
  description: Running units that were last started or reloaded before one of their files changed.
  type: list
  elements: str
  returned: always
"""

import dataclasses
import difflib
import grp
import os
import pwd
import tempfile
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

ARGUMENTS: dict[str, Any] = {
    "files": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["file", "directory", "absent"], "default": "file"},
            "content": {"type": "str", "no_log": True},
            "owner": {"type": "str", "default": "root"},
            "group": {"type": "str", "default": "root"},
            "mode": {"type": "str"},
            "validate": {"type": "str"},
            "diff": {"type": "bool", "default": True},
            "purge": {"type": "bool", "default": False},
            "unit": {"type": "str"},
            "watch": {"type": "list", "elements": "path", "default": []},
            "read_on": {"type": "str", "choices": ["start", "reload"], "default": "start"},
        },
    },
}


@dataclasses.dataclass
class Unit:
    """What systemd says about a unit: whether it runs, and since when it knows its files."""

    running: bool
    times: dict[str, datetime]


class FilesModule(AnsibleModule):  # type: ignore[misc]  # ansible-core is not typed
    def _log_invocation(self) -> None:
        """Name the files in the system's log, and not their contents: Ansible hides only secrets of a single line."""
        self.log("Invoked for " + " ".join(file["path"] for file in self.params["files"]))


def parse_unit(shown: str) -> Unit:
    """Read one paragraph of C(systemctl show)."""
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    names = {"start": "InactiveExitTimestamp", "reload": "StateChangeTimestamp"}
    # "Sat 2026-11-21 06:42:38.123456 UTC"; nothing for what has never run.
    times = {
        event: datetime.strptime(values[name][4:], "%Y-%m-%d %H:%M:%S.%f UTC").replace(tzinfo=timezone.utc)
        for event, name in names.items()
        if values.get(name)
    }
    return Unit(values.get("ActiveState") in ("active", "activating", "reloading"), times)


def show_units(module: AnsibleModule, names: list[str]) -> dict[str, Unit]:
    if not names:
        return {}
    properties = "--property=ActiveState,InactiveExitTimestamp,StateChangeTimestamp"
    command = ["systemctl", "show", "--timestamp=us+utc", properties, *names]
    shown = module.run_command(command, check_rc=True)[1]
    return dict(zip(names, map(parse_unit, shown.split("\n\n"))))


def difference(path: str, before: str, after: str) -> str:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), path, path, lineterm="")
    return "".join(f"{line}\n" for line in lines)


def replace(module: AnsibleModule, file: dict[str, Any]) -> None:
    """Put the new content in the place of the old one, at once and not before it is found good."""
    directory = Path(file["path"]).parent
    if not directory.is_dir():
        module.fail_json(msg=f"{file['path']}: there is no directory {directory}; list it before the file")
    handle, temporary = tempfile.mkstemp(dir=module.tmpdir)
    with os.fdopen(handle, "wb") as copy:
        copy.write(file["content"].encode())
    if file["validate"]:
        status, output, error = module.run_command(file["validate"].replace("%s", temporary))
        if status:
            module.fail_json(msg=f"{file['path']}: the new content is not valid: {(error or output).strip()}")
    module.atomic_move(temporary, file["path"])


def write(module: AnsibleModule, file: dict[str, Any]) -> tuple[bool, str]:
    """Write the content of a file; return whether it was another before, and the difference."""
    path = Path(file["path"])
    before = path.read_bytes().decode(errors="replace") if path.exists() else None
    if before == file["content"]:
        return False, ""
    if not module.check_mode:
        replace(module, file)
    hidden = f"{file['path']}: another content, which is not shown\n"
    return True, difference(file["path"], before or "", file["content"]) if file["diff"] else hidden


def make_directory(module: AnsibleModule, path: str) -> bool:
    if Path(path).is_dir():
        return False
    if not module.check_mode:
        Path(path).mkdir()
    return True


def remove(module: AnsibleModule, path: str) -> bool:
    if not os.path.lexists(path):
        return False
    if not module.check_mode:
        Path(path).unlink()
    return True


def purge(module: AnsibleModule, directory: str) -> list[str]:
    """Remove what is in a directory and not listed; return it. In check mode the directory may be missing."""
    listed = {file["path"] for file in module.params["files"]}
    entries = Path(directory).iterdir() if Path(directory).is_dir() else ()
    others = [path for path in entries if str(path) not in listed and (path.is_symlink() or not path.is_dir())]
    for path in others if not module.check_mode else ():
        path.unlink()
    return sorted(map(str, others))


def is_known(look_up: Callable[[str], Any], name: str) -> bool:
    try:
        look_up(name)
    except KeyError:
        return False
    return True


def set_access(module: AnsibleModule, file: dict[str, Any]) -> str:
    """Set owner, group and mode; return what was another before."""
    # In check mode, those who are to be made by a task before are not there.
    known = {"owner": pwd.getpwnam, "group": grp.getgrnam} if module.check_mode else {}
    missing = [name for name, look_up in known.items() if not is_known(look_up, file[name])]
    wanted = {name: file[name] for name in ("path", "owner", "group") if name not in missing}
    wanted["mode"] = file["mode"] or {"file": "0644", "directory": "0755"}[file["state"]]
    change: dict[str, Any] = {"before": {}, "after": {}}
    module.set_fs_attributes_if_different(module.load_file_common_arguments(wanted), changed=False, diff=change)
    lines = [f"{name} -> {file[name]}" for name in missing]
    for name, value in change["after"].items():
        lines += [f"{name} {change['before'][name]} -> {value}"] if name != "path" else []
    return "".join(f"{file['path']}: {line}\n" for line in lines)


def is_news(path: str, known: datetime | None) -> bool:
    """Tell whether a file is younger than what its unit knows of it."""
    return known is not None and os.path.lexists(path) and os.lstat(path).st_mtime > known.timestamp()


def find_waiting(module: AnsibleModule, rewritten: set[str]) -> dict[str, list[str]]:
    """Find the running units that have yet to read one of their files."""
    files = [file for file in module.params["files"] if file["unit"]]
    units = show_units(module, sorted({file["unit"] for file in files}))
    waiting: dict[str, set[str]] = {"start": set(), "reload": set()}
    for file in files:
        unit, event, paths = units[file["unit"]], file["read_on"], {file["path"], *file["watch"]}
        if unit.running and (paths & rewritten or any(is_news(path, unit.times.get(event)) for path in paths)):
            waiting[event].add(file["unit"])
    return {event: sorted(names) for event, names in waiting.items()}


def converge(module: AnsibleModule, file: dict[str, Any]) -> tuple[bool, str]:
    """Make or remove one file or directory; return whether it was another before, and the difference."""
    if file["state"] == "directory":
        return make_directory(module, file["path"]), ""
    if file["state"] == "absent":
        removed = remove(module, file["path"])
        return removed, f"{file['path']}: removed\n" if removed else ""
    if file["content"] is None:
        if not module.check_mode and not Path(file["path"]).exists():
            module.fail_json(msg=f"{file['path']}: there is no such file, and no content for one")
        return False, ""
    return write(module, file)


def run(module: AnsibleModule) -> dict[str, Any]:
    written: set[str] = set()
    rewritten: set[str] = set()
    differences = ""
    for file in module.params["files"]:
        changed, shown = converge(module, file)
        # What is not there in check mode has no owner to compare.
        access = set_access(module, file) if file["state"] != "absent" and Path(file["path"]).exists() else ""
        differences += shown + access
        rewritten |= {file["path"]} if changed else set()
        written |= {file["path"]} if changed or access else set()
        if file["purge"]:
            removed = purge(module, file["path"])
            differences += "".join(f"{path}: removed\n" for path in removed)
            written |= set(removed)
    waiting = find_waiting(module, rewritten)
    return {
        "changed": bool(written or waiting["start"] or waiting["reload"]),
        "written": sorted(written),
        "restart": waiting["start"],
        "reload": waiting["reload"],
        **({"diff": {"prepared": differences}} if differences else {}),
    }


def main() -> None:
    module = FilesModule(ARGUMENTS, supports_check_mode=True)
    # Until its owner and mode are set, nobody else can read a new file.
    before = os.umask(0o077)
    try:
        result = run(module)
    except OSError as error:
        module.fail_json(msg=str(error))
    finally:
        # Mitogen runs the next module in the same process.
        os.umask(before)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
