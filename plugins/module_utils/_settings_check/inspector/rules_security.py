"""Settings that open the site to others."""

from __future__ import annotations

from typing import Iterable

from .registry import Context, Finding, finding, rule
from .values import first_of, imported, installed, is_a, items, value

CSP = "django.middleware.csp.ContentSecurityPolicyMiddleware"
WEAK_HASHERS = frozenset(
    "django.contrib.auth.hashers." + name
    for name in (
        "MD5PasswordHasher",
        "UnsaltedMD5PasswordHasher",
        "SHA1PasswordHasher",
        "UnsaltedSHA1PasswordHasher",
        "CryptPasswordHasher",
    )
)
# With others alone, passwords are none of Django's business.
PASSWORD_BACKENDS = frozenset(
    (
        "django.contrib.auth.backends.ModelBackend",
        "django.contrib.auth.backends.AllowAllUsersModelBackend",
        "allauth.account.auth_backends.AuthenticationBackend",
    )
)
# Without those that are also useful in production, such as django_extensions.
DEVELOPMENT_APPS = (
    "debug_toolbar",
    "devserver",
    "django_browser_reload",
    "django_pdb",
    "django_watchfiles",
    "livereload",
    "nplusone.ext.django",
    "silk",
    "sslserver",
    "wagtail.contrib.styleguide",
)
# What the server in front does as well, or what the owner of the domain decides.
POLICY_CHECKS = frozenset(("security.W005", "security.W008", "security.W021"))


@rule("settings")
def debug(context: Context) -> Iterable[Finding]:
    for identity, name in (("debug_on", "DEBUG"), ("debug_propagate_exceptions", "DEBUG_PROPAGATE_EXCEPTIONS")):
        if value(context, name):
            yield finding(identity, name)


@rule("settings")
def secret_key_empty(context: Context) -> Iterable[Finding]:
    if not value(context, "SECRET_KEY"):
        yield finding("secret_key_empty", "SECRET_KEY")


@rule("settings")
def allowed_hosts_wildcard(context: Context) -> Iterable[Finding]:
    if "*" in items(context, "ALLOWED_HOSTS"):
        yield finding("allowed_hosts_wildcard", "ALLOWED_HOSTS")


@rule("settings")
def x_forwarded_host_trusted(context: Context) -> Iterable[Finding]:
    sent = {name.lower() for name in context.options.get("proxy_headers") or {}}
    if value(context, "USE_X_FORWARDED_HOST") and "x-forwarded-host" not in sent:
        yield finding("x_forwarded_host_trusted", "USE_X_FORWARDED_HOST")


@rule("settings")
def csp_without_middleware(context: Context) -> Iterable[Finding]:
    if context.django < (6, 0):
        return
    listed = items(context, "MIDDLEWARE")
    # One that is a function, or cannot be imported here, may send the header just as well.
    opaque = any(not isinstance(imported(path), type) for path in listed)
    for name in ("SECURE_CSP", "SECURE_CSP_REPORT_ONLY"):
        if value(context, name) and not opaque and first_of(listed, CSP) is None:
            yield finding("csp_without_middleware", name)


@rule("settings")
def security_checks_silenced(context: Context) -> Iterable[Finding]:
    silenced = {str(each) for each in items(context, "SILENCED_SYSTEM_CHECKS")} - POLICY_CHECKS
    for identity in sorted(each for each in silenced if each.startswith("security.")):
        yield finding("security_checks_silenced", "SILENCED_SYSTEM_CHECKS", subject=identity)


@rule("settings")
def weak_password_hasher(context: Context) -> Iterable[Finding]:
    # Those behind the first only read passwords that were kept earlier.
    first = (items(context, "PASSWORD_HASHERS") or [None])[0]
    if installed(context, "django.contrib.auth") and first in WEAK_HASHERS:
        yield finding("weak_password_hasher", "PASSWORD_HASHERS", subject=first)


@rule("settings")
def no_password_validators(context: Context) -> Iterable[Finding]:
    passwords = PASSWORD_BACKENDS & {str(each) for each in items(context, "AUTHENTICATION_BACKENDS")}
    if installed(context, "django.contrib.auth") and passwords and not value(context, "AUTH_PASSWORD_VALIDATORS"):
        yield finding("no_password_validators", "AUTH_PASSWORD_VALIDATORS")


@rule("settings")
def development_apps(context: Context) -> Iterable[Finding]:
    for app in DEVELOPMENT_APPS:
        if installed(context, app):
            yield finding("development_apps", "INSTALLED_APPS", subject=app)


@rule("settings")
def admin_default_url(context: Context) -> Iterable[Finding]:
    if not installed(context, "django.contrib.admin"):
        return
    from django.urls import NoReverseMatch, reverse

    try:
        if reverse("admin:index") == "/admin/":
            yield finding("admin_default_url", "ROOT_URLCONF", subject="/admin/")
    except NoReverseMatch:
        pass


@rule("settings")
def templates(context: Context) -> Iterable[Finding]:
    for number, engine in enumerate(items(context, "TEMPLATES")):
        options = engine.get("OPTIONS") if isinstance(engine, dict) else None
        if not options or engine.get("BACKEND") != "django.template.backends.django.DjangoTemplates":
            continue
        setting = f"TEMPLATES.{number}.OPTIONS."
        if options.get("debug"):
            yield finding("template_debug", setting + "debug")
        # One with arguments is a list that begins with its path.
        loaders = [
            each[0] if isinstance(each, (list, tuple)) and each else each for each in options.get("loaders") or ()
        ]
        if loaders and not any(is_a(each, "django.template.loaders.cached.Loader") for each in loaders):
            yield finding("template_loader_uncached", setting + "loaders")
