# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What PostgreSQL stores of a SCRAM-SHA-256 password (RFC 5802 and 7677), computed away from the server."""

from __future__ import annotations

import hmac
from base64 import b64encode
from hashlib import pbkdf2_hmac, sha256

ITERATIONS = 4096  # PostgreSQL's default, and the least that RFC 7677 allows
SALT_BYTES = 16


def scram_verifier(password: str, role: str) -> str:
    """Return the verifier of a role's password in the notation of pg_authid; the same input gives the same text.

    The salt comes from a slow hash of the password under the name of the role. So it differs between roles, and
    finding a password by its salt takes as long as finding it by its verifier.
    """
    salt = pbkdf2_hmac("sha256", prepared(password), b"groundwork.django " + role.encode(), ITERATIONS, SALT_BYTES)
    return encoded_verifier(password, salt, ITERATIONS)


def encoded_verifier(password: str, salt: bytes, iterations: int) -> str:
    salted = pbkdf2_hmac("sha256", prepared(password), salt, iterations)
    stored_key = sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    texts = [b64encode(part).decode() for part in (salt, stored_key, server_key)]
    return "SCRAM-SHA-256${}:{}${}:{}".format(iterations, *texts)


def prepared(password: str) -> bytes:
    """Return the password as SASLprep would; refuse those on which clients disagree."""
    if not password or not password.isascii() or not password.isprintable():
        raise ValueError("a PostgreSQL password must be printable ASCII characters only, and at least one of them")
    return password.encode("ascii")
