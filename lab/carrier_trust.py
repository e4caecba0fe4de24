"""What the carrier trusts on one trunk, as SSL contexts for its handshakes in both roles."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from lab.carrier_view import CarrierView
from lab.refused_share import RefusedShare
from lab.tls_contexts import Identity, client_context, note_peer_leaf, server_context
from lab.tls_stream import TlsContext, TlsFailure, TlsStream


class _Contexts(NamedTuple):
    client: TlsContext
    server: TlsContext


class Verification:
    """One handshake that is about to happen, with the context that verifies it."""

    def __init__(self, contexts: _Contexts) -> None:
        self.client_context, self.server_context = contexts
        self.leaf_der: bytes | None = None

    def accepted(self, stream: TlsStream) -> None:
        """The handshake succeeded."""
        self.leaf_der = stream.peer_leaf_der


class CarrierTrust:
    """Trust anchors of one trunk, and the carrier's own identity. A change affects new handshakes only."""

    def __init__(self, identity: Identity, *, mutual: bool, anchors_pem: str) -> None:
        self._identity, self._mutual = identity, mutual
        self._accepted: dict[bytes, str] = {}
        self._share: RefusedShare | None = None
        self._refusing: _Contexts | None = None
        self._view: CarrierView | None = None
        self.set_anchors(anchors_pem, partial_chain=False)

    def set_anchors(self, anchors_pem: str, *, partial_chain: bool) -> None:
        """Replaces the trust anchors. With `partial_chain` they may be intermediates or leaves.

        Raises ssl.SSLError when the PEM holds no certificate.
        """
        self._anchors_pem, self._partial_chain = anchors_pem, partial_chain
        self._trusting = self._contexts(anchors_pem, partial_chain=partial_chain)

    def set_view(self, view: CarrierView | None) -> None:
        """Judges certificates in another way than usual; None: as usual again."""
        self._view = view
        self.set_anchors(self._anchors_pem, partial_chain=self._partial_chain)

    def refuse_share(self, share: float, spared_pem: str | None) -> None:
        """Refuses this share (0–1) of the handshakes on certificates that are not spared; 0 ends it.

        `spared_pem` holds leaves or their issuers. None spares every leaf that was accepted so far.
        """
        spared = "".join(self._accepted.values()) if spared_pem is None else spared_pem
        self._share = RefusedShare(share, spared) if share else None
        self._refusing = self._contexts(spared, partial_chain=True) if share else None

    @contextlib.contextmanager
    def handshake(self) -> Iterator[Verification]:
        """Chooses who is trusted for one handshake, which must happen inside."""
        share, refusing = self._share, self._refusing
        refuse = share is not None and share.begin()
        verification = Verification(refusing if refuse and refusing else self._trusting)
        refused = False
        try:
            yield verification
        except TlsFailure as failure:
            refused = failure.cause == "unknown_ca"
            raise
        finally:
            leaf_der = verification.leaf_der
            if share is not None:
                share.end(refusing=refuse, refused=refuse and refused, leaf_der=leaf_der)
            if leaf_der is not None and leaf_der not in self._accepted:
                self._accepted[leaf_der] = ssl.DER_cert_to_PEM_cert(leaf_der)

    def _contexts(self, anchors_pem: str, *, partial_chain: bool) -> _Contexts:
        identity, view = self._identity, self._view
        if view is not None and view.needs_own_tls:
            return _Contexts(
                view.client(identity, anchors_pem, partial_chain=partial_chain),
                view.server(identity, anchors_pem if self._mutual else None, partial_chain=partial_chain),
            )
        client = client_context(anchors_pem, identity=identity, partial_chain=partial_chain)
        server = server_context(
            identity, client_trust_pem=anchors_pem if self._mutual else None, partial_chain=partial_chain
        )
        note_peer_leaf(client)
        if self._mutual:
            note_peer_leaf(server)
        return _Contexts(client, server)
