"""The settings overlay of django_app, run on top of small settings modules as strangers write them."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

ROLE = Path(__file__).resolve().parents[2] / "roles/django_app"
TEMPLATE = ROLE / "templates/groundwork_settings.py.j2"
VARIABLES = yaml.safe_load((ROLE / "vars/main.yml").read_text())
HASHED = "groundwork_settings.HashedFilesStorage"
PLAIN = "django.contrib.staticfiles.storage.StaticFilesStorage"
SECURITY = "django.middleware.security.SecurityMiddleware"
ENVIRONMENT = {
    "SECRET_KEY": "of-this-server",
    "ALLOWED_HOSTS": "shop.example.com,www.shop.example.com",
    "CSRF_TRUSTED_ORIGINS": "https://shop.example.com",
    "DB_NAME": "shop",
    "DB_USER": "shop",
    "DB_PASSWORD": "p",
    "DB_HOST": "/run/pgbouncer",
    "DB_PORT": "6432",
    "REDIS_URL": "unix://shop:p@/run/redis/redis-server.sock",
    "CACHE_KEY_PREFIX": "shop",
    "MEDIA_ROOT": "/srv/shop/media",
}
STARTPROJECT = {
    "DEBUG": True,
    "SECRET_KEY": "django-insecure-",
    "ALLOWED_HOSTS": [],
    "INSTALLED_APPS": ["django.contrib.sessions"],
    "MIDDLEWARE": [SECURITY, "x"],
    "DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db", "OPTIONS": {"timeout": 5}}},
    "STATIC_URL": "static/",
}


@pytest.fixture
def overlay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    def run(
        own: dict[str, Any],
        environment: dict[str, str] | None = None,
        **project: Any,  # directory, overrides, packages that are installed, version of Django
    ) -> dict[str, Any]:
        others = "DJANGO_SERVER FORCE_SCRIPT_NAME SECURE_HSTS_SECONDS EMAIL_HOST STATIC_URL MEDIA_URL".split()
        for name in (*ENVIRONMENT, *others):
            monkeypatch.delenv(name, raising=False)
        for name, value in (ENVIRONMENT if environment is None else environment).items():
            monkeypatch.setenv(name, value)
        django = types.ModuleType("django")
        django.VERSION = project.get("version", (5, 2))  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "django", django)
        storage = types.ModuleType("django.contrib.staticfiles.storage")
        storage.ManifestStaticFilesStorage = object  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, storage.__name__, storage)
        module = types.ModuleType("their_settings")
        vars(module).update(own)
        monkeypatch.setitem(sys.modules, "their_settings", module)
        monkeypatch.setattr(
            "importlib.util.find_spec", lambda name: name in project.get("packages", ["django_redis"]) or None
        )
        jinja = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined, autoescape=False)  # noqa: S701
        text = jinja.from_string(TEMPLATE.read_text()).render(
            django_app_name="shop",
            django_app_settings="their_settings",
            __django_app_static=jinja.from_string(VARIABLES["__django_app_static"]).render(
                django_app_directory=project.get("directory", ".")
            ),
            django_app_settings_overrides=project.get("overrides", {}),
        )
        place = tmp_path / project.get("directory", ".") / "groundwork_settings.py"
        namespace = {"__file__": str(place), "__name__": "groundwork_settings"}
        exec(compile(text, "groundwork_settings.py", "exec"), namespace)  # noqa: S102
        return namespace

    return run


def test_a_fresh_project_becomes_fit_for_production(overlay: Any, tmp_path: Path) -> None:
    found = overlay(STARTPROJECT)
    assert found["DEBUG"] is False
    assert found["SECRET_KEY"] == "of-this-server"
    assert found["ALLOWED_HOSTS"] == ["shop.example.com", "www.shop.example.com"]
    assert found["CSRF_TRUSTED_ORIGINS"] == ["https://shop.example.com"]
    assert found["DATABASES"]["default"] == {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": "shop",
        "USER": "shop",
        "PASSWORD": "p",
        "HOST": "/run/pgbouncer",
        "PORT": "6432",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }
    assert found["CACHES"]["default"]["KEY_PREFIX"] == "shop"
    assert found["SESSION_ENGINE"] == "django.contrib.sessions.backends.cached_db"
    assert found["STORAGES"]["staticfiles"]["BACKEND"] == HASHED
    assert found["STORAGES"]["default"]["BACKEND"].endswith("FileSystemStorage")
    assert found["STATIC_ROOT"] == str(tmp_path / ".static")
    assert (found["STATIC_URL"], found["MEDIA_URL"]) == ("/static/", "/media/")
    assert [found[name] for name in ("SECURE_SSL_REDIRECT", "SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE")] == [
        True
    ] * 3
    assert found["SECURE_HSTS_SECONDS"] == 3600
    assert found["MIDDLEWARE"] == [SECURITY, "x"]
    assert found["LOGGING"]["root"]["handlers"] == ["console"]


def test_what_a_project_decided_well_stays(overlay: Any) -> None:
    own = {
        "ALLOWED_HOSTS": ["own.example.com"],
        "CSRF_TRUSTED_ORIGINS": ["https://own.example.com"],
        "DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": "own", "CONN_MAX_AGE": 5}},
        "CACHES": {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": "redis://own"}},
        "INSTALLED_APPS": ["django.contrib.sessions"],
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
        "STORAGES": {"default": {"BACKEND": "s3"}, "staticfiles": {"BACKEND": "whitenoise"}},
        "SECURE_HSTS_SECONDS": 63072000,
        "SECURE_PROXY_SSL_HEADER": ("HTTP_X_SCHEME", "https"),
        "LOGGING": {"version": 1},
        "EMAIL_HOST": "own.example.com",
    }
    found = overlay(own)
    assert found["DATABASES"]["default"]["NAME"] == "own"
    assert found["DATABASES"]["default"]["CONN_MAX_AGE"] == 5
    assert found["DATABASES"]["default"]["CONN_HEALTH_CHECKS"] is True
    assert {name: found[name] for name in own if name != "DATABASES"} == {
        name: value for name, value in own.items() if name != "DATABASES"
    }
    assert "CONN_HEALTH_CHECKS" not in own["DATABASES"]["default"]  # type: ignore[index]


def test_an_empty_environment_breaks_nothing(overlay: Any) -> None:
    found = overlay(STARTPROJECT, {})
    assert found["DATABASES"] == STARTPROJECT["DATABASES"]
    assert found["SECRET_KEY"] == "django-insecure-"
    assert found["ALLOWED_HOSTS"] == []
    assert "CACHES" not in found
    assert found["SESSION_ENGINE"].endswith("backends.db")


@pytest.mark.parametrize("engine", ["", "django.db.backends.dummy", "django.db.backends.sqlite3"])
def test_options_of_the_old_database_do_not_reach_the_new_one(overlay: Any, engine: str) -> None:
    database = {"ENGINE": engine, "OPTIONS": {"init_command": "PRAGMA"}, "ATOMIC_REQUESTS": True}
    found = overlay({"DATABASES": {"default": database}})["DATABASES"]["default"]
    assert "OPTIONS" not in found
    assert found["ATOMIC_REQUESTS"] is True


@pytest.mark.parametrize(("password", "host"), [("p", "/run/postgresql"), ("another", "/run/pgbouncer")])
def test_migrations_of_a_project_that_has_its_database_from_a_file_go_their_own_way(
    overlay: Any, password: str, host: str
) -> None:
    login = {"NAME": "shop", "USER": "shop", "PASSWORD": password, "HOST": "/run/pgbouncer", "PORT": "6432"}
    own = {"DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql", **login}}}
    settings = overlay(own, {**ENVIRONMENT, "DB_HOST": "/run/postgresql", "DB_PORT": "5432"})
    assert settings["DATABASES"]["default"]["HOST"] == host


def test_other_databases_stay_what_they_are(overlay: Any) -> None:
    maps = {"ENGINE": "django.contrib.gis.db.backends.postgis", "NAME": "maps"}
    old = {"ENGINE": "django.db.backends.mysql", "NAME": "old"}
    found = overlay({"DATABASES": {"default": {}, "maps": maps, "old": old}})["DATABASES"]
    assert found["old"] == old
    assert found["maps"]["DISABLE_SERVER_SIDE_CURSORS"] is True


def test_connections_are_not_kept_under_asgi(overlay: Any) -> None:
    found = overlay(STARTPROJECT, {**ENVIRONMENT, "DJANGO_SERVER": "asgi"})
    assert found["DATABASES"]["default"]["CONN_MAX_AGE"] == 0


@pytest.mark.parametrize("hosts", [["*"], ["*", "example.com"], (), None])
def test_a_project_that_answers_to_every_name_gets_its_names(overlay: Any, hosts: Any) -> None:
    assert overlay({"ALLOWED_HOSTS": hosts})["ALLOWED_HOSTS"] == ["shop.example.com", "www.shop.example.com"]


@pytest.mark.parametrize("backend", ["locmem.LocMemCache", "dummy.DummyCache", "filebased.FileBasedCache"])
def test_a_private_cache_becomes_a_shared_one_and_others_stay(overlay: Any, backend: str) -> None:
    own = {"CACHES": {"default": {"BACKEND": f"django.core.cache.backends.{backend}"}, "other": {"BACKEND": "x"}}}
    found = overlay(own)["CACHES"]
    assert found["default"]["BACKEND"] == "django_redis.cache.RedisCache"
    assert found["other"] == {"BACKEND": "x"}
    assert overlay(own, packages=())["CACHES"] == own["CACHES"]


def test_sessions_never_live_in_the_cache_alone(overlay: Any) -> None:
    own = {**STARTPROJECT, "SESSION_ENGINE": "django.contrib.sessions.backends.cache"}
    assert overlay(own)["SESSION_ENGINE"].endswith("cached_db")
    assert overlay(own, {})["SESSION_ENGINE"].endswith("backends.db")


@pytest.mark.parametrize(
    ("version", "own", "expected"),
    [
        ((4, 2), {"STATICFILES_STORAGE": PLAIN}, {"STATICFILES_STORAGE": HASHED}),
        ((4, 2), {"STATICFILES_STORAGE": "white"}, {"STATICFILES_STORAGE": "white"}),
        ((4, 2), {"DEFAULT_FILE_STORAGE": "s3"}, {"STATICFILES_STORAGE": HASHED}),
        ((5, 2), {"STATICFILES_STORAGE": "dead"}, {"STORAGES": HASHED}),
        ((5, 2), {"STORAGES": {"default": {"BACKEND": "s3"}}}, {"STORAGES": HASHED}),
    ],
)
def test_static_files_are_hashed_in_every_version(overlay: Any, version: Any, own: Any, expected: Any) -> None:
    found = overlay(own, version=version)
    if "STORAGES" in expected:
        assert found["STORAGES"]["staticfiles"]["BACKEND"] == HASHED
    else:
        assert found["STATICFILES_STORAGE"] == expected["STATICFILES_STORAGE"]
        assert "STORAGES" not in found


def test_static_files_are_found_from_a_subfolder(overlay: Any, tmp_path: Path) -> None:
    assert overlay({}, directory="backend/./app")["STATIC_ROOT"] == str(tmp_path / ".static")


def test_places_are_of_the_type_that_the_project_has_them_in(overlay: Any, tmp_path: Path) -> None:
    found = overlay({"STATIC_ROOT": Path("/a"), "MEDIA_ROOT": Path("/b")})
    assert (found["STATIC_ROOT"], found["MEDIA_ROOT"]) == (tmp_path / ".static", Path("/srv/shop/media"))


def test_mail_goes_where_the_environment_says(overlay: Any) -> None:
    mail = {**ENVIRONMENT, "EMAIL_HOST": "mail.example.com", "EMAIL_PORT": "587", "EMAIL_USE_TLS": "True"}
    found = overlay({"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}, mail)
    assert (found["EMAIL_HOST"], found["EMAIL_PORT"], found["EMAIL_USE_TLS"]) == ("mail.example.com", 587, True)
    assert found["EMAIL_BACKEND"].endswith("smtp.EmailBackend")
    assert overlay({"EMAIL_BACKEND": "anymail.X"}, mail)["EMAIL_BACKEND"] == "anymail.X"


CONSOLE = "django.core.mail.backends.console.EmailBackend"


@pytest.mark.parametrize("own", [{"MAILERS": {"default": {"BACKEND": CONSOLE}}}, {"MAILERS": {}}, {}])
def test_mail_of_new_versions_of_django_goes_there_too(overlay: Any, own: dict[str, Any]) -> None:
    mail = {**ENVIRONMENT, "EMAIL_HOST": "mail.example.com", "EMAIL_PORT": "587", "EMAIL_USE_TLS": "True"}
    found = overlay(own, mail, version=(6, 1))
    mailer = found["MAILERS"]["default"]
    assert mailer["BACKEND"].endswith("smtp.EmailBackend")
    assert (mailer["OPTIONS"]["host"], mailer["OPTIONS"]["port"]) == ("mail.example.com", 587)
    assert not [name for name in found if name.startswith("EMAIL_")]


def test_a_project_that_sends_its_mail_by_other_means_goes_on_with_it(overlay: Any) -> None:
    own = {"MAILERS": {"default": {"BACKEND": "anymail.backends.X"}}}
    assert overlay(own, version=(6, 1))["MAILERS"] == own["MAILERS"]
    assert "MAILERS" not in overlay({"EMAIL_HOST": "own.example.com"}, version=(6, 1))


def test_mail_is_sent_from_the_site_and_never_waits_for_long(overlay: Any) -> None:
    found = overlay(STARTPROJECT)
    assert (found["DEFAULT_FROM_EMAIL"], found["EMAIL_TIMEOUT"]) == ("webmaster@shop.example.com", 10)
    own = {"DEFAULT_FROM_EMAIL": "us@example.com", "EMAIL_TIMEOUT": 3, "EMAIL_BACKEND": CONSOLE}
    found = overlay(own)
    assert (found["DEFAULT_FROM_EMAIL"], found["EMAIL_TIMEOUT"]) == ("us@example.com", 3)
    assert found["EMAIL_BACKEND"].endswith("smtp.EmailBackend")


def test_the_security_middleware_comes_first_where_it_is_missing(overlay: Any) -> None:
    assert overlay({"MIDDLEWARE": ("x",)})["MIDDLEWARE"] == [SECURITY, "x"]


def test_overrides_have_the_last_word(overlay: Any) -> None:
    overrides = {"DEBUG": True, "X": {"a": [1, None, 'it\'s "quoted"\n']}, "LANGUAGE_CODE": "de"}
    found = overlay(STARTPROJECT, overrides=overrides)
    assert {name: found[name] for name in overrides} == overrides


def test_urls_are_those_that_nginx_serves_unless_they_lead_elsewhere(overlay: Any) -> None:
    nginx = {"STATIC_URL": "/assets/", "MEDIA_URL": "/uploads/"}
    found = overlay({"STATIC_URL": "static/", "MEDIA_URL": "media/"}, nginx)
    assert {name: found[name] for name in nginx} == nginx
    cdn = {"STATIC_URL": "https://cdn.example.com/static/", "MEDIA_URL": "//cdn.example.com/media/"}
    found = overlay(cdn, nginx)
    assert {name: found[name] for name in cdn} == cdn


def test_below_a_path_links_and_the_session_are_its_own(overlay: Any) -> None:
    found = overlay({"LOGOUT_REDIRECT_URL": "/bye/"}, {"FORCE_SCRIPT_NAME": "/blog"})
    assert found["FORCE_SCRIPT_NAME"] == "/blog"
    assert (found["LOGIN_URL"], found["LOGIN_REDIRECT_URL"]) == ("/blog/accounts/login/", "/blog/accounts/profile/")
    assert found["LOGOUT_REDIRECT_URL"] == "/blog/bye/"
    assert (found["SESSION_COOKIE_NAME"], found["SESSION_COOKIE_PATH"]) == ("sessionid_shop", "/blog")
    assert "CSRF_COOKIE_NAME" not in found, "scripts look for it"


def test_below_a_path_what_leads_somewhere_already_stays(overlay: Any) -> None:
    own = {
        "LOGIN_URL": "login",
        "LOGIN_REDIRECT_URL": "/blog/home/",
        "LOGOUT_REDIRECT_URL": "//example.net/",
        "SESSION_COOKIE_NAME": "__Host-own",
    }
    found = overlay(own, {"FORCE_SCRIPT_NAME": "/blog"})
    assert {name: found[name] for name in own if name != "SESSION_COOKIE_NAME"} == {
        name: value for name, value in own.items() if name != "SESSION_COOKIE_NAME"
    }
    assert found["SESSION_COOKIE_NAME"] == "__Host-own_shop"
    assert "SESSION_COOKIE_PATH" not in found, "browsers refuse another one with such a name"


def test_at_the_root_of_a_domain_no_link_and_no_cookie_changes(overlay: Any) -> None:
    found = overlay(STARTPROJECT)
    assert not {"FORCE_SCRIPT_NAME", "LOGIN_URL", "LOGIN_REDIRECT_URL", "SESSION_COOKIE_NAME"} & set(found)
