"""What the tests of this scenario share."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import subprocess
from pathlib import Path
from typing import Any

EPHEMERAL = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
KEY = "canary-backups-encryption-key-0123456789"
MEDIA = "/srv/shop/media"
REPOSITORIES = ["store", "cellar"]
UNITS = "backups-media backups-postgres@full backups-postgres@diff"
RUNNING = f"systemctl is-active {UNITS} | grep -q activating"
# As a restore does it, beside the running cluster. It prints what a statement gives there.
RECOVERING = """
import datetime, pathlib, sys
sys.path.insert(0, "/usr/local/lib/backups")
import programs, recover, settings
name, statement, moment = sys.argv[1:]
known = settings.read()
until = datetime.datetime.fromisoformat(moment) if moment else None
beside = pathlib.Path("/var/lib/backups/postgres/beside")
try:
    with recover.recovered(known.cluster, recover.Source(known.repository(name), until), beside) as cluster:
        print(cluster.sql(statement))
except programs.Failure as failure:
    sys.exit(f"refused: {failure}")
finally:
    recover.remove(beside)
"""


def secrets() -> list[str]:
    derived = [hashlib.sha256(f"{label}:{KEY}".encode()).hexdigest() for label in ("postgres", "media")]
    private = (EPHEMERAL / "sftp").read_text().splitlines()[2]
    return [KEY, *derived, "canary-access-key", "canary-secret-key", private]


def postgres(host: Any, command: str) -> str:
    """Run a command as the account of the database."""
    return str(host.check_output(f"cd / && runuser -u postgres -- {command}"))


def sql(host: Any, statement: str) -> str:
    return postgres(host, f'psql -XAtqc "{statement}"')


def write(host: Any, text: str) -> str:
    """Write a row, finish the piece of the log that holds it, and return its name."""
    insert = f"psql -XAtqc \\\"INSERT INTO orders VALUES ('{text}')\\\""
    return postgres(host, f"sh -c \"{insert}; psql -XAtqc 'SELECT pg_walfile_name(pg_switch_wal())'\"")


def eventually(host: Any, command: str, seconds: int) -> bool:
    loop = f"until {{ {command}; }} >/dev/null 2>&1; do sleep 0.5; done"
    return bool(host.run(f"timeout {seconds} sh -c {shlex.quote(loop)}").rc == 0)


def archived(host: Any, wal: str, seconds: int = 60) -> bool:
    """Whether this piece of the log reaches all repositories in time."""
    query = f"SELECT 1 / (last_archived_wal >= '{wal}')::int FROM pg_stat_archiver"
    return eventually(host, f'cd / && runuser -u postgres -- psql -XAtqc "{query}"', seconds)


def backups(host: Any) -> list[tuple[str, int]]:
    """Return the type of each backup and the number of its repository, oldest first."""
    found = json.loads(postgres(host, "timeout 60 pgbackrest --output=json info"))[0]["backup"]
    return [(backup["type"], backup["database"]["repo-key"]) for backup in found]


def recover(host: Any, repository: str, statement: str, moment: str = "") -> Any:
    """Try to bring the databases back from one repository alone, and to ask them something."""
    arguments = shlex.join([RECOVERING, repository, statement, moment])
    return host.run(f"cd / && runuser -u postgres -- python3 -BIc {arguments}")


def recovered(host: Any, repository: str, statement: str, moment: str = "") -> str:
    done = recover(host, repository, statement, moment)
    assert done.rc == 0, done.stderr[-1000:]
    return str(done.stdout.strip())


def converge(*, fails: bool = False, **changes: Any) -> str:
    """Run the role with other variables, and return what it says, in one line."""
    done = subprocess.run(
        [
            *("ansible-playbook", "--inventory", EPHEMERAL / "inventory", "--extra-vars", json.dumps(changes)),
            Path(__file__).parents[1] / "converge.yml",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (2 if fails else 0), done.stdout
    assert [secret[:12] for secret in secrets() if secret in done.stdout + done.stderr] == []
    return " ".join((done.stdout + done.stderr).split())
