"""Projects with one fault each, with all of them, and with what only looks like one."""

from __future__ import annotations

from settings_check.projects import ENVIRONMENT, GOOD_MAILERS, URLS, Case

KEY = ENVIRONMENT["SECRET_KEY"]
LOCMEM = '{"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}'
LOGGERS = 'LOGGING = {"version": 1, "disable_existing_loggers": False, '
CONSOLE = '"handlers": {"console": {"class": "logging.StreamHandler"}}, '
SQLITE = '{"ENGINE": "django.db.backends.sqlite3", "NAME": "/nonexistent/db"}'
READY = """\
from django.apps import AppConfig


class ShopConfig(AppConfig):
    name = "shop"

    def ready(self):
        from django.db import connections

        with connections["memory"].cursor() as cursor:
            cursor.execute("SELECT 1")
"""

# Named after the one finding that each brings, with a word behind where there are several.
FAULTS = [
    Case("settings_module_differs", options={"settings": "shop.production"}),
    Case("deprecated_settings old", "USE_L10N = True", before=(5, 0)),
    Case("deprecated_settings http", "FORMS_URLFIELD_ASSUME_HTTPS = True", since=(5, 2), before=(6, 0)),
    Case("deprecated_settings salt", "SIGNED_COOKIE_LEGACY_SALT_FALLBACK = False", since=(6, 1)),
    Case(
        "app_init_touches_database",
        'DATABASES["memory"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}',
        options={"workers": 1},
        files={"shop/apps.py": READY},
        since=(5, 0),
    ),
    Case("removed_setting days", "PASSWORD_RESET_TIMEOUT_DAYS = 1"),
    Case("removed_setting storage", 'STATICFILES_STORAGE = "shop.storage.Ours"', since=(5, 1)),
    Case("misspelt_setting prefix", 'REFERRER_POLICY = "same-origin"'),
    Case("misspelt_setting singular", "SESSION_COOKIE_SAMESIT = 'Strict'"),
    Case("type_bool text", 'SESSION_EXPIRE_AT_BROWSER_CLOSE = "False"'),
    Case("type_bool comma", "SESSION_SAVE_EVERY_REQUEST = False,"),
    Case("type_bool database", 'DATABASES["default"]["ATOMIC_REQUESTS"] = "no"'),
    Case("type_conn_max_age", 'DATABASES["default"]["CONN_MAX_AGE"] = "600"'),
    Case("type_mismatch number", 'SESSION_COOKIE_AGE = "3600"'),
    Case("type_mismatch list", 'AUTHENTICATION_BACKENDS = "django.contrib.auth.backends.ModelBackend"'),
    Case("debug_on", "DEBUG = True"),
    Case("debug_propagate_exceptions", "DEBUG_PROPAGATE_EXCEPTIONS = True"),
    Case("template_debug", 'TEMPLATES[0]["OPTIONS"]["debug"] = True'),
    Case("secret_key_empty", 'SECRET_KEY = ""'),
    Case("secret_key_in_source", f"# committed: '{KEY}'"),
    Case("secret_key_in_source fallback", 'SECRET_KEY_FALLBACKS = ["an-old-key-of-the-shop"]'),
    Case("allowed_hosts_wildcard", 'ALLOWED_HOSTS = ["*"]'),
    Case("x_forwarded_host_trusted", "USE_X_FORWARDED_HOST = True"),
    Case("csp_without_middleware", "SECURE_CSP = {'default-src': [\"'self'\"]}", since=(6, 0)),
    Case("security_checks_silenced", 'SILENCED_SYSTEM_CHECKS = ["security.W009", "models.W042"]'),
    Case("weak_password_hasher", 'PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]'),
    Case("no_password_validators", "AUTH_PASSWORD_VALIDATORS = []"),
    Case("development_apps", 'INSTALLED_APPS += ["debug_toolbar"]', files={"debug_toolbar/__init__.py": ""}),
    Case("admin_default_url", files={"shop/urls.py": URLS.replace("office/", "admin/")}),
    Case("database_sqlite", f'DATABASES["default"] = {SQLITE}'),
    Case("database_no_tls", 'DATABASES["default"]["HOST"] = "db.example.com"'),
    Case("database_no_tls prefer", 'DATABASES["default"].update(HOST="10.0.0.5", OPTIONS={"sslmode": "prefer"})'),
    Case("pooled_server_side_cursors", 'del DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"]'),
    Case("pooled_prepared_statements", 'DATABASES["default"]["OPTIONS"] = {"prepare_threshold": 5}'),
    Case("asgi_persistent_connections", options={"server": "asgi"}),
    Case("no_connection_health_checks", 'del DATABASES["default"]["CONN_HEALTH_CHECKS"]'),
    Case("cache_not_shared", f'CACHES["default"] = {LOCMEM}; SESSION_ENGINE = "django.contrib.sessions.backends.db"'),
    Case("cache_not_shared other", f'CACHES["pages"] = {LOCMEM}'),
    Case(
        "session_in_process_memory",
        f'CACHES["sessions"] = {LOCMEM}; SESSION_CACHE_ALIAS = "sessions"\n'
        'SESSION_ENGINE = "django.contrib.sessions.backends.cache"',
    ),
    Case("session_in_process_memory copies", f'CACHES["sessions"] = {LOCMEM}; SESSION_CACHE_ALIAS = "sessions"'),
    Case("cache_no_key_prefix", 'del CACHES["default"]["KEY_PREFIX"]'),
    Case("email_not_sent", 'EMAIL_BACKEND = "django.core.mail.backends.console.EmailBackend"', before=(6, 1)),
    Case(
        "email_not_sent mailers",
        'MAILERS["default"] = {"BACKEND": "django.core.mail.backends.dummy.EmailBackend"}',
        since=(6, 1),
    ),
    Case("mailers_ignored", GOOD_MAILERS, before=(6, 1)),
    Case("email_default_from", 'DEFAULT_FROM_EMAIL = "webmaster@localhost"'),
    Case("email_default_from server", 'ADMINS = [("Ann", "ann@example.com")]', before=(6, 0)),
    Case("email_no_timeout", "EMAIL_TIMEOUT = None", before=(6, 1)),
    Case("email_no_timeout mailers", 'del MAILERS["default"]["OPTIONS"]["timeout"]', since=(6, 1)),
    Case(
        "tasks_never_run", 'TASKS = {"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}', since=(6, 0)
    ),
    Case(
        "tasks_in_request",
        'TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}',
        since=(6, 0),
    ),
    Case("time_zone", without='TIME_ZONE = "UTC"'),
    Case("time_zone naive", "USE_TZ = False"),
    Case(
        "template_loader_uncached",
        'TEMPLATES[0]["APP_DIRS"] = False\n'
        'TEMPLATES[0]["OPTIONS"]["loaders"] = ["django.template.loaders.app_directories.Loader"]',
    ),
    Case("unlimited_body", "DATA_UPLOAD_MAX_MEMORY_SIZE = None"),
    Case("host_rejected", options={"public_urls": ["https://shop.example.com", "https://www.shop.example.com"]}),
    Case("redirect_loop", "SECURE_PROXY_SSL_HEADER = None"),
    Case("redirect_loop below a path", 'SECURE_PROXY_SSL_HEADER = None; FORCE_SCRIPT_NAME = "/shop"'),
    Case("not_secure_behind_proxy", "SECURE_PROXY_SSL_HEADER = None; SECURE_SSL_REDIRECT = False"),
    Case("proxy_header_name", 'SECURE_PROXY_SSL_HEADER = ("X-Forwarded-Proto", "https")'),
    Case("proxy_header_name unsent", 'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTOCOL", "https")'),
    # nginx sends "Host: $proxy_host" unless it is told otherwise.
    Case(
        "csrf_origin_rejected",
        'ALLOWED_HOSTS += ["127.0.0.1"]',
        options={"proxy_headers": {"X-Forwarded-Proto": "https", "Host": "127.0.0.1"}},
    ),
    Case("static_root_missing", 'STATIC_ROOT = "/nonexistent/static"'),
    Case("static_root_missing unset", 'STATIC_ROOT = None; STATIC_URL = "https://cdn.example.com/"'),
    Case("static_not_collected", files={"shop/static/shop/new.css": "a {}"}),
    Case(
        "static_not_collected plain",
        files={"{static}": ""},
        ids={"static_not_collected", "static_not_hashed"},
        settings='STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}\n'
        'os.makedirs("{project}/empty"); STATIC_ROOT = "{project}/empty"',
    ),
    Case(
        "static_not_hashed",
        'STORAGES["staticfiles"] = {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}',
    ),
    Case(
        "media_inside_static",
        'STATICFILES_DIRS = ["{project}/assets"]; MEDIA_ROOT = "{project}/assets/media"',
        files={"assets/media/README.md": ""},
    ),
    Case("media_inside_code", 'MEDIA_ROOT = "{project}/media"'),
    # Under a file, not even root can make a folder.
    Case("media_unwritable", 'MEDIA_ROOT = "/etc/passwd/media"'),
    Case("upload_temp_unwritable", 'FILE_UPLOAD_TEMP_DIR = "/nonexistent"'),
    Case("file_upload_permissions_none", "FILE_UPLOAD_PERMISSIONS = None"),
    Case("errors_logged_nowhere", "LOGGING = {}"),
    Case(
        "errors_logged_nowhere existing",
        f'{LOGGERS}{CONSOLE}"root": {{"handlers": ["console"]}}}}\ndel LOGGING["disable_existing_loggers"]',
    ),
    Case(
        "errors_logged_nowhere debug",
        f'{LOGGERS}"filters": {{"dev": {{"()": "django.utils.log.RequireDebugTrue"}}}}, '
        '"handlers": {"console": {"class": "logging.StreamHandler", "filters": ["dev"]}}, '
        '"root": {"handlers": ["console"]}}',
    ),
    Case(
        "errors_logged_nowhere kept",
        f'{LOGGERS}{CONSOLE}"loggers": {{"django": {{"handlers": [], "propagate": False, '
        '"level": "CRITICAL"}}, "root": {"handlers": ["console"]}}',
    ),
    Case(
        "log_file_unwritable",
        'LOGGING["handlers"]["file"] = {"class": "logging.FileHandler", "filename": "/nonexistent/shop.log"}',
    ),
]

REMOVED_WITHOUT_HARM = [
    Case("as it is now", "USE_L10N = True", since=(5, 0)),
    Case("no browser heeds it", "SECURE_BROWSER_XSS_FILTER = True"),
    Case("for an older version as well", 'STATICFILES_STORAGE = STORAGES["staticfiles"]["BACKEND"]', since=(5, 1)),
    Case("left behind", "MIDDLEWARE_CLASSES = []"),
]

# What looks like a fault at first, and is none.
QUIET = [
    Case("the good project"),
    Case("the settings that were meant", options={"settings": "shop.settings"}),
    Case(
        "lists as tuples, numbers as floats, paths as objects, nothing as None",
        "from pathlib import Path\nALLOWED_HOSTS = tuple(ALLOWED_HOSTS); SESSION_COOKIE_AGE = 3600.0\n"
        "STATIC_ROOT = Path(STATIC_ROOT); MEDIA_ROOT = Path(MEDIA_ROOT); PREPEND_WWW = None; APPEND_SLASH = 1\n"
        'DATABASES["default"]["CONN_MAX_AGE"] = None; SECURE_REFERRER_POLICY = ["same-origin"]; EMAIL_SUBJECT = "x"',
    ),
    Case(
        "lazy texts and objects",
        "from django.utils.functional import SimpleLazyObject\n"
        "from django.utils.translation import gettext_lazy\n"
        "SHOP_TITLE = gettext_lazy('Shop'); LANGUAGES = [('en', gettext_lazy('English'))]\n"
        "SESSION_SAVE_EVERY_REQUEST = SimpleLazyObject(lambda: False); SHOP_BROKEN = SimpleLazyObject(lambda: 1 / 0)",
    ),
    Case(
        "names of other packages",
        "ASGI_APPLICATION = 'shop.asgi.application'; SITE_ID = 1; REST_FRAMEWORK = {}\n"
        "DATABASE_URL = 'x'; EMAIL_URL = 'x'; CORS_ALLOWED_ORIGINS = []; WAGTAIL_SITE_NAME = 'x'\n"
        "CELERY_TASK_SERIALIZER = 'json'; ALLOWED_HOST = 'x'; MESSAGE_TAGS = {}; INTERNAL_IPS = '127.0.0.1'",
    ),
    Case("one worker", f'DATABASES["default"] = {SQLITE}; CACHES["default"] = {LOCMEM}', options={"workers": 1}),
    Case("sessions in cookies", 'SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"'),
    Case("sessions in files", 'SESSION_ENGINE = "django.contrib.sessions.backends.file"'),
    Case("no pooler", 'del DATABASES["default"]["DISABLE_SERVER_SIDE_CURSORS"]', options={"pooler": "session"}),
    Case(
        "another server, not pooled, with TLS",
        'DATABASES["other"] = {"ENGINE": "django.db.backends.postgresql", "HOST": "db.example.com", '
        '"OPTIONS": {"sslmode": "require", "prepare_threshold": 5}}',
    ),
    Case(
        "connections that are not kept",
        'DATABASES["default"].update(CONN_MAX_AGE=0, CONN_HEALTH_CHECKS=False)',
        options={"server": "asgi"},
    ),
    Case("a database on this host", 'DATABASES["default"]["HOST"] = "127.0.0.1"'),
    Case(
        "a second database that is only read",
        'DATABASES["maps"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:maps.db?mode=ro"}',
    ),
    Case(
        "their own middleware",
        'MIDDLEWARE = [each.replace("django.middleware.security.", "shop.middleware.").replace('
        '"django.middleware.csrf.CsrfView", "shop.middleware.Csrf") for each in MIDDLEWARE]',
        files={
            "shop/middleware.py": "from django.middleware.csrf import CsrfViewMiddleware as C\n"
            "from django.middleware.security import SecurityMiddleware as S\n"
            "class SecurityMiddleware(S): pass\nclass CsrfMiddleware(C): pass\n"
        },
    ),
    Case(
        "their own CSP middleware",
        "SECURE_CSP = {'default-src': [\"'self'\"]}\n"
        'MIDDLEWARE += ["shop.middleware.Policy", "shop.middleware.function"]',
        files={
            "shop/middleware.py": "from django.middleware.csp import ContentSecurityPolicyMiddleware as C\n"
            "class Policy(C): pass\ndef function(get_response): return get_response\n"
        },
        since=(6, 0),
    ),
    Case(
        "their own hasher",
        'PASSWORD_HASHERS = ["shop.hashers.Slow", "django.contrib.auth.hashers.MD5PasswordHasher"]',
        files={
            "shop/hashers.py": "from django.contrib.auth.hashers import PBKDF2PasswordHasher as P\n"
            "class Slow(P):\n    iterations = P.iterations * 2\n"
        },
    ),
    Case("no passwords at all", 'AUTH_PASSWORD_VALIDATORS = []; AUTHENTICATION_BACKENDS = ["shop.auth.Single"]'),
    Case(
        "a mail service", 'EMAIL_BACKEND = "anymail.backends.mailgun.EmailBackend"; EMAIL_TIMEOUT = None', before=(6, 1)
    ),
    Case("tasks as Django has them", "SHOP_TASKS = 1"),
    Case(
        "static files at S3",
        'STORAGES["staticfiles"] = {"BACKEND": "shop.storage.Remote"}\n'
        'STORAGES["default"] = {"BACKEND": "shop.storage.Remote"}\n'
        'STATIC_ROOT = None; MEDIA_ROOT = "/etc/passwd/media"',
        files={"shop/storage.py": "from django.core.files.storage import Storage\nclass Remote(Storage): pass\n"},
    ),
    Case(
        "static files of a manifest of their own",
        'STORAGES["staticfiles"] = {"BACKEND": "shop.storage.Ours"}',
        files={
            "shop/storage.py": "from django.contrib.staticfiles.storage import ManifestStaticFilesStorage as M\n"
            "class Ours(M): pass\n"
        },
    ),
    Case(
        "WhiteNoise without collecting",
        'MIDDLEWARE.insert(1, "whitenoise.middleware.WhiteNoiseMiddleware")\n'
        "WHITENOISE_USE_FINDERS = True; STATIC_ROOT = None",
    ),
    Case(
        "sources that browsers never ask for",
        files={"shop/static/shop/main.scss": "", "shop/static/shop/README.md": ""},
    ),
    Case("no uploads", 'MEDIA_ROOT = ""; FILE_UPLOAD_PERMISSIONS = None'),
    Case("uploads behind a link", 'os.symlink(MEDIA_ROOT, "{project}/media"); MEDIA_ROOT = "{project}/media"'),
    Case(
        "a key in a test, and one that is elsewhere",
        files=dict.fromkeys(
            ("shop/tests/test_key.py", ".venv/lib/key.py", "node_modules/x/key.py", "shop/test_key.py", "venv/x.py"),
            f"KEY = '{KEY}'",
        ),
    ),
    Case(
        "a key in a virtual environment of any name",
        files={"python/pyvenv.cfg": "", "python/lib/x.py": f"KEY = '{KEY}'"},
    ),
    Case(
        "several addresses, also by plain HTTP",
        'ALLOWED_HOSTS += ["127.0.0.1"]; SECURE_SSL_REDIRECT = False',
        options={"public_urls": ["https://shop.example.com:8443/", "http://127.0.0.1"], "proxy_headers": {}},
        ids={"proxy_header_name"},
    ),
    Case("a server that knows of HTTPS", "SECURE_PROXY_SSL_HEADER = None", options={"url_scheme": "https"}),
    Case(
        "an origin that is trusted",
        'ALLOWED_HOSTS += ["127.0.0.1"]; CSRF_TRUSTED_ORIGINS = ["https://*.example.com"]',
        options={"proxy_headers": {"X-Forwarded-Proto": "https", "Host": "127.0.0.1"}},
    ),
    Case(
        "a proxy that names the host",
        "USE_X_FORWARDED_HOST = True",
        options={"proxy_headers": {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "$host"}},
    ),
    Case(
        "errors in a file",
        f'{LOGGERS}"handlers": {{"file": {{"class": "logging.FileHandler", "filename": "{{project}}/log"}}}}, '
        '"loggers": {"django": {"handlers": ["file"], "level": "ERROR"}}}',
    ),
    Case(
        "errors by mail",
        'LOGGING = {}; ADMINS = [("Ann", "ann@example.com")]; SERVER_EMAIL = "shop@example.com"',
        before=(6, 0),
    ),
    Case(
        "errors by mail alone",
        'LOGGING = {}; ADMINS = ["ann@example.com"]; SERVER_EMAIL = "shop@example.com"',
        since=(6, 0),
    ),
    Case(
        "errors by a handler of their own",
        f'{LOGGERS}"handlers": {{"chat": {{"class": "shop.log.Chat"}}}}, "root": {{"handlers": ["chat"]}}}}',
    ),
    Case("errors by basicConfig", "import logging\nlogging.basicConfig(); LOGGING = {}"),
    Case("logging that the project configures itself", "LOGGING_CONFIG = None; LOGGING = {}"),
    Case("a reporter", 'LOGGING = {}; MIDDLEWARE += ["rollbar.contrib.django.middleware.RollbarNotifierMiddleware"]'),
    Case(
        "a log file that nobody opens yet",
        'LOGGING["handlers"]["file"] = {"class": "logging.handlers.RotatingFileHandler", "filename": "{project}/log"}',
    ),
]

# Faults that rule each other out: here is the first of them, the others are these.
EXCLUDED = {
    "settings_module_differs",
    "deprecated_settings",
    "app_init_touches_database",
    "host_rejected",
    "not_secure_behind_proxy",
    "proxy_header_name",
    "csrf_origin_rejected",
    "static_not_collected",
    "media_inside_static",
}
EVERYTHING = Case(
    "every fault at once",
    f"""
DEBUG = DEBUG_PROPAGATE_EXCEPTIONS = USE_X_FORWARDED_HOST = True
SECRET_KEY = ""
SECRET_KEY_FALLBACKS = ["an-old-key-of-the-shop"]
ALLOWED_HOSTS = ["*"]
INSTALLED_APPS += ["debug_toolbar"]
SILENCED_SYSTEM_CHECKS = ["security.W009"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
AUTH_PASSWORD_VALIDATORS = []
SECURE_CSP = {{"default-src": ["x"]}}
PASSWORD_RESET_TIMEOUT_DAYS = 1
REFERRER_POLICY = "same-origin"
SESSION_SAVE_EVERY_REQUEST = "False"
SESSION_COOKIE_AGE = "3600"
DATABASES["default"] = {{"ENGINE": "django.db.backends.postgresql", "HOST": "db.example.com", "CONN_MAX_AGE": None}}
DATABASES["default"]["OPTIONS"] = {{"prepare_threshold": 5}}
DATABASES["other"] = {{"ENGINE": "django.db.backends.postgresql", "CONN_MAX_AGE": "600"}}
DATABASES["files"] = {SQLITE}
CACHES = {{"default": {LOCMEM}, "pages": {{"BACKEND": "django.core.cache.backends.redis.RedisCache"}}}}
SESSION_ENGINE = "django.contrib.sessions.backends.cache"
DEFAULT_FROM_EMAIL = "webmaster@localhost"
TASKS = {{
    "default": {{"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}},
    "other": {{"BACKEND": "django.tasks.backends.dummy.DummyBackend"}},
}}
USE_TZ = False
TEMPLATES[0]["APP_DIRS"] = False
TEMPLATES[0]["OPTIONS"].update(debug=True, loaders=["django.template.loaders.app_directories.Loader"])
DATA_UPLOAD_MAX_MEMORY_SIZE = FILE_UPLOAD_PERMISSIONS = SECURE_PROXY_SSL_HEADER = None
STATIC_ROOT = FILE_UPLOAD_TEMP_DIR = "/nonexistent/static"
STORAGES["staticfiles"] = {{"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}
MEDIA_ROOT = "{{project}}/shop/urls.py/media"
del LOGGING["disable_existing_loggers"]
LOGGING["handlers"]["file"] = {{"class": "logging.FileHandler", "filename": "/nonexistent/shop.log"}}
if "MAILERS" in globals():
    MAILERS = {{"default": {{"BACKEND": "django.core.mail.backends.dummy.EmailBackend"}}, "other": {{}}}}
else:
    EMAIL_BACKEND = "django.core.mail.backends.dummy.EmailBackend"
    MAILERS = {{}}
""",
    options={"server": "asgi"},
    files={"debug_toolbar/__init__.py": "", "shop/urls.py": URLS.replace("office/", "admin/")},
)
