# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""From the options of django_settings_check to its answer."""

from __future__ import annotations

import os
import pwd
import re
import time
from pathlib import Path
from typing import Any

from . import catalogue, envfile, expect, redact, runner, verdict

APPLICATION = re.compile(r"[A-Za-z_]\w*(\.\w+)*(:[A-Za-z_]\w*)?\Z")
# What systemd gives to a service with User=.
BASE = {"LANG": "C.UTF-8", "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
NEED_DATABASES = {"database", "migrations", "schema"}
# Which stage stands for which finding when nothing is heard in it.
WAITING = {"database": "database_unreachable", "cache": "cache_unreachable"}
PRINTED = 20


class BadOptionError(ValueError):
    """The options are wrong, or do not fit the server."""


class Check:
    """One run of the module."""

    def __init__(self, options: dict[str, Any], check_mode: bool) -> None:
        self.options = options
        self.check_mode = check_mode
        self.python = str(Path(options["virtualenv"]) / "bin/python")
        # What the messages are about.
        self.subject = ""
        self.patterns: list[str] = options["secret_patterns"]
        self.given = {name: str(value) for name, value in options["environment"].items()}
        # Whatever must not be shown, as far as it is known yet.
        self.secrets = {str(value) for value in options["secrets"].values()}
        self.answer: dict[str, Any] = {
            "changed": False,
            "django_version": None,
            "python_version": None,
            "settings_module": None,
            "settings_file": None,
            "user": None,
            "findings": [],
            "ignored": [],
            "counts": dict.fromkeys(catalogue.SEVERITIES, 0),
            "overridden": [],
            "environment_names": [],
            "databases": {},
            "caches": {},
            "skipped_checks": [],
            "timing": {},
        }

    def run(self) -> dict[str, Any]:
        try:
            self.check_patterns()
            self.learn({}, self.given)
            self.check_options()
            missing = [path for path in (self.options["chdir"], self.python) if not os.path.exists(path)]  # noqa: PTH110
            if missing and self.check_mode:
                told = f"{missing[0]} does not exist yet, nothing was verified"
                return {**self.answer, "skipped": True, "msg": told}
            if missing:
                name = "chdir" if missing[0] == self.options["chdir"] else "virtualenv"
                raise BadOptionError(f"{name}: {missing[0]} does not exist")  # noqa: TRY301
            self.verify()
        except (BadOptionError, envfile.EnvFileError) as error:
            self.answer.update(failed=True, msg=str(error))
        return self.answer

    # --- Options ---

    def check_patterns(self) -> None:
        for pattern in self.patterns:
            try:
                re.compile(pattern)
            except re.error as error:  # noqa: PERF203
                raise BadOptionError(f'secret_patterns: regex "{pattern}" does not compile: {error}') from error

    def check_options(self) -> None:
        options = self.options
        errors = [
            *expect.check_options(options["expect"], options["secrets"], self.patterns),
            *verdict.check_ids(options["ignore"], options["severity"]),
        ]
        if options["application"] and not APPLICATION.match(options["application"]):
            errors.append(f'application: "{options["application"]}" is not of the form shop.wsgi:application')
        errors += [
            f"{option}: {options[option]} is not at least 1" for option in ("timeout", "workers") if options[option] < 1
        ]
        if errors:
            raise BadOptionError("\n".join(errors))

    def find_account(self) -> runner.Account:
        """Return the account of the service; only root can become another one."""
        name = self.options["user"]
        if os.geteuid() == 0 and not name:
            raise BadOptionError(
                "user is required when the module runs as root: "
                'give the account of the service (or "root" if it really runs as root)'
            )
        try:
            entry = pwd.getpwnam(name) if name else pwd.getpwuid(os.geteuid())
        except KeyError as error:
            raise BadOptionError(f"no such user: {name or os.geteuid()}") from error
        if os.geteuid() not in (0, entry.pw_uid):
            raise BadOptionError(f"user: the module must run as root to run the project as {name}; set become: true")
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return runner.Account(entry.pw_name, entry.pw_uid, entry.pw_gid, groups, entry.pw_dir, entry.pw_shell)

    # --- The run ---

    def verify(self) -> None:
        begun = time.monotonic()
        account = self.find_account()
        files = envfile.read(self.options["environment_files"])
        own = {"HOME": account.home, "LOGNAME": account.name, "USER": account.name, "SHELL": account.shell}
        environment = {**BASE, **own, **self.given, **files.variables}
        self.learn({}, environment)
        self.answer.update(user=account.name, environment_names=sorted({*self.given, *files.variables}))
        module = environment.get("DJANGO_SETTINGS_MODULE", "")
        if not (self.options["application"] or self.options["settings"] or module):
            raise BadOptionError(
                "no settings module: set settings, application, or DJANGO_SETTINGS_MODULE in the environment files"
            )
        self.subject = self.options["settings"] or module or self.options["application"]
        raw = list(files.findings) if "envfile" in self.options["checks"] else []
        config = self.configure(environment, module)
        outcome = self.inspect(config, environment, account)
        raw += self.take(outcome, environment)
        if "stable" in self.options["checks"] and outcome.done and not outcome.of("error"):
            rest = self.options["timeout"] - (time.monotonic() - begun)
            raw += self.compare(outcome, self.inspect({**config, "only_settings": True}, environment, account, rest))
        self.answer["timing"]["total"] = round(time.monotonic() - begun, 3)
        self.conclude(outcome, raw, environment)

    def configure(self, environment: dict[str, str], module: str) -> dict[str, Any]:
        """Return what the inspector needs to know: nothing of it is a secret."""
        names = (
            "application settings chdir checks databases caches workers server pooler public_urls private_files "
            "proxy_headers url_scheme timeout"
        )
        return {
            **{name: self.options[name] for name in names.split()},
            "pythonpath": [os.path.join(self.options["chdir"], path) for path in self.options["pythonpath"]],  # noqa: PTH118
            "environment_files": self.files(),
            "known": sorted(environment),
            "module_given": module,
            "fingerprints": "stable" in self.options["checks"],
            "only_settings": False,
        }

    def files(self) -> list[str]:
        return [file.removeprefix("-") for file in self.options["environment_files"]]

    def inspect(
        self, config: dict[str, Any], environment: dict[str, str], account: runner.Account, timeout: float | None = None
    ) -> runner.Outcome:
        try:
            seconds = max(0.0, self.options["timeout"] if timeout is None else timeout)
            return runner.run(self.python, config, environment, account, seconds, self.options["chdir"])
        except OSError as error:
            if error.filename == self.options["chdir"]:
                raise BadOptionError(f"chdir: {error.filename}: {error.strerror}") from error
            real = os.path.realpath(self.python)
            raise BadOptionError(
                f"{self.python} cannot be executed as user {account.name}: {error.strerror} (interpreter is {real})"
            ) from error

    def learn(self, settings: dict[str, Any], environment: dict[str, str]) -> None:
        """Note what is secret, so that it is taken out of all texts."""
        self.secrets |= redact.secret_values(settings, environment, self.patterns)
        self.scrub = redact.Scrubber(self.secrets).scrub

    # --- What came of it ---

    def take(self, outcome: runner.Outcome, environment: dict[str, str]) -> list[dict[str, Any]]:
        """Put what the inspector told into the answer, and return the findings."""
        settings: dict[str, Any] = {}
        for record in outcome.records:
            settings.update(record.get("settings", {}))
            self.answer["overridden"] = record.get("overridden") or self.answer["overridden"]
        facts = merge(outcome.of("facts"))
        self.learn(settings, environment)
        self.subject = facts.get("settings_module") or self.subject
        for name in ("django_version", "python_version", "settings_module", "settings_file", "databases", "caches"):
            self.answer[name] = facts.get(name) or self.answer[name]
        self.answer["timing"] = dict(outcome.timing)
        self.answer["skipped_checks"] = [
            {"check": skipped["check"], "reason": self.scrub(skipped["reason"])} for skipped in outcome.of("skipped")
        ]
        if outcome.left:
            told = f"still there after they were killed: {', '.join(map(str, outcome.left))}"
            self.answer["skipped_checks"].append({"check": "processes", "reason": told})
        findings = outcome.of("finding")
        if settings and not outcome.of("error"):
            self.check_aliases(facts.get("aliases", {}))
            findings += expect.evaluate(self.options["expect"], settings, self.answer["overridden"], self.patterns)
            findings += expect.compare_secrets(self.options["secrets"], settings)
        self.show(settings)
        return findings

    def show(self, settings: dict[str, Any]) -> None:
        wanted = self.options["return_settings"]
        if wanted != "none":
            self.answer["settings"] = {
                name: redact.redact(name, value, self.patterns)
                for name, value in settings.items()
                if wanted == "all" or name in self.answer["overridden"]
            }

    def check_aliases(self, there: dict[str, list[str]]) -> None:
        for option, groups in (("databases", NEED_DATABASES), ("caches", {"cache"})):
            for alias in self.options[option]:
                if groups & set(self.options["checks"]) and option in there and alias not in there[option]:
                    known = ", ".join(there[option]) or "none"
                    raise BadOptionError(f'{option}: no alias "{alias}" in {option.upper()} (there are: {known})')

    def compare(self, outcome: runner.Outcome, again: runner.Outcome) -> list[dict[str, Any]]:
        """Find the settings that are others each time they are loaded."""
        first, second = merge(outcome.of("fingerprints")), merge(again.of("fingerprints"))
        if not (first and second):
            told = "the settings loaded once, and not a second time"
            self.answer["skipped_checks"].append({"check": "stable", "reason": told})
            return []
        names = [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
        return [
            {"id": "secret_key_unstable" if name == "SECRET_KEY" else "setting_unstable", "setting": name}
            for name in names
        ]

    def conclude(self, outcome: runner.Outcome, raw: list[dict[str, Any]], environment: dict[str, str]) -> None:
        options = self.options
        problem = self.explain(outcome, environment)
        if problem and outcome.stage in WAITING and outcome.timed_out:
            raw += self.silent(outcome.stage)
            self.skip_rest(outcome.stage)
            problem = ""
        if problem and options["fail_on"] == "never":
            raw.append({"id": "settings_not_loaded", "message": problem})
        judged = verdict.judge(raw, options["ignore"], options["severity"], self.scrub)
        self.answer.update(judged)
        if problem and options["fail_on"] != "never":
            printed = self.scrub("\n".join(outcome.printed.splitlines()[-PRINTED:]))
            self.answer.update(failed=True, msg=self.scrub(problem), stderr=printed)
            return
        self.answer["msg"] = verdict.message(self.subject, judged)
        self.answer["failed"] = verdict.fails(judged["counts"], options["fail_on"])

    def explain(self, outcome: runner.Outcome, environment: dict[str, str]) -> str:
        """Return why the project could not be checked to the end."""
        about = {**self.options, "subject": self.subject, "environment_files": self.files()}
        for error in outcome.of("error"):
            return verdict.explain_error(error, outcome.stage, about, environment)
        if outcome.done:
            return ""
        loaded = outcome.stage not in ("start", "django", "settings", "setup")
        timeout = self.options["timeout"] if outcome.timed_out else None
        return verdict.explain_end(outcome.stage, loaded, self.subject, timeout, outcome.status)

    def silent(self, stage: str) -> list[dict[str, Any]]:
        """Return a finding for each database or cache that has not answered when the time was over."""
        option = {"database": "databases", "cache": "caches"}[stage]
        told = f"no answer within {self.options['timeout']} s"
        return [
            {"id": WAITING[stage], "setting": f"{option.upper()}.{alias}", "object": alias, "message": told}
            for alias in self.options[option]
            if alias not in self.answer[option]
        ]

    def skip_rest(self, stage: str) -> None:
        for check in ("cache", "stable"):
            if check in self.options["checks"] and check != stage:
                self.answer["skipped_checks"].append({"check": check, "reason": f"{stage} took all of the time"})


def merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Put dictionaries together, and those in them: each database is told of by itself."""
    whole: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            if isinstance(value, dict):
                whole.setdefault(name, {}).update(value)
            else:
                whole[name] = value
    return whole
