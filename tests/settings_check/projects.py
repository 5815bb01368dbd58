"""A project that is as it should be, and those with one fault each."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

Version = tuple[int, ...]

ENVIRONMENT = {"SECRET_KEY": "l0ng-and-r4ndom-" + "q7Xv" * 12, "DJANGO_SETTINGS_MODULE": "shop.settings"}
GOOD_OPTIONS: dict[str, Any] = {
    "checks": ["settings", "request", "static", "logging"],
    "workers": 2,
    "server": "wsgi",
    "pooler": "transaction",
    "public_urls": ["https://shop.example.com"],
    "proxy_headers": {"X-Forwarded-Proto": "https"},
}
GOOD = """\
import os

BASE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["shop.example.com"]
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "shop",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ROOT_URLCONF = "shop.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "HOST": "/run/pgbouncer",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": True,
    },
}
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.redis.RedisCache",
        "LOCATION": "redis://127.0.0.1:6379",
        "KEY_PREFIX": "shop",
    },
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"
AUTH_PASSWORD_VALIDATORS = [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}]
TIME_ZONE = "UTC"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_HSTS_SECONDS = 3600
STATIC_URL = "/static/"
STATIC_ROOT = os.environ["SHOP_STATIC"]
MEDIA_URL = "/media/"
MEDIA_ROOT = os.environ["SHOP_MEDIA"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}
DEFAULT_FROM_EMAIL = "shop@example.com"
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "handlers": {"console": {"class": "logging.StreamHandler"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
"""
GOOD_MAIL = """\
EMAIL_HOST = "mail.example.com"
EMAIL_TIMEOUT = 10
"""
GOOD_MAILERS = """\
MAILERS = {
    "default": {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend",
        "OPTIONS": {"host": "mail.example.com", "timeout": 10},
    },
}
"""
URLS = """\
from django.contrib import admin
from django.urls import path

urlpatterns = [path("office/", admin.site.urls)]
"""


class Case(NamedTuple):
    """What is different from the good project, and the findings that brings; {project} is the folder."""

    name: str
    settings: str = ""
    options: dict[str, Any] = {}  # noqa: RUF012
    files: dict[str, str] = {}  # noqa: RUF012
    since: Version = (4, 2)
    before: Version = (9999,)
    ids: set[str] | None = None
    # Of the settings above, which is left out.
    without: str = ""

    def applies(self, django: Version) -> bool:
        return self.since <= django < self.before


def write_project(folder: Path, django: Version, static: Path, case: Case) -> None:
    media = folder.parent / "media"
    media.mkdir(exist_ok=True)
    good = GOOD.replace('os.environ["SHOP_STATIC"]', repr(str(static))).replace(
        'os.environ["SHOP_MEDIA"]', repr(str(media))
    )
    good += GOOD_MAILERS if django >= (6, 1) else GOOD_MAIL
    if case.without:
        assert case.without in good, case.name
        good = good.replace(case.without, "pass  #", 1)
    files = {
        "shop/__init__.py": "",
        "shop/urls.py": URLS,
        "shop/settings.py": good + case.settings.replace("{project}", str(folder)),
        **case.files,
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run_django(python: Path, *arguments: str, **variables: str) -> None:
    subprocess.run([str(python), "-m", "django", *arguments], check=True, env={**os.environ, **variables})


def collect_static(python: Path, folder: Path, **variables: str) -> None:
    """Do what a deployment does before the settings are checked."""
    run_django(python, "collectstatic", "--noinput", "--verbosity=0", PYTHONPATH=str(folder), **variables)
