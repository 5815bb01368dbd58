# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the inventory says about the backups of this server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path("/etc/backups")
STATE = Path("/var/lib/backups")


@dataclass(frozen=True)
class Repository:
    name: str
    number: int
    """By which the engine for databases knows it."""


@dataclass(frozen=True)
class Saved:
    """A directory or file that is saved."""

    name: str
    path: Path
    account: str
    """Whose it is."""


@dataclass(frozen=True)
class Cluster:
    """The PostgreSQL cluster that is saved."""

    version: str
    data: Path
    port: int

    def program(self, name: str) -> str:
        return f"/usr/lib/postgresql/{self.version}/bin/{name}"


@dataclass(frozen=True)
class Settings:
    repositories: list[Repository]
    cluster: Cluster | None
    saved: list[Saved]
    retention_days: int
    retention_count: int | None
    newest_hours: int
    """How old the newest backup may be."""
    elsewhere: bool
    """Whether the loss of this server leaves a repository."""
    drill_directory: Path
    metrics_directory: str
    notify_command: list[str]

    def repository(self, name: str | None) -> Repository:
        """Return the one of that name, or the first."""
        for repository in self.repositories:
            if name in (None, repository.name):
                return repository
        there_are = ", ".join(repository.name for repository in self.repositories)
        raise ValueError(f"there is no repository {name}; there are: {there_are}")


def read() -> Settings:
    given: dict[str, Any] = json.loads((FOLDER / "settings.json").read_text())
    cluster = given.pop("cluster")
    return Settings(
        repositories=[Repository(**repository) for repository in given.pop("repositories")],
        cluster=Cluster(**{**cluster, "data": Path(cluster["data"])}) if cluster else None,
        drill_directory=Path(given.pop("drill_directory")),
        saved=[
            Saved(saved["name"], Path(saved["path"]), saved.get("account", saved["name"]))
            for saved in given.pop("saved")
        ],
        **given,
    )
