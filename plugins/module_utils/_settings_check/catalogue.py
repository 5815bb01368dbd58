"""Every finding the check can have: how bad it is, what it does to the site, and what to do about it."""

from __future__ import annotations

from typing import NamedTuple

SEVERITIES = ("error", "warning", "notice")
# What the option `checks` knows: those that need no other server, and those that do or that take longer.
DEFAULT_GROUPS = ("envfile", "django", "settings", "request", "static", "logging")
GROUPS = (*DEFAULT_GROUPS, "database", "cache", "migrations", "schema", "stable")


class Rule(NamedTuple):
    severity: str
    group: str
    # What happens to the site, in one sentence.
    meaning: str
    detection: str
    remedy: str


# Django's own levels hold for everything that is not in here.
DJANGO_SEVERITIES = {
    # A key that can be guessed, cookies that travel in the clear, debug pages, no site at all.
    "security.W009": "error",
    "security.W010": "error",
    "security.W011": "error",
    "security.W012": "error",
    "security.W016": "error",
    "security.W018": "error",
    "security.W020": "error",
    # Whether subdomains are bound as well, and for ever, is for the owner of the domain to decide.
    "security.W005": "notice",
    "security.W021": "notice",
}

RULES = {
    # --- Loading ---------------------------------------------------------------------------------------
    "settings_not_loaded": Rule(
        "error",
        "settings",
        "The settings cannot be loaded, so the service cannot start.",
        "The project was imported as the service imports it.",
        "Correct what the message names; most often it is a variable that the environment file lacks.",
    ),
    "settings_module_differs": Rule(
        "error",
        "settings",
        "The service runs with another settings module than the one that is meant for it.",
        "The application was imported first, then compared with the option settings.",
        "Write DJANGO_SETTINGS_MODULE=... into the environment file of the service.",
    ),
    "deprecated_settings": Rule(
        "notice",
        "settings",
        "The settings use something that a later version of Django no longer has.",
        "Django warned about it while the project was loaded.",
        "Do what the message says before you upgrade Django.",
    ),
    "app_init_touches_database": Rule(
        "notice",
        "settings",
        "An app queries the database while it is being loaded: even migrate fails where the tables are missing.",
        "A query or Django's own warning about one was seen before loading had ended.",
        "Move the query out of AppConfig.ready() and out of module level, into the code that needs its result.",
    ),
    # --- Names and types -------------------------------------------------------------------------------
    "removed_setting": Rule(
        "error",
        "settings",
        "Django no longer knows this setting, and what it asks for does not happen.",
        "The name is compared with the settings that each version of Django knows.",
        "Use the setting that replaced it, or delete the line.",
    ),
    "misspelt_setting": Rule(
        "notice",
        "settings",
        "Django does not know this setting, but one of nearly the same name.",
        "The name is compared with those of Django's own settings.",
        "Correct the name; if another package reads the setting, ignore this finding.",
    ),
    "type_bool": Rule(
        "error",
        "settings",
        'The setting counts as true whatever it says: a text such as "False" is true to Python.',
        "The type is compared with that of Django's default.",
        'Make it a bool where it is read from the environment: X = os.environ.get("X", "") == "true".',
    ),
    "type_conn_max_age": Rule(
        "error",
        "settings",
        "CONN_MAX_AGE is not a number, so the first connection to the database fails with a TypeError.",
        "The type of the value in DATABASES.",
        'Write a number, or None: "CONN_MAX_AGE": int(os.environ["CONN_MAX_AGE"]).',
    ),
    "type_mismatch": Rule(
        "error",
        "settings",
        "The setting is a text where Django needs a number or a list, and fails or misreads it when it is used.",
        "The type is compared with that of Django's default.",
        "Convert it where it is read from the environment, with int(...) or with .split(',').",
    ),
    # --- Security --------------------------------------------------------------------------------------
    "debug_on": Rule(
        "error",
        "settings",
        "Every error shows visitors source code and settings, and each worker uses more and more memory.",
        "DEBUG is true.",
        "DEBUG = False",
    ),
    "debug_propagate_exceptions": Rule(
        "error",
        "settings",
        "An error in a view breaks the connection, instead of being logged and answered with a page.",
        "DEBUG_PROPAGATE_EXCEPTIONS is true.",
        "DEBUG_PROPAGATE_EXCEPTIONS = False",
    ),
    "template_debug": Rule(
        "warning",
        "settings",
        "Templates keep what they need for debug pages, which costs time in every request.",
        "OPTIONS of TEMPLATES sets debug.",
        'Remove "debug" from OPTIONS of TEMPLATES.',
    ),
    "secret_key_empty": Rule(
        "error",
        "settings",
        "SECRET_KEY is empty: the site starts, but every login, form and session fails.",
        "SECRET_KEY has no value.",
        'SECRET_KEY = os.environ["SECRET_KEY"], with the value in the environment file.',
    ),
    "secret_key_in_source": Rule(
        "error",
        "settings",
        "The secret key in use is in the source code: whoever has read that can forge sessions and password resets.",
        "The value of SECRET_KEY and of its fallbacks was looked for in the Python files of the project.",
        "Make a new key, put it into the environment file, and read it with os.environ.",
    ),
    "secret_key_unstable": Rule(
        "error",
        "stable",
        "Every process has another SECRET_KEY, so visitors are logged out at random and at each restart.",
        "The project was loaded twice, and the values differ.",
        "Put one key into the environment file, instead of making a new one when the variable is missing.",
    ),
    "setting_unstable": Rule(
        "warning",
        "stable",
        "Every process has another value of this setting, so workers disagree.",
        "The project was loaded twice, and the values differ.",
        "Compute the value once and keep it, in a file of the release or in the environment file.",
    ),
    "allowed_hosts_wildcard": Rule(
        "error",
        "settings",
        "Anyone can send a made-up host name, which then is in the links of password mails and in cached pages.",
        'ALLOWED_HOSTS has "*".',
        'ALLOWED_HOSTS = ["shop.example.com"]: the public names of the site.',
    ),
    "x_forwarded_host_trusted": Rule(
        "warning",
        "settings",
        "Visitors can choose the host name that Django believes in, since the proxy passes their header on.",
        "USE_X_FORWARDED_HOST is true, and X-Forwarded-Host is not among the headers that the proxy sets.",
        "USE_X_FORWARDED_HOST = False, or have the proxy set the header.",
    ),
    "csp_without_middleware": Rule(
        "error",
        "settings",
        "A Content Security Policy is set, but no page is sent with it.",
        "SECURE_CSP or SECURE_CSP_REPORT_ONLY is set, and its middleware is not in MIDDLEWARE.",
        'Add "django.middleware.csp.ContentSecurityPolicyMiddleware" to MIDDLEWARE.',
    ),
    "security_checks_silenced": Rule(
        "warning",
        "settings",
        "Security checks of Django are switched off, so nobody is told when one of them would fail.",
        "SILENCED_SYSTEM_CHECKS has security.*.",
        "Remove them from SILENCED_SYSTEM_CHECKS, or ignore this finding after a review.",
    ),
    "weak_password_hasher": Rule(
        "error",
        "settings",
        "Passwords are kept in a form that can be computed back within minutes if the database leaks.",
        "The first of PASSWORD_HASHERS is MD5, SHA-1 or crypt.",
        "Remove PASSWORD_HASHERS, or move the weak one to the end so that old passwords still work.",
    ),
    "no_password_validators": Rule(
        "warning",
        "settings",
        'Every password is accepted, "1" among them.',
        "AUTH_PASSWORD_VALIDATORS is empty while users log in with passwords.",
        "Set AUTH_PASSWORD_VALIDATORS as startproject does.",
    ),
    "development_apps": Rule(
        "warning",
        "settings",
        "A tool for developers runs in production, where it is slow and shows what visitors should not see.",
        "INSTALLED_APPS has it.",
        "Add it in the development settings only.",
    ),
    "admin_default_url": Rule(
        "notice",
        "settings",
        "The admin is where every scanner looks for it.",
        'reverse("admin:index") is "/admin/".',
        "Give it another path in the URLconf, or limit it to known networks in nginx.",
    ),
    # --- Databases -------------------------------------------------------------------------------------
    "database_sqlite": Rule(
        "error",
        "settings",
        'Several workers write to one SQLite file: requests fail with "database is locked".',
        "The ENGINE in DATABASES, with more than one worker.",
        "Use PostgreSQL.",
    ),
    "database_no_tls": Rule(
        "error",
        "settings",
        "Passwords and data travel to the database server unencrypted, or can be made to.",
        "HOST is another machine, and sslmode allows connections without TLS.",
        '"OPTIONS": {"sslmode": "verify-full"}',
    ),
    "database_superuser": Rule(
        "warning",
        "database",
        "The site connects as a superuser: one hole in it opens every database of the server.",
        "pg_roles says so of the role that is connected.",
        "Give the app a role of its own that owns its database.",
    ),
    "database_unreachable": Rule(
        "error",
        "database",
        "The site cannot reach its database.",
        "One connection was tried.",
        "Correct the address or the credentials, or start the server.",
    ),
    "pooled_server_side_cursors": Rule(
        "error",
        "settings",
        "Behind PgBouncer's transaction pooling, iterator() fails at random as soon as several requests run at once.",
        "The pooler shares connections between transactions, and DISABLE_SERVER_SIDE_CURSORS is not true.",
        '"DISABLE_SERVER_SIDE_CURSORS": True in DATABASES.',
    ),
    "pooled_prepared_statements": Rule(
        "error",
        "settings",
        "A PgBouncer older than 1.21, or one without max_prepared_statements, makes queries fail at random.",
        "The pooler shares connections between transactions, and OPTIONS sets prepare_threshold.",
        "Remove prepare_threshold, or set max_prepared_statements in PgBouncer 1.21 or newer.",
    ),
    "asgi_persistent_connections": Rule(
        "error",
        "settings",
        "Under ASGI, connections that are kept leak until the database server takes no more.",
        "CONN_MAX_AGE is not 0, and the server is ASGI.",
        '"CONN_MAX_AGE": 0, or the pool of Django 5.1: "OPTIONS": {"pool": True}.',
    ),
    "no_connection_health_checks": Rule(
        "warning",
        "settings",
        "After a restart of the database, each connection that was kept makes one more request fail.",
        "CONN_MAX_AGE keeps connections, and CONN_HEALTH_CHECKS is not true.",
        '"CONN_HEALTH_CHECKS": True in DATABASES.',
    ),
    "migrations_unapplied": Rule(
        "error",
        "migrations",
        "The code needs tables or columns that the database does not have: pages fail.",
        "The plan of migrate, without running it.",
        "Run migrate.",
    ),
    "migrations_conflicting": Rule(
        "error",
        "migrations",
        "Two migrations of one app claim to be the last, and migrate refuses to run.",
        "Django's own search for conflicts.",
        "Run makemigrations --merge and commit the result.",
    ),
    "migrations_missing": Rule(
        "warning",
        "migrations",
        "The models were changed and no migration says so: the database stays behind the code.",
        "What makemigrations --check compares, without writing.",
        "Run makemigrations, and commit the result; for packages, set DEFAULT_AUTO_FIELD as it was.",
    ),
    "schema_drift": Rule(
        "error",
        "schema",
        "A table lacks what its model has although all migrations are applied: pages that use it fail.",
        "The columns of each table are compared with the fields of its model.",
        "Add what is missing with a new migration; one that has been applied must not be edited.",
    ),
    # --- Caches and sessions ---------------------------------------------------------------------------
    "cache_not_shared": Rule(
        "error",
        "settings",
        "Every worker has a cache of its own or none: counters, rate limits and cached pages disagree.",
        "The BACKEND in CACHES keeps things in one process, with several workers; a warning except for default.",
        'Use Redis: "BACKEND": "django.core.cache.backends.redis.RedisCache".',
    ),
    "session_in_process_memory": Rule(
        "error",
        "settings",
        "Each worker knows only the sessions that began in it: visitors are logged in on every other click.",
        "SESSION_ENGINE uses a cache that keeps things in one process, with more than one worker.",
        'SESSION_ENGINE = "django.contrib.sessions.backends.cached_db", on a cache in Redis.',
    ),
    "cache_no_key_prefix": Rule(
        "notice",
        "settings",
        "Should another site use the same cache server, each would read the entries of the other.",
        "The cache is in Redis or Memcached, and has no KEY_PREFIX.",
        '"KEY_PREFIX": "shop" in CACHES.',
    ),
    "cache_unreachable": Rule(
        "error",
        "cache",
        "The site cannot use its cache.",
        "One short-lived key was written, read and removed.",
        "Correct LOCATION, or start the server.",
    ),
    # --- Mail and tasks --------------------------------------------------------------------------------
    "email_not_sent": Rule(
        "error",
        "settings",
        "No mail ever leaves the site: no password reset, no report of an error.",
        "The mail backend only prints, stores or drops messages.",
        "Use django.core.mail.backends.smtp.EmailBackend, and name your mail server.",
    ),
    "mailers_ignored": Rule(
        "error",
        "settings",
        "This version of Django does not read MAILERS: it sends by EMAIL_*, by default to port 25 of its own host.",
        "MAILERS is set on a Django older than 6.1.",
        "Upgrade to Django 6.1, or use EMAIL_BACKEND, EMAIL_HOST and so on.",
    ),
    "email_default_from": Rule(
        "warning",
        "settings",
        "Mail goes out from an address at localhost, which other mail servers reject.",
        "DEFAULT_FROM_EMAIL is Django's default; with ADMINS or MANAGERS, SERVER_EMAIL as well.",
        'DEFAULT_FROM_EMAIL = SERVER_EMAIL = "shop@example.com"',
    ),
    "email_no_timeout": Rule(
        "notice",
        "settings",
        "A mail server that does not answer holds a worker for minutes.",
        "SMTP is used without a timeout.",
        "EMAIL_TIMEOUT = 10; in MAILERS, timeout in OPTIONS.",
    ),
    "tasks_never_run": Rule(
        "error",
        "settings",
        "Tasks are accepted and never run.",
        "A BACKEND in TASKS is the dummy one.",
        "Use a backend that hands tasks to a worker, from a package such as django-tasks.",
    ),
    "tasks_in_request": Rule(
        "notice",
        "settings",
        "Tasks run inside of the request, and the visitor waits for them.",
        "A BACKEND in TASKS is the immediate one.",
        "Use a backend that hands tasks to a worker, from a package such as django-tasks.",
    ),
    # --- Time, templates, limits -----------------------------------------------------------------------
    "time_zone": Rule(
        "warning",
        "settings",
        "Times are those of Chicago or without a time zone, and one hour of each autumn happens twice.",
        "TIME_ZONE is not set, or USE_TZ is false.",
        'TIME_ZONE = "UTC" (or your own) and USE_TZ = True; existing naive times need a conversion.',
    ),
    "template_loader_uncached": Rule(
        "warning",
        "settings",
        "Every template is read and compiled anew for each request.",
        "OPTIONS of TEMPLATES names loaders without the cached one.",
        'Remove "loaders" from OPTIONS and use APP_DIRS, or wrap them in django.template.loaders.cached.Loader.',
    ),
    "unlimited_body": Rule(
        "warning",
        "settings",
        "One large request can fill the memory of the server.",
        "DATA_UPLOAD_MAX_MEMORY_SIZE is None.",
        "Set DATA_UPLOAD_MAX_MEMORY_SIZE to the bytes that your forms and APIs really need.",
    ),
    # --- Requests as the proxy sends them --------------------------------------------------------------
    "host_rejected": Rule(
        "error",
        "request",
        "Visitors of this address get 400 Bad Request.",
        "A request as the proxy sends it was built, and its host name checked.",
        "Add the host name to ALLOWED_HOSTS.",
    ),
    "redirect_loop": Rule(
        "error",
        "request",
        "Each page redirects to itself for ever: the site cannot be seen.",
        "A request as the proxy sends it was given to SecurityMiddleware.",
        'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https"); the proxy must overwrite that header.',
    ),
    "not_secure_behind_proxy": Rule(
        "error",
        "request",
        "Django takes HTTPS for HTTP: it writes http:// into links, and rejects forms that were sent from https://.",
        "A request as the proxy sends it was built and asked whether it is secure.",
        'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https"); the proxy must overwrite that header.',
    ),
    "proxy_header_name": Rule(
        "error",
        "request",
        "SECURE_PROXY_SSL_HEADER names a header that never comes, so Django takes HTTPS for HTTP.",
        "The name is not that of any header which the proxy sends, in the notation of request.META.",
        'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https"), with HTTP_ and underscores.',
    ),
    "csrf_origin_rejected": Rule(
        "error",
        "request",
        "Every form that is sent from this address is answered with 403 Forbidden.",
        "A POST request as the proxy sends it was built, and its Origin checked by CsrfViewMiddleware.",
        'CSRF_TRUSTED_ORIGINS = ["https://shop.example.com"], or have the proxy pass the real Host header on.',
    ),
    # --- Static files and uploads ----------------------------------------------------------------------
    "static_root_missing": Rule(
        "error",
        "static",
        "Pages come without styles and scripts, or not at all, since there is no folder with static files.",
        "STATIC_ROOT is not set or does not exist, while apps have static files.",
        "Set STATIC_ROOT and run collectstatic.",
    ),
    "static_not_collected": Rule(
        "error",
        "static",
        'Static files are missing: 404 in the browser, or "Missing staticfiles manifest entry" instead of a page.',
        "What collectstatic would copy is compared with what is there.",
        "Run collectstatic, at every deployment.",
    ),
    "static_not_hashed": Rule(
        "warning",
        "static",
        "After a deployment, browsers go on with the old styles and scripts they remember.",
        "The storage of static files gives them the same name whatever is in them.",
        'STORAGES["staticfiles"]: {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}',
    ),
    "media_inside_static": Rule(
        "error",
        "static",
        "Uploads are inside of the static files: they are served as such, and wiped when those are collected anew.",
        "MEDIA_ROOT is within STATIC_ROOT or one of STATICFILES_DIRS.",
        "Move MEDIA_ROOT to a folder of its own.",
    ),
    "media_inside_code": Rule(
        "warning",
        "static",
        "Uploads are inside of the code, and are lost when a new release takes its place.",
        "MEDIA_ROOT is within the working directory of the service, and no link or mount leads out of it.",
        "Move MEDIA_ROOT to a folder that stays, outside of the code.",
    ),
    "media_unwritable": Rule(
        "error",
        "static",
        "Uploads fail, since the account of the service may not write there.",
        "The rights on MEDIA_ROOT, or where it would be made.",
        "Make the folder, and give it to the account of the service.",
    ),
    "upload_temp_unwritable": Rule(
        "error",
        "static",
        "Uploads of more than 2.5 MB fail, since they cannot be stored while they arrive.",
        "The rights on FILE_UPLOAD_TEMP_DIR, or on the folder for temporary files.",
        "Remove FILE_UPLOAD_TEMP_DIR, or give the folder to the account of the service.",
    ),
    "file_upload_permissions_none": Rule(
        "warning",
        "static",
        "nginx answers 403 for large uploads: they keep the rights of a temporary file, and only Django can read them.",
        "FILE_UPLOAD_PERMISSIONS is None.",
        "FILE_UPLOAD_PERMISSIONS = 0o644",
    ),
    # --- Logging ---------------------------------------------------------------------------------------
    "errors_logged_nowhere": Rule(
        "error",
        "logging",
        "When a page fails, nothing is written anywhere: nobody learns of it, or why.",
        "What LOGGING makes of Django's default, followed from django.request to its last handler.",
        'LOGGING with a logging.StreamHandler in "handlers", and that in "root".',
    ),
    "log_file_unwritable": Rule(
        "error",
        "logging",
        "A log file cannot be opened, so the service does not start.",
        "The rights on each file that LOGGING names.",
        "Log to the console, which systemd keeps, or give the folder to the account of the service.",
    ),
    # --- Environment files -----------------------------------------------------------------------------
    "envfile_dropped_line": Rule(
        "error",
        "envfile",
        "systemd drops this line, so the variable is missing.",
        "The file is read as systemd reads it.",
        "Write NAME=value, with a name of letters, digits and underscores.",
    ),
    "envfile_export": Rule(
        "error",
        "envfile",
        "systemd does not know export and drops the line, so the variable is missing.",
        "The file is read as systemd reads it.",
        "Remove the word export.",
    ),
    "envfile_unquoted_comment": Rule(
        "warning",
        "envfile",
        "What looks like a comment behind the value is part of the value.",
        "The file is read as systemd reads it.",
        "Put the comment on a line of its own, or the whole value into quotes.",
    ),
    "envfile_lost_backslash": Rule(
        "warning",
        "envfile",
        "systemd removes the backslash, so the value is another one.",
        "The file is read as systemd reads it.",
        "Put the value into single quotes.",
    ),
    "envfile_dollar": Rule(
        "warning",
        "envfile",
        "systemd does not replace the variable: the value has the dollar sign in it.",
        "The file is read as systemd reads it.",
        "Write the value out; if the dollar sign is meant, put it into single quotes.",
    ),
    "envfile_unbalanced_quote": Rule(
        "error",
        "envfile",
        "A quote is never closed, so the following lines are part of the value and their variables are missing.",
        "The file is read as systemd reads it.",
        "Close the quote; one inside of the value needs the other kind around it.",
    ),
    # --- What the playbook asks for --------------------------------------------------------------------
    "expectation": Rule(
        "error",
        "expect",
        "A setting is not what the playbook expects.",
        "The option expect.",
        "Correct the setting, or what is expected.",
    ),
    "secret_differs": Rule(
        "error",
        "expect",
        "A secret in the settings is not the one that the playbook knows.",
        "The option secrets; neither value is ever shown.",
        "Restart the service with the present environment file, or correct the option.",
    ),
}
