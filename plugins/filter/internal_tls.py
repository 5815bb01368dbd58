# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the role internal_tls asks about certificates; here, because only the control node has the library for it."""

from __future__ import annotations

import base64
import functools
import ipaddress
import re
from datetime import datetime, timezone
from typing import Any, Callable

from ansible.errors import AnsibleFilterError

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes, serialization
except ImportError as error:  # told to who uses a filter, since plugins are also loaded to be listed
    MISSING = str(error)
else:
    MISSING = ""

# A certificate of ours is replaced when less than this part of its time is left.
RENEWED_AT = 3
# RFC 5280, 4.2.1.12
USAGES = {"server": "1.3.6.1.5.5.7.3.1", "client": "1.3.6.1.5.5.7.3.2"}
LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_name(name: Any) -> bool:
    """Tell whether it is an IP address or a host name."""
    text = str(name)
    host = re.fullmatch(rf"(?=.{{1,253}}\Z)({LABEL}\.)*{LABEL}", text) and not re.fullmatch(r"[0-9.]+", text)
    return is_address(text) or bool(host)


def same(name: str) -> str:
    """Write a name in the one way in which names can be compared."""
    return ipaddress.ip_address(name).compressed if is_address(name) else name.lower()


def alternative_names(names: list[str]) -> list[str]:
    """Write names as a certificate request does."""
    return [f"IP:{same(name)}" if is_address(name) else f"DNS:{same(name)}" for name in names]


def certificates(text: str) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(str(text).encode())
    except ValueError:
        return []


def fingerprint_of(key: Any) -> str:
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(spki)
    return digest.finalize().hex(":")


def fingerprint(private_key: str) -> str | None:
    """Return the fingerprint of a private key, as community.crypto writes it; nothing for what is none."""
    try:
        return fingerprint_of(serialization.load_pem_private_key(str(private_key).encode(), None).public_key())
    except (ValueError, TypeError):
        return None


def is_of_authority(certificate: x509.Certificate) -> bool:
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def leads_to(chain: list[x509.Certificate], authorities: list[x509.Certificate]) -> bool:
    """Tell whether a certificate was issued by one of the authorities, perhaps by way of the others in its file."""
    leaf, *others = chain
    if any(is_issued_by(leaf, each) for each in authorities):
        return True
    between = [each for each in others if is_of_authority(each) and is_issued_by(leaf, each)]
    return any(leads_to([each, *(one for one in others if one is not each)], authorities) for each in between)


def names_in(certificate: x509.Certificate) -> set[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    hosts = found.get_values_for_type(x509.DNSName)
    return {same(name) for name in hosts} | {str(each) for each in found.get_values_for_type(x509.IPAddress)}


def is_among(name: str, names: set[str]) -> bool:
    wildcard = f"*.{name.partition('.')[2]}"
    return name in names or (not is_address(name) and wildcard in names)


def usages_in(certificate: x509.Certificate) -> set[str]:
    try:
        value = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return set(USAGES)
    found = {identifier.dotted_string for identifier in value}
    return {usage for usage, identifier in USAGES.items() if identifier in found}


def outside(certificate: x509.Certificate, now: datetime) -> list[str]:
    if now < certificate.not_valid_before_utc:
        return [f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"]
    if now > certificate.not_valid_after_utc:
        return [f"has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"]
    return []


def problems(text: str, each: dict[str, Any], names: list[str], authority: str, key: str) -> list[str]:
    """Say why a certificate that somebody gives cannot be used, in words that follow its name."""
    chain = certificates(text)
    if not chain:
        return ["is no certificate in PEM"]
    leaf, now = chain[0], datetime.now(timezone.utc)
    usage = set(each.get("usage", USAGES))
    found = outside(leaf, now)
    if fingerprint(key) is None:
        found.append(f"cannot be used with {each['key']}, which is no private key in PEM without a passphrase")
    elif fingerprint(key) != fingerprint_of(leaf.public_key()):
        found.append(f"belongs to another key than {each['key']}")
    if authority and not leads_to(chain, certificates(authority)):
        found.append("was issued by none of the authorities in internal_tls_ca_certificate")
    missing = [name for name in names if "server" in usage and not is_among(same(name), names_in(leaf))]
    if missing:
        found.append(f"is not for {', '.join(missing)} (internal_tls_names), but for {_listed(names_in(leaf))}")
    if not usage <= usages_in(leaf):
        found.append(f"is good for {_listed(usages_in(leaf))} only, not for {_listed(usage)} (usage)")
    return found


def _listed(words: set[str]) -> str:
    return ", ".join(sorted(words)) or "nothing"


def shortcomings(text: str, each: dict[str, Any], names: list[str], authority: str, key: str | None) -> list[str]:
    """Say what a certificate of ours lacks; `key` is the fingerprint of its key."""
    chain = certificates(text)
    if not chain:
        return ["there is none"]
    leaf, issuer, now = chain[0], certificates(authority)[:1], datetime.now(timezone.utc)
    found = outside(leaf, now)
    if (
        not found
        and leaf.not_valid_after_utc - now < (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / RENEWED_AT
    ):
        found.append(f"it expires on {leaf.not_valid_after_utc:%Y-%m-%d}")
    if key != fingerprint_of(leaf.public_key()):
        found.append("it belongs to another key")
    if not leads_to([leaf], issuer):
        found.append("another authority issued it")
    if names_in(leaf) != {same(name) for name in names}:
        found.append(f"it is for {_listed(names_in(leaf))}")
    if usages_in(leaf) != set(each.get("usage", USAGES)):
        found.append(f"it is good for {_listed(usages_in(leaf))}")
    if is_of_authority(leaf):
        found.append("it is one of an authority")
    return found


def due(
    wanted: list[dict[str, Any]], names: list[str], authority: str, keys: dict[str, Any], present: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the certificates to sign, each with the reason."""
    found = []
    for each, key, file in zip(wanted, keys["results"], present["results"]):
        text = base64.b64decode(file.get("content", "")).decode(errors="replace")
        reasons = shortcomings(text, each, names, authority, (key.get("fingerprint") or {}).get("sha256"))
        if reasons:
            found.append({**each, "reason": f"{each['name']}: {', '.join(reasons)}"})
    return found


def unlike(results: list[dict[str, Any]], names: list[str], authority: str, keys: dict[str, Any]) -> list[str]:
    """Say which certificates were signed that are not as they should be: a host writes its request itself."""
    known = {each["each"]["name"]: each["fingerprint"]["sha256"] for each in keys["results"]}
    found = []
    for result in results:
        each = result["request"]["each"]
        lacks = shortcomings(result["certificate"], each, names, authority, known[each["name"]])
        found += [f"{each['name']}: {', '.join(lacks)}"] if lacks else []
    return found


def signed(results: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the certificates that were signed, by name."""
    return [{"name": each["request"]["each"]["name"], "content": each["certificate"]} for each in results]


def ca_problems(text: str, key: str | None = None) -> list[str]:
    """Say why an authority cannot be used, or cannot sign, in words that follow the name of its file."""
    authority = certificates(text)[:1]
    if key is not None and not key:
        return ["is not there, or empty"]
    if key is not None:
        found = fingerprint(key)
        if found is None:
            return ["is no private key in PEM without a passphrase"]
        return [] if found == fingerprint_of(authority[0].public_key()) else ["is not the key of that authority"]
    if not authority:
        return ["is no certificate in PEM"]
    expired = outside(authority[0], datetime.now(timezone.utc))
    return expired if is_of_authority(authority[0]) else [*expired, "is not the certificate of an authority (CA:TRUE)"]


def days_left(text: str) -> int:
    return (certificates(text)[0].not_valid_after_utc - datetime.now(timezone.utc)).days


def with_library(function: Callable[..., Any]) -> Callable[..., Any]:
    """Say what is missing, where it is needed."""

    @functools.wraps(function)
    def checked(*arguments: Any, **options: Any) -> Any:
        if MISSING:
            raise AnsibleFilterError(
                f"internal_tls: the control node needs cryptography, 42 or newer, from PyPI: {MISSING}"
            )
        return function(*arguments, **options)

    return checked


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        filters: dict[str, Callable[..., Any]] = {
            "internal_tls_alternative_names": alternative_names,
            "internal_tls_ca_problems": ca_problems,
            "internal_tls_days_left": days_left,
            "internal_tls_due": due,
            "internal_tls_problems": problems,
            "internal_tls_signed": signed,
            "internal_tls_unlike": unlike,
            "is_internal_tls_name": is_name,
        }
        return {name: with_library(function) for name, function in filters.items()}
