# Managed by Ansible (groundwork.django.nginx_tls): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether a CA would find this server under a domain. To ask it in vain counts against its limits."""

from __future__ import annotations

import http.client
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass

from settings import PROOFS, Failure

SECONDS = 5


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes
    location: str = ""


def check(domains: Iterable[str]) -> None:
    """Ask for a file, as a CA would, under each address of each domain.

    Raises:
        Failure: Names all domains that do not lead here, and where they lead.

    """
    proof = PROOFS / secrets.token_urlsafe()
    proof.write_text(secrets.token_urlsafe())
    try:
        problems = [problem for domain in domains if (problem := _problem(domain, proof.name, proof.read_bytes()))]
    finally:
        proof.unlink()
    if problems:
        raise Failure("; ".join(problems))


def _problem(domain: str, name: str, expected: bytes) -> str:
    try:
        addresses = sorted({str(found[4][0]) for found in socket.getaddrinfo(domain, 80, type=socket.SOCK_STREAM)})
    except (OSError, UnicodeError) as error:
        return f"{domain} has no address ({error}): create an A record, and with IPv6 an AAAA record, for this server"
    answers = {address: _ask(address, domain, name) for address in addresses}
    return describe(domain, answers, expected)


def _ask(address: str, domain: str, name: str) -> Answer | str:
    connection = http.client.HTTPConnection(address, 80, timeout=SECONDS)
    try:
        connection.request("GET", f"/.well-known/acme-challenge/{name}", headers={"Host": domain})
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(1000), answer.headers.get("Location", ""))
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()


def describe(domain: str, answers: dict[str, Answer | str], expected: bytes) -> str:
    """Say which addresses of a domain do not answer with what this server was to show; nothing where all do."""
    found = []
    for address, answer in answers.items():
        if isinstance(answer, str):
            found.append(f"{address} does not answer on port 80 ({answer})")
        elif answer.location:
            found.append(f"{address} redirects to {answer.location}")
        elif answer.status != http.client.OK or answer.body != expected:
            found.append(f"{address} is another web server, or another site (it answers {answer.status})")
    if not found:
        return ""
    todo = "let its A and AAAA records name this server only, and port 80 be open"
    return f"{domain} resolves to {', '.join(answers)}, but {' and '.join(found)}: {todo}"
