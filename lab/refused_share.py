"""A fault: a peer that refuses every n-th handshake on certificates that it does not know yet."""

from __future__ import annotations

import math

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding


class RefusedShare:
    """Refuses exactly `share` (0–1) of the handshakes on certificates that are not spared; never by chance.

    Whoever verifies must decide before it sees the certificate. So each handshake asks `begin` whether it is
    to be verified with `spared_pem` as the only (partial chain) trust anchors, and tells `end` what
    certificate it was. `spared_pem` holds leaves, or intermediates that issue leaves directly.
    """

    def __init__(self, share: float, spared_pem: str) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"a share is between 0 and 1, not {share}")
        self.share = share
        self.spared_pem = spared_pem
        self._spared = x509.load_pem_x509_certificates(spared_pem.encode()) if spared_pem.strip() else []
        self._known: dict[bytes, bool] = {}
        self._seen = self._refused = self._pending = self._pending_refusals = 0

    def begin(self) -> bool:
        """True when the handshake that starts now is to be refused, unless its certificate is spared."""
        due = math.floor((self._seen + self._pending + 1) * self.share + 1e-9)
        refusing = self._refused + self._pending_refusals < due
        self._pending += 1
        self._pending_refusals += refusing
        return refusing

    def end(self, *, refusing: bool, refused: bool, leaf_der: bytes | None) -> None:
        """What became of it: `refused` by us, or the leaf that was accepted, or neither."""
        self._pending -= 1
        self._pending_refusals -= refusing
        if refused:
            self._refused += refusing
            self._seen += 1
        elif leaf_der is not None and not self._is_spared(leaf_der):
            self._seen += 1

    def _is_spared(self, leaf_der: bytes) -> bool:
        if leaf_der not in self._known:
            leaf = x509.load_der_x509_certificate(leaf_der)
            self._known[leaf_der] = any(_vouches(anchor, leaf) for anchor in self._spared)
        return self._known[leaf_der]


def _vouches(anchor: x509.Certificate, leaf: x509.Certificate) -> bool:
    if anchor.public_bytes(Encoding.DER) == leaf.public_bytes(Encoding.DER):
        return True
    try:
        leaf.verify_directly_issued_by(anchor)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
