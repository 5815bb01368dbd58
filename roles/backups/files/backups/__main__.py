# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The backups of this server; the services backups-* call it. By hand: backups --help."""

from __future__ import annotations

import argparse
import sys

import media
import postgres
import restore
import settings
import watch
from programs import Failure, say


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="backups", description="The backups of this server.")
    actions = parser.add_subparsers(dest="action", required=True)
    saving = actions.add_parser("save-postgres", help="save PostgreSQL in each repository")
    saving.add_argument("kind", choices=["full", "diff", "incr"])
    actions.add_parser("save-media", help="save the directories and files in each repository")
    for engine in ("postgres", "media"):
        creating = actions.add_parser(f"create-{engine}", help="make the repositories, once")
        creating.add_argument("revision", help="what they were made with")
    actions.add_parser("watch", help="fail while PostgreSQL cannot hand over its log, or has lost some of it")
    for action, meaning in (("restore-plan", "say what a restore would do"), ("restore", "do it")):
        restoring = actions.add_parser(action, help=meaning)
        restoring.add_argument("request", type=restore.requested, help="what to restore, as JSON")
    staging = actions.add_parser("stage", help="what `restore` does as the account of the database")
    staging.add_argument("request")
    staging.add_argument("name")
    by_hand = actions.add_parser("restic", help="restic, in a repository: restic [@REPOSITORY] ARGUMENTS")
    by_hand.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser.parse_args()


def main() -> int:
    asked = arguments()
    known = settings.read()
    match asked.action:
        case "save-postgres":
            ok = postgres.save(known, asked.kind)
        case "save-media":
            ok = media.save(known)
        case "create-postgres":
            ok = postgres.create(known, asked.revision)
        case "create-media":
            ok = media.create(known, asked.revision)
        case "watch":
            ok = watch.look(known)
        case "restore-plan":
            ok = restore.plan(known, asked.request)
        case "restore":
            ok = restore.restore(known, asked.request)
        case "stage":
            ok = restore.stage(known, asked.request, asked.name)
        case _:
            media.by_hand(known, asked.arguments)
    return 0 if ok else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        say(f"ERROR: {failure}")
        sys.exit(1)
