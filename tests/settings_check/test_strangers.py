"""Projects as others write them: no finding that their authors would rightly dispute."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml
from settings_check.interpreters import ROOT
from settings_check.projects import ENVIRONMENT, collect_static, run_django
from settings_check.version import Django

ROLE = ROOT / "roles/django_app"
OF_THE_SERVER = {
    "SECRET_KEY": ENVIRONMENT["SECRET_KEY"],
    "DJANGO_SETTINGS_MODULE": "groundwork_settings",
    "ALLOWED_HOSTS": "shop.example.com",
    "CSRF_TRUSTED_ORIGINS": "https://shop.example.com",
    "DB_NAME": "shop",
    "DB_HOST": "/run/pgbouncer",
    "REDIS_URL": "unix://shop:p@/run/redis/redis-server.sock",
    "CACHE_KEY_PREFIX": "shop",
    "EMAIL_HOST": "mail.example.com",
}
COOKIECUTTER = """\
import os
from pathlib import Path

BASE_DIR = Path(__file__).resolve(strict=True).parent.parent
APPS_DIR = BASE_DIR / "shop"
READ_DOT_ENV_FILE = False
SECRET_KEY = os.environ["SECRET_KEY"]
DEBUG = False
ALLOWED_HOSTS = ["shop.example.com"]
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en-us"
SITE_ID = 1
USE_I18N = True
USE_TZ = True
LOCALE_PATHS = [str(BASE_DIR / "locale")]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.postgresql", "NAME": "shop", "HOST": "", "ATOMIC_REQUESTS": True},
}
DATABASES["default"]["CONN_MAX_AGE"] = int(os.environ.get("CONN_MAX_AGE", "60"))
DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.sites",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.admin",
    "shop",
]
MIGRATION_MODULES = {"sites": None}
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [{"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator"}]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
STATIC_ROOT = str(BASE_DIR / "staticfiles")
STATIC_URL = "/static/"
STATICFILES_FINDERS = [
    "django.contrib.staticfiles.finders.FileSystemFinder",
    "django.contrib.staticfiles.finders.AppDirectoriesFinder",
]
MEDIA_ROOT = os.environ["MEDIA_ROOT"]
MEDIA_URL = "/media/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.debug",
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
CRISPY_TEMPLATE_PACK = "bootstrap5"
SESSION_COOKIE_HTTPONLY = True
CSRF_COOKIE_HTTPONLY = True
X_FRAME_OPTIONS = "DENY"
SESSION_COOKIE_NAME = "__Secure-sessionid"
CSRF_COOKIE_NAME = "__Secure-csrftoken"
ADMIN_URL = "k2j4h5/"
ADMINS = ["ann@example.com"]
MANAGERS = ADMINS
REDIS_URL = "redis://127.0.0.1:6379/0"
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "OPTIONS": {"CLIENT_CLASS": "django_redis.client.DefaultClient", "IGNORE_EXCEPTIONS": True},
    }
}
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
SECURE_HSTS_SECONDS = 60
SECURE_HSTS_INCLUDE_SUBDOMAINS = True
SECURE_HSTS_PRELOAD = True
SECURE_CONTENT_TYPE_NOSNIFF = True
DEFAULT_FROM_EMAIL = "Shop <noreply@shop.example.com>"
SERVER_EMAIL = DEFAULT_FROM_EMAIL
EMAIL_SUBJECT_PREFIX = "[Shop] "
ACCOUNT_EMAIL_SUBJECT_PREFIX = EMAIL_SUBJECT_PREFIX
EMAIL_BACKEND = "anymail.backends.mailgun.EmailBackend"
EMAIL_TIMEOUT = 5
ANYMAIL = {}
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"require_debug_false": {"()": "django.utils.log.RequireDebugFalse"}},
    "formatters": {"verbose": {"format": "%(levelname)s %(asctime)s %(module)s %(process)d %(thread)d %(message)s"}},
    "handlers": {
        "mail_admins": {
            "level": "ERROR",
            "filters": ["require_debug_false"],
            "class": "django.utils.log.AdminEmailHandler",
        },
        "console": {"level": "DEBUG", "class": "logging.StreamHandler", "formatter": "verbose"},
    },
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "django.request": {"handlers": ["mail_admins"], "level": "ERROR", "propagate": True},
        "django.security.DisallowedHost": {
            "level": "ERROR",
            "handlers": ["console", "mail_admins"],
            "propagate": True,
        },
    },
}
"""
COOKIECUTTER_URLS = """\
from django.conf import settings
from django.contrib import admin
from django.urls import path

urlpatterns = [path(settings.ADMIN_URL, admin.site.urls)]
"""


def ids(findings: list[dict[str, str]]) -> set[str]:
    return {each["id"] for each in findings}


def overlay(settings: str) -> str:
    variables: dict[str, Any] = yaml.safe_load((ROLE / "vars/main.yml").read_text())
    environment = jinja2.Environment(trim_blocks=True, autoescape=False)  # noqa: S701, this is Python
    environment.filters["pprint"] = repr
    variables.update(
        django_app_name="shop",
        django_app_settings=settings,
        django_app_settings_overrides={},
        django_app_directory=".",
        __django_app_static=".static",
    )
    template = (ROLE / "templates/groundwork_settings.py.j2").read_text()
    return environment.from_string(template).render(variables) + "\n"


def test_startproject_with_the_overlay(django: Django, tmp_path: Path) -> None:
    run_django(django.python, "startproject", "shop", str(tmp_path))
    (tmp_path / "groundwork_settings.py").write_text(overlay("shop.settings"))
    media = tmp_path.parent / "media"
    media.mkdir(exist_ok=True)
    variables = {**OF_THE_SERVER, "MEDIA_ROOT": str(media)}
    collect_static(django.python, tmp_path, **variables)
    found = ids(django.inspect(tmp_path, {"settings": "groundwork_settings"}, **variables))
    assert found == {"admin_default_url"}


def test_a_stylesheet_may_refer_to_what_is_not_there(django: Django, tmp_path: Path) -> None:
    run_django(django.python, "startproject", "shop", str(tmp_path))
    (tmp_path / "shop/static").mkdir()
    sheet = 'p { background: url("lost.png") }\n/*# sourceMappingURL=lost.map */\n'
    (tmp_path / "shop/static/shop.css").write_text(sheet)
    settings = overlay("shop.settings").replace("# --- Mail", 'INSTALLED_APPS = [*INSTALLED_APPS, "shop"]  # --- Mail')
    (tmp_path / "groundwork_settings.py").write_text(settings)
    collect_static(django.python, tmp_path, **OF_THE_SERVER, MEDIA_ROOT="")
    (hashed,) = tmp_path.glob(".static/shop.*.css")
    assert 'url("lost.png")' in hashed.read_text()


def test_startproject_as_it_is(django: Django, tmp_path: Path) -> None:
    run_django(django.python, "startproject", "shop", str(tmp_path))
    found = ids(django.inspect(tmp_path, {}))
    assert found == {
        "admin_default_url",
        "cache_not_shared",
        "database_sqlite",
        "debug_on",
        "email_default_from",
        "email_not_sent" if django.number >= (6, 1) else "email_no_timeout",
        "host_rejected",
        "secret_key_in_source",
        "static_not_hashed",
        "static_root_missing",
    }


@pytest.mark.parametrize("server", ["wsgi", "asgi"])
def test_settings_in_the_manner_of_cookiecutter(django: Django, tmp_path: Path, server: str) -> None:
    for name, text in {"__init__": "", "settings": COOKIECUTTER, "urls": COOKIECUTTER_URLS}.items():
        (tmp_path / "shop").mkdir(exist_ok=True)
        (tmp_path / f"shop/{name}.py").write_text(text)
    media = tmp_path.parent / "media"
    media.mkdir(exist_ok=True)
    variables = {**ENVIRONMENT, "MEDIA_ROOT": str(media)}
    collect_static(django.python, tmp_path, **variables)
    found = ids(django.inspect(tmp_path, {"server": server, "pooler": "auto"}, **variables))
    # It is Django 6.1 that calls these names deprecated.
    later = {"deprecated_settings"} if django.number >= (6, 1) else set()
    assert found == {"cache_no_key_prefix"} | later | ({"asgi_persistent_connections"} if server == "asgi" else set())
