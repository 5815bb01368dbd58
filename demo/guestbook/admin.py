from django.contrib import admin

from guestbook.models import Entry, Summary


@admin.register(Entry)
class EntryAdmin(admin.ModelAdmin):
    list_display = ("author", "message", "attachment", "written_at")
    search_fields = ("author", "message")


@admin.register(Summary)
class SummaryAdmin(admin.ModelAdmin):
    list_display = ("counted_at", "entries")
