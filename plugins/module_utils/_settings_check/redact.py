# Copyright: the groundwork.django authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What is secret in settings and in an environment, and how it is kept out of everything that is shown.

Django's own filter goes by names alone: it shows the password in a DATABASE_URL, and hides AUTH_USER_MODEL.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from string import ascii_lowercase, ascii_uppercase
from typing import Any
from urllib.parse import quote, unquote, urlsplit

# Shorter than a run that is looked for, so that no mask can make one.
MASK = "***"
RUN = 5

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_SECRET_WORD = re.compile(
    r"KEYS?|PASS|PWD?|PINS?|SALTS?|SK|SIGNATURE|FERNET|AUTHORIZATION|BASICAUTH|WEBHOOKS?"
    r"|\w*(?:PASSW|PASSPHRASE|PASSCODE|SECRET|CREDENTIAL|TOKEN(?!IZ))\w*"
    r"|\w*(?:API|ACCESS|AUTH|ENCRYPTION|MASTER|PRIVATE|SIGNING)KEYS?"
    r"|\w*(?:DB|PG|MAIL|SMTP|USER|ROOT|ADMIN|REDIS|SQL)(?:PASS|PWD?)"
)
# What only carries a secret in such company; REST_AUTH and SESSION_COOKIE are dictionaries and names.
_SECRET_ENDS = {"AUTH": {"", "BASIC", "DIGEST", "EMAIL", "HTTP", "PROXY", "SMTP"}, "COOKIE": {"", "HTTP"}}
_PUBLIC_KEYS = {"FOREIGN", "PRIMARY", "PUBLIC", "PUBLISHABLE"}
# A name that ends so tells something about a secret: its length, its class, where it is.
_ABOUT = set(
    """
    AGE ALGORITHM ALGORITHMS ALLOWED AUDIENCE BACKEND BACKENDS CHECK CHECKS CLASS CLASSES COUNT DAYS DIR DOMAIN ENABLED
    EXPIRATION EXPIRE EXPIRES EXPIRY FIELD FIELDS FILE FILENAME FORM FORMAT FORMS FUNCTION GENERATOR HANDLER HASHER
    HASHERS HEADER HOURS HTTPONLY ISSUER LENGTH LIFETIME LIMIT MAX METHOD METHODS MIDDLEWARE MIN MINUTES MODEL MODELS
    MODULE NAME PATH PREFIX REQUIRED ROOT ROTATION SAMESITE SECONDS SECURE SERIALIZER SERIALIZERS SIZE TEMPLATE TIMEOUT
    TTL TYPE TYPES URI URL URLS VALIDATOR VALIDATORS VERSION VIEW VIEWS
    """.split()
)

_URL = re.compile(r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{0,30}://")
_END_OF_URL_IN_TEXT = re.compile(r"[\s\"'<>]|$")
_END_OF_URL_IN_LIST = re.compile(r"[\s;,|]+(?=[A-Za-z][A-Za-z0-9+.-]{0,30}://)|\s*$")
_AUTHORITY = re.compile(r"[^/?#]*")
# A user name this long, with a digit, is none.
_TOKEN_AS_USER = re.compile(r"(?=.*\d).{16,}")

# Pairs as in a query, a connection string or a call, and as in JSON or what Python shows of a dictionary.
_NAME = re.compile(r"""(?<![\w.-])([A-Za-z_][\w.-]{0,80})(?:[ \t]{0,3}=|["'][ \t]{0,3}:)[ \t]{0,3}""")
_VALUE = re.compile(r"""'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)"|([^\s&;]+)""", re.DOTALL)

# The secret is what the one group holds.
_SHAPES = [
    re.compile(pattern, re.DOTALL)
    for pattern in (
        r"(-----BEGIN (?!CERTIFICATE|PUBLIC|X509)[A-Z0-9 ]*-----.*?(?:-----END [A-Z0-9 ]*-----|\Z))",
        r"(?<![A-Za-z0-9])([sr]k_(?:live|test)_\w{8,}|whsec_\S{8,}|sk-[\w-]{16,}|gh[opsur]_\w{16,}|github_pat_\w{16,})",
        r"(?<![A-Za-z0-9])(glpat-[\w-]{16,}|xox[abeprs]-[\w-]{8,}|shp[a-z]{2}_\w{16,}|hf_\w{16,}|npm_\w{16,})",
        r"(?<![A-Za-z0-9])((?:AKIA|ASIA)[A-Z0-9]{16}|AIza[\w-]{35}|SG\.[\w-]{16,}\.[\w-]{16,}|dop_v1_\w{16,})",
        r"(?<![A-Za-z0-9])(pypi-[\w-]{16,}|ya29\.[\w-]{16,}|AGE-SECRET-KEY-\w{16,}|django-insecure-\S{8,})",
        r"(?<![A-Za-z0-9])(eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)",
        r"(?<!\d)(\d{6,12}:[A-Za-z0-9_-]{30,})",
        r"(?:\bhooks?\.[\w.-]{1,80}|/webhooks?)/((?=[^\s\"']{0,200}\d)[^\s\"']{16,})",
        r"\bBearer\s+([\w.~+/=-]{8,})",
        r"^(?:Basic|Token)\s+(\S{8,})$",
        r"^([A-Za-z0-9_-]{43}=)$",
    )
]
# What everybody knows of a secret: without it, "django" would be masked wherever it stands.
_WELL_KNOWN = re.compile(r"-----(?:BEGIN|END) [A-Z0-9 ]*-----|\bdjango-insecure-|\b(?:Bearer|Basic|Token)\s")
# Host names come back from libraries in lower case. The length of a text must not change, so this is for ASCII alone.
_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)

Span = tuple[int, int]


def is_secret_name(name: str, patterns: Sequence[str] = ()) -> bool:
    """Say whether what is called so is secret; `patterns` are regular expressions for more such names."""
    if any(re.search(pattern, name, re.IGNORECASE) for pattern in patterns):
        return True
    words = [word.upper() for word in _WORD.findall(name)]
    if not words:
        return False
    last, before = words[-1], words[-2] if len(words) > 1 else ""
    if last in _ABOUT:
        return "WEBHOOK" in words
    if before in _PUBLIC_KEYS and last in ("KEY", "KEYS"):
        return False
    return before in _SECRET_ENDS.get(last, ()) or any(_SECRET_WORD.fullmatch(word) for word in words)


def is_secret_path(path: str, patterns: Sequence[str] = ()) -> bool:
    """Say the same of a dotted path: what is inside of a secret is secret."""
    return any(is_secret_name(part, patterns) for part in path.split("."))


def redact(name: str, value: Any, patterns: Sequence[str] = ()) -> Any:
    """Return a serialised value with stars for what is secret in it, however deep."""
    return _redacted(value, patterns, is_secret_name(name, patterns))


def _redacted(value: Any, patterns: Sequence[str], hidden: bool) -> Any:
    if isinstance(value, Mapping):
        return {
            _masked(str(key), patterns): _redacted(item, patterns, hidden or is_secret_name(str(key), patterns))
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_redacted(item, patterns, hidden) for item in value]
    if value is None or isinstance(value, bool) or value == "":
        return value
    if hidden:
        return MASK
    return _masked(value, patterns) if isinstance(value, str) else value


def secret_values(
    settings: Mapping[str, Any], environment: Mapping[str, str], patterns: Sequence[str] = ()
) -> set[str]:
    """Collect all secrets, those in URLs as they stand there and as they are meant."""
    found = {*_secrets_in(settings, patterns, hidden=False), *_secrets_in(environment, patterns, hidden=False)}
    return found | {unquote(secret) for secret in found}


def _secrets_in(value: Any, patterns: Sequence[str], hidden: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _secrets_in(str(key), patterns, hidden=False)
            yield from _secrets_in(item, patterns, hidden or is_secret_name(str(key), patterns))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _secrets_in(item, patterns, hidden)
    elif value is None or isinstance(value, bool) or value == "":
        return
    elif hidden:
        yield str(value)
    elif isinstance(value, str):
        yield from (value[start:end] for start, end in _spans(value, patterns, _END_OF_URL_IN_LIST))


class Scrubber:
    """Takes secrets, and pieces of them, out of free text: a library may have cut one at any place."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._pieces = {
            form[start : start + RUN].translate(_LOWER)
            for secret in secrets
            for part in _WELL_KNOWN.split(secret)
            for form in (part, quote(part, safe="", errors="replace"))
            for start in range(len(form) - RUN + 1)
        }

    def scrub(self, text: str) -> str:
        """Mask each run of five or more characters that a secret has too, and what looks like a secret by itself."""
        text = _mask(text, _spans(text, (), _END_OF_URL_IN_TEXT))
        # What is on both sides of a mask could come together to a new run. The text gets shorter each time.
        while True:
            spans = self._runs(text)
            if not spans:
                return text
            text = _mask(text, spans)

    def _runs(self, text: str) -> list[Span]:
        text = text.translate(_LOWER)
        pieces = self._pieces
        starts = [start for start in range(len(text) - RUN + 1) if text[start : start + RUN] in pieces]
        return [(start, start + RUN) for start in starts]


def _masked(text: str, patterns: Sequence[str]) -> str:
    return _mask(text, _spans(text, patterns, _END_OF_URL_IN_LIST))


def _mask(text: str, spans: Iterable[Span]) -> str:
    parts: list[str] = []
    done = 0
    for start, end in sorted(spans):
        if start > done or not parts:
            parts += [text[done:start], MASK]
        done = max(done, end)
    return "".join([*parts, text[done:]])


def _spans(text: str, patterns: Sequence[str], end_of_url: re.Pattern[str]) -> list[Span]:
    """Find what is secret by its shape."""
    found = [match.span(1) for shape in _SHAPES for match in shape.finditer(text)]
    found += _pair_spans(text, patterns)
    position = 0
    url = _URL.search(text)
    while url:
        end = end_of_url.search(text, url.end())
        position = end.start() if end else len(text)
        found += [
            (url.end() + start, url.end() + stop) for start, stop in _url_spans(url[0], text[url.end() : position])
        ]
        url = _URL.search(text, position)
    return [span for span in found if span[0] < span[1]]


def _pair_spans(text: str, patterns: Sequence[str]) -> Iterator[Span]:
    position = 0
    while True:
        name = _NAME.search(text, position)
        if not name:
            return
        position = name.end()
        # Only a secret value is passed over: in any other, there may be another pair.
        value = _VALUE.match(text, position) if is_secret_name(name[1], patterns) else None
        if value:
            yield value.span(value.lastindex or 0)
            position = value.end()


def _url_spans(scheme: str, rest: str) -> list[Span]:
    """Find the password of a URL, or take all of it for secret if nobody can tell where the password ends."""
    authority = _AUTHORITY.match(rest)
    length = authority.end() if authority else 0
    userinfo = rest[:length].rpartition("@")[0]
    is_web = scheme.lower().endswith(("http://", "https://", "ws://", "wss://"))
    if "@" in rest[length:] and (userinfo or not is_web):
        return [(0, len(rest))]
    try:
        # Only asking for the port looks at it.
        urlsplit(scheme + rest).port  # noqa: B018
    except ValueError:
        return [(0, len(rest))] if "@" in rest else []
    user, colon, _password = userinfo.partition(":")
    if colon:
        return [(len(user) + 1, len(userinfo))]
    return [(0, len(user))] if is_web or _TOKEN_AS_USER.fullmatch(user) else []
