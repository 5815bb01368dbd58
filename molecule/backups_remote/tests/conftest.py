"""The other host of this scenario."""

from __future__ import annotations

from typing import Any

import pytest
import testinfra
from remote import EPHEMERAL  # beside this file


@pytest.fixture(scope="module")
def cellar() -> Any:
    """The host that keeps the backups."""
    return testinfra.get_host("ansible://cellar1", ansible_inventory=str(EPHEMERAL / "inventory"))
