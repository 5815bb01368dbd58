# Managed by Ansible (groundwork.django.backups): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The backups of this server; the services backups-* call it. By hand: backups --help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import drill
import drill_media
import drill_postgres
import dump
import media
import now
import postgres
import report
import restore
import settings
import watch
from programs import Failure

Action = Callable[[settings.Settings, argparse.Namespace], bool]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="backups", description="The backups of this server.")
    actions = parser.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, meaning: str, act: Action) -> argparse.ArgumentParser:
        added = actions.add_parser(name, help=meaning, description=meaning)
        added.set_defaults(act=act)
        return added

    one = action(
        "save-postgres", "save PostgreSQL in each repository", lambda known, asked: postgres.save(known, asked.kind)
    )
    one.add_argument("kind", choices=["full", "diff", "incr"])
    action("save-media", "save the directories and files in each repository", lambda known, _asked: media.save(known))
    one = action(
        "now",
        "save everything at once, and say to which moment a restore can go back",
        lambda known, asked: now.save(known, asked.type, asked.only),
    )
    one.add_argument("--type", choices=["full", "diff", "incr"], default="incr", help="of the databases")
    one.add_argument("--only", choices=["databases", "media"])
    one = action(
        "dump",
        "write databases into files that pg_restore reads anywhere",
        lambda known, asked: dump.write(known, asked.databases),
    )
    one.add_argument("databases", nargs="+")
    one = action("restic", "restic, in a repository", lambda known, asked: media.by_hand(known, asked.arguments))
    one.add_argument("arguments", nargs=argparse.REMAINDER, metavar="[@REPOSITORY] ARGUMENTS")
    for one in (
        action("drill-postgres", "bring the newest backup back aside, and compare it", _drill("postgres")),
        action("drill-media", "bring a sample back aside, and compare it", _drill("media")),
    ):
        one.add_argument("--clean", action="store_true", help="only remove what a drill left that was killed")
    action(
        "watch",
        "fail where PostgreSQL's log waits or has a gap, or backups are old",
        lambda known, _asked: watch.look(known),
    )
    one = action(
        "report",
        "tell monitoring, and whoever is to be notified, how a unit ended",
        lambda known, asked: report.write(known, asked.unit),
    )
    one.add_argument("unit", choices=[*report.RECORDS, "backups-watch"])
    for one in (
        action("create-postgres", "make the repositories", lambda known, asked: postgres.create(known, asked.revision)),
        action("create-media", "make the repositories", lambda known, asked: media.create(known, asked.revision)),
    ):
        one.add_argument("revision", help="what they were made with")
    one = action("restore-plan", "say what a restore would do", lambda known, asked: restore.plan(known, asked.request))
    one.add_argument("request", type=restore.requested, help="what to restore, as JSON")
    for one in (
        action(
            "restore", "bring back what a repository holds", lambda known, asked: restore.restore(known, asked.request)
        ),
        action("restore-fetch", "its first step alone", lambda known, asked: restore.fetch(known, asked.request)),
        action("restore-hold", "stop what writes", lambda _known, asked: restore.hold(asked.request)),
        action("restore-swap", "its last step alone", lambda known, asked: restore.swap(known, asked.request)),
    ):
        one.add_argument("request", type=restore.requested, help="what to restore, as JSON")
    action("restore-end", "start what was stopped, and tidy up", lambda known, _asked: restore.end(known))
    one = action(
        "stage",
        "what `restore` does as the account of the database",
        lambda known, asked: restore.stage(known, asked.request, asked.name),
    )
    one.add_argument("request")
    one.add_argument("name")
    return parser.parse_args()


def _drill(what: str) -> Action:
    whole = {"postgres": drill_postgres.drill, "media": drill_media.drill}[what]

    def act(known: settings.Settings, asked: argparse.Namespace) -> bool:
        if not asked.clean:
            return whole(known)
        drill.clear(known.drill_directory / what)
        return True

    return act


def main() -> int:
    asked = arguments()
    return 0 if asked.act(settings.read(), asked) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Failure as failure:
        sys.exit(str(failure))
