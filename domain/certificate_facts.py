"""Reading certificates: PEM in, public facts out. Nothing here holds or accepts a private key."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, SignatureAlgorithmOID

from domain.errors import CertificateRefused
from domain.handshakes import Record

_LABEL = re.compile(r"-----BEGIN ([^-\r\n]{1,64})-----")
_CURVES = {"secp256r1": "ec-p256", "secp384r1": "ec-p384", "secp521r1": "ec-p521"}
_PURPOSES = {ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth", ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth"}
_HASHLESS = {SignatureAlgorithmOID.ED25519: "ed25519", SignatureAlgorithmOID.ED448: "ed448"}
_UNREADABLE = (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


class CertificateFacts(Record):
    """What one certificate says, in a form that may travel anywhere: public data only.

    Hashes are 64 lower-case hex digits, `serial` is lower-case hex of even length, times are UTC. Names are normalised
    (lower case, no final dot, addresses in their short form) and sorted, so that two certificates compare as sets.
    """

    sha256: str
    spki_sha256: str
    modulus_sha256: str | None
    serial: str
    common_name: str | None
    issuer: str
    dns_names: tuple[str, ...]
    ip_addresses: tuple[str, ...]
    uris: tuple[str, ...]
    extended_key_usage: tuple[str, ...]
    key_type: str
    signature_hash: str
    not_before: datetime
    not_after: datetime

    @property
    def names(self) -> frozenset[str]:
        """Every subject alternative name, with its kind: `DNS:…`, `IP:…`, `URI:…`."""
        return frozenset(
            [f"DNS:{name}" for name in self.dns_names]
            + [f"IP:{address}" for address in self.ip_addresses]
            + [f"URI:{uri}" for uri in self.uris]
        )


def parse_chain(pem: str, what: str = "the chain") -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM text in their order, the leaf first.

    Raises `CertificateRefused` when there is none, one cannot be read, or the text holds anything but certificates,
    a private key above all. The text itself is never repeated in an error.
    """
    if "PRIVATE KEY" in pem:
        raise _unreadable(what, "holds a private key; keys stay in custody")
    labels = _LABEL.findall(pem)
    strange = sorted({label for label in labels if label != "CERTIFICATE"})
    if strange:
        raise _unreadable(what, f"holds {', '.join(strange)} besides certificates")
    if not labels:
        raise _unreadable(what, f"holds no PEM certificate ({len(pem)} characters)")
    try:
        certificates = tuple(x509.load_pem_x509_certificates(pem.encode()))
        for certificate in certificates:  # parsed lazily: what is wrong inside must come out here, not in a rule
            _ = certificate.extensions, certificate.public_key(), certificate.signature_hash_algorithm
    except _UNREADABLE:
        raise _unreadable(what, f"one of {len(labels)} PEM blocks is no certificate that can be read") from None
    if len(certificates) != len(labels):
        raise _unreadable(what, f"{len(certificates)} of {len(labels)} PEM blocks could be read")
    return certificates


def facts(pem: str) -> CertificateFacts:
    """The facts of a PEM chain's leaf. Raises `CertificateRefused` on anything that is not a certificate chain."""
    return facts_of(parse_chain(pem)[0])


def facts_of(certificate: x509.Certificate) -> CertificateFacts:
    """The facts of one certificate. Raises `CertificateRefused` when its contents cannot be read."""
    try:
        public_key = certificate.public_key()
        names = subject_alternative_names(certificate)
        return CertificateFacts(
            sha256=hashlib.sha256(certificate.public_bytes(serialization.Encoding.DER)).hexdigest(),
            spki_sha256=public_key_sha256(public_key),
            modulus_sha256=modulus_sha256(public_key),
            serial=_even_hex(certificate.serial_number),
            common_name=_common_name(certificate.subject),
            issuer=certificate.issuer.rfc4514_string(),
            dns_names=_sorted(host_name(name.value) for name in names if isinstance(name, x509.DNSName)),
            ip_addresses=_sorted(str(name.value) for name in names if isinstance(name, x509.IPAddress)),
            uris=_sorted(name.value for name in names if isinstance(name, x509.UniformResourceIdentifier)),
            extended_key_usage=extended_key_usage(certificate) or (),
            key_type=key_type(public_key),
            signature_hash=signature_hash(certificate),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
        )
    except _UNREADABLE as error:
        raise _unreadable("the certificate", f"its contents cannot be read ({type(error).__name__})") from None


def spki_sha256(der: bytes) -> str:
    """Hex SHA-256 of a SubjectPublicKeyInfo in DER: the fingerprint that a key, its CSR and its leaf share."""
    return hashlib.sha256(der).hexdigest()


def public_key_sha256(public_key: CertificatePublicKeyTypes) -> str:
    """`spki_sha256` of a public key object."""
    return spki_sha256(
        public_key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def modulus_sha256(public_key: CertificatePublicKeyTypes) -> str | None:
    """The modulus hash that guide section 2 wants logged; None for keys without a modulus (elliptic curves).

    It is what `openssl x509 -noout -modulus | openssl sha256` prints, so that an engineer can compare it by hand.
    """
    if not isinstance(public_key, rsa.RSAPublicKey):
        return None
    digits = _even_hex(public_key.public_numbers().n).upper()
    return hashlib.sha256(f"Modulus={digits}\n".encode()).hexdigest()


def key_type(public_key: CertificatePublicKeyTypes) -> str:
    """As a plan writes it, for example `rsa-2048` or `ec-p256`; also for keys that no plan may ask for."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"rsa-{public_key.key_size}"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        return _CURVES.get(public_key.curve.name, f"ec-{public_key.curve.name}")
    if isinstance(public_key, ed25519.Ed25519PublicKey):
        return "ed25519"
    return "ed448" if isinstance(public_key, ed448.Ed448PublicKey) else "unknown"


def signature_hash(certificate: x509.Certificate) -> str:
    """The hash under the signature (`sha256`), or `ed25519`/`ed448`, whose hash is part of the algorithm."""
    algorithm = certificate.signature_hash_algorithm
    if algorithm is not None:
        return algorithm.name
    return _HASHLESS.get(certificate.signature_algorithm_oid, "unknown")


def extended_key_usage(certificate: x509.Certificate) -> tuple[str, ...] | None:
    """`serverAuth`, `clientAuth`, other purposes as dotted OIDs; None without the extension."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None
    return _sorted(_PURPOSES.get(oid, oid.dotted_string) for oid in usage)


def subject_alternative_names(certificate: x509.Certificate) -> tuple[x509.GeneralName, ...]:
    """The names of the extension, as they stand; none without it."""
    try:
        return tuple(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return ()


def host_name(name: str) -> str:
    """A DNS name as it is compared: lower case, without the final dot (RFC 4343)."""
    return name.lower().removesuffix(".")


def ip_text(address: str) -> str | None:
    """An IP address in its short form, None when the text is none."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return None


def _even_hex(number: int) -> str:
    digits = f"{number:x}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"


def _common_name(name: x509.Name) -> str | None:
    values = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(values[0].value) if values else None


def _sorted(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _unreadable(what: str, seen: str) -> CertificateRefused:
    return CertificateRefused(f"{what} is not a PEM chain of certificates", violations={"PEM": seen})
