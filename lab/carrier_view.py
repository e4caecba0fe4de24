"""How a carrier judges our certificate beyond its trust anchors: its clock, its CRLs, the names and staples wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lab import openssl_context
from lab.openssl_context import OpenSslContext, Verifying
from lab.staples import is_fresh_and_good
from lab.tls_contexts import Identity

OTHER_NAME = "other.trunk.example"


@dataclass(frozen=True)
class CarrierView:
    """What is not as usual. On the leaves `other_name_on` (SHA-256) the carrier expects `OTHER_NAME`.

    As a client it expects it of a listener that shows one of them by `shown_on` (port to leaf): it was told of B, and
    configured the name. It demands a staple on the leaves `staple_on`, and consults `crls` for every leaf. With
    `tls12_suites` it speaks TLS 1.2 with these alone. It resumes sessions in which one of `resumes_on` was shown.
    """

    clock_ahead: timedelta = timedelta(0)
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    staple_on: frozenset[str] = frozenset()
    other_name_on: frozenset[str] = frozenset()
    shown_on: Callable[[int], str | None] = lambda port: None
    tls12_suites: str | None = None
    resumes_on: frozenset[str] = frozenset()

    @property
    def needs_own_tls(self) -> bool:
        """Whether Python's own TLS cannot have this view."""
        return bool(self.clock_ahead or self.crls or self.staple_on or self.tls12_suites or self.resumes_on)

    def name_expected(self, port: int, usual: str) -> str:
        """The name that the certificate on a listener must bear."""
        return OTHER_NAME if self.shown_on(port) in self.other_name_on else usual

    def client(self, identity: Identity, anchors_pem: str, *, partial_chain: bool) -> OpenSslContext:
        """What the carrier dials with."""
        return openssl_context.client(
            identity, self._verifying(anchors_pem, partial_chain), tls12_suites=self.tls12_suites
        )

    def server(self, identity: Identity, anchors_pem: str | None, *, partial_chain: bool) -> OpenSslContext:
        """What it answers with. Without anchors it demands no certificate."""
        verifying = None if anchors_pem is None else self._verifying(anchors_pem, partial_chain)
        return openssl_context.server(identity, verifying, tls12_suites=self.tls12_suites)

    def _verifying(self, anchors_pem: str, partial_chain: bool) -> Verifying:
        return Verifying(
            anchors_pem,
            partial_chain=partial_chain,
            clock_ahead=self.clock_ahead,
            crls=self.crls,
            staple=self._stapled if self.staple_on else None,
        )

    def _stapled(self, staple: bytes, leaf: x509.Certificate) -> bool:
        return _sha256(leaf) not in self.staple_on or is_fresh_and_good(staple, leaf)


def _sha256(leaf: x509.Certificate) -> str:
    return hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest()


@dataclass
class Views:
    """The view as several faults make it together; each adds fields under its own name and takes them away again."""

    _parts: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def set(self, fault: str, on: bool, **fields: Any) -> CarrierView | None:
        """The whole view after the change; None when nothing is unusual any more."""
        self._parts.pop(fault, None)
        if on:
            self._parts[fault] = fields
        merged = {name: value for part in self._parts.values() for name, value in part.items()}
        return CarrierView(**merged) if merged else None
