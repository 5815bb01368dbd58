"""Databases, migrations and caches, on SQLite; PostgreSQL and its poolers are a matter of the test hosts."""

from __future__ import annotations

from typing import Any

import pytest
from settings_check.service import Service

MODELS = """\
from django.db import models
class Item(models.Model):
    name = models.CharField(max_length=20)
"""
FIRST = """\
from django.db import migrations, models
class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [migrations.CreateModel("Item", [
        ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
        ("name", models.CharField(max_length=20)),
    ])]
"""
NEXT = """\
from django.db import migrations
class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = []
"""
# Two underscores stand for a slash.
PROJECT = {
    "shop__models": MODELS,
    "shop__migrations__0001_initial": FIRST,
}
CHECKS = ["database", "migrations", "schema", "cache"]


def write(service: Service, settings: str = "", **files: str) -> None:
    service.write(settings, **{**PROJECT, **files})
    (service.project / "shop/migrations/__init__.py").touch()


def look(service: Service, **given: Any) -> tuple[dict[str, Any], dict[str, str]]:
    answer = service.check(checks=CHECKS, fail_on="never", **given)
    assert answer["skipped_checks"] == []
    findings = {found["id"]: found["message"] for found in answer["findings"]}
    return answer, findings


def test_a_database_that_is_not_there_is_told_and_not_made(service: Service) -> None:
    write(service)
    answer, findings = look(service)
    assert findings.keys() == {"database_unreachable"}
    assert findings["database_unreachable"].endswith("db.sqlite3 does not exist")
    assert answer["databases"] == {"default": {"vendor": "sqlite", "reachable": False}}
    assert "shop/db.sqlite3" not in service.files()


def test_an_app_that_queries_while_it_is_loaded_does_not_make_it_either(service: Service) -> None:
    apps = "from django.apps import AppConfig\nclass C(AppConfig):\n    name = 'shop'\n    def ready(self):\n"
    query = "        from shop.models import Item\n        try: Item.objects.count()\n        except Exception: pass\n"
    write(service, shop__apps=apps + query)
    answer = service.check(fail_on="never")
    assert "app_init_touches_database" in {found["id"] for found in answer["findings"]}
    assert "shop/db.sqlite3" not in service.files()


def test_a_database_that_is_as_the_models_are_brings_no_finding(service: Service) -> None:
    write(service)
    service.manage("migrate", "--verbosity=0")
    before = service.files()
    answer, findings = look(service)
    assert findings == {}
    found = answer["databases"]["default"]
    assert (found["reachable"], found["unapplied"], found["conflicts"]) == (True, [], [])
    assert found["server_version"].startswith("3.")
    assert service.files() == before


def test_migrations_that_are_not_applied_are_told_and_make_no_table(service: Service) -> None:
    write(service)
    (service.project / "shop/db.sqlite3").touch()
    answer, findings = look(service)
    assert findings.keys() == {"migrations_unapplied"}
    assert "shop.0001_initial" in answer["databases"]["default"]["unapplied"]
    assert (service.project / "shop/db.sqlite3").stat().st_size == 0


def test_a_model_that_is_ahead_of_its_migrations_is_told(service: Service) -> None:
    write(service)
    service.manage("migrate", "--verbosity=0")
    (service.project / "shop/models.py").write_text(MODELS + "    price = models.IntegerField(default=0)\n")
    _answer, findings = look(service)
    assert "shop: Add field price to item" in findings["migrations_missing"]


def test_migrations_that_conflict_are_told(service: Service) -> None:
    write(service, shop__migrations__0002_a=NEXT, shop__migrations__0002_b=NEXT)
    (service.project / "shop/db.sqlite3").touch()
    _answer, findings = look(service)
    assert "shop.0002_a, shop.0002_b" in findings["migrations_conflicting"]


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("ALTER TABLE shop_item DROP COLUMN name", "shop.Item: the table shop_item has no column name"),
        ("DROP TABLE shop_item", "shop.Item: there is no table shop_item"),
    ],
)
def test_a_table_that_lacks_what_the_models_have_is_told(service: Service, statement: str, told: str) -> None:
    write(service)
    service.manage("migrate", "--verbosity=0")
    service.manage("shell", "-c", f"from django.db import connection; connection.cursor().execute('{statement}')")
    _answer, findings = look(service)
    assert findings == {"schema_drift": told}


@pytest.mark.parametrize(
    ("cache", "told"),
    [
        (
            "'BACKEND': 'django.core.cache.backends.filebased.FileBasedCache', 'LOCATION': '/nonexistent/x'",
            "cannot be made",
        ),
        ("'BACKEND': 'django.core.cache.backends.redis.RedisCache', 'LOCATION': 'redis://127.0.0.1:1'", "Error"),
        ("'BACKEND': 'shop.nowhere.Cache'", "InvalidCacheBackendError"),
    ],
)
def test_a_cache_that_does_not_answer_is_told(service: Service, cache: str, told: str) -> None:
    service.write(f"CACHES = {{'default': {{{cache}}}}}")
    answer = service.check(checks=["cache"], fail_on="never")
    (found,) = answer["findings"]
    assert (found["id"], found["object"]) == ("cache_unreachable", "default")
    assert told in found["message"]
    assert answer["caches"]["default"]["reachable"] is False


def test_a_cache_in_files_is_not_made(service: Service) -> None:
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    service.write(f"CACHES = {{'default': {{'BACKEND': '{backend}', 'LOCATION': Path(__file__).parent / 'cache'}}}}")
    answer = service.check(checks=["django", "cache"], fail_on="never")
    assert answer["caches"]["default"]["reachable"] is None
    assert "shop/cache" not in service.files()


def test_a_cache_that_answers_keeps_nothing(service: Service) -> None:
    backend = "django.core.cache.backends.filebased.FileBasedCache"
    service.write(f"CACHES = {{'default': {{'BACKEND': '{backend}', 'LOCATION': Path(__file__).parent / 'cache'}}}}")
    folder = service.project / "shop/cache"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    answer = service.check(checks=["cache"], fail_on="never")
    assert (answer["caches"]["default"]["reachable"], list(folder.iterdir())) == (True, [])


def test_a_cache_that_hangs_costs_nothing_else(service: Service) -> None:
    service.write(
        "CACHES = {'default': {'BACKEND': 'shop.slow.Cache'}}",
        shop__slow="import time\nclass Cache:\n    def __init__(self, *_): pass\n    def set(self, *_): time.sleep(9)",
    )
    answer = service.check(checks=["django", "cache", "stable"], fail_on="never", timeout=2)
    found = {each["id"]: each["message"] for each in answer["findings"]}
    assert found["cache_unreachable"] == "no answer within 2 s"
    assert "security.W020" in found
    assert [each["check"] for each in answer["skipped_checks"]] == ["stable"]
