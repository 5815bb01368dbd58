#!/usr/bin/env python3
"""Deploy projects that nobody here wrote, each on a fresh server, and look at them as a visitor and as their admin.

    projects.py [PROJECT...]      all of tests/projects without a name

tests/projects/PROJECT has the inventory as a user writes it, and project.yml: how to get the project, and what its
pages say. What was found is kept in tests/projects/results.json; docs/projects.md is made of it.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import threading
import time
import traceback
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode, urljoin, urlsplit

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "molecule" / "shared"))

import testbed  # noqa: E402
from browser import Answer, Browser  # noqa: E402

import docs  # noqa: E402

PROJECTS = docs.PROJECTS
FOLDER = ROOT / ".cache" / "projects"
BED, HOST = f"projects-{os.getpid()}", "project1"
LIMIT_SECONDS = 30 * 60
SETTINGS = {"ANSIBLE_PIPELINING": "true", "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml", "NO_COLOR": "1"}
MITOGEN = {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(ROOT / "tests" / "strategy")}
# Attributes by which a page has the browser fetch something.
FETCHED = {"link": "href", "script": "src", "img": "src"}
OF_A_PAGE = {"canonical", "alternate", "preconnect", "dns-prefetch", "next", "prev", "shortlink", "search"}
SAYS_VERSION = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"


class Page(HTMLParser):
    """What a page has the browser fetch, and its form with a password."""

    def __init__(self, answer: Answer, path: str) -> None:
        super().__init__()
        self.path, self.fetched = path, set[str]()
        self.forms: list[tuple[str, list[dict[str, str]]]] = []
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        link = attributes.get(FETCHED.get(tag, ""), "")
        if link and not OF_A_PAGE & set(attributes.get("rel", "").lower().split()):
            self.fetched.add(urljoin(self.path, link))
        if tag == "form":
            self.forms.append((urljoin(self.path, attributes.get("action", "")), []))
        if tag == "input" and self.forms:
            self.forms[-1][1].append(attributes)

    def login(self, account: str, password: str) -> tuple[str, dict[str, str]]:
        """Fill in the form: its first visible field is for the account."""
        action, inputs = next(form for form in self.forms if any(each.get("type") == "password" for each in form[1]))
        fields = {each["name"]: each.get("value", "") for each in inputs if each.get("type") == "hidden"}
        seen = [each for each in inputs if each.get("type", "text") in ("text", "email", "password") and "name" in each]
        who = next(each for each in seen if each["type"] != "password")
        secret = next(each for each in seen if each["type"] == "password")
        return action, {**fields, who["name"]: account, secret["name"]: password}


class Project(NamedTuple):
    name: str
    described: dict[str, Any]
    inventory: dict[str, Any]

    @property
    def app(self) -> str:
        (name,) = self.inventory["all"]["vars"]["django_apps"]
        return str(name)

    @property
    def domain(self) -> str:
        return str(self.inventory["all"]["vars"]["django_apps"][self.app]["domains"][0])

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def source(self) -> Path:
        return self.folder / str(self.inventory["all"]["vars"]["django_apps"][self.app]["source"])


def load(name: str) -> Project:
    folder = PROJECTS / name
    return Project(
        name,
        yaml.safe_load((folder / "project.yml").read_text()),
        yaml.safe_load((folder / "inventory.yml").read_text()),
    )


# --- The project, and its inventory -------------------------------------------


def make(project: Project) -> None:
    """Let the project's own tools write it, into a folder that is new."""
    shutil.rmtree(project.folder, ignore_errors=True)
    shutil.copytree(PROJECTS / project.name, project.folder)
    project.source.mkdir()
    if tools := project.described.get("tools"):
        local(project, sys.executable, "-m", "venv", "../tools")
        local(project, "pip", "install", "--quiet", "--disable-pip-version-check", *tools)
    shell(project, "make")


def shell(project: Project, what: str) -> None:
    local(project, "sh", "-euc", project.described[what])


def local(project: Project, *command: str) -> None:
    """Run a program here, where the source is, with the tools of the project."""
    path = f"{project.folder / 'tools' / 'bin'}:{os.environ['PATH']}"
    with (project.folder / "make.log").open("a") as log:
        subprocess.run(
            ["/usr/bin/env", f"PATH={path}", *command],
            cwd=project.source,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=True,
        )


def write_inventory(project: Project, bed: testbed.Bed) -> None:
    """Add to the inventory of the user only how this server is reached."""
    (host,) = project.inventory["all"]["hosts"]
    inventory = {
        "all": {
            "hosts": {host: {"ansible_host": bed["hosts"][HOST], "ansible_ssh_private_key_file": bed["key"]}},
            "vars": {
                **project.inventory["all"]["vars"],
                "ansible_python_interpreter": "/usr/bin/python3",
                "ansible_ssh_common_args": subprocess.list2cmdline(testbed.ssh_options(bed)),
            },
        }
    }
    (project.folder / "inventory.yml").write_text(yaml.safe_dump(inventory))


def play(project: Project, playbook: str, *words: str, timed: bool = False) -> tuple[float, int]:
    """Run a playbook; return how many seconds it took, and how much it changed. What is timed runs without Mitogen."""
    log = project.folder / f"{playbook}-{time.strftime('%H%M%S')}.log"
    started = time.monotonic()
    with log.open("w") as output:
        done = subprocess.run(
            ["ansible-playbook", "-i", "inventory.yml", f"groundwork.django.{playbook}", *words],
            cwd=project.folder,
            env={**os.environ, **SETTINGS, **({} if timed else MITOGEN)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_SECONDS,
            check=False,
        )
    seconds = time.monotonic() - started
    said = log.read_text()
    assert done.returncode == 0, f"{playbook} failed, see {log}:\n{said[-3000:]}"
    return seconds, sum(map(int, re.findall(r"\bchanged=(\d+)", said.split("PLAY RECAP")[-1])))


# --- The visitor, and the admin ------------------------------------------------


def look(site: Browser, path: str, says: str) -> None:
    """Look at a page, and at all that it has the browser fetch from the site."""
    answer = site.get(path)
    assert answer.status == 200, f"{path} answers {answer.status}: {answer.text[:2000]}"
    assert says in answer.text, f"{path} does not say {says!r}: {answer.text[:2000]}"
    links = [urlsplit(link) for link in sorted(Page(answer, path).fetched)]
    own = [link for link in links if link.scheme in ("", "https") and link.netloc in ("", site.domain)]
    assert any(link.path.startswith("/static/") for link in own), f"{path} has no static files"
    answers = {link.path: site.get(link._replace(scheme="", netloc="").geturl()).status for link in own}
    assert set(answers.values()) == {200}, f"{path} refers to what is not there: {answers}"


def create_superuser(project: Project, bed: testbed.Bed, password: str) -> None:
    """Answer the questions of createsuperuser, at a terminal."""
    address = f"ada@{project.domain}"
    command = [*testbed.ssh_command(bed, HOST), "-tt", f"{project.app}-manage createsuperuser"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    watch = threading.Timer(120, process.kill)
    watch.start()
    said, answered = "", 0
    while chunk := os.read(process.stdout.fileno(), 4096):
        said += chunk.decode(errors="replace")
        question = re.search(r"([^\r\n]*): ?\Z", said[answered:])
        if question:
            answered = len(said)
            kind = question[1].lower()
            reply = password if "password" in kind else address if "mail" in kind else "ada"
            process.stdin.write(f"{reply}\n".encode())
            process.stdin.flush()
    watch.cancel()
    assert process.wait() == 0, f"createsuperuser failed: {said}"


def log_in(site: Browser, project: Project, password: str) -> None:
    admin = project.described["admin"]
    before = site.get(admin["path"])
    assert before.status != 200 or admin["says"] not in before.text, f"{admin['path']} is open to everybody"
    form = site.get(admin["login"])
    assert form.status == 200, f"{admin['login']} answers {form.status}: {form.text[:2000]}"
    account = f"ada@{project.domain}" if admin.get("account") == "email" else "ada"
    action, fields = Page(form, admin["login"]).login(account, password)
    kind = {"Content-Type": "application/x-www-form-urlencoded", "Referer": f"https://{site.domain}{admin['login']}"}
    answer = site.ask("POST", action, urlencode(fields).encode(), kind)
    assert answer.status in (302, 303), f"{action} answers {answer.status}: {answer.text[:3000]}"
    look(site, admin["path"], admin["says"])


# --- One project, from the beginning to the end ----------------------------------


def try_out(project: Project, bed: testbed.Bed) -> dict[str, Any]:
    def remote(command: str) -> str:
        return testbed.run(*testbed.ssh_command(bed, HOST), command).strip()

    def version() -> str:
        python = f"/srv/{project.app}/current/.venv/bin/python"
        return remote(f"{python} -Ic '{SAYS_VERSION}' {project.described['package']}")

    def release() -> str:
        return remote(f"readlink /srv/{project.app}/current")

    described = project.described
    write_inventory(project, bed)
    first, _changed = play(project, "site", timed=True)
    before = version(), release()
    site = Browser(project.domain, bed["hosts"][HOST], remote(f"cat /etc/nginx/tls/{project.app}.crt"))
    look(site, **described["page"])
    password = secrets.token_urlsafe(16)
    create_superuser(project, bed, password)
    log_in(site, project, password)

    _seconds, changed = play(project, "site")
    assert changed == 0, f"the second run changed {changed} things"

    shell(project, "change")
    again, _changed = play(project, "deploy", timed=True)
    after = version(), release()
    assert after[1] != before[1], "the change brought no new release"
    look(site, **described.get("changed_page", described["page"]))
    look(site, described["admin"]["path"], described["admin"]["says"])
    failed = remote("systemctl list-units --failed --no-legend --plain")
    assert not failed, failed

    play(project, "verify", "-e", "django_report=report.json")
    (report,) = json.loads((project.folder / "report.json").read_text())
    told = report["apps"][project.app]
    return {
        "versions": sorted({before[0], after[0]}, key=[before[0], after[0]].index),
        "django": told["versions"]["django_version"],
        "debian": bed["release"],
        "seconds": {"first": round(first), "deploy": round(again)},
        "findings": {
            severity: sorted({found["id"] for found in told["findings"] if found["severity"] == severity})
            for severity in ("error", "warning", "notice")
        },
    }


def run(name: str) -> bool:
    project = load(name)
    started = time.monotonic()
    try:
        make(project)
        bed = testbed.up(BED, [HOST], project.described.get("debian", "trixie"), owner=os.getpid())
        try:
            row = try_out(project, bed)
        finally:
            testbed.down(BED)
    except Exception:  # noqa: BLE001 (whatever it is, the others are still to be tried)
        traceback.print_exc()
        print(f"{name:12} FAILED after {time.monotonic() - started:.0f} s", flush=True)
        return False
    results = docs.project_results()
    docs.RESULTS.write_text(json.dumps({**results, name: row}, indent=1, sort_keys=True) + "\n")
    print(f"{name:12} passed in {time.monotonic() - started:.0f} s", flush=True)
    return True


def main() -> int:
    names = sys.argv[1:] or docs.project_names()
    unknown = set(names) - set(docs.project_names())
    if unknown:
        sys.exit(f"no such project: {', '.join(unknown)}; there are: {', '.join(docs.project_names())}")
    good = [run(name) for name in names]
    docs.project_docs(check=False)
    print(f"projects: {sum(good)} passed, {len(good) - sum(good)} failed")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
