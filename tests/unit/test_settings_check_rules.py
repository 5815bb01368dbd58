"""What the rules of django_settings_check are made of, as far as it needs no project."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plugins.module_utils._settings_check import catalogue
from plugins.module_utils._settings_check.inspector import registry, rules_logging, rules_source, values

FOLDER = Path(catalogue.__file__).parent
INSPECTOR = sorted((FOLDER / "inspector").glob("*.py"))
TOPICS = [path.stem for path in INSPECTOR if path.stem.startswith("rules_")]


def context(settings: dict[str, Any] | None = None, **options: Any) -> registry.Context:
    own = settings or {}
    return registry.Context(SimpleNamespace(**own), frozenset(own), (5, 2), options, {})


def named_in(path: Path) -> set[str]:
    """Ids are texts in calls of finding(), or beside the settings they belong to."""
    texts = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str)} & set(catalogue.RULES)


@pytest.mark.parametrize("path", INSPECTOR, ids=lambda path: path.name)
def test_the_oldest_python_of_a_project_can_read_it(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=(3, 8))


@pytest.mark.parametrize("path", INSPECTOR, ids=lambda path: path.name)
def test_it_runs_where_there_is_no_ansible_and_imports_django_when_it_needs_it(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = [
        (node, name)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names])
    ]
    assert not [name for _node, name in imported if name.split(".")[0] in ("ansible", "ansible_collections")]
    assert not [name for node, name in imported if name.split(".")[0] == "django" and node in tree.body]


@pytest.mark.parametrize("identity", catalogue.RULES)
def test_a_finding_is_described_in_short_sentences(identity: str) -> None:
    found = catalogue.RULES[identity]
    assert re.fullmatch(r"[a-z][a-z0-9_]*", identity)
    assert found.severity in catalogue.SEVERITIES
    assert found.group in (*catalogue.GROUPS, "expect")
    assert found.meaning.endswith(".")
    assert found.detection.endswith(".")
    assert all(0 < len(text) <= 130 for text in found[2:])


def test_severities_of_django_are_other_than_its_own() -> None:
    assert set(catalogue.DJANGO_SEVERITIES.values()) == {"error", "notice"}
    assert all(re.fullmatch(r"[a-z0-9_]+\.[A-Z]\d+", each) for each in catalogue.DJANGO_SEVERITIES)


def test_a_rule_runs_with_the_group_that_its_findings_are_listed_under() -> None:
    for topic in TOPICS:
        import_module(f"plugins.module_utils._settings_check.inspector.{topic}")
        groups = {catalogue.RULES[each].group for each in named_in(FOLDER / f"inspector/{topic}.py")}
        registered = {group for group, function in registry.RULES if function.__module__.endswith(topic)}
        assert groups == registered, topic


def test_a_finding_says_only_what_is_known() -> None:
    assert registry.finding("debug_on") == {"id": "debug_on"}
    assert registry.finding("cache_not_shared", "CACHES", severity="warning", subject="x") == {
        "id": "cache_not_shared",
        "setting": "CACHES",
        "severity": "warning",
        "object": "x",
    }


def test_a_setting_that_django_refuses_to_give_is_none() -> None:
    class Settings:
        @property
        def SECRET_KEY(self) -> str:  # noqa: N802
            raise ValueError

    assert values.value(registry.Context(Settings(), frozenset(), (5, 2), {}, {}), "SECRET_KEY") is None


def test_what_is_no_list_or_no_dict_is_empty() -> None:
    odd = context({"ALLOWED_HOSTS": "shop.example.com", "DATABASES": {"default": None, "other": {}}, "CACHES": []})
    assert values.items(odd, "ALLOWED_HOSTS") == []
    assert list(values.entries(odd, "DATABASES")) == [("other", {})]
    assert list(values.entries(odd, "CACHES")) == []


@pytest.mark.parametrize(
    ("listed", "found"),
    [("silk", True), ("silk.apps.SilkAppConfig", True), ("silky", False), ("shop.silk", False)],
)
def test_an_app_is_known_by_its_name_and_by_its_configuration(listed: str, found: bool) -> None:
    assert values.installed(context({"INSTALLED_APPS": [listed]}), "silk") is found


def test_a_folder_is_inside_of_itself_and_not_of_one_of_a_similar_name(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "shop")
    assert values.is_inside(tmp_path / "link/media", tmp_path / "shop")
    assert values.is_inside(tmp_path / "shop", tmp_path / "shop/")
    assert not values.is_inside(tmp_path / "shop-media", tmp_path / "shop")
    assert values.is_inside(tmp_path, "/")


def in_source(folder: Path, key: str, *fallbacks: str, **options: object) -> list[tuple[str, str]]:
    found = rules_source.secret_key_in_source(
        context({"SECRET_KEY": key, "SECRET_KEY_FALLBACKS": list(fallbacks)}, chdir=str(folder), **options)
    )
    return [(each["setting"], each["object"]) for each in found]


def test_a_key_is_found_however_it_is_quoted(tmp_path: Path) -> None:
    key = 'it\'s "quoted" with \\ and é'
    (tmp_path / "one.py").write_text(f"KEY = {key!r}")
    (tmp_path / "two.py").write_text('KEY = "it\'s \\"quoted\\" with \\\\ and é"')
    assert in_source(tmp_path, key) == [("SECRET_KEY", "one.py"), ("SECRET_KEY", "two.py")]


def test_only_the_whole_key_in_python_is_found(tmp_path: Path) -> None:
    (tmp_path / "near.py").write_text("KEY = 'the-key-of-the-shop-2'")
    (tmp_path / "near.txt").write_text("'the-key-of-the-shop'")
    (tmp_path / "large.py").write_text("'the-key-of-the-shop'" + "#" * rules_source.LARGEST_FILE)
    (tmp_path / "settings.py").write_text("OLD = 'key-of-old-times'; SHORT = 'short'")
    found = in_source(tmp_path, "the-key-of-the-shop", "key-of-old-times", "short")
    assert found == [("SECRET_KEY_FALLBACKS", "settings.py")]


@pytest.mark.parametrize("named", ["config/local.py", "{folder}/config/local.py"])
def test_a_key_may_be_in_a_file_that_is_not_in_the_repository(tmp_path: Path, named: str) -> None:
    (tmp_path / "config").mkdir()
    for name in ("settings.py", "local.py"):
        (tmp_path / "config" / name).write_text("KEY = 'the-key-of-the-shop'")
    found = in_source(tmp_path, "the-key-of-the-shop", private_files=[named.format(folder=tmp_path)])
    assert found == [("SECRET_KEY", "config/settings.py")]


def test_a_search_that_takes_too_long_says_that_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_source, "MOST_BYTES", 10)
    (tmp_path / "settings.py").write_text("#" * 20)
    with pytest.raises(TimeoutError, match=r"stopped at settings\.py"):
        in_source(tmp_path, "the-key-of-the-shop")


@pytest.mark.parametrize(
    ("given", "number"), [("error", 40), ("ERROR", 40), (10, 10), ("no such level", 0), (None, 0), ("WARN", 30)]
)
def test_levels_are_those_of_logging(given: object, number: int) -> None:
    assert rules_logging.level_number(given) == number


def test_why_a_log_file_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("")
    assert rules_logging.obstacle(str(tmp_path / "log"), may_make_folders=False) == ""
    assert rules_logging.obstacle(str(tmp_path / "new"), may_make_folders=False) == ""
    assert rules_logging.obstacle(str(tmp_path), may_make_folders=False) == "is a folder"
    assert "does not exist" in rules_logging.obstacle(str(tmp_path / "no/log"), may_make_folders=False)
    # A class of their own may well make it.
    assert rules_logging.obstacle(str(tmp_path / "no/log"), may_make_folders=True) == ""
