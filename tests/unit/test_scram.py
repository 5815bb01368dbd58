"""The verifier is what a server computes, and what a client proves against."""

from __future__ import annotations

import hmac
from base64 import b64decode, b64encode
from hashlib import pbkdf2_hmac, sha256

import pytest

from plugins.module_utils._scram import encoded_verifier, scram_verifier

# The conversation printed in RFC 7677, section 3.
USER, PASSWORD, SALT = "user", "pencil", b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")
NONCE = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
AUTH_MESSAGE = f"n={USER},r=rOprNGfwEbeRWgbNEkqO,r={NONCE},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={NONCE}".encode()
CLIENT_PROOF = b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
SERVER_SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def keys(verifier: str) -> tuple[bytes, bytes]:
    scheme, parameters, secrets = verifier.split("$")
    assert scheme == "SCRAM-SHA-256"
    assert parameters.startswith("4096:")
    stored_key, server_key = (b64decode(part) for part in secrets.split(":"))
    return stored_key, server_key


def test_the_client_of_the_rfc_can_log_in() -> None:
    stored_key, _ = keys(encoded_verifier(PASSWORD, SALT, 4096))
    signature = hmac.digest(stored_key, AUTH_MESSAGE, "sha256")
    client_key = bytes(a ^ b for a, b in zip(CLIENT_PROOF, signature))
    assert sha256(client_key).digest() == stored_key


def test_the_server_of_the_rfc_proves_itself() -> None:
    _, server_key = keys(encoded_verifier(PASSWORD, SALT, 4096))
    assert b64encode(hmac.digest(server_key, AUTH_MESSAGE, "sha256")).decode() == SERVER_SIGNATURE


def test_the_same_password_gives_the_same_verifier_and_another_role_another() -> None:
    assert scram_verifier("secret", "shop") == scram_verifier("secret", "shop")
    assert len({scram_verifier(*case) for case in [("secret", "shop"), ("secret", "blog"), ("secret2", "shop")]}) == 3


def test_the_salt_is_not_a_fast_hash_of_the_password() -> None:
    salt = b64decode(scram_verifier("secret", "shop").split("$")[1].split(":")[1])
    assert salt == pbkdf2_hmac("sha256", b"secret", b"groundwork.django shop", 4096, 16)


@pytest.mark.parametrize("password", ["", "naïve", "tab\there", "line\n", "null\0"])
def test_a_password_on_which_clients_disagree_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        scram_verifier(password, "shop")
