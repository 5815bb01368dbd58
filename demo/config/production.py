"""Settings for production: what differs from place to place comes from the environment.

Set at least SECRET_KEY, ALLOWED_HOSTS, DATABASE_URL, REDIS_URL, STATIC_ROOT and MEDIA_ROOT.
"""

import django
import environ

from config.settings import *  # noqa: F403
from config.settings import MIDDLEWARE

env = environ.Env()

DEBUG = False
SECRET_KEY = env.str("SECRET_KEY")
SECRET_KEY_FALLBACKS = env.list("SECRET_KEY_FALLBACKS", default=[])  # old keys while they are rotated
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS")
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

# --- Database: connections stay open and go through a pooler ---
DATABASES = {
    "default": {
        **env.db("DATABASE_URL"),
        "CONN_MAX_AGE": env.int("CONN_MAX_AGE", default=60),  # 0 under ASGI
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": True,  # PgBouncer's transaction pooling cannot keep them
    },
}

# --- Cache: when Redis is down or frozen, every lookup is a quick miss ---
CACHES = {
    "default": {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": env.str("REDIS_URL"),
        "KEY_PREFIX": env.str("CACHE_KEY_PREFIX", default=""),
        "OPTIONS": {
            "IGNORE_EXCEPTIONS": True,
            "SOCKET_CONNECT_TIMEOUT": 0.25,
            "SOCKET_TIMEOUT": 0.25,
        },
    },
}
SESSION_ENGINE = "django.contrib.sessions.backends.cached_db"

# --- HTTPS: nginx ends it, and overwrites the header below ---
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SECURE_SSL_REDIRECT = True
SECURE_HSTS_SECONDS = env.int("SECURE_HSTS_SECONDS", default=3600)
SECURE_HSTS_INCLUDE_SUBDOMAINS = env.bool("SECURE_HSTS_INCLUDE_SUBDOMAINS", default=True)
SECURE_HSTS_PRELOAD = env.bool("SECURE_HSTS_PRELOAD", default=True)
SESSION_COOKIE_SECURE = True
CSRF_COOKIE_SECURE = True
CSRF_COOKIE_HTTPONLY = True
if django.VERSION >= (6, 0):
    MIDDLEWARE = [*MIDDLEWARE, "django.middleware.csp.ContentSecurityPolicyMiddleware"]
    # Nothing but what the pages and the admin really use, and that from here alone.
    SECURE_CSP = {
        "default-src": ["'none'"],
        "img-src": ["'self'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "frame-ancestors": ["'none'"],
    }

# --- Static files with hashed names, and media, both served by nginx ---
STATIC_ROOT = env.str("STATIC_ROOT")
MEDIA_ROOT = env.str("MEDIA_ROOT")
STATIC_URL = env.str("STATIC_URL", default="/static/")
MEDIA_URL = env.str("MEDIA_URL", default="/media/")
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"},
}

# --- A path of a domain, where other sites may be beside this one ---
FORCE_SCRIPT_NAME = env.str("FORCE_SCRIPT_NAME", default=None)
LOGIN_URL = "login"
SESSION_COOKIE_NAME = env.str("SESSION_COOKIE_NAME", default="sessionid")

# --- Mail: Django 6.1 has a new form for it ---
mail = env.email_url("EMAIL_URL", default="smtp://localhost:25")
if django.VERSION >= (6, 1):
    options = {
        "host": mail["EMAIL_HOST"],
        "port": mail["EMAIL_PORT"],
        "username": mail["EMAIL_HOST_USER"],
        "password": mail["EMAIL_HOST_PASSWORD"],
        "use_tls": mail.get("EMAIL_USE_TLS", False),
        "use_ssl": mail.get("EMAIL_USE_SSL", False),
        "timeout": 10,
    }
    MAILERS = {"default": {"BACKEND": mail["EMAIL_BACKEND"], "OPTIONS": options}}
else:
    vars().update(mail, EMAIL_TIMEOUT=10)
DEFAULT_FROM_EMAIL = env.str("DEFAULT_FROM_EMAIL", default="guestbook@localhost")
SERVER_EMAIL = DEFAULT_FROM_EMAIL

# --- Log: everything goes to standard error, and from there to the journal ---
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["console"], "level": "INFO"},
}
