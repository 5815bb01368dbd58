# Managed by Ansible (groundwork.django.nginx_tls): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the refusals of a CA mean for the operator."""

from __future__ import annotations

import email.utils

from settings import ACCOUNT, moment

# Where a CA does not say when to come back.
PAUSE_SECONDS = 3600
Problem = tuple[str, str]

TRY_STAGING = "to try things out, set nginx_tls_acme_staging"
ADVICE = {
    "caa": "let the CAA record in DNS name this CA, or use the one that it names",
    "connection": "let port 80 be open to the whole internet",
    "dns": "correct the records of the domain",
    "externalAccountRequired": "set nginx_tls_acme_eab to what this CA has given you",
    "invalidContact": "correct nginx_tls_acme_email",
    "rejectedIdentifier": "this CA makes no certificate for such a name",
    "unsupportedContact": "correct nginx_tls_acme_email",
    "unauthorized": "let the records of the domain name this server only",
    "userActionRequired": "do what it asks for",
}
ADVICE_ACCOUNT = {
    **ADVICE,
    "accountDoesNotExist": "it is made again the next time",
    "unauthorized": f"if it is the account that is refused, rm {ACCOUNT} lets the next run make a new one",
}


def resume(retry_after: str, now: float) -> float:
    """Return when a CA may be asked again, by its header Retry-After."""
    if retry_after.isdigit():
        return now + int(retry_after)
    try:
        return email.utils.parsedate_to_datetime(retry_after).timestamp()
    except ValueError:
        return now + PAUSE_SECONDS


def explain(problems: list[Problem], advice: dict[str, str], until: float = 0) -> str:
    """Say why a CA has refused, and what to do."""
    details = "; ".join(f"{detail} ({code})" for code, detail in problems)
    if until:
        return (
            f"the CA has been asked too often: {details}: it is not asked again before {moment(until)}; {TRY_STAGING}"
        )
    todo = "; ".join(dict.fromkeys(advice[code] for code, _detail in problems if code in advice))
    return f"the CA refuses: {details}" + (f": {todo}" if todo else "")


def unreachable(server: str, error: Exception) -> str:
    return f"the CA cannot be used at {server} ({str(error)[:300]}): see whether this server reaches it"
