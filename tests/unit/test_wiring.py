"""From one dictionary of apps to what each role is told."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dj_database_url
import environ
import pytest

from plugins.module_utils import _apps, _hosts, _wiring

if TYPE_CHECKING:
    from collections.abc import Callable

SHOP = {
    "domains": ["shop.example.com", "www.shop.example.com"],
    "source": "https://git.example.com/shop.git",
    "version": "v1.4.0",
    "application": "config.wsgi:application",
    "settings": "config.settings.production",
}
HOST = {"cpus": 2, "memory_mb": 4096, "max_connections": 100}


def app(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(SHOP), **changes}


def worker(**changes: Any) -> dict[str, Any]:
    return {"name": "mail", "command": "celery -A config worker", **changes}


def wired(**apps: dict[str, Any]) -> dict[str, Any]:
    secrets = _wiring.new_secrets({}, list(apps))
    return _wiring.wired(_apps.checked(apps), secrets, HOST, _hosts.alone("server1"))


def test_the_example_of_the_readme_is_accepted() -> None:
    assert _wiring.problems({"shop": app(env={"SENTRY_DSN": "..."})}) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domain": ["x.example.com"]}, "django_apps.shop: unknown key 'domain'; did you mean domains?"),
        (
            {"colour": "green"},
            "django_apps.shop: unknown key 'colour'; allowed are: domains, redirect_domains, path, source",
        ),
        ({"domains": None}, "django_apps.shop: missing required arguments: domains"),
        ({"domains": []}, "django_apps.shop.domains: give at least one host name"),
        (
            {"domains": ["https://shop.example.com"]},
            "django_apps.shop.domains: 'https://shop.example.com' is no host name",
        ),
        ({"domains": ["Shop.example.com"]}, "django_apps.shop.domains: 'Shop.example.com' is no host name"),
        ({"version": None}, "django_apps.shop.version: is required when source is a git repository"),
        ({"source": "/no/such/place"}, "django_apps.shop.source: '/no/such/place' is neither a directory"),
        ({"application": "config.wsgi"}, "django_apps.shop.application: 'config.wsgi' must look like"),
        ({"settings": "config/settings.py"}, "django_apps.shop.settings: 'config/settings.py' must be a dotted"),
        ({"processes": 0}, "django_apps.shop.processes: must be at least 1, not 0"),
        ({"threads": "many"}, "django_apps.shop: argument 'threads' is of type str"),
        ({"python": "python3.13"}, "django_apps.shop.python: 'python3.13' must be an absolute path"),
        (
            {"package_indexes": ["https://pypi.org/simple/", "u:pw@x"]},
            "django_apps.shop.package_indexes: entry 2 is no URL",
        ),
        (
            {"packages": ["sentry-sdk", "x @ git+https://token@git.example.com/x.git"]},
            "django_apps.shop.packages: entry 2 has a login in its URL",
        ),
        ({"source_key": "/no/key"}, "django_apps.shop.source_key: there is no file '/no/key' on the control node"),
        ({"source_key": __file__}, "django_apps.shop.source_key: is for a repository by SSH, such as git@"),
        (
            {"files": [{"path": "x/../../y", "template": __file__}]},
            "django_apps.shop.files: 'x/../../y' must be the path of",
        ),
        ({"files": [{"path": "/etc/x", "template": __file__}]}, "django_apps.shop.files: '/etc/x' must be the path of"),
        (
            {"files": [{"path": "x", "template": "/no/x.j2"}]},
            "django_apps.shop.files: there is no file '/no/x.j2' on the",
        ),
        ({"static_url": "static"}, "django_apps.shop.static_url: must begin and end with /"),
        (
            {"maintenance_page": "/no/page.html"},
            "django_apps.shop.maintenance_page: there is no file '/no/page.html' on",
        ),
        ({"health_path": "healthz"}, "django_apps.shop.health_path: 'healthz' must be a path of letters"),
        ({"health_path": "/a;b"}, "django_apps.shop.health_path: '/a;b' must be a path of letters"),
        ({"health_path": "/../a"}, "django_apps.shop.health_path: '/../a' must be a path of letters"),
        (
            {"monitors": ["192.0.2.7", "x"]},
            "django_apps.shop.monitors: 'x' is no IP address or network such as 192.0.2.7",
        ),
        ({"env": {"A-B": "1"}}, "django_apps.shop.env: 'A-B' cannot be the name of an environment variable"),
        ({"env_from": {"DB": "DATABASE"}}, "django_apps.shop.env_from: 'DATABASE' is not a generated variable"),
        ({"certificate": {"mode": "files", "key": "/k"}}, "django_apps.shop.certificate.certificate: is required"),
        ({"certificate": {"key": "/k"}}, "django_apps.shop.certificate.key: needs certificate.mode: files"),
        (
            {"certificate": {"mode": "letsencrypt"}},
            "django_apps.shop: value of mode must be one of: selfsigned, acme, files",
        ),
        ({"schedules": [{"name": "x"}]}, "django_apps.shop: missing required arguments: command, on_calendar"),
        (
            {"workers": 4},
            'django_apps.shop.workers: lists background processes; the number of gunicorn\'s processes is "processes"',
        ),
        ({"workers": [{"name": "mail"}]}, "django_apps.shop: missing required arguments: command found in workers"),
        (
            {"workers": [worker(stop_timeout=0)]},
            "django_apps.shop.workers: mail: stop_timeout must be at least 1, not 0",
        ),
        ({"workers": [worker(stop_signal="TERM")]}, "django_apps.shop: value of stop_signal must be one of: SIGTERM"),
        (
            {"workers": [worker(name="1st")]},
            "django_apps.shop.workers: '1st' cannot be a name; use a lower-case letter",
        ),
        ({"workers": [worker(), worker()]}, "django_apps.shop.workers: there is another worker or schedule 'mail'"),
        ({"workers": [worker(name="clearsessions")]}, "django_apps.shop.workers: there is another worker or schedule"),
        ({"workers": [worker(command="a && b")]}, "django_apps.shop.workers: mail: 'a && b' runs without a shell"),
        (
            {"settings_overlay": False, "settings_overrides": {"A": 1}},
            "django_apps.shop.settings_overrides: has no effect",
        ),
    ],
)
def test_a_mistake_gets_a_message_that_names_it(change: dict[str, Any], message: str) -> None:
    found = _wiring.problems({"shop": app(**change)})
    assert any(problem.startswith(message) for problem in found), found


@pytest.mark.parametrize("name", ["Shop", "1shop", "my-shop", "a" * 32, "postgres", "www-data", "root", "default"])
def test_a_name_that_cannot_be_an_account_and_a_database_is_refused(name: str) -> None:
    assert _wiring.problems({name: app()})


def on_one_domain(**blog: Any) -> dict[str, Any]:
    return {"shop": app(), "blog": app(path="/blog", **blog)}


def test_two_apps_cannot_have_the_same_place() -> None:
    for path in ({}, {"path": "/here"}):
        found = _wiring.problems({"shop": app(**path), "blog": app(**path)})
        taken = "django_apps.blog.domains: shop.example.com is already a domain of shop"
        assert found == [f"{taken}; give one of them a path, such as /blog"]


def test_apps_share_a_domain_where_each_has_a_path_of_its_own() -> None:
    assert _wiring.problems({**on_one_domain(), "wiki": app(path="/blog/wiki"), "other": app(path="/other")}) == []


@pytest.mark.parametrize(
    ("blog", "message"),
    [
        ({"domains": ["shop.example.com"]}, "domains: must be the same as for shop, which is on shop.example.com too"),
        ({"redirect_domains": ["example.net"]}, "redirect_domains: must be the same as for shop"),
        ({"certificate": {"mode": "acme"}}, "certificate: must be the same as for shop"),
        ({"hsts_seconds": 60}, "hsts_seconds: must be the same as for shop"),
        ({"static_url": "/static/"}, "static_url: /static/ is already static_url of shop, on shop.example.com too"),
        ({"protected_url": "/media/"}, "protected_url: /media/ is already media_url of shop, on"),
        ({"path": "/static"}, "path: /static/ is already static_url of shop, on shop.example.com too"),
        ({"media_url": "/blog/static/"}, "media_url: /blog/static/ is already static_url"),
        ({"health_path": "/static/"}, "health_path: /blog/static/ is already static_url"),
        (
            {
                "extra_servers": [
                    {"name": "ws", "path": "/ws/", "application": "a:b"},
                    {"name": "chat", "path": "/ws/", "application": "a:b"},
                ]
            },
            "extra_servers.chat: /blog/ws/ is already extra_servers.ws",
        ),
        ({"path": "blog"}, "path: 'blog' must begin with / and not end with it, as /blog does; without it, the app"),
        ({"path": "/"}, "path: '/' must begin with / and not end with it"),
        ({"path": "/blog/"}, "path: '/blog/' must begin with / and not end with it"),
        ({"path": "/../blog"}, "path: '/../blog' must begin with"),
        ({"path": "/a b"}, "path: '/a b' must begin with"),
    ],
)
def test_what_keeps_apps_from_one_domain_is_named_once(blog: dict[str, Any], message: str) -> None:
    found = _wiring.problems(on_one_domain(**blog) if "path" not in blog else {"shop": app(), "blog": app(**blog)})
    assert len(found) == 1, found
    assert found[0].startswith(f"django_apps.blog.{message}")


def test_all_of_an_app_below_a_path_is_there() -> None:
    sockets = {"name": "ws", "path": "/ws/", "application": "config.asgi:application"}
    blog = app(path="/blog", extra_servers=[sockets], health_path="/healthz", protected_url="/protected/")
    result = wired(blog=blog)
    (site,) = result["nginx_tls_sites"]
    assert (site["path"], site["static_url"], site["media_url"]) == ("/blog", "/blog/static/", "/blog/media/")
    assert [route["path"] for route in site["routes"]] == ["/blog/ws/"]
    assert site["health_path"] == "/blog/healthz"
    assert site["protected_url"] == "/protected/", "that is what the project says to nginx"
    (told,) = result["apps"]
    assert told["url"] == "https://shop.example.com/blog/"
    names = ("FORCE_SCRIPT_NAME", "STATIC_URL", "MEDIA_URL")
    assert [told["environment"][name] for name in names] == ["/blog", "/blog/static/", "/blog/media/"]
    assert (told["probe_path"], told["servers"][-1]["health_path"]) == ("/blog/healthz", "/healthz")


def test_an_app_below_a_path_finds_its_static_files_where_it_says() -> None:
    (site,) = wired(blog=app(path="/blog", static_url="/assets/"))["nginx_tls_sites"]
    assert site["static_url"] == "/assets/"


def test_an_app_at_the_root_of_a_domain_comes_first_whatever_the_order() -> None:
    sites = wired(blog=app(path="/blog"), shop=app())["nginx_tls_sites"]
    assert [site["name"] for site in sites] == ["shop", "blog"]
    assert "FORCE_SCRIPT_NAME" not in wired(shop=app())["apps"][0]["environment"]


def test_all_mistakes_are_reported_at_once() -> None:
    assert len(_wiring.problems({"shop": app(domain="x", processes=0), "Blog": app(version=None)})) >= 3


@pytest.mark.parametrize(
    ("check", "message"),
    [
        ({"ignore": ["security.W99"]}, 'ignore: "security.W99" is not a finding id'),
        ({"severity": {"debug_on": "fatal"}}, 'severity: "fatal" for debug_on'),
        ({"expect": [{"setting": "X"}]}, "expect[0]: no predicate"),
        ({"fail_on": "errors"}, "fail_on must be one of"),
        ({"ignored": []}, "settings_check.ignored. Supported parameters include"),
    ],
)
def test_what_is_demanded_of_the_settings_must_make_sense(check: dict[str, Any], message: str) -> None:
    [problem] = _wiring.problems({"shop": app(settings_check=check)})
    assert problem.startswith("django_apps.shop")
    assert "settings_check" in problem
    assert message in problem


def test_the_settings_are_checked_against_what_the_site_will_be() -> None:
    [shop] = wired(
        shop=app(domains=["shop.example.com", "www.shop.example.com"], settings_check={"ignore": ["debug_on"]})
    )["apps"]
    check = shop["settings_check"]
    assert check["public_urls"] == ["https://shop.example.com", "https://www.shop.example.com"]
    assert (check["workers"], check["pooler"], check["server"]) == (shop["processes"], "transaction", "wsgi")
    assert (check["ignore"], check["fail_on"]) == (["debug_on"], "error")


@pytest.mark.parametrize("nothing", [{}, [], None, "shop"])
def test_no_app_at_all_is_a_mistake(nothing: Any) -> None:
    assert _wiring.problems(nothing) == ["django_apps must be a dictionary with a key for each app"]


def test_a_directory_is_seen_from_where_the_playbook_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop").mkdir()
    monkeypatch.chdir(tmp_path)
    (shop,) = wired(shop=app(source="shop", version=None))["apps"]
    assert shop["source"] == str(tmp_path / "shop")
    (shop,) = wired(shop=app())["apps"]
    assert shop["source"] == "https://git.example.com/shop.git"


def test_a_directory_has_manage_py_or_the_settings_where_the_inventory_says(tmp_path: Path) -> None:
    def problems(directory: str) -> list[str]:
        return _wiring.problems({"shop": app(source=str(tmp_path), version=None, directory=directory)})

    (tmp_path / "backend").mkdir()
    (tmp_path / "src/config/settings").mkdir(parents=True)
    assert problems("backend") == [], "the settings may come with a package"
    (tmp_path / "backend/manage.py").touch()
    assert problems("backend") == []
    (tmp_path / "src/config/settings/production.py").touch()
    assert problems("src") == []
    assert f"there is neither manage.py nor config.settings.production in {tmp_path};" in problems(".")[0]
    assert f"in {tmp_path}/back;" in problems("back")[0]


def test_two_apps_share_nothing_that_could_be_used_against_the_other() -> None:
    result = wired(shop=app(), blog=app(domains=["blog.example.com"]))
    shop, blog = result["apps"]
    shared = {key for key in shop["environment"] if shop["environment"][key] == blog["environment"][key]}
    harmless = {
        "CONN_MAX_AGE",
        "DEBUG",
        "DJANGO_DEBUG",
        "DJANGO_SERVER",
        "SECURE_HSTS_INCLUDE_SUBDOMAINS",
        "SECURE_HSTS_PRELOAD",
        "SECURE_HSTS_SECONDS",
        "SECRET_KEY_FALLBACKS",
        "STATIC_URL",
    }
    assert shared - harmless - {"MEDIA_URL", "DB_HOST", "DB_PORT", "POSTGRES_HOST", "POSTGRES_PORT"} == set()
    assert [user["key_prefix"] for user in result["redis_users"]] == ["shop:", "blog:"]
    assert len({site["upstream"] for site in result["nginx_tls_sites"]}) == 2


def test_nginx_and_the_app_promise_the_same_https() -> None:
    hsts = {"hsts_seconds": 63072000, "hsts_include_subdomains": True, "hsts_preload": True}
    for given, promised in (({}, ("3600", "0", "0")), (hsts, ("63072000", "1", "1"))):
        result = wired(shop=app(**given))
        names = ("SECURE_HSTS_SECONDS", "SECURE_HSTS_INCLUDE_SUBDOMAINS", "SECURE_HSTS_PRELOAD")
        assert tuple(result["apps"][0]["environment"][name] for name in names) == promised
        assert tuple(str(int(result["nginx_tls_sites"][0][key])) for key in hsts) == promised


@pytest.mark.parametrize(
    "given",
    [
        {"hsts_preload": True, "hsts_include_subdomains": True},
        {"hsts_preload": True, "hsts_seconds": 63072000},
    ],
)
def test_what_cannot_be_taken_back_is_not_done_by_half(given: dict[str, Any]) -> None:
    (problem,) = _wiring.problems({"shop": app(**given)})
    assert "hsts_preload: needs hsts_include_subdomains: true and hsts_seconds of at least 31536000" in problem


def test_a_limit_is_no_negative_number() -> None:
    assert _wiring.problems({"shop": app(requests_per_second=-1)}) == [
        "django_apps.shop.requests_per_second: must be at least 0, not -1"
    ]


def test_secrets_that_are_given_stay_and_missing_ones_are_long() -> None:
    new = _wiring.new_secrets({"apps": {"shop": {"secret_key": "mine"}}}, ["shop", "blog"])
    assert "secret_key" not in new["apps"]["shop"]
    assert min(len(value) for value in new["apps"]["blog"].values()) >= 40


def test_what_the_user_sets_wins_over_what_is_generated() -> None:
    environment = wired(shop=app(env={"DEBUG": False, "TIMES": 3}))["apps"][0]["environment"]
    assert environment["DEBUG"] == "False"
    assert environment["TIMES"] == "3"


def test_a_generated_variable_can_have_the_name_that_the_project_reads() -> None:
    shop = wired(shop=app(env_from={"MY_DB": "DATABASE_URL", "MY_KEY": "SECRET_KEY"}))["apps"][0]
    assert shop["environment"]["MY_DB"] == shop["environment"]["DATABASE_URL"]
    assert shop["migrate_environment"]["MY_DB"] == shop["migrate_environment"]["DATABASE_URL"]
    assert "MY_KEY" not in shop["migrate_environment"]


def test_migrations_go_straight_to_postgresql_and_do_not_wait_for_locks() -> None:
    shop = wired(shop=app())["apps"][0]
    assert shop["environment"]["DB_HOST"] == "/run/pgbouncer"
    assert shop["migrate_environment"]["DB_HOST"] == "/run/postgresql"
    assert "lock_timeout=2s" in shop["migrate_environment"]["PGOPTIONS"]


@pytest.mark.parametrize("parse", [environ.Env.db_url_config, dj_database_url.parse])
def test_the_database_url_means_the_same_to_the_usual_libraries(parse: Callable[[str], dict[str, Any]]) -> None:
    shop = wired(shop=app())["apps"][0]["environment"]
    database = parse(shop["DATABASE_URL"])
    assert (database["NAME"], database["USER"], database["PORT"]) == ("shop", "shop", 6432)
    assert (database["HOST"], database["OPTIONS"]) == ("", {"host": "/run/pgbouncer"})
    assert database["PASSWORD"] == shop["DB_PASSWORD"]


def test_the_cache_url_leads_to_the_socket_of_redis() -> None:
    cache = environ.Env.cache_url_config(wired(shop=app())["apps"][0]["environment"]["CACHE_URL"])
    assert cache["LOCATION"].startswith("unix://shop:")
    assert cache["LOCATION"].endswith("@/run/redis/redis-server.sock")


@pytest.mark.parametrize(
    ("cpus", "memory_mb", "apps", "expected"), [(1, 1024, 1, 2), (2, 4096, 1, 5), (8, 4096, 1, 10), (2, 4096, 4, 2)]
)
def test_processes_fit_the_processors_and_the_memory(cpus: int, memory_mb: int, apps: int, expected: int) -> None:
    assert _wiring.processes(cpus, memory_mb, apps) == expected


def test_a_worker_has_a_minute_for_its_task_unless_the_app_says_otherwise() -> None:
    shop = wired(shop=app(workers=[worker(), worker(name="long", stop_timeout=900, once=True)]))["apps"][0]
    assert not [one for one in shop["workers"] if "once" in one], "the role knows no other hosts"
    assert [(one["stop_timeout"], one["stop_signal"]) for one in shop["workers"]] == [(60, "SIGTERM"), (900, "SIGTERM")]


def test_all_pools_together_leave_connections_for_the_operator() -> None:
    for apps in range(1, 30):
        assert apps * _wiring.pool_size(100, apps, threads=1000) <= 100 - _wiring.UNPOOLED_CONNECTIONS
    assert _wiring.pool_size(100, 1, threads=20) == 20


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("192.0.2.7", True),
        ("192.0.2.0/24", True),
        ("2001:DB8::/32", True),
        ("::1", True),
        ("0.0.0.0/0", True),
        ("192.0.2.7/24", False),
        ("192.0.2.0/33", False),
        ("192.0.2.0/255.255.255.0", False),
        ("fe80::1%eth0", False),
        ("192.0.2.7; allow all", False),
        ("monitor.example.com", False),
        ("7", False),
        ("", False),
    ],
)
def test_a_network_is_what_nginx_takes_for_one(text: str, good: bool) -> None:
    assert _apps.is_network(text) is good


@pytest.mark.parametrize(
    ("given", "told"), [({}, "/-/health"), ({"health_path": "/healthz/"}, "/healthz/"), ({"health_path": "/"}, None)]
)
def test_monitors_find_a_health_path_unless_it_is_the_front_page(given: dict[str, Any], told: str | None) -> None:
    site = wired(shop=app(monitors=["192.0.2.7"], **given))["nginx_tls_sites"][0]
    assert site.get("health_path") == told
    assert site["monitors"] == ["192.0.2.7"]


def test_a_page_for_maintenance_is_found_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "page.html").touch()
    monkeypatch.chdir(tmp_path)
    assert (
        wired(shop=app(maintenance_page="page.html"))["nginx_tls_sites"][0]["maintenance_page"]
        == f"{tmp_path}/page.html"
    )
    assert "maintenance_page" not in wired(shop=app())["nginx_tls_sites"][0]


def test_an_app_is_asgi_when_its_module_says_so() -> None:
    servers = [
        wired(shop=app(application=a))["apps"][0]["server"] for a in ("config.asgi:application", "config.wsgi:app")
    ]
    assert servers == ["asgi", "wsgi"]


def test_a_requirement_of_the_user_replaces_the_one_that_is_always_added() -> None:
    complete = wired(shop=app(packages=["gunicorn==26.1.0", "Psycopg[c]==3.2"]))["apps"][0]
    assert complete["packages"] == ["gunicorn==26.1.0", "Psycopg[c]==3.2"]
    assert complete["fallback_packages"] == [{"name": "django-redis", "modules": ["django_redis"]}]


def test_asgi_needs_a_gunicorn_that_speaks_it_whatever_the_project_requires() -> None:
    assert wired(shop=app(application="config.asgi:application"))["apps"][0]["packages"] == ["gunicorn>=26.1"]
    own = wired(shop=app(application="config.asgi:application", packages=["gunicorn==27.0"]))["apps"][0]["packages"]
    assert own == ["gunicorn==27.0"]


def test_a_misspelt_role_variable_is_found_and_a_stranger_is_left_alone() -> None:
    specifications: dict[str, dict[str, Any]] = {"redis": {"redis_maxmemory": {}, "redis_port": {}}}
    found = _wiring.misspelt(["redis_maxmemroy", "redis_port", "redis_cluster_nodes"], specifications)
    assert found == ["redis_maxmemroy: the role redis has no such variable; did you mean redis_maxmemory?"]


def test_a_repository_that_cannot_be_read_is_named_with_the_reason() -> None:
    shop, blog = ({"key": name, "value": {"source": f"https://me:secret@x/{name}"}} for name in ("shop", "blog"))
    answers = [{"app": shop, "stdout": '{"error": "fatal: not found"}'}, {"app": blog, "stdout": "{}"}]
    assert _wiring.unreadable(answers) == ["django_apps.shop.source: git cannot read https://x/shop: fatal: not found"]


SECRETS: dict[str, Any] = {
    "backups_encryption_key": "k" * 40,
    "apps": {"shop": {"secret_key": "s" * 50, "database_password": "d" * 20, "redis_password": "r" * 20}},
}


def with_app_secret(**changes: Any) -> dict[str, Any]:
    return {**SECRETS, "apps": {"shop": {**SECRETS["apps"]["shop"], **changes}}}


@pytest.mark.parametrize(
    ("stored", "given", "words"),
    [
        (
            {"django_secret": SECRETS},
            {},
            "the file of the secrets: unknown key 'django_secret'; there are: django_secrets",
        ),
        ({}, {**SECRETS, "backup_encryption_key": "x"}, "unknown key 'backup_encryption_key'"),
        ({}, {**SECRETS, "apps": None}, "django_secrets.apps: must be a dictionary"),
        ({}, {**SECRETS, "backups_credentials": []}, "django_secrets.backups_credentials: must be a dictionary"),
        (
            {},
            {**SECRETS, "backups_credentials": {"store": {"key": "x"}}},
            "django_secrets.backups_credentials.store: unknown key 'key'",
        ),
        ({}, {**SECRETS, "backups_store_keys": {"db1": "x"}}, "backups_store_keys.db1: it is no private key"),
        ({}, {**SECRETS, "apps": {"shpo": {}}}, "there is no app 'shpo'; did you mean shop?"),
        ({}, {**SECRETS, "apps": {"shop": "x"}}, "django_secrets.apps.shop: must be a dictionary"),
        ({}, with_app_secret(db_password="x"), "django_secrets.apps.shop: unknown key 'db_password'"),
        ({}, with_app_secret(secret_key="short"), "secret_key: must be a text of at least 32 characters"),
        ({}, with_app_secret(database_password=1234567890123456), "database_password: must be a text"),
        (
            {},
            with_app_secret(secret_key_fallbacks="one-old-key"),
            "secret_key_fallbacks: must be a list of former keys",
        ),
        ({}, with_app_secret(secret_key_fallbacks=["old,key"]), "secret_key_fallbacks: must be a list of former keys"),
    ],
)
def test_a_secret_that_is_not_understood_is_refused_and_not_replaced(stored: Any, given: Any, words: str) -> None:
    found = _wiring.secret_problems(stored, given, ["shop"])
    assert len(found) == 1
    assert words in found[0]


def test_good_secrets_are_accepted_also_those_of_an_app_that_is_gone() -> None:
    assert _wiring.secret_problems({"django_secrets": SECRETS}, SECRETS, ["shop"]) == []
    assert _wiring.secret_problems({}, {}, ["shop"]) == []
    assert _wiring.secret_problems({}, with_app_secret(secret_key_fallbacks=["old-key"]), ["shop", "blog"]) == []
    assert _wiring.secret_problems({}, SECRETS, []) == []


def test_credentials_of_repositories_reach_the_backups() -> None:
    given = {**SECRETS, "backups_credentials": {"store": {"access_key": "a", "secret_key": "b"}}}
    assert _wiring.secret_problems({}, given, ["shop"]) == []
    assert _wiring.new_secrets(given, ["shop"]) == {}
    told = _wiring.wired({}, given, HOST, _hosts.alone("server1"))
    assert told["backups_credentials"] == [{"name": "store", "access_key": "a", "secret_key": "b"}]


def test_only_missing_secrets_are_new() -> None:
    assert _wiring.new_secrets(SECRETS, ["shop"]) == {}
    new = _wiring.new_secrets({"apps": {"shop": {"secret_key": "s" * 50}}}, ["shop"])
    names = ["backups_encryption_key", "apps.shop.database_password", "apps.shop.redis_password"]
    assert _wiring.secret_names(new) == names
    assert _wiring.secret_problems({}, new, ["shop"]) == []


def test_a_host_that_saves_to_another_one_gets_a_key_and_keeps_it() -> None:
    new = _wiring.new_secrets(SECRETS, ["shop"], saved=["web1", "db1"])
    assert _wiring.secret_names(new) == ["backups_store_keys.web1", "backups_store_keys.db1"]
    given = {**SECRETS, **new}
    assert _wiring.secret_problems({}, given, ["shop"]) == []
    assert _wiring.new_secrets(given, ["shop"], saved=["web1", "db1"]) == {}


def test_what_an_app_writes_is_saved_besides_its_uploads() -> None:
    saved = wired(shop=app())["backups_media"]
    assert [(each["name"], each["path"], each["account"]) for each in saved] == [
        ("shop", "/srv/shop/media", "shop"),
        ("shop-protected", "/srv/shop/protected", "shop"),
        ("shop-data", "/var/lib/django/shop", "shop"),
    ]


def test_more_servers_of_an_app_change_over_before_the_site_does() -> None:
    sockets = {"name": "ws", "path": "/ws/", "application": "config.asgi:application"}
    shop = wired(shop=app(server="wsgi", extra_servers=[sockets]))["apps"][0]
    assert [(each["name"], each["server"]) for each in shop["servers"]] == [("shop-ws", "asgi"), ("shop", "wsgi")]
    assert shop["servers"][0]["socket"] == "/run/gunicorn-shop-ws.sock"
    assert "gunicorn-shop-ws@a.service" in shop["units"]
    assert "gunicorn>=26.1" in shop["packages"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "ws"}, "ws: path must begin and end with /, as /ws/ does, not 'ws'"),
        ({"name": "Web Sockets"}, "'Web Sockets' cannot be a name"),
        ({"application": "config.asgi"}, "ws: application 'config.asgi' must look like"),
        ({"processes": 0}, "ws: processes must be at least 1, not 0"),
    ],
)
def test_a_mistake_in_one_of_more_servers_is_named(change: dict[str, Any], message: str) -> None:
    extra = {"name": "ws", "path": "/ws/", "application": "config.asgi:application", **change}
    found = _wiring.problems({"shop": app(extra_servers=[extra])})
    assert len(found) == 1
    assert found[0].startswith(f"django_apps.shop.extra_servers: {message}")


def test_files_on_another_server_are_none_of_nginx() -> None:
    site = wired(shop=app(static_url="https://cdn.example.com/shop/"))["nginx_tls_sites"][0]
    assert "static_url" not in site
    assert "static_root" not in site
    assert site["media_root"] == "/srv/shop/media"
    assert "media_private" not in wired(shop=app(media_url="https://cdn.example.com/", media_private=["x"]))


def test_a_folder_of_the_uploads_is_kept_from_visitors() -> None:
    assert wired(shop=app(media_private=["invoices"]))["nginx_tls_sites"][0]["media_private"] == ["invoices"]
    (problem,) = _wiring.problems({"shop": app(media_private=["../invoices"])})
    assert problem.startswith("django_apps.shop.media_private: '../invoices' must be a folder of the uploads")


def test_another_server_of_the_app_gets_the_requests_of_its_path() -> None:
    sockets = {"name": "ws", "path": "/ws/", "application": "config.asgi:application", "timeout": 3600}
    site = wired(shop=app(extra_servers=[sockets], protected_url="/protected/"))["nginx_tls_sites"][0]
    assert site["routes"] == [{"path": "/ws/", "upstream": "/run/gunicorn-shop-ws.sock", "timeout": 3600}]
    assert site["protected_root"] == "/srv/shop/protected"
