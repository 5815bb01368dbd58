"""Certificates as others make them: near their end, for other names, of another authority."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


class Pair(NamedTuple):
    """A certificate and its key."""

    certificate: x509.Certificate
    key: Any

    @property
    def text(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    @property
    def key_text(self) -> str:
        kind, nothing = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return str(self.key.private_bytes(serialization.Encoding.PEM, kind, nothing).decode())

    def save(self, stem: Path) -> None:
        stem.with_suffix(".crt").write_text(self.text)
        stem.with_suffix(".key").write_text(self.key_text)


def read(certificate: Path, key: Path) -> Pair:
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    return Pair(found, serialization.load_pem_private_key(key.read_bytes(), None))


def address(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def usages(*, signs: bool) -> x509.KeyUsage:
    names = "content_commitment key_encipherment data_encipherment key_agreement encipher_only decipher_only".split()
    return x509.KeyUsage(
        digital_signature=not signs, key_cert_sign=signs, crl_sign=signs, **dict.fromkeys(names, False)
    )


def made(
    issuer: Pair | None = None,
    *,
    names: tuple[str, ...] = (),
    days: tuple[int, int] = (-1, 365),
    usage: tuple[Any, ...] = (SERVER, CLIENT),
    key: str | None = None,
) -> Pair:
    """Make a certificate for names, or that of an authority where there are none."""
    own: Any = (
        serialization.load_pem_private_key(key.encode(), None) if key else ec.generate_private_key(ec.SECP256R1())
    )
    signer = issuer.key if issuer else own
    now = datetime.now(timezone.utc)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody" if names else "authority")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=days[0]))
        .not_valid_after(now + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(not names, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(usages(signs=not names), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(map(address, names)), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usage), critical=False)
    return Pair(builder.sign(signer, hashes.SHA256()), own)
