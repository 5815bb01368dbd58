from __future__ import annotations

from django.core.management.base import BaseCommand

from guestbook.models import Entry, Summary


class Command(BaseCommand):
    help = "Write down how many entries the guest book has."

    def handle(self, **_options: object) -> None:
        summary = Summary.objects.create(entries=Entry.objects.count())
        self.stdout.write(str(summary))
