"""The other host of this scenario."""

from __future__ import annotations

import os
from typing import Any

import pytest
import testinfra


@pytest.fixture(scope="module")
def outside() -> Any:
    """A stranger on the network of the site, with scanners; it is the CA as well."""
    inventory = os.environ["MOLECULE_EPHEMERAL_DIRECTORY"] + "/inventory"
    return testinfra.get_host("ansible://ca1", ansible_inventory=inventory)
