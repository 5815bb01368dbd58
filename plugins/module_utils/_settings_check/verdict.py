# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the findings amount to: how severe each one is, which are accepted, and what is said about them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from . import catalogue

Finding = dict[str, str]

# As Django numbers them.
ERROR, WARNING = 40, 30

# Checks of Django and of its apps, such as security.W004, 4_0.E001 and allauth.account.W001.
DJANGO_ID = re.compile(r"\w+(\.\w+)*\.[A-Z]\d{3,}\Z", re.ASCII)

SHOWN = 10
MISSING = re.compile(
    r"Set the (?P<environ>\w+) environment variable|(?P<decouple>\w+) not found\. Declare it as envvar"
)


def check_ids(ignore: Iterable[str], severity: dict[str, Any]) -> list[str]:
    """Return what is wrong with the options that name findings."""
    named = [("ignore", identity) for identity in ignore] + [("severity", identity) for identity in severity]
    unknown = [
        f'{option}: "{identity}" is not a finding id'
        for option, identity in named
        if identity not in catalogue.RULES and not DJANGO_ID.match(str(identity))
    ]
    wrong = [
        f'severity: "{value}" for {identity} is none of {", ".join(catalogue.SEVERITIES)}'
        for identity, value in severity.items()
        if value not in catalogue.SEVERITIES
    ]
    return unknown + wrong


def complete(found: dict[str, Any], overrides: dict[str, str], scrub: Callable[[str], str]) -> Finding:
    """Give a finding all of its keys; what the project itself may have put into words is scrubbed."""
    identity = found["id"]
    source = found.get("source", "rule")
    rule = catalogue.RULES.get(identity)
    return {
        "id": identity,
        "source": source,
        "severity": overrides.get(identity) or severity_of(found),
        "message": scrub(found.get("message", "")) or (rule.meaning if rule else ""),
        "hint": scrub(found.get("hint", "")) or (rule.remedy if rule else ""),
        "object": scrub(found.get("object", "")),
        "setting": found.get("setting", ""),
    }


def severity_of(found: dict[str, Any]) -> str:
    identity: str = found["id"]
    if found.get("severity"):
        return str(found["severity"])
    if found.get("source") == "django":
        level = found["level"]
        own = "error" if level >= ERROR else "warning" if level >= WARNING else "notice"
        return catalogue.DJANGO_SEVERITIES.get(identity, own)
    return catalogue.RULES[identity].severity


def order(found: Finding) -> tuple[int, str, str, str, str]:
    return (
        catalogue.SEVERITIES.index(found["severity"]),
        found["id"],
        found["setting"],
        found["object"],
        found["message"],
    )


def judge(
    raw: Iterable[dict[str, Any]], ignore: Iterable[str], overrides: dict[str, str], scrub: Callable[[str], str]
) -> dict[str, Any]:
    """Sort all findings; accepted are those that the play ignores or the project silences."""
    accepted = set(ignore)
    findings: list[Finding] = []
    ignored: list[Finding] = []
    for found in raw:
        is_accepted = found["id"] in accepted or found.get("silenced")
        (ignored if is_accepted else findings).append(complete(found, overrides, scrub))
    counts = {severity: sum(found["severity"] == severity for found in findings) for severity in catalogue.SEVERITIES}
    return {"findings": sorted(findings, key=order), "ignored": sorted(ignored, key=order), "counts": counts}


def fails(counts: dict[str, int], fail_on: str) -> bool:
    if fail_on == "never":
        return False
    return any(counts[severity] for severity in catalogue.SEVERITIES[: catalogue.SEVERITIES.index(fail_on) + 1])


def summarise(subject: str, counts: dict[str, int]) -> str:
    parts = [f"{count} {severity}{'' if count == 1 else 's'}" for severity, count in counts.items()]
    return f"{subject}: {', '.join(parts[:-1])} and {parts[-1]}"


def message(subject: str, judged: dict[str, Any]) -> str:
    """Return how many findings there are, and the first of them."""
    findings = judged["findings"]
    lines = [summarise(subject, judged["counts"]), *map(line_of, findings[:SHOWN])]
    if len(findings) > SHOWN:
        lines.append(f"and {len(findings) - SHOWN} more")
    return "\n".join(lines)


def line_of(found: Finding) -> str:
    # Django puts long texts on several lines.
    place = found["setting"] or found["object"]
    told = found["message"] if not place or place in found["message"] else f"{place}: {found['message']}"
    text = " ".join(f"{found['severity']} {found['id']}: {told}".split())
    return f"{text} — {' '.join(found['hint'].split())}" if found["hint"] else text


# --- What could not be loaded ---


def explain_error(error: dict[str, Any], stage: str, options: dict[str, Any], known: Iterable[str]) -> str:
    """Say in one line why the project does not load. The caller scrubs it."""
    virtualenv, settings = options["virtualenv"], error.get("settings_module") or options["subject"]
    if stage == "django":
        if error["type"] == "ModuleNotFoundError" and error.get("module") == "django":
            return f"Django is not installed in {virtualenv}"
        return f"cannot import Django from {virtualenv}: {error['type']}: {error['message']}"
    place = f" at {error['file']}:{error['line']}" if error["file"] else ""
    if error["type"] == "SystemExit":
        return f'cannot load {settings}: the settings called sys.exit("{error["message"]}"){place}'
    causes = "".join(f", because of {cause}" for cause in error["cause"])
    lacking = missing_variable(error)
    where = ", ".join(options["environment_files"]) or "the environment"
    missing = f" (variable missing from {where})" if lacking and lacking not in known else ""
    return f"cannot load {settings}: {error['type']}: {error['message']}{place}{causes}{missing}"


def missing_variable(error: dict[str, Any]) -> str:
    """Return the environment variable without which settings do not load: os.environ, django-environ and decouple."""
    said = MISSING.match(error["message"])
    return error.get("missing") or (said and (said["environ"] or said["decouple"])) or ""


def explain_end(stage: str, loaded: bool, subject: str, timeout: int | None, status: int | None) -> str:
    """Say what became of an inspector that did not come to its end; a timeout is given if it had its time."""
    what = f"cannot {'check' if loaded else 'load'} {subject}"
    if timeout is not None:
        return f"{what}: did not finish within {timeout} s (last stage: {stage})"
    how = (
        f"ended with status {status}" if status is not None and status >= 0 else f"was ended by signal {-(status or 0)}"
    )
    return f"{what}: the interpreter {how} in stage {stage}"
