"""Which host runs what, by the groups of the inventory, and what each must be told of the others."""

from __future__ import annotations

from typing import Any

import pytest

from plugins.module_utils import _apps, _hosts, _wiring

STORE_KEYS = ["ssh-ed25519 AAAA"]
HOST = {"cpus": 2, "memory_mb": 4096, "max_connections": 100, "store_keys": STORE_KEYS, "store_port": 22}
GROUPS = {
    "all": ["web1", "app1", "app2", "db1", "cache1"],
    "web": ["web1"],
    "app": ["app1", "app2"],
    "postgres": ["db1"],
    "redis": ["cache1"],
    "backup": ["cache1"],
}
VARIABLES = {host: {"ansible_host": f"10.0.0.{number}"} for number, host in enumerate(GROUPS["all"], 1)}


def app(**changes: Any) -> dict[str, Any]:
    return {
        "domains": ["shop.example.com"],
        "source": "https://git.example.com/shop.git",
        "version": "v1.4.0",
        "application": "config.wsgi:application",
        "settings": "config.settings",
        **changes,
    }


def told(
    host: str, groups: dict[str, list[str]] | None = None, *, store_keys: list[str] = STORE_KEYS, **changes: Any
) -> dict[str, Any]:
    groups = groups or GROUPS
    here = _hosts.place(groups, host, _hosts.addresses(groups, VARIABLES))
    secrets = _wiring.new_secrets({}, ["shop"], several_hosts=True, saved=_hosts.saved(groups))
    shop = app(**{"media_storage": "shared", **changes})
    return _wiring.wired(_apps.checked({"shop": shop}), secrets, {**HOST, "store_keys": store_keys}, here)


def test_without_groups_each_host_is_a_site_of_its_own_and_nothing_leaves_it() -> None:
    groups = {"all": ["app1", "app2"]}
    assert _hosts.problems(groups, VARIABLES) == []
    assert _hosts.hosts_of(groups, "postgres") == ["app1", "app2"]
    assert _hosts.app_hosts(groups) == 1
    here = told("app2", groups)
    assert here["postgres_listen_addresses"] == here["redis_bind"] == here["internal_tls_certificates"] == []
    assert here["hardening_firewall_open"] == []
    assert here["pgbouncer_databases"][0]["host"] == "/run/postgresql"
    assert here["backups_postgres"]


def test_groups_with_the_same_hosts_are_no_reason_to_connect_them() -> None:
    groups = {"all": ["app1", "app2"], "app": ["app1", "app2"], "postgres": ["app2", "app1"]}
    assert _hosts.problems(groups, VARIABLES) == []
    assert told("app2", groups)["pgbouncer_databases"][0]["host"] == "/run/postgresql"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"postgres": ["db1", "cache1"]}, "group postgres: has db1, cache1; this version runs it on one host"),
        ({"redis": []}, "group redis: has no host"),
        ({"redis": None}, "group redis: is missing; the apps are on app1, app2, so name the one host that runs it for"),
    ],
)
def test_groups_that_make_no_site_are_refused_with_a_reason(changes: dict[str, Any], message: str) -> None:
    groups = {name: hosts for name, hosts in {**GROUPS, **changes}.items() if hosts is not None}
    assert _hosts.problems(groups, VARIABLES)[0].startswith(message)


def test_a_host_whose_name_means_nothing_here_is_asked_for_its_address() -> None:
    found = _hosts.problems(GROUPS, {**VARIABLES, "db1": {"ansible_host": "db1.invalid"}})
    assert found == [
        "django_address of db1: db1.invalid has no IP address here; give the one by which the other hosts reach it"
    ]


def test_a_private_address_is_used_in_place_of_the_one_that_ansible_uses() -> None:
    found = _hosts.addresses(GROUPS, {**VARIABLES, "db1": {"ansible_host": "db1.invalid", "django_address": "fd00::5"}})
    assert found["db1"] == "fd00::5"


def test_the_one_app_host_runs_what_no_group_names() -> None:
    groups = {"all": ["app1", "db1"], "app": ["app1"], "postgres": ["db1"]}
    assert _hosts.problems(groups, VARIABLES) == []
    assert _hosts.hosts_of(groups, "redis", "web") == ["app1"]
    assert told("app1", groups)["redis_bind"] == []


def test_the_database_lets_in_the_app_hosts_and_nobody_else() -> None:
    there = told("db1")
    assert there["postgres_listen_addresses"] == ["10.0.0.4"]
    assert there["postgres_clients"] == ["10.0.0.2/32", "10.0.0.3/32"]
    assert there["postgres_tls"]["key"] == "/etc/internal-tls/postgres.key"
    assert there["hardening_firewall_open"] == [{"port": 5432, "from": ["10.0.0.2", "10.0.0.3"]}]
    assert not there["hardening_firewall_web"]
    assert there["internal_tls_names"] == ["10.0.0.4"]
    assert there["backups_postgres"]
    assert there["backups_media"] == []


def test_an_app_host_reaches_its_database_and_cache_with_a_key_for_each_that_asks() -> None:
    here = told("app1")
    assert here["pgbouncer_databases"][0]["host"] == "10.0.0.4"
    assert here["pgbouncer_auth_password"]
    assert here["redis_tunnel_host"] == "10.0.0.5"
    assert [each["name"] for each in here["internal_tls_certificates"]] == [
        *("pgbouncer", "shop", "redis-tunnel", "nginx")
    ]
    shop = here["apps"][0]
    assert "@/run/redis-tunnel/redis.sock" in shop["environment"]["REDIS_URL"]
    assert shop["environment"]["DB_HOST"] == "/run/pgbouncer"
    assert shop["migrate_environment"]["DB_HOST"] == "10.0.0.4"
    assert shop["migrate_environment"]["PGSSLMODE"] == "verify-full"
    assert "shop-tls" in shop["groups"]


def test_only_web_hosts_reach_the_apps_and_only_visitors_the_web_hosts() -> None:
    assert told("app2")["hardening_firewall_open"] == [{"port": 8443, "from": ["10.0.0.1"]}]
    assert "django-app" in told("app2")["internal_tls_names"]
    front = told("web1")
    assert front["hardening_firewall_web"]
    assert front["internal_tls_certificates"] == [{"name": "nginx", "usage": ["client"]}]
    site = front["nginx_tls_sites"][0]
    assert site["upstreams"] == ["10.0.0.2:8443", "10.0.0.3:8443"]
    assert "static_root" not in site
    behind = told("app2")["nginx_tls_sites"]
    assert [(site["internal"], site["upstream"]) for site in behind] == [(True, "/run/gunicorn-shop.sock")]
    assert "certificate" not in behind[0]


def test_a_host_can_be_one_of_the_app_hosts_and_the_web_server_of_all() -> None:
    both = told("app1", {**GROUPS, "web": ["app1"]})
    assert [site.get("internal", False) for site in both["nginx_tls_sites"]] == [False, True]
    assert both["nginx_tls_sites"][0]["upstreams"] == ["10.0.0.2:8443", "10.0.0.3:8443"]
    assert {"name": "nginx", "usage": ["server", "client"]} in both["internal_tls_certificates"]


def test_connections_to_the_database_are_shared_by_the_app_hosts() -> None:
    one, two = told("app1", {**GROUPS, "app": ["app1"]}, processes=20), told("app1", processes=20)
    assert one["pgbouncer_databases"][0]["pool_size"] == 80
    assert two["pgbouncer_databases"][0]["pool_size"] == 40


def test_what_is_to_happen_once_happens_on_the_first_app_host() -> None:
    beat = {"name": "beat", "command": "celery beat", "once": True}
    mail = {"name": "mail", "command": "celery worker"}
    first, second = (told(host, workers=[mail, beat])["apps"][0] for host in ("app1", "app2"))
    assert [worker["name"] for worker in first["workers"]] == ["mail", "beat"]
    assert [worker["name"] for worker in second["workers"]] == ["mail"]
    assert first["schedules"]
    assert second["schedules"] == []


def test_uploads_of_several_hosts_must_have_one_place() -> None:
    assert "media_storage: host keeps the uploads of 2 hosts apart" in _wiring.problems({"shop": app()}, 2)[0]
    assert _wiring.problems({"shop": app(media_storage="shared")}, 2) == []


def saved(host: str, **changes: Any) -> list[str]:
    return [each["name"] for each in told(host, **changes)["backups_media"]]


def test_each_host_saves_what_it_alone_has_and_the_first_what_all_have() -> None:
    assert saved("app1") == ["shop", "shop-protected", "shop-data"]
    assert saved("app1", media_storage="elsewhere") == ["shop-protected", "shop-data"]
    assert saved("app2") == ["shop-data"]
    assert saved("db1") == saved("web1") == saved("cache1") == []


def test_backups_go_to_the_host_for_them_with_a_key_for_each_host() -> None:
    clients = told("cache1")["backups_store_clients"]
    assert [client["name"] for client in clients] == ["app1", "app2", "db1"]
    assert len({client["public_key"] for client in clients}) == 3
    there = told("db1")
    assert there["backups_store_clients"] == []
    assert there["backups_repositories"] == [
        {
            "name": "cache1",
            "type": "sftp",
            "path": "/repository",
            "host": "10.0.0.5",
            "port": 22,
            "user": "backups-db1",
            "host_keys": STORE_KEYS,
        }
    ]
    assert [each["name"] for each in there["backups_credentials"]] == ["cache1"]
    assert told("web1")["backups_repositories"] == told("cache1")["backups_repositories"] == []


def test_who_saves_on_a_host_that_does_not_answer_knows_it() -> None:
    for host, away in (("web1", ""), ("app1", "cache1"), ("app2", "cache1"), ("db1", "cache1"), ("cache1", "")):
        assert told(host, store_keys=[])["store_away"] == away
        assert told(host)["store_away"] == ""


def test_a_host_for_backups_alone_is_no_site_and_leaves_the_others_as_they_are() -> None:
    groups = {"all": ["app1", "app2", "cache1"], "backup": ["cache1"]}
    assert _hosts.problems(groups, VARIABLES) == []
    assert _hosts.hosts_of(groups, "web", "app", "postgres", "redis") == ["app1", "app2"]
    assert not _hosts.together(groups)
    assert _hosts.addresses(groups, VARIABLES) == {"cache1": "10.0.0.5"}
    here, store = told("app2", groups), told("cache1", groups)
    assert here["by_itself"]
    assert here["postgres_listen_addresses"] == []
    assert here["backups_repositories"][0]["user"] == "backups-app2"
    assert store["runs"] == ["backup"]
    assert not any(store[key] for key in ("saves", "hardening_firewall_web", "nginx_tls_sites"))
    assert [client["name"] for client in store["backups_store_clients"]] == ["app1", "app2"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"all": ["app1"], "backup": ["app1"]}, "group app: is missing; all hosts are in the group backup"),
        ({"all": ["fd00::1", "cache1"], "backup": ["cache1"]}, "group backup: fd00::1 cannot be the name of a repos"),
    ],
)
def test_a_group_for_backups_that_cannot_be_is_refused(groups: dict[str, list[str]], message: str) -> None:
    (problem,) = _hosts.problems(groups, {**VARIABLES, "fd00::1": {}})
    assert problem.startswith(message)


def test_a_host_with_the_whole_site_is_restored_by_itself() -> None:
    apart = {"all": ["app1", "db1"], "app": ["app1"], "postgres": ["db1"]}
    assert told("app1", {"all": ["app1"]})["by_itself"]
    assert told("app1", {"all": ["app1", "db1"], "app": ["app1"], "redis": ["db1"]})["by_itself"]
    assert not told("app1", apart)["by_itself"]
    assert not told("db1", apart)["by_itself"]
