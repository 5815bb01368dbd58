"""Mail, background tasks, and the limits and times that hold for everything."""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Tuple

from .registry import Context, Finding, finding, rule
from .values import entries, items, value

BACKENDS = "django.core.mail.backends."
SMTP = BACKENDS + "smtp.EmailBackend"
UNSENT = frozenset(BACKENDS + name + ".EmailBackend" for name in ("console", "dummy", "filebased", "locmem"))
MAILERS_SINCE = (6, 1)


def has_mailers(context: Context) -> bool:
    return context.django >= MAILERS_SINCE and "MAILERS" in context.explicit


def ways(context: Context) -> Iterator[Tuple[str, str, str, Any]]:
    """Alias, setting, backend and timeout of each way to send mail."""
    if not has_mailers(context):
        yield "default", "EMAIL_BACKEND", str(value(context, "EMAIL_BACKEND", SMTP)), value(context, "EMAIL_TIMEOUT")
        return
    for alias, mailer in entries(context, "MAILERS"):
        options = mailer.get("OPTIONS")
        timeout = options.get("timeout") if isinstance(options, dict) else None
        yield alias, f"MAILERS.{alias}.BACKEND", str(mailer.get("BACKEND") or SMTP), timeout


@rule("settings")
def mail(context: Context) -> Iterable[Finding]:
    if "MAILERS" in context.explicit and not has_mailers(context):
        yield finding("mailers_ignored", "MAILERS")
    for alias, setting, backend, timeout in ways(context):
        if alias == "default" and backend in UNSENT:
            yield finding("email_not_sent", setting, subject=backend)
        if backend == SMTP and timeout is None:
            where = f"MAILERS.{alias}.OPTIONS.timeout" if has_mailers(context) else "EMAIL_TIMEOUT"
            yield finding("email_no_timeout", where)


@rule("settings")
def email_default_from(context: Context) -> Iterable[Finding]:
    senders = [("DEFAULT_FROM_EMAIL", "webmaster@localhost")]
    if items(context, "ADMINS") or items(context, "MANAGERS"):
        senders.append(("SERVER_EMAIL", "root@localhost"))
    for name, default in senders:
        if value(context, name) == default:
            yield finding("email_default_from", name, subject=default)


@rule("settings")
def tasks(context: Context) -> Iterable[Finding]:
    # Django's own default does not mean that there are any tasks.
    if "TASKS" not in context.explicit:
        return
    for alias, queue in entries(context, "TASKS"):
        backend = str(queue.get("BACKEND"))
        # The package of the same classes for older versions is called django_tasks.
        if backend.startswith("django_tasks." if context.django < (6, 0) else ("django.tasks.", "django_tasks.")):
            if backend.endswith(".DummyBackend"):
                yield finding("tasks_never_run", f"TASKS.{alias}.BACKEND", subject=backend)
            if backend.endswith(".ImmediateBackend"):
                yield finding("tasks_in_request", f"TASKS.{alias}.BACKEND", subject=backend)


@rule("settings")
def time_zone(context: Context) -> Iterable[Finding]:
    if "TIME_ZONE" not in context.explicit:
        yield finding("time_zone", "TIME_ZONE", "TIME_ZONE is not set, so times are those of Chicago")
    if not value(context, "USE_TZ"):
        yield finding("time_zone", "USE_TZ", "USE_TZ is false, so one hour of each autumn happens twice")


@rule("settings")
def unlimited_body(context: Context) -> Iterable[Finding]:
    if "DATA_UPLOAD_MAX_MEMORY_SIZE" in context.explicit and value(context, "DATA_UPLOAD_MAX_MEMORY_SIZE") is None:
        yield finding("unlimited_body", "DATA_UPLOAD_MAX_MEMORY_SIZE")
