"""A root with intermediates, and leaves for the tests of the lab; P-256 throughout."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lab.served_certificate import ServedCertificate
from lab.tls_contexts import Identity

DAY = timedelta(days=1)
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


class Authority:
    """A CA certificate with its key."""

    def __init__(self, name: str, issuer: Authority | None = None) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = _name(name)
        self.issuer = issuer
        builder = _builder(self.name, (issuer or self).name, self.key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.certificate = builder.sign((issuer or self).key, hashes.SHA256())

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def issue(
        self,
        *names: str,
        usages: Sequence[x509.ObjectIdentifier] = (CLIENT, SERVER),
        not_before: datetime | None = None,
        not_after: datetime | None = None,
    ) -> ServedCertificate:
        """A leaf for DNS names, valid for a day on both sides of now unless told otherwise."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.now(UTC)
        builder = _builder(_name(names[0]), self.name, key, not_before or now - DAY, not_after or now + DAY)
        san = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
        leaf = (
            builder.add_extension(san, critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        chain = leaf.public_bytes(Encoding.PEM).decode() + (self.pem if self.issuer else "")
        key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        return ServedCertificate.from_pem(chain, key_pem)

    def identity(self, *names: str) -> Identity:
        """A leaf as an SSL context takes it."""
        return self.issue(*names).identity


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    not_before: datetime | None = None,
    not_after: datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or now - 30 * DAY)
        .not_valid_after(not_after or now + 30 * DAY)
    )
