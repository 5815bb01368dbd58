"""Note each command line and environment that this account can see of any process, a hundred times a second."""

import contextlib
import sys
import time
from pathlib import Path

seen: set[bytes] = set()
with Path(sys.argv[1]).open("ab", buffering=0) as notes:
    while True:
        for process in Path("/proc").iterdir():
            for name in ("cmdline", "environ"):
                with contextlib.suppress(OSError):
                    found = (process / name).read_bytes() if process.name.isdigit() else b""
                    if found and found not in seen:
                        seen.add(found)
                        notes.write(found.replace(b"\0", b" ") + b"\n")
        time.sleep(0.01)
