"""A, B and a foreign certificate for the tests of the edge adapters, with their keys, valid around now (RFC 5280)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from pydantic import SecretStr

NOW = datetime.now(UTC)


@dataclass(frozen=True)
class Authority:
    """A CA: its certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()


@dataclass(frozen=True)
class TrunkLeaf:
    """Leaf + intermediate as PEM, the leaf's SHA-256, and the key."""

    chain_pem: str
    sha256: str
    private_key: SecretStr
    certificate: x509.Certificate


@cache
def root() -> Authority:
    """The root that the lab's platforms trust."""
    return _authority("edge test root", None)


@cache
def trunk_leaf(label: str) -> TrunkLeaf:
    """The leaf of that label, made once per process."""
    return _leaf(NOW + timedelta(days=90))


@cache
def expired_leaf() -> TrunkLeaf:
    """A leaf whose last second was an hour ago."""
    return _leaf(NOW - timedelta(hours=1))


def _leaf(not_after: datetime) -> TrunkLeaf:
    key, issuer = ec.generate_private_key(ec.SECP256R1()), intermediate()
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        _builder("trunk.example.com", key, issuer)
        .not_valid_before(NOW - timedelta(hours=24, minutes=10))
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("trunk.example.com")]), False)
        .add_extension(x509.ExtendedKeyUsage(usages), False)
        .add_extension(_usage(ca=False), True)
        .sign(issuer.key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return TrunkLeaf(
        chain_pem=certificate.public_bytes(Encoding.PEM).decode() + issuer.pem,
        sha256=hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest(),
        private_key=SecretStr(private),
        certificate=certificate,
    )


def key_lines(one: TrunkLeaf) -> list[str]:
    """The lines of the key that give it away: all but the armour."""
    return [line for line in one.private_key.get_secret_value().splitlines() if not line.startswith("-----")]


@cache
def intermediate() -> Authority:
    """The CA below the root that issued every leaf."""
    return _authority("edge test intermediate", root())


def _authority(name: str, issuer: Authority | None) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(name, key, issuer)
        .not_valid_before(NOW - timedelta(days=30))
        .not_valid_after(NOW + timedelta(days=3650))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .add_extension(_usage(ca=True), True)
        .sign(issuer.key if issuer else key, SHA256())
    )
    return Authority(certificate, key)


def _builder(name: str, key: ec.EllipticCurvePrivateKey, issuer: Authority | None) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_key = issuer.key if issuer else key
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), False)
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )
