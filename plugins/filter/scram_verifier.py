# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From a password to what PostgreSQL stores of it."""

from __future__ import annotations

from typing import Any, Callable

from ansible.errors import AnsibleFilterError

from ..module_utils._scram import scram_verifier

DOCUMENTATION = r"""
name: scram_verifier
short_description: Compute the SCRAM-SHA-256 verifier of a PostgreSQL password
version_added: 0.1.0
author: The groundwork.django authors
description:
  - Turns a password into the text that PostgreSQL keeps of it in C(pg_authid), so that the password itself is in no
    SQL statement, and so in no log of the server.
  - The same role and password give the same text, so a task that sets it changes nothing the second time.
positional: role
options:
  _input:
    description: The password, in printable ASCII characters.
    type: str
    required: true
  role:
    description: Name of the role that the password belongs to.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Set the password of a role
  community.postgresql.postgresql_user:
    name: shop
    password: "{{ vault_shop_password | groundwork.django.scram_verifier('shop') }}"
"""

RETURN = r"""
_value:
  description: The verifier, in the notation of C(pg_authid).
  type: str
"""


def filter_scram_verifier(password: object, role: object) -> str:
    if not isinstance(password, str) or not isinstance(role, str):
        raise AnsibleFilterError("scram_verifier: the password and the name of the role must be texts")
    try:
        return scram_verifier(password, role)
    except ValueError as error:
        raise AnsibleFilterError(f"scram_verifier: role {role}: {error}") from None


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"scram_verifier": filter_scram_verifier}
