"""Private keys as a custodian makes and reads them, and the CSR over one.

A key is unencrypted PKCS#8 PEM inside a `SecretStr`, whose repr hides it; no function here puts it into a text.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from pydantic import SecretStr

from domain.certificates import public_key_sha256
from domain.errors import RequestRefused, UnexpectedAnswer
from domain.plan import KeyType

COMMON_NAME_LIMIT = 64
"""ub-common-name (RFC 5280 appendix A.1)."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def new_key(key_type: KeyType) -> SecretStr:
    """A fresh key from the operating system's random source. RSA 3072 takes some tenths of a second."""
    key: PrivateKey
    if key_type is KeyType.EC_P256:
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=3072 if key_type is KeyType.RSA_3072 else 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return SecretStr(pem.decode())


def spki_of(secret: SecretStr) -> str:
    """Hex SHA-256 over the DER SubjectPublicKeyInfo of the key's public half."""
    return public_key_sha256(_loaded(secret).public_key())


def type_of(secret: SecretStr) -> KeyType | None:
    """The key's type; None when it is none that a trunk certificate may have."""
    key = _loaded(secret)
    if isinstance(key, rsa.RSAPrivateKey):
        return {2048: KeyType.RSA_2048, 3072: KeyType.RSA_3072}.get(key.key_size)
    return KeyType.EC_P256 if isinstance(key.curve, ec.SECP256R1) else None


def signing_request(
    secret: SecretStr, *, common_name: str, dns_names: Sequence[str], ip_addresses: Sequence[str]
) -> str:
    """A PKCS#10 request (RFC 2986) as PEM, names as SANs. Raises `RequestRefused` for names that cannot be."""
    if len(common_name) > COMMON_NAME_LIMIT:
        raise RequestRefused(
            f"a common name has at most {COMMON_NAME_LIMIT} characters",
            seen=f"{common_name!r} has {len(common_name)}",
            action="give a shorter common_name; the long name belongs into dns_names alone",
        )
    try:
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in dns_names]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in ip_addresses]
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])
    except ValueError as error:
        raise RequestRefused("a name cannot stand in a certificate", seen=str(error)) from None
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(_loaded(secret), hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def _loaded(secret: SecretStr) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(secret.get_secret_value().encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        return key
    raise UnexpectedAnswer("what custody holds is not a private key that can be read")
