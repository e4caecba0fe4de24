"""Certificate chains made by `cryptography`, good ones and ones with exactly one thing wrong."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def key(label: str, kind: str = "ec-p256") -> Key:
    """The key of that label, made once per process."""
    return _key(label, kind)


@cache
def _key(label: str, kind: str) -> Key:
    if kind.startswith("rsa-"):
        return rsa.generate_private_key(65537, int(kind.removeprefix("rsa-")))
    return ec.generate_private_key({"ec-p256": ec.SECP256R1, "ec-p384": ec.SECP384R1, "ec-p192": ec.SECP192R1}[kind]())


RSA_SIGNATURES = bytes.fromhex("06092a864886f70d0101")
"""The OIDs of RSA signatures but for their last byte: 11 is SHA-256, 5 SHA-1, 4 MD5 (RFC 8017 appendix A.2.4)."""


@dataclass(frozen=True)
class Issuer:
    """A CA: its certificate and its key."""

    certificate: x509.Certificate
    key: Key


def pem(*certificates: x509.Certificate) -> str:
    """PEM of the certificates in that order."""
    return "".join(c.public_bytes(serialization.Encoding.PEM).decode() for c in certificates)


def spki(private: Key) -> bytes:
    """The public key as SubjectPublicKeyInfo in DER."""
    return private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def authority(
    common_name: str,
    issuer: Issuer | None = None,
    *,
    label: str | None = None,
    kind: str = "ec-p256",
    ca: bool | None = True,
    path_length: int | None = None,
    cert_sign: bool = True,
    purposes: Iterable[x509.ObjectIdentifier] = (),
    constraints: x509.NameConstraints | None = None,
    not_before: datetime = NOW - timedelta(days=30),
    not_after: datetime = NOW + timedelta(days=3650),
    digest: hashes.HashAlgorithm | None = None,
) -> Issuer:
    """A CA under `issuer`, or a self-signed root. `ca=None` leaves basicConstraints out."""
    private = key(label or common_name, kind)
    builder = _base(common_name, private, issuer, not_before, not_after)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=path_length if ca else None), True)
    builder = builder.add_extension(_usage(cert_sign=cert_sign, digital_signature=True), True)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), False)
    if constraints is not None:
        builder = builder.add_extension(constraints, True)
    signer = issuer.key if issuer is not None else private
    return Issuer(builder.sign(signer, digest or hashes.SHA256()), private)


def leaf(
    issuer: Issuer,
    *,
    label: str = "leaf",
    kind: str = "ec-p256",
    dns_names: Iterable[str] = ("trunk.example.com",),
    addresses: Iterable[str] = (),
    uris: Iterable[str] = (),
    purposes: Iterable[x509.ObjectIdentifier] = (SERVER,),
    not_before: datetime = NOW - timedelta(hours=24, minutes=10),
    not_after: datetime = NOW + timedelta(days=90),
    digest: hashes.HashAlgorithm | None = None,
    ca: bool = False,
    digital_signature: bool = True,
) -> x509.Certificate:
    """A trunk's certificate."""
    builder = _base("trunk.example.com", key(label, kind), issuer, not_before, not_after)
    names: list[x509.GeneralName] = [x509.DNSName(value) for value in dns_names]
    names += [x509.IPAddress(ipaddress.ip_address(value)) for value in addresses]
    names += [x509.UniformResourceIdentifier(value) for value in uris]
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(purposes)), False)
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), True)
    builder = builder.add_extension(_usage(cert_sign=ca, digital_signature=digital_signature), True)
    return builder.sign(issuer.key, digest or hashes.SHA256())


def resigned(certificate: x509.Certificate, issuer: Issuer, digest: hashes.SHA1 | hashes.MD5) -> x509.Certificate:
    """The certificate of an RSA issuer signed again with a hash that `cryptography` no longer issues."""
    assert isinstance(issuer.key, rsa.RSAPrivateKey)
    sha256 = RSA_SIGNATURES + b"\x0b"
    old = RSA_SIGNATURES + (b"\x05" if isinstance(digest, hashes.SHA1) else b"\x04")
    body = certificate.tbs_certificate_bytes.replace(sha256, old)
    signature = issuer.key.sign(body, padding.PKCS1v15(), digest)
    der = certificate.public_bytes(serialization.Encoding.DER)
    der = der.replace(certificate.tbs_certificate_bytes, body).replace(certificate.signature, signature)
    return x509.load_der_x509_certificate(der.replace(sha256, old))


def _base(
    common_name: str, private: Key, issuer: Issuer | None, not_before: datetime, not_after: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(issuer.certificate.subject if issuer is not None else name(common_name))
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
    )


def _usage(*, cert_sign: bool, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=not digital_signature,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=cert_sign,
        crl_sign=cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
