from django.db import models


class Entry(models.Model):
    """What a visitor wrote, with a file if they like."""

    author = models.CharField(max_length=80)
    message = models.TextField(max_length=2000)
    attachment = models.FileField(upload_to="attachments/%Y/%m/", blank=True)
    written_at = models.DateTimeField(auto_now_add=True, db_index=True)

    class Meta:
        ordering = ("-written_at", "-pk")
        verbose_name_plural = "entries"

    def __str__(self) -> str:
        return f"{self.author}: {self.message[:40]}"


class Summary(models.Model):
    """How many entries there were at a time; one row for each run of count_entries."""

    entries = models.PositiveIntegerField()
    counted_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-counted_at", "-pk")
        verbose_name_plural = "summaries"

    def __str__(self) -> str:
        return f"{self.entries} entries at {self.counted_at:%Y-%m-%d %H:%M}"
