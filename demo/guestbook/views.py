"""The guest book itself, and three small pages that tests of a deployment ask."""

from __future__ import annotations

import os
import platform
import time
from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.http import HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from guestbook.forms import EntryForm
from guestbook.models import Entry, Summary

if TYPE_CHECKING:
    from django.http import HttpRequest

LONGEST_SLEEP = 15


def count_hit() -> int | None:
    """Count a visit of anybody; there is no number while the cache is away."""
    cache.add("hits", 0, timeout=None)
    try:
        return cache.incr("hits")
    except ValueError:
        return None


def book(request: HttpRequest) -> HttpResponse:
    """List what visitors wrote, and take a new entry."""
    form = EntryForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        form.save()
        return redirect("book")

    request.session["visits"] = request.session.get("visits", 0) + 1
    context = {
        "form": form,
        "entries": Entry.objects.all()[:50],
        "summary": Summary.objects.first(),
        "hits": count_hit(),
        "visits": request.session["visits"],
    }
    return render(request, "guestbook/book.html", context)


@never_cache
@require_safe
def health(_request: HttpRequest) -> JsonResponse:
    """Ask the database and the cache; without the cache the site is slower, but well."""
    cache.set("health", "well", timeout=5)
    answers = {"database": True, "cache": cache.get("health") == "well"}
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError:
        answers["database"] = False
    return JsonResponse(answers, status=200 if answers["database"] else 503)


@never_cache
@require_safe
def status(_request: HttpRequest) -> JsonResponse:
    """Tell what serves this request. A real site would not tell it to strangers."""
    database = connection.get_connection_params()
    return JsonResponse(
        {
            "database": connection.vendor,
            "database_host": str(database.get("host", "")),
            "database_port": str(database.get("port", "")),
            "cache": settings.CACHES["default"]["BACKEND"],
            "sessions": settings.SESSION_ENGINE,
            "settings": settings.SETTINGS_MODULE,
            "debug": settings.DEBUG,
            "django": django.get_version(),
            "python": platform.python_version(),
            "process": os.getpid(),
            "host": platform.node(),
            "release": str(settings.BASE_DIR),
        },
    )


@never_cache
@require_safe
def slow(_request: HttpRequest, seconds: int) -> HttpResponse:
    """Take a while, to see that a request in flight survives a restart."""
    seconds = min(seconds, LONGEST_SLEEP)
    time.sleep(seconds)
    return HttpResponse(f"slept {seconds} s in process {os.getpid()}\n", content_type="text/plain")
