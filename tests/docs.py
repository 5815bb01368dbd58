#!/usr/bin/env python3
"""Generate the parts of the documentation that stand in a specification already; with --check, only compare.

The variable tables of the roles come from their argument_specs.yml, the table of `django_apps` in README.md from
plugins/module_utils/_apps.py, the page of the findings from plugins/module_utils/_settings_check/catalogue.py, the page
of the projects from tests/projects.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from plugins.module_utils._apps import OPTIONS  # noqa: E402 (the collection is no installed package)
from plugins.module_utils._settings_check import catalogue  # noqa: E402

TEMPLATE = ROOT / "tests" / "role_readme.md.j2"
PROJECTS = ROOT / "tests" / "projects"
RESULTS = PROJECTS / "results.json"
LANGUAGES = {".yml": "yaml", ".j2": "jinja"}
PROJECTS_PAGE = """\
# Projects of others

Generated from `tests/projects`.

Projects that others wrote, deployed as they are: nothing in their source was changed. `make projects` puts each of them
on a fresh server, from PyPI or as its own tool writes it, and then

* its first page, and all that the page refers to, answer by HTTPS;
* an account that `createsuperuser` made logs in where the project's admin is;
* a second run of `site` changes nothing;
* another version goes online with `deploy`, and whoever was logged in still is;
* `verify` finds no error.

{rows}

The times are those of a machine with two cores, on which the server itself and other tests run, too. What the findings
mean is in [findings](findings.md).

Below is what is to be written for each. `source` is a folder with the project or, where the project is a package, with
nothing but a `requirements.txt`."""
BEGIN, END = "<!-- django_apps: begin -->\n", "<!-- django_apps: end -->\n"


def rows(options: dict[str, dict[str, Any]], prefix: str = "") -> list[str]:
    lines = []
    for name, option in options.items():
        default = "**required**" if option.get("required") else f"`{json.dumps(option['default'])}`"[:60]
        lines.append(f"| `{prefix}{name}` | {option['type']} | {default} | {option['description']} |")
        lines += rows(option.get("options", {}), f"{prefix}{name}.")
    return lines


def with_defaults(options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    complete = {}
    for name, option in options.items():
        nested = with_defaults(option["options"]) if "options" in option else {}
        complete[name] = {"default": None, **option, "options": nested}
        if nested:  # its own rows say it
            complete[name]["default"] = None
    return complete


def app_table() -> str:
    lines = ["| key | type | default | meaning |", "| --- | --- | --- | --- |", *rows(with_defaults(OPTIONS))]
    return "\n".join(lines).replace("`null`", "") + "\n"


def readme(check: bool) -> bool:
    path = ROOT / "README.md"
    text = path.read_text()
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    fresh = f"{head}{BEGIN}\n{app_table()}\n{END}{tail}"
    if fresh == text:
        return True
    if check:
        print("README.md: the table of django_apps is out of date; run make docs")
        return False
    path.write_text(fresh)
    return True


def role_readmes(check: bool) -> bool:
    good = True
    for role in sorted((ROOT / "roles").iterdir()):
        command = ["ansible-docsmith", "generate", str(role), "--no-defaults", f"--template-readme={TEMPLATE}"]
        command += ["--check"] if check else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = "" if check else f"\n{done.stdout}"
            print(f"roles/{role.name}/README.md: out of date or invalid; run make docs{reason}")
            good = False
    return good


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    width = head.count("|") + 1
    lines = [" | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in [head, " | ".join(["---"] * width), *lines])


def finding_page() -> str:
    on_demand = ", ".join(f"`{group}`" for group in catalogue.GROUPS if group not in catalogue.DEFAULT_GROUPS)
    head = "id | severity | what happens | how it was found | what to do"
    parts = [
        "# What django_settings_check finds",
        "Generated from `plugins/module_utils/_settings_check/catalogue.py`.",
        f"A chapter is a group of the option `checks`; {on_demand} are looked at only where they are named there.",
    ]
    for group in catalogue.GROUPS:
        rules = {name: rule for name, rule in catalogue.RULES.items() if rule.group == group}
        rows = [(f"`{name}`", rule.severity, rule.meaning, rule.detection, rule.remedy) for name, rule in rules.items()]
        parts += [f"## {group}", table(head, rows)] if rows else []
    of_django = [(f"`{identity}`", severity) for identity, severity in sorted(catalogue.DJANGO_SEVERITIES.items())]
    parts += [
        "## django",
        "Django's own checks, those for deployment among them, as severe as Django says, but for these:",
        table("id | severity", of_django),
    ]
    return "\n\n".join(parts) + "\n"


def finding_docs(check: bool) -> bool:
    return generated(ROOT / "docs" / "findings.md", finding_page(), check)


def project_names() -> list[str]:
    return sorted(path.parent.name for path in PROJECTS.glob("*/project.yml"))


def project_results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {name: found[name] for name in project_names() if name in found}


def project_needs(name: str) -> list[str]:
    """Return the keys with which the project gets more than every app has to have."""
    inventory = yaml.safe_load((PROJECTS / name / "inventory.yml").read_text())["all"]["vars"]
    (app,) = inventory["django_apps"].values()
    least = {"ansible_user", "django_apps", *(key for key, option in OPTIONS.items() if option.get("required"))}
    return [key for key in [*inventory, *app] if key not in least]


def project_row(name: str, row: dict[str, Any]) -> list[str]:
    found = "; ".join(
        f"{severity}: {', '.join(f'`{each}`' for each in ids)}"
        for severity, ids in row["findings"].items()
        if ids and severity != "notice"
    )
    return [
        f"[{name}](#{name})",
        ", then ".join(row["versions"]),
        ", ".join(f"`{key}`" for key in project_needs(name)) or "no more",
        f"{row['django']}, {row['debian']}",
        str(row["seconds"]["first"]),
        str(row["seconds"]["deploy"]),
        found or "none",
        str(len(row["findings"]["notice"])),
    ]


def project_section(name: str) -> list[str]:
    """Show what a user has to write, as it is tested."""
    folder = PROJECTS / name
    described = yaml.safe_load((folder / "project.yml").read_text())
    parts = [f"## {name}", f"{described['kind'][0].upper()}{described['kind'][1:]}."]
    files = [path for path in sorted(folder.iterdir()) if path.name != "project.yml"]
    return parts + [
        f"`{path.name}`:\n\n```{LANGUAGES[path.suffix]}\n{path.read_text().removeprefix('---' + chr(10))}```"
        for path in files
    ]


def project_page() -> str:
    times = "first run (s) | new version (s)"
    head = f"project | versions | needs besides the least | Django, Debian | {times} | errors and warnings | notices"
    results = project_results()
    rows = table(head, [project_row(name, row) for name, row in results.items()])
    sections = [part for name in results for part in project_section(name)]
    return "\n\n".join([PROJECTS_PAGE.format(rows=rows), *sections]) + "\n"


def project_docs(check: bool) -> bool:
    # What has not been tried is not shown.
    return not project_results() or generated(ROOT / "docs" / "projects.md", project_page(), check)


def generated(path: Path, text: str, check: bool) -> bool:
    if path.exists() and path.read_text() == text:
        return True
    if check:
        print(f"{path.relative_to(ROOT)}: out of date; run make docs")
        return False
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return True


def main() -> int:
    check = sys.argv[1:] == ["--check"]
    results = [readme(check), role_readmes(check), finding_docs(check), project_docs(check)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
