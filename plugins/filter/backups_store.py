# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role backups_store asks about its clients, and what they are to know of it."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ..module_utils import _store


def public_key(private_key: object) -> str:
    try:
        return _store.public_key(str(private_key))
    except ValueError as error:
        raise AnsibleFilterError(f"ssh_public_key: {error}") from None


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "backups_store_files": _store.files,
            "backups_store_missing": _store.missing,
            "backups_store_other_keys": _store.other_keys,
            "backups_store_problems": _store.problems,
            "backups_store_repository": _store.repository,
            "ssh_host_keys": _store.host_keys,
            "ssh_private_key": _store.private_key,
            "ssh_public_key": public_key,
        }
