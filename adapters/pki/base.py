"""The role `CertificateAuthority`: signs a CSR, gives the chain, revokes, tells the status."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from domain.handshakes import Record


class BackDating(StrEnum):
    """How notBefore can be set into the past."""

    ROLE = "role"
    REQUEST = "request"
    NONE = "none"


class RevocationReason(StrEnum):
    """CRLReason (RFC 5280 section 5.3.1) as far as a rotation needs it."""

    SUPERSEDED = "superseded"
    CESSATION_OF_OPERATION = "cessationOfOperation"
    KEY_COMPROMISE = "keyCompromise"


class AuthorityCapabilities(Record):
    """What an authority can do."""

    back_dating: BackDating
    revocation: bool
    ocsp: bool
    crl: bool


class RevocationStatus(Record):
    """What OCSP and CRL say about one certificate: True revoked, False good, None not to be had (with the reason)."""

    ocsp_revoked: bool | None
    crl_revoked: bool | None
    detail: str
    revoked_at: datetime | None = None


class CertificateAuthority(Protocol):
    """One PKI profile. Methods raise `domain.errors.RotatorError`s only."""

    profile: str
    capabilities: AuthorityCapabilities

    async def check_access(self) -> tuple[str, ...]:
        """Logs in and reads what signing needs; returns what is missing, in words (empty when all is there)."""
        ...

    async def back_dated_by(self) -> timedelta | None:
        """How far a certificate signed now would lie in the past; None when the authority does not tell."""
        ...

    async def trust_anchors(self) -> str:
        """PEM of the roots that carriers trust."""
        ...

    async def sign(
        self,
        csr_pem: str,
        *,
        common_name: str,
        dns_names: Sequence[str],
        ip_addresses: Sequence[str],
        lifetime: timedelta | None,
    ) -> str:
        """Signs and returns leaf + intermediates as PEM, root left out. Not idempotent: see `find_issued`."""
        ...

    async def find_issued(self, *, common_name: str, spki_sha256: str) -> tuple[str, ...]:
        """PEM chains (leaf + intermediates) of unrevoked certificates already issued for that public key."""
        ...

    async def issued(self, leaf_pem: str) -> bool:
        """True when this authority signed the certificate, decided by signature."""
        ...

    async def revoke(self, leaf_pem: str, reason: RevocationReason) -> None:
        """Revokes; revoking twice is no error. Raises `RequestRefused` when another CA issued it."""
        ...

    async def status(self, leaf_pem: str) -> RevocationStatus:
        """Asks the OCSP responder and the CRL (rotated first where the PKI allows)."""
        ...
