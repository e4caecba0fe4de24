"""What the lab's strict servers check on a certificate chain and its key.

Written from the contract, with `cryptography` alone; the adapters have their own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\s[A-Za-z0-9+/=\s]+?-----END \1-----\s*")


class Defect(Enum):
    """Why an upload is refused; each platform has its own code for it."""

    INVALID = "invalid"
    CHAIN = "chain incomplete"
    KEY = "key mismatch"


class UploadRefused(ValueError):
    """The chain or the key is not acceptable; the text is safe to show and holds nothing of the key."""

    def __init__(self, defect: Defect, reason: str) -> None:
        super().__init__(reason)
        self.defect = defect
        self.reason = reason


@dataclass(frozen=True)
class Chain:
    """A parsed chain: leaf first, intermediates after it, no root."""

    leaf: x509.Certificate
    intermediates: tuple[x509.Certificate, ...]

    @property
    def sha256(self) -> str:
        """Hex SHA-256 over the DER of the leaf."""
        return fingerprint(self.leaf)

    @property
    def serial(self) -> str:
        """Serial number in lower-case hex."""
        return f"{self.leaf.serial_number:x}"


def fingerprint(certificate: x509.Certificate) -> str:
    """64 lower-case hex digits: SHA-256 over the DER."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def parse_chain(pem: str) -> Chain:
    """The chain in `pem`, which may hold certificates and nothing else. Raises `UploadRefused`."""
    labels = _labels(pem, "certificate")
    if set(labels) != {"CERTIFICATE"}:
        raise UploadRefused(Defect.INVALID, f"the chain holds {', '.join(sorted(set(labels)))}")
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise UploadRefused(Defect.INVALID, "the chain cannot be parsed") from None
    leaf, *intermediates = certificates
    if len({fingerprint(one) for one in certificates}) != len(certificates):
        raise UploadRefused(Defect.INVALID, "the chain holds a certificate twice")
    if any(one.subject == one.issuer for one in intermediates):
        raise UploadRefused(Defect.INVALID, "the chain holds a root; send the leaf and its intermediates only")
    for child, parent in zip([leaf, *intermediates], intermediates, strict=False):
        try:
            child.verify_directly_issued_by(parent)
        except Exception:
            raise UploadRefused(Defect.CHAIN, "a certificate is not issued by the one after it") from None
    return Chain(leaf, tuple(intermediates))


def check_complete(chain: Chain, anchors: Sequence[x509.Certificate]) -> None:
    """Raises `UploadRefused` unless the chain leads to one of `anchors`, whatever the leaf's dates."""
    now = datetime.now(UTC)
    leaf = chain.leaf
    inside = min(max(now, leaf.not_valid_before_utc), leaf.not_valid_after_utc - timedelta(seconds=1))
    problem = trust_problem(chain, anchors, inside)
    if problem is not None:
        raise UploadRefused(Defect.CHAIN, problem)


def trust_problem(chain: Chain, anchors: Sequence[x509.Certificate], at: datetime) -> str | None:
    """Why `chain` leads to none of `anchors` at that time, or None. An anchor need not be self-signed."""
    if not anchors:
        return "there is no trust anchor"
    builder = PolicyBuilder().store(Store(list(anchors))).time(at)
    intermediates = list(chain.intermediates)
    name = _first_name(chain.leaf)
    try:
        # A verifier asks for its own use (EKU); a trunk certificate is for servers, for clients, or both.
        if name is not None and _serves(chain.leaf):
            builder.build_server_verifier(name).verify(chain.leaf, intermediates)
        else:
            builder.build_client_verifier().verify(chain.leaf, intermediates)
    except (VerificationError, ValueError) as error:
        return f"no path to a trusted root: {error}"
    return None


def check_key(chain: Chain, key_pem: str) -> None:
    """Raises `UploadRefused` unless `key_pem` is one plain PKCS#8 key, and the leaf's."""
    labels = _labels(key_pem, "private key")
    if labels == ["ENCRYPTED PRIVATE KEY"]:
        raise UploadRefused(Defect.INVALID, "the private key is encrypted")
    if len(labels) != 1:
        raise UploadRefused(Defect.INVALID, f"{len(labels)} PEM blocks where one private key was expected")
    if labels != ["PRIVATE KEY"]:
        raise UploadRefused(Defect.INVALID, "the private key is not PKCS#8 (BEGIN PRIVATE KEY)")
    try:
        key = load_pem_private_key(key_pem.encode(), password=None)
    except (ValueError, TypeError):
        raise UploadRefused(Defect.INVALID, "the private key cannot be parsed") from None
    ours, theirs = (
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        for public in (key.public_key(), chain.leaf.public_key())
    )
    if ours != theirs:
        raise UploadRefused(Defect.KEY, "the private key is not the leaf's")


def validity_problem(leaf: x509.Certificate, at: datetime) -> str | None:
    """`not yet valid`, `expired`, or None when `at` lies inside the certificate's dates."""
    if at < leaf.not_valid_before_utc:
        return "not yet valid"
    if at > leaf.not_valid_after_utc:
        return "expired"
    return None


def _first_name(leaf: x509.Certificate) -> x509.DNSName | x509.IPAddress | None:
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return None
    return next((name for name in names if isinstance(name, x509.DNSName | x509.IPAddress)), None)


def _serves(leaf: x509.Certificate) -> bool:
    try:
        uses = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return ExtendedKeyUsageOID.SERVER_AUTH in uses


def _labels(pem: str, what: str) -> list[str]:
    """The labels of the PEM blocks; text outside the blocks is refused."""
    labels = [match.group(1) for match in _BLOCK.finditer(pem)]
    if not labels or _BLOCK.sub("", pem).strip():
        raise UploadRefused(Defect.INVALID, f"the {what} is not clean PEM")
    return labels
