# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Write files that hold secrets into a release; runs on the server, in the release and in the sandbox of its build.

Reads a JSON object from standard input: path and content of each. Nobody but the account of the app can read them.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

for name, content in json.load(sys.stdin).items():
    path = Path(name)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
