"""Static files and uploads. Whatever is kept elsewhere, such as at S3, is not looked at."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Dict, Iterable, Iterator, List

from .registry import Context, Finding, finding, rule
from .values import imported, installed, is_inside, items, may_write_in, value

FILES = "django.core.files.storage.FileSystemStorage"
HASHED = "django.contrib.staticfiles.storage.HashedFilesMixin"
# What browsers are never sent; many leave these out when they collect.
SOURCES = (".scss", ".sass", ".less", ".styl", ".ts", ".tsx", ".jsx", ".coffee", ".md", ".rst", ".txt", ".map")
NAMED = 5


def storage(context: Context, alias: str) -> Dict[str, Any]:
    found = (value(context, "STORAGES") or {}).get(alias)
    return found if isinstance(found, dict) else {}


def local_class(context: Context, alias: str) -> Any:
    """The class of a storage, if that keeps files in a folder here."""
    found, base = imported(storage(context, alias).get("BACKEND")), imported(FILES)
    return found if isinstance(found, type) and issubclass(found, base) else None


def served_by_finders(context: Context) -> bool:
    """Whether WhiteNoise serves the files from where they are, without collecting."""
    listed = any(str(each).startswith("whitenoise.") for each in items(context, "MIDDLEWARE"))
    debug = bool(value(context, "DEBUG"))
    return listed and bool(value(context, "WHITENOISE_USE_FINDERS", debug))


def to_collect() -> List[str]:
    """What collectstatic would copy."""
    from django.apps import apps
    from django.contrib.staticfiles.finders import get_finders

    ignored = getattr(apps.get_app_config("staticfiles"), "ignore_patterns", [])
    found = set()
    for finder in get_finders():
        for path, folder in finder.list(ignored):
            prefix = getattr(folder, "prefix", None)
            name = os.path.join(prefix, path) if prefix else path
            if not name.endswith(SOURCES):
                found.add(name)
    return sorted(found)


def not_collected(names: List[str], kept: Any) -> Iterator[str]:
    """Names that the storage has no file for, or whose page would fail for want of a hashed name."""
    manifest = getattr(kept, "hashed_files", None)
    for name in names:
        if manifest is None:
            there = kept.exists(name)
        else:
            hashed = manifest.get(kept.hash_key(kept.clean_name(name)))
            there = bool(hashed) and kept.exists(hashed)
        if not there:
            yield name


@rule("static")
def static(context: Context) -> Iterable[Finding]:
    kind = local_class(context, "staticfiles")
    if kind is None or not installed(context, "django.contrib.staticfiles"):
        return
    hashed = issubclass(kind, imported(HASHED))
    if not hashed:
        subject = str(storage(context, "staticfiles").get("BACKEND"))
        yield finding("static_not_hashed", "STORAGES.staticfiles.BACKEND", subject=subject)
    # A CDN has its own copy, and only the names must be known here.
    elsewhere = "//" in str(value(context, "STATIC_URL")) and not hashed
    names = [] if elsewhere or served_by_finders(context) else to_collect()
    if not names:
        return
    given = storage(context, "staticfiles").get("OPTIONS") or {}
    root = given.get("location") or value(context, "STATIC_ROOT")
    if not root or not os.path.isdir(root):
        message = f"{root} does not exist" if root else "STATIC_ROOT is not set"
        yield finding("static_root_missing", "STATIC_ROOT", message)
        return
    from django.contrib.staticfiles.storage import staticfiles_storage

    missing = list(not_collected(names, staticfiles_storage))
    if missing:
        message = f"{len(missing)} of {len(names)} static files are missing: {', '.join(missing[:NAMED])}"
        yield finding("static_not_collected", "STATIC_ROOT", message + (", ..." if len(missing) > NAMED else ""))


def existing(path: str) -> str:
    """The path, or the folder above it from which it would be made."""
    while not os.path.lexists(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    return path


@rule("static")
def media(context: Context) -> Iterable[Finding]:
    options = storage(context, "default").get("OPTIONS") or {}
    root = options.get("location") or value(context, "MEDIA_ROOT")
    if local_class(context, "default") is None or not root:
        return
    static_folders = [value(context, "STATIC_ROOT")]
    # An entry may come with a prefix.
    static_folders += [
        each[1] if isinstance(each, (list, tuple)) else each for each in items(context, "STATICFILES_DIRS")
    ]
    chdir = os.path.realpath(str(context.options.get("chdir") or "/"))
    if any(folder and is_inside(root, folder) for folder in static_folders):
        yield finding("media_inside_static", "MEDIA_ROOT", subject=str(root))
    elif chdir != "/" and is_inside(root, chdir) and not is_mounted(str(root), chdir):
        yield finding("media_inside_code", "MEDIA_ROOT", subject=str(root))
    if not may_write_in(existing(os.path.abspath(root))):
        yield finding("media_unwritable", "MEDIA_ROOT", subject=str(root))
    if value(context, "FILE_UPLOAD_PERMISSIONS") is None and options.get("file_permissions_mode") is None:
        yield finding("file_upload_permissions_none", "FILE_UPLOAD_PERMISSIONS")


def is_mounted(path: str, above: str) -> bool:
    """Whether a volume lies between a folder and what it is in: that stays when the code goes."""
    path = os.path.realpath(path)
    while path != above:
        if os.path.ismount(path):
            return True
        path = os.path.dirname(path)
    return False


@rule("static")
def upload_temp_unwritable(context: Context) -> Iterable[Finding]:
    folder = value(context, "FILE_UPLOAD_TEMP_DIR")
    try:
        folder = folder or tempfile.gettempdir()
    except FileNotFoundError:
        yield finding("upload_temp_unwritable", "FILE_UPLOAD_TEMP_DIR", "There is no folder for temporary files")
    else:
        if not may_write_in(folder):
            yield finding("upload_temp_unwritable", "FILE_UPLOAD_TEMP_DIR", subject=str(folder))
