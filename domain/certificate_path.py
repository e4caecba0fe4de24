"""The way from a leaf to a trust anchor (RFC 5280 section 6), intermediates untrusted, roots as anchors.

Written out instead of `cryptography.x509.verification`, which accepts web-PKI profiles only, and whose refusal does not
name the certificate that is missing. The guide's `openssl verify -CAfile intermediate.pem leaf.pem` fails on valid
chains, because it makes the intermediate an anchor and so never looks for the root.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from domain.certificate_facts import signature_hash

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)

UNVERIFIABLE = frozenset({"md5", "sha1"})

LONGEST_PATH = 10
"""Certificates on one path. Real ones have two to five; more is a loop of cross-signatures."""


@dataclass(frozen=True)
class TrustPath:
    """`certificates` from the leaf upwards, without the anchor; `anchor` is None when the way ends before one."""

    certificates: tuple[x509.Certificate, ...]
    anchor: x509.Certificate | None

    @property
    def issuers(self) -> tuple[x509.Certificate, ...]:
        """Every CA above the leaf, the anchor last."""
        return self.certificates[1:] + ((self.anchor,) if self.anchor is not None else ())


def trust_path(chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate], now: datetime) -> TrustPath:
    """The path of the chain's first certificate to an anchor: one whose CAs are valid now if there is any.

    Without an anchor, the longest path that the chain holds. Where roots (self-issued) are given, they alone are
    anchors: a CA bundle with intermediates in it must not hide that the chain was sent without them.
    """
    roots = [anchor for anchor in anchors if anchor.subject == anchor.issuer]
    paths = list(_paths((chain[0],), chain, roots or list(anchors)))
    complete = [path for path in paths if path.anchor is not None]
    valid = [path for path in complete if all(valid_at(ca, now) for ca in path.issuers)]
    return next(iter(valid or complete), None) or max(paths, key=lambda path: len(path.certificates))


def _paths(
    so_far: tuple[x509.Certificate, ...], chain: Sequence[x509.Certificate], anchors: Sequence[x509.Certificate]
) -> Iterator[TrustPath]:
    last = so_far[-1]
    for anchor in anchors:
        if issued(last, anchor):
            yield TrustPath(so_far, anchor)
    if len(so_far) < LONGEST_PATH:
        for candidate in chain:
            if candidate not in so_far and issued(last, candidate):
                yield from _paths((*so_far, candidate), chain, anchors)
    yield TrustPath(so_far, None)


def issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """True when `issuer`'s name and key stand behind the certificate's signature.

    MD5 and SHA-1 are too old to be verified here: the name decides, and the rule on signatures refuses them.
    """
    if signature_hash(certificate) in UNVERIFIABLE:
        return certificate.issuer == issuer.subject
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def valid_at(certificate: x509.Certificate, moment: datetime) -> bool:
    """True inside the validity, both ends included (RFC 5280 section 4.1.2.5)."""
    return certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc


def signing_defect(ca: x509.Certificate, below: int, *, anchor: bool) -> str | None:
    """Why this CA may not have signed the certificate below it; None when it may (RFC 5280 sections 4.2.1.3, 4.2.1.9).

    `below` counts the intermediates under it. An anchor is trusted as it is: only what it states is held against it.
    """
    constraints = _extension(ca, x509.BasicConstraints)
    if constraints is None:
        return None if anchor else "has no basicConstraints"
    if not constraints.ca:
        return "is not a CA"
    if constraints.path_length is not None and below > constraints.path_length:
        return f"allows {constraints.path_length} intermediates below it, not {below}"
    usage = _extension(ca, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return "lacks key usage keyCertSign"
    return None


def leaf_defect(leaf: x509.Certificate) -> str | None:
    """Why this certificate cannot be a trunk's: a CA, or a key that may not sign handshakes; None when it can."""
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        return "a CA certificate"
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return "key usage without digitalSignature"
    return None


def name_constraints(ca: x509.Certificate) -> x509.NameConstraints | None:
    """The names for which this CA may sign, where it says so."""
    return _extension(ca, x509.NameConstraints)


def weak_key(certificate: x509.Certificate) -> str | None:
    """The size of a key that TLS stacks refuse (RSA below 2048 bits, curves below 256), None for a strong one."""
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}" if key.key_size < 2048 else None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.key_size}" if key.key_size < 256 else None
    return None


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
