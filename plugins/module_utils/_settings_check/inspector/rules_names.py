"""Which settings the service got, and whether Django knows them."""

from __future__ import annotations

import difflib
import os
from typing import Any, Dict, Iterable, Tuple

from .registry import Context, Finding, finding, rule
from .values import value

TEMPLATES = "OPTIONS or DIRS in TEMPLATES"
# Since when Django no longer reads it, what replaced it, and the value that asks only for what happens anyway.
REMOVED: Dict[str, Tuple[Tuple[int, int], str, Any]] = {
    "LOGOUT_URL": ((1, 10), "", None),
    "ALLOWED_INCLUDE_ROOTS": ((1, 10), "", ()),
    "TEMPLATE_CONTEXT_PROCESSORS": ((1, 10), TEMPLATES, None),
    "TEMPLATE_DEBUG": ((1, 10), TEMPLATES, False),
    "TEMPLATE_DIRS": ((1, 10), TEMPLATES, None),
    "TEMPLATE_LOADERS": ((1, 10), TEMPLATES, None),
    "TEMPLATE_STRING_IF_INVALID": ((1, 10), TEMPLATES, ""),
    "MIDDLEWARE_CLASSES": ((2, 0), "MIDDLEWARE", None),
    "USE_ETAGS": ((2, 1), "ConditionalGetMiddleware", False),
    "DEFAULT_CONTENT_TYPE": ((3, 0), "", "text/html"),
    "FILE_CHARSET": ((3, 1), "", "utf-8"),
    "DEFAULT_HASHING_ALGORITHM": ((4, 0), "", "sha256"),
    "PASSWORD_RESET_TIMEOUT_DAYS": ((4, 0), "PASSWORD_RESET_TIMEOUT, in seconds", 3),
    "SECURE_BROWSER_XSS_FILTER": ((4, 0), "", None),
    "CSRF_COOKIE_MASKED": ((5, 0), "", None),
    "USE_DEPRECATED_PYTZ": ((5, 0), "", False),
    "USE_L10N": ((5, 0), "", True),
    "DEFAULT_FILE_STORAGE": ((5, 1), "STORAGES", "django.core.files.storage.FileSystemStorage"),
    "STATICFILES_STORAGE": ((5, 1), "STORAGES", "django.contrib.staticfiles.storage.StaticFilesStorage"),
    "FORMS_URLFIELD_ASSUME_HTTPS": ((6, 0), "", True),
}
# No browser heeds the header any more, pages of today need no masked cookie, other packages read the name.
OBSOLETE = frozenset(("SECURE_BROWSER_XSS_FILTER", "CSRF_COOKIE_MASKED", "DEFAULT_HASHING_ALGORITHM", "LOGOUT_URL"))
REPLACED = {"DEFAULT_FILE_STORAGE": "default", "STATICFILES_STORAGE": "staticfiles"}
# Names that Django knows without a default, knows later, or that belong to others.
KNOWN = frozenset(
    "ASGI_APPLICATION GDAL_LIBRARY_PATH GEOIP_PATH GEOS_LIBRARY_PATH MAILERS MESSAGE_LEVEL MESSAGE_TAGS "
    "POSTGIS_TEMPLATE SECURE_CSP SECURE_CSP_REPORT_ONLY SESSION_SERIALIZER_CLASS SITE_ID SPATIALITE_LIBRARY_PATH TASKS "
    "URLIZE_ASSUME_HTTPS USE_BLANK_CHOICE_DASH USE_X_FORWARDED_FOR SIGNED_COOKIE_LEGACY_SALT_FALLBACK".split()
)
NEAR = 0.92


@rule("settings")
def settings_module_differs(context: Context) -> Iterable[Finding]:
    loaded, expected = context.seen.get("settings_module"), context.seen.get("expected_settings")
    if not loaded or not expected or loaded == expected:
        return
    explained = context.seen.get("settings_explained")
    application = context.options.get("application")
    service = f"application {application}" if application else "the service"
    message = f"{service} runs with {loaded}, but settings says {expected}"
    yield finding("settings_module_differs", message=message + (f"; {explained}" if explained else ""), subject=loaded)


def without_consequence(context: Context, name: str, harmless: Any) -> bool:
    """Whether what a removed setting asks for happens all the same, such as where two versions are supported."""
    own = value(context, name)
    if name in OBSOLETE or (harmless is not None and own == harmless):
        return True
    if name in REPLACED and "STORAGES" in context.explicit:
        storage = (value(context, "STORAGES") or {}).get(REPLACED[name])
        return isinstance(storage, dict) and storage.get("BACKEND") == own
    if name.startswith("TEMPLATE_"):
        return "TEMPLATES" in context.explicit
    return name == "MIDDLEWARE_CLASSES" and "MIDDLEWARE" in context.explicit


@rule("settings")
def removed_setting(context: Context) -> Iterable[Finding]:
    for name, (version, instead, harmless) in REMOVED.items():
        if name not in context.explicit or context.django < version:
            continue
        since = ".".join(map(str, version))
        message = f"Django does not read {name} since {since}" + (f"; use {instead}" if instead else "")
        severity = "notice" if without_consequence(context, name, harmless) else ""
        yield finding("removed_setting", name, message, severity=severity)


@rule("settings")
def misspelt_setting(context: Context) -> Iterable[Finding]:
    from django.conf import global_settings

    names = {name for name in dir(global_settings) if name.isupper()}
    for name in sorted(context.explicit - names - KNOWN - set(REMOVED)):
        near = difflib.get_close_matches(name, names, 1, NEAR)
        meant = "SECURE_" + name if "SECURE_" + name in names else near[0] if near else ""
        # Where both are set, the one is what the other is made of, as in ALLOWED_HOSTS = [ALLOWED_HOST].
        if meant and meant not in context.explicit:
            yield finding("misspelt_setting", name, f"Django does not know {name}; did you mean {meant}?")


def of_the_project(path: str) -> bool:
    """Whether a warning is about the project or its settings, not about a package that it uses."""
    parts = os.path.normpath(path).split(os.sep)
    packaged = "site-packages" in parts or "dist-packages" in parts
    return not packaged or parts[-3:] == ["django", "conf", "__init__.py"]


@rule("settings")
def deprecated_settings(context: Context) -> Iterable[Finding]:
    told = set()
    for warning in context.seen.get("warnings") or ():
        message = " ".join(str(warning["message"]).split())[:300]
        of_django = str(warning["category"]).startswith("RemovedInDjango")
        if of_django and message not in told and of_the_project(str(warning["filename"])):
            told.add(message)
            yield finding("deprecated_settings", message=message, subject=str(warning["category"]))


@rule("settings")
def app_init_touches_database(context: Context) -> Iterable[Finding]:
    discouraged = "Accessing the database during app initialization"
    warned = any(str(each["message"]).startswith(discouraged) for each in context.seen.get("warnings") or ())
    if warned or context.seen.get("queries_in_ready"):
        yield finding("app_init_touches_database")
