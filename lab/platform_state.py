"""What a platform stand-in remembers: registered certificates and trunks. Both APIs are windows onto this.

Names are unique; a certificate that a trunk names cannot be deleted; keys leave towards the edge only.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Protocol

from cryptography import x509

from lab.certificate_check import (
    check_complete,
    check_key,
    parse_chain,
    trust_problem,
    validity_problem,
)
from lab.served_certificate import ServedCertificate
from lab.trunk import RegisteredCertificate, Trunk
from lab.wire_time import now


class PlatformFaults(Protocol):
    """Faults that a platform shows; which are on is decided elsewhere."""

    def request_fault(self, service: str) -> int | None:
        """429 or 500 when this request is to be refused with it, otherwise None."""

    def reports_invalid(self, sha256: str) -> bool:
        """Whether health reports this certificate as invalid although it is not."""

    def metrics_empty(self) -> bool:
        """Whether the metrics have nothing to say."""

    def refuses_change(self, before: frozenset[str], after: frozenset[str]) -> bool:
        """Whether a change of a pool (fingerprints before and after) fails with an internal error."""


class NameTaken(ValueError):
    """A certificate of that name exists; `same_leaf` when it is the very certificate that was sent again."""

    def __init__(self, existing: RegisteredCertificate, *, same_leaf: bool) -> None:
        super().__init__(existing.name)
        self.existing = existing
        self.same_leaf = same_leaf


class CertificateInUse(ValueError):
    """A trunk names the certificate."""


class PlatformState:
    """Certificates and trunks of one platform. `anchors` are the roots that uploads must lead to."""

    def __init__(self, service: str, anchors: Sequence[x509.Certificate]) -> None:
        self.service = service
        self.trunks: dict[str, Trunk] = {}
        self._anchors = tuple(anchors)
        self._certificates: dict[str, RegisteredCertificate] = {}

    @property
    def certificates(self) -> tuple[RegisteredCertificate, ...]:
        """All registered certificates, oldest first."""
        return tuple(self._certificates.values())

    def certificate(self, certificate_id: str) -> RegisteredCertificate | None:
        """The certificate of that id, if any."""
        return self._certificates.get(certificate_id)

    def named(self, name: str) -> tuple[RegisteredCertificate, ...]:
        """The certificate of exactly that name, or nothing."""
        return tuple(one for one in self._certificates.values() if one.name == name)

    def register(self, name: str, chain_pem: str, key_pem: str) -> RegisteredCertificate:
        """Check and keep a certificate. Raises `UploadRefused` or `NameTaken`, and then keeps nothing."""
        chain = parse_chain(chain_pem)
        check_complete(chain, self._anchors)
        check_key(chain, key_pem)
        for existing in self.named(name):
            raise NameTaken(existing, same_leaf=existing.sha256 == chain.sha256)
        registered = RegisteredCertificate(
            id=str(uuid.uuid4()),
            name=name,
            chain=chain,
            served=ServedCertificate.from_pem(chain_pem, key_pem),
            created=now(),
        )
        self._certificates[registered.id] = registered
        return registered

    def delete(self, certificate: RegisteredCertificate) -> None:
        """Forget a certificate and its key. Raises `CertificateInUse`."""
        for trunk in self.trunks.values():
            if certificate in trunk.pool:
                raise CertificateInUse(trunk.id)
        del self._certificates[certificate.id]

    def add_trunk(self, trunk: Trunk) -> None:
        """Show a trunk through the API."""
        self.trunks[trunk.id] = trunk

    def problem(self, certificate: RegisteredCertificate) -> str | None:
        """Why the certificate is not valid now (dates, chain), or None."""
        moment = now()
        return validity_problem(certificate.chain.leaf, moment) or trust_problem(
            certificate.chain, self._anchors, moment
        )

    def id_of_leaf(self, trunk: Trunk) -> Callable[[str], str | None]:
        """A lookup from a leaf's SHA-256 to the certificate id by which this trunk knows it, or None."""
        ids = {one.sha256: one.id for one in (*self._certificates.values(), *trunk.pool)}
        return ids.get


def fingerprints(pool: Sequence[RegisteredCertificate]) -> frozenset[str]:
    """The SHA-256 fingerprints of a pool."""
    return frozenset(one.sha256 for one in pool)
