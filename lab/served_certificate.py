"""A certificate as an edge serves it, and the rule that picks one from a pool."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lab.tls_contexts import Identity


@dataclass(frozen=True)
class ServedCertificate:
    """Leaf and intermediates (PEM, leaf first) with the private key (PKCS#8 PEM); times are UTC."""

    chain_pem: str
    key_pem: str = field(repr=False)
    sha256: str
    not_before: datetime
    not_after: datetime

    @classmethod
    def from_pem(cls, chain_pem: str, key_pem: str) -> Self:
        """Fingerprint and validity from the first certificate of the chain. Raises ValueError on bad PEM."""
        leaf = x509.load_pem_x509_certificate(chain_pem.encode())
        return cls(
            chain_pem=chain_pem,
            key_pem=key_pem,
            sha256=hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest(),
            not_before=leaf.not_valid_before_utc,
            not_after=leaf.not_valid_after_utc,
        )

    @property
    def identity(self) -> Identity:
        """What an SSL context loads."""
        return Identity(self.chain_pem, self.key_pem)

    def valid_at(self, moment: datetime) -> bool:
        """Inside its validity, both ends included (RFC 5280 section 4.1.2.5)."""
        return self.not_before <= moment <= self.not_after


def first_valid(pool: Sequence[ServedCertificate]) -> ServedCertificate | None:
    """The first certificate of the pool that is inside its validity; None when there is none."""
    now = datetime.now(UTC)
    return next((certificate for certificate in pool if certificate.valid_at(now)), None)
