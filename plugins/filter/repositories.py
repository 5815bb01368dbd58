# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role backups asks about the places that backups go to."""

from __future__ import annotations

from typing import Any, Callable

from ..module_utils import _repositories


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "file_below": _repositories.file_below,
            "repository_archive_files": _repositories.archive_files,
            "repository_files": _repositories.files,
            "repositories_complete": _repositories.complete,
            "repositories_named": _repositories.named,
            "repositories_problems": _repositories.problems,
            "repository_media_files": _repositories.media_files,
        }
