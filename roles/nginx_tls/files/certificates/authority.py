# Managed by Ansible (groundwork.django.nginx_tls): changes made here are overwritten.
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A certificate authority that speaks ACME (RFC 8555), by certbot's library for it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import certificate
import josepy
import requests
from acme import challenges, client, errors, messages
from refusals import ADVICE, ADVICE_ACCOUNT, explain, resume, unreachable
from settings import ACCOUNT, PROOFS, Failure, Settings

SECONDS = 20
# For the CA to look at all domains, and to sign.
ORDER_SECONDS = 180
RETRIES = 10


class Network(client.ClientNetwork):  # type: ignore[misc]  # the library is not typed where this is checked
    def post(self, *arguments: Any, **options: Any) -> requests.Response:
        """Ask again, and not only once as the library does, when a CA does not accept a nonce of its own."""
        for _attempt in range(RETRIES):
            try:
                return super().post(*arguments, **options)
            except messages.Error as error:
                if error.code != "badNonce":
                    raise
        return super().post(*arguments, **options)


class Authority:
    def __init__(self, settings: Settings) -> None:
        """Find the account of this server, or make one.

        Raises:
            Failure: The CA does not answer, or will have nothing to do with this server.

        """
        self.server = settings.server
        self.retry_after = ""
        self.key = josepy.JWKRSA.load(_account_key())
        verify = settings.ca_file or True
        net = Network(self.key, verify_ssl=verify, user_agent="groundwork.django.nginx_tls", timeout=SECONDS)
        net.session.hooks["response"].append(self._note_pause)
        with self._explained(ADVICE_ACCOUNT):
            self.client = client.ClientV2(client.ClientV2.get_directory(self.server, net), net)
            self._sign_in(settings.email)

    def _note_pause(self, response: requests.Response, **_options: object) -> None:
        self.retry_after = response.headers.get("Retry-After", "")

    def _sign_in(self, address: str) -> None:
        """Ask for the account each time: so one that a CA has forgotten is simply made again."""
        try:
            self.client.new_account(messages.NewRegistration(only_return_existing=True))
        except errors.ConflictError as known:
            account = messages.RegistrationResource(body=messages.Registration(), uri=known.location)
            self.client.net.account = account
        except messages.Error as error:
            if error.code != "accountDoesNotExist":
                raise
            binding = self._binding()
            new = messages.NewRegistration.from_data(
                email=address or None, terms_of_service_agreed=True, external_account_binding=binding
            )
            self.client.new_account(new)

    def _binding(self) -> Any:
        """Return what ties this account to one that the CA knows already."""
        file = Path(os.environ.get("CREDENTIALS_DIRECTORY", "/nowhere"), "eab")
        if not file.exists():
            return None
        given = json.loads(file.read_text())
        return messages.ExternalAccountBinding.from_data(
            self.key.public_key(), given["kid"], given["hmac_key"], self.client.directory
        )

    def issue(self, domains: list[str]) -> str:
        """Return a certificate with its chain and its key.

        Raises:
            Failure: There is none.

        """
        key, request = certificate.request(domains)
        with self._explained(ADVICE_ACCOUNT):
            order = self.client.new_order(request.encode())
        with self._explained(ADVICE):
            for authorization in order.authorizations:
                if authorization.body.status == messages.STATUS_PENDING:
                    self._prove(authorization)
            deadline = datetime.now() + timedelta(seconds=ORDER_SECONDS)  # noqa: DTZ005 - the library wants it so
            order = self.client.poll_and_finalize(order, deadline)
        return str(order.fullchain_pem).strip() + "\n" + key

    def _prove(self, authorization: Any) -> None:
        offered = [each for each in authorization.body.challenges if isinstance(each.chall, challenges.HTTP01)]
        if not offered:
            raise Failure(f"the CA offers no HTTP-01 for {authorization.body.identifier.value}: use another CA")
        response, proof = offered[0].response_and_validation(self.key)
        (PROOFS / offered[0].chall.encode("token")).write_text(proof)
        self.client.answer_challenge(offered[0], response)

    @contextmanager
    def _explained(self, advice: dict[str, str]) -> Iterator[None]:
        try:
            yield
        except messages.Error as error:
            raise self._refusal([("", error)], advice) from error
        except errors.IssuanceError as error:
            raise self._refusal([("", error.error)], advice) from error
        except errors.ValidationError as error:
            found = [
                (authorization.body.identifier.value, challenge.error)
                for authorization in error.failed_authzrs
                for challenge in authorization.body.challenges
                if challenge.error is not None
            ]
            raise self._refusal(found, advice) from error
        except errors.TimeoutError as error:
            raise Failure(f"the CA has not decided within {ORDER_SECONDS} seconds: it is asked again later") from error
        except requests.exceptions.SSLError as error:
            raise Failure(f"{unreachable(self.server, error)}, or set nginx_tls_acme_ca_bundle") from error
        except (requests.RequestException, ValueError) as error:
            raise Failure(unreachable(self.server, error)) from error
        except (errors.Error, josepy.errors.Error) as error:
            todo = "see whether that is the URL of an ACME directory, and try again later"
            raise Failure(f"the CA's answer is not understood at {self.server} ({str(error)[:300]}): {todo}") from error

    def _refusal(self, problems: list[tuple[str, Any]], advice: dict[str, str]) -> Failure:
        told = []
        for domain, problem in problems:
            parts = [(domain, problem), *((each.identifier.value, each) for each in problem.subproblems or ())]
            told += [(_code(each), f"{name}: " * bool(name) + str(each.detail)) for name, each in parts]
        until = resume(self.retry_after, time.time()) if told[0][0] == "rateLimited" else 0
        return Failure(explain(told, advice, until), until)


def _code(problem: Any) -> str:
    return str(problem.typ).rpartition(":")[2]


def _account_key() -> bytes:
    if not ACCOUNT.exists():
        new = ACCOUNT.with_suffix(".new")
        subprocess.run(["openssl", "genrsa", "-out", str(new), "2048"], capture_output=True, check=True)
        new.replace(ACCOUNT)
    return ACCOUNT.read_bytes()
