# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The filters of the playbooks: from `django_apps` to what each role is told."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.yaml import yaml_load

from ..module_utils import _apps, _hosts, _wiring


def wired(
    apps: dict[str, Any], secrets: Mapping[str, Any], host: Mapping[str, Any], here: _hosts.Place
) -> dict[str, Any]:
    """Return the variables of all roles, for apps that app_problems found nothing wrong with."""
    try:
        return _wiring.wired(_apps.checked(apps), dict(secrets), host, here)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


def role_options(role: str) -> dict[str, Any]:
    """Return the options that the specification of a role of this collection names."""
    specification = Path(__file__).parents[2] / "roles" / role / "meta" / "argument_specs.yml"
    options: dict[str, Any] = yaml_load(specification.read_text())["argument_specs"]["main"].get("options", {})
    return options


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "app_hosts": _hosts.app_hosts,
            "app_problems": _wiring.problems,
            "host_addresses": _hosts.addresses,
            "host_problems": _hosts.problems,
            "hosts_of": _hosts.hosts_of,
            "new_secrets": _wiring.new_secrets,
            "secret_names": _wiring.secret_names,
            "secret_problems": _wiring.secret_problems,
            "several_hosts": _hosts.together,
            "misspelt_variables": _wiring.misspelt,
            "place": _hosts.place,
            "saved_hosts": _hosts.saved,
            "repository_problems": _wiring.unreadable,
            "role_options": role_options,
            "wired": wired,
        }
