"""SSL contexts for SIP TLS: who is trusted, who one is, and what is learnt during the handshake."""

from __future__ import annotations

import hashlib
import ssl
import tempfile
from pathlib import Path
from typing import NamedTuple

from lab.tls_stream import HandshakeObject


class Identity(NamedTuple):
    """A certificate chain (leaf first) and its private key, both PEM. Its text shows neither."""

    chain_pem: str
    key_pem: str

    def __repr__(self) -> str:
        return "Identity(…)"


def server_context(
    identity: Identity | None, *, client_trust_pem: str | None = None, partial_chain: bool = False
) -> ssl.SSLContext:
    """A TLS server. With `client_trust_pem` it demands and verifies a client certificate (empty: of nobody).

    Without an identity it is a listener's context, whose `sni_callback` must switch to one that has an
    identity. Raises ssl.SSLError when the chain, the key or the trust store cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 1
    if client_trust_pem is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, client_trust_pem, partial_chain)
    return _finished(context, identity)


def client_context(
    trust_pem: str,
    *,
    identity: Identity | None = None,
    partial_chain: bool = False,
) -> ssl.SSLContext:
    """A TLS client that verifies chain and name, and presents `identity` when asked for a certificate.

    With `partial_chain` an intermediate or a leaf in `trust_pem` is enough; otherwise the chain must end in a
    self-signed root there. Raises ssl.SSLError when the chain, the key or the trust store cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _trust(context, trust_pem, partial_chain)
    return _finished(context, identity)


def _trust(context: ssl.SSLContext, anchors_pem: str, partial_chain: bool) -> None:
    if anchors_pem.strip():
        context.load_verify_locations(cadata=anchors_pem)
    if partial_chain:
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _finished(context: ssl.SSLContext, identity: Identity | None) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if identity is not None:
        _load(context, identity)
    return context


def _load(context: ssl.SSLContext, identity: Identity) -> None:
    """The ssl module loads keys from files only: they live for this call, in a directory of our own."""
    with tempfile.TemporaryDirectory(prefix="lab-tls-") as directory:
        chain, key = Path(directory, "chain.pem"), Path(directory, "key.pem")
        chain.write_text(identity.chain_pem)
        key.touch(mode=0o600)
        key.write_text(identity.key_pem)
        context.load_cert_chain(chain, key)


def note_peer_leaf(context: ssl.SSLContext) -> None:
    """Makes every connection of the context note the leaf that it is shown, before it is verified.

    Python tells nothing about a certificate that was refused, and a carrier must name it. This uses the ssl
    module's message callback, which is not public; where it is missing, refused handshakes stay without a
    name.
    """
    if hasattr(ssl.SSLContext, "_msg_callback"):
        context._msg_callback = _on_message  # type: ignore[attr-defined]


def _on_message(
    connection: object,
    direction: str,
    version: object,
    content_type: object,
    message_type: object,
    data: bytes,
) -> None:
    is_certificate = (content_type, message_type, direction) == (22, 11, "read")
    if is_certificate and isinstance(connection, HandshakeObject):
        connection.shown_leaf = _leaf_of(data, tls13=version == ssl.TLSVersion.TLSv1_3)


def _leaf_of(message: bytes, *, tls13: bool) -> str | None:
    """SHA-256 of the first certificate of a Certificate message (RFC 5246, 7.4.2; RFC 8446, 4.4.2)."""
    start = 4 + (1 + message[4] if tls13 else 0) + 3
    if len(message) < start + 3:
        return None
    length = int.from_bytes(message[start : start + 3], "big")
    return hashlib.sha256(message[start + 3 : start + 3 + length]).hexdigest()
