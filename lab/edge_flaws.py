"""What an edge does wrong with some certificates: half a chain, suites and versions of its own, staples, tickets."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass

from lab import openssl_context
from lab.openssl_context import OpenSslContext, Verifying
from lab.served_certificate import ServedCertificate
from lab.tls_contexts import Identity

_END = "-----END CERTIFICATE-----\n"


@dataclass(frozen=True)
class EdgeFlaws:
    """The flaws strike when one of `leaves` (SHA-256) is shown; with other certificates all is as usual.

    `tls12_suites` are the only ones for TLS 1.2. `staple` makes the OCSP response (DER) that is stapled. Without
    `session_context` sessions in which a client certificate was shown cannot be resumed, and trying is fatal.
    """

    leaves: frozenset[str] = frozenset()
    leaf_alone: bool = False
    tls12_suites: str | None = None
    tls13_only: bool = False
    staple: Callable[[ServedCertificate], bytes] | None = None
    session_context: bool = True

    def shown(self, one: ServedCertificate) -> Identity:
        """Chain and key as they are loaded."""
        if not (self.leaf_alone and one.sha256 in self.leaves):
            return one.identity
        return Identity(one.chain_pem.split(_END)[0] + _END, one.key_pem)

    def restrict(self, context: ssl.SSLContext, one: ServedCertificate) -> None:
        """Narrows a context that shows the certificate."""
        if one.sha256 not in self.leaves:
            return
        context.minimum_version = self.least_version(one)
        if self.tls12_suites is not None:
            context.set_ciphers(self.tls12_suites)

    def least_version(self, one: ServedCertificate) -> ssl.TLSVersion:
        """The lowest version that is spoken with the certificate."""
        strict = self.tls13_only and one.sha256 in self.leaves
        return ssl.TLSVersion.TLSv1_3 if strict else ssl.TLSVersion.TLSv1_2

    def need_own_server(self, one: ServedCertificate) -> bool:
        """Whether the flaw is one that Python's own TLS cannot have."""
        return one.sha256 in self.leaves and (self.staple is not None or not self.session_context)

    def own_server(self, one: ServedCertificate, client_trust_pem: str | None) -> OpenSslContext:
        """A server of the certificate with the flaws; every name that clients send gets it."""
        return openssl_context.server(
            self.shown(one),
            None if client_trust_pem is None else Verifying(client_trust_pem),
            staple=None if self.staple is None else self.staple(one),
            session_context=self.session_context,
            local_leaf=one.sha256,
        )
