"""Every role has the same shape, and says the same thing in each of its files."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from plugins.module_utils import _apps, _wiring

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
NAMES = (
    "backups backups_store django_app gunicorn hardening internal_tls nginx_tls pgbouncer postgres redis redis_tunnel"
).split()

each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def specification(role: Path) -> dict[str, dict[str, Any]]:
    options: dict[str, dict[str, Any]] = load(role / "meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    return options


def defaults(role: Path) -> dict[str, Any]:
    return load(role / "defaults/main.yml") or {}


def handlers(role: Path) -> list[dict[str, Any]]:
    path = role / "handlers/main.yml"
    return load(path) if path.exists() else []


def tasks_in(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def collect(tasks: list[dict[str, Any]]) -> None:
        for task in tasks:
            found.append(task)
            for part in ("tasks", "block", "rescue", "always"):
                collect(task.get(part, []))

    collect(load(path))
    return found


def tasks_of(role: Path) -> list[dict[str, Any]]:
    return [task for path in sorted((role / "tasks").glob("*.yml")) for task in tasks_in(path)] + handlers(role)


def test_the_roles_are_there() -> None:
    assert [role.name for role in ROLES] == NAMES


@each_role
def test_a_role_has_the_files_of_its_shape(role: Path) -> None:
    expected = {"README.md", "meta", "defaults", "vars", "tasks", "templates"}
    assert {path.name for path in role.iterdir() if not path.name.startswith(".")} - {"handlers", "files"} == expected


@each_role
def test_defaults_are_those_of_the_specification_in_its_order(role: Path) -> None:
    specified = {name: option["default"] for name, option in specification(role).items() if "default" in option}
    # A default that is computed on the host cannot be a value in the specification; its description says how.
    literal = {name: value for name, value in defaults(role).items() if "{{" not in str(value)}
    assert literal == {name: value for name, value in specified.items() if name in literal}
    assert set(specified) <= set(defaults(role))
    assert [name for name in specification(role) if name in defaults(role)] == list(defaults(role))


@each_role
def test_each_default_is_a_specified_option(role: Path) -> None:
    assert set(defaults(role)) <= set(specification(role))


@each_role
def test_a_required_option_has_no_default(role: Path) -> None:
    required = {name for name, option in specification(role).items() if option.get("required")}
    assert not required & set(defaults(role))


@each_role
def test_defaults_hold_no_comments(role: Path) -> None:
    assert "#" not in (role / "defaults/main.yml").read_text()


@each_role
def test_constants_and_results_carry_the_name_of_the_role(role: Path) -> None:
    registered = [task["register"] for task in tasks_of(role) if "register" in task]
    for name in [*(load(role / "vars/main.yml") or {}), *registered]:
        assert name.startswith(f"__{role.name}_"), name


# These never run in check mode.
ACTING_CHAPTERS = {"build.yml", "release.yml", "record.yml", "switch.yml", "lock.yml"}
# Does nothing in check mode, unless it says otherwise.
COMMANDS = {"ansible.builtin.command", "ansible.builtin.shell"}
SILENT = {f"ansible.builtin.{word}" for word in ("assert", "fail", "debug", "meta", "include_tasks", "import_tasks")}


@each_role
def test_what_a_role_would_change_is_kept_for_the_report_of_drift(role: Path) -> None:
    for path in sorted((role / "tasks").glob("*.yml")):
        for task in [] if path.name in ACTING_CHAPTERS else tasks_in(path):
            module = next(key for key in task if "." in key or key == "block")
            acts = module not in COMMANDS or task.get("check_mode") is False
            if acts and module not in {*SILENT, "block"} and task.get("changed_when") is not False:
                assert "register" in task, f"{path.name}: {task['name']}"


@each_role
def test_a_role_speaks_only_of_its_own_variables(role: Path) -> None:
    others = "|".join(name for name in NAMES if name != role.name)
    own_files = [
        path for folder in ("tasks", "handlers", "templates", "vars", "defaults") for path in (role / folder).rglob("*")
    ]
    for path in own_files:
        if path.is_file():
            # A variable in an expression, not a word in a path or a comment.
            own = rf"(?!_*{role.name}_)"
            foreign = re.findall(rf"{{[{{%][^}}]*(?<![\w/.'-]){own}_*(?:{others})_[a-z]\w+", path.read_text())
            assert not foreign, f"{path}: {foreign}"


@each_role
def test_roles_have_no_tags_and_no_become_except_where_they_must(role: Path) -> None:
    for task in tasks_of(role):
        name = task.get("name")
        assert "tags" not in task, name
        assert not task.get("ignore_errors"), name
        assert "ansible.builtin.set_fact" not in task, name
        # With become_user, the linter wants become beside it.
        assert task.get("become", False) is ("become_user" in task), f"{name}: who runs a role says become"


@each_role
def test_a_long_task_file_becomes_chapters(role: Path) -> None:
    for path in (role / "tasks").glob("*.yml"):
        assert len(path.read_text().splitlines()) <= 100, path


@each_role
def test_every_template_says_who_manages_the_file(role: Path) -> None:
    # What is in scripts/ runs once and is no file on the server.
    for path in set((role / "templates").rglob("*.j2")) - set((role / "templates" / "scripts").glob("*")):
        if path.name == "users.acl.j2":  # Redis takes no comment there
            continue
        head = path.read_text()[:400]
        assert f"Managed by Ansible (groundwork.django.{role.name}): " in head, path


@each_role
def test_handlers_come_in_the_order_validate_reload_restart(role: Path) -> None:
    verbs = [handler["name"].split()[0] for handler in handlers(role)]
    order = ["Validate", "Reload", "Restart"]
    assert [verb for verb in verbs if verb in order] == sorted((v for v in verbs if v in order), key=order.index)


def test_no_role_overrules_a_handler_of_another() -> None:
    """In one play the last handler of a name wins, whichever role calls it."""
    names = [handler["name"] for role in ROLES for handler in handlers(role)]
    assert sorted(set(names)) == sorted(names)


@each_role
def test_a_secret_is_marked_as_one(role: Path) -> None:
    def look(options: dict[str, dict[str, Any]]) -> None:
        for name, option in options.items():
            if re.search(r"password$|secret|encryption_key$|_environment$", name) and option["type"] != "list":
                assert option.get("no_log") is True, name
            look(option.get("options", {}))

    look(specification(role))


def sandbox(template: str) -> str:
    return (ROOT / template).read_text().split("# --- Sandbox ---\n")[1].split("# --- ")[0].rstrip()


def test_commands_of_an_app_run_in_the_sandbox_of_its_service() -> None:
    service = sandbox("roles/gunicorn/templates/gunicorn.service.j2")
    assert "ProtectSystem=strict" in service
    assert sandbox("roles/django_app/templates/sandbox.conf.j2") == service


def test_an_app_reaches_each_single_host_and_no_group_of_hosts() -> None:
    # Not seen on the test hosts, which cannot filter addresses.
    words = re.findall(r"^IPAddressAllow=(.+)", sandbox("roles/gunicorn/templates/gunicorn.service.j2"), re.MULTILINE)
    allowed = [ipaddress.ip_network(word) for word in words[0].split()]

    def reached(address: str) -> bool:
        return any(ipaddress.ip_address(address) in network for network in allowed)

    single = "1.1.1.1 10.0.0.5 100.64.0.1 127.0.0.53 169.254.169.254 172.16.0.9 192.168.1.1 223.255.255.255"
    single += " ::1 ::ffff:10.0.0.5 64:ff9b::1.1.1.1 2606:4700::1 fd00::5 fe80::1"
    groups = "224.0.0.251 239.255.255.250 255.255.255.255 ff02::1 ff02::fb"
    assert [address for address in single.split() if not reached(address)] == []
    assert [address for address in groups.split() if reached(address)] == []


def test_keys_of_an_app_have_the_defaults_of_the_roles_they_go_to() -> None:
    for role in ("django_app", "gunicorn"):
        values = defaults(ROOT / "roles" / role)
        for key, option in _apps.OPTIONS.items():
            default = values.get(f"{role}_{key}")
            if "default" in option and default is not None and "{{" not in str(default):
                assert option["default"] == default, f"{role}_{key}"


def test_the_site_finds_what_the_operator_switches_where_nginx_looks_for_it() -> None:
    folder = load(ROOT / "roles/nginx_tls/vars/main.yml")["__nginx_tls_maintenance"]
    assert f'"maintenance_flag": f"{folder}/{{name}}.on"' in (ROOT / "plugins/module_utils/_wiring.py").read_text()


def test_settings_are_checked_with_the_headers_that_nginx_sends() -> None:
    template = (ROOT / "roles/nginx_tls/templates/groundwork.conf.j2").read_text()
    for header in _wiring.PROXY_HEADERS:
        assert re.search(rf"^proxy_set_header {header} \$", template, re.MULTILINE), header


def test_no_list_has_another_order_in_each_run() -> None:
    """The filter union makes a set of words, whose order is that of the run."""
    written = [path for folder in ("playbooks", "roles") for path in (ROOT / folder).rglob("*") if path.is_file()]
    assert [str(path) for path in written if b"union(" in path.read_bytes()] == []


def test_the_site_knows_the_packages_of_all_roles() -> None:
    of_roles = {
        word
        for role in ROLES
        # What is switched off there must not be installed: it acts by itself. The other is on a host of its own.
        if role.name not in ("hardening", "backups_store")
        for name, value in load(role / "vars/main.yml").items()
        if name in (f"__{role.name}_packages", f"__{role.name}_apt_packages")
        for word in (value if isinstance(value, list) else re.findall(r"'([^']+)'", value))
    }
    of_the_site = load(ROOT / "playbooks/vars/wiring.yml")["__django_role_packages"]
    assert sorted(" ".join(of_the_site.values()).split()) == sorted(of_roles)
    assert len(of_roles) > 10


def test_no_playbook_goes_through_the_apps_only_to_skip_them() -> None:
    """With -v Ansible shows what a loop skips, and apps hold secrets."""
    tasks = [task for path in sorted((ROOT / "playbooks").glob("*.yml")) for task in tasks_in(path)]
    loops = [task for task in tasks if re.match(r"{{ __django(\.apps|_chosen)( if .*)? }}\Z", str(task.get("loop")))]
    assert len(loops) > 4
    assert [task["name"] for task in loops if "when" in task] == []
