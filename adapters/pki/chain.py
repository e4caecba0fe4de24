"""The chain that is sent with a leaf: who signed whom, in order, without the root."""

from __future__ import annotations

from collections.abc import Iterable

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from domain.certificate_path import issued


def pem_of(certificate: x509.Certificate) -> str:
    """The certificate as PEM, ending in a newline."""
    return certificate.public_bytes(Encoding.PEM).decode()


def without_root(leaf: x509.Certificate, authorities: Iterable[x509.Certificate]) -> str:
    """PEM of the leaf and, in order, the intermediates that lead up from it; the root is the peer's to know.

    RFC 8446 section 4.4.2: each certificate certifies the one before it, and the trust anchor may be left out.
    """
    pool, chain = list(authorities), [leaf]
    while issuer := next((ca for ca in pool if ca not in chain and issued(chain[-1], ca)), None):
        if issued(issuer, issuer):
            break
        chain.append(issuer)
    return "".join(pem_of(certificate) for certificate in chain)
