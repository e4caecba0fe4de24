"""TLS contexts on pyOpenSSL, as `TlsStream` takes them: verifiers with a view of their own, and flawed servers."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509, X509Store, X509StoreFlags

from lab.openssl_object import OpenSslObject

StapleCheck = Callable[[bytes, x509.Certificate], bool]
"""Whether a staple (DER, empty when there was none) is good enough for a leaf."""


@dataclass(frozen=True)
class Verifying:
    """How a peer's certificate is verified. `clock_ahead` is how far the verifier's clock is ahead of the true one.

    With `crls` a leaf must not be listed in its issuer's. `staple` judges what a server staples. Names are not checked.
    """

    anchors_pem: str
    partial_chain: bool = False
    clock_ahead: timedelta = timedelta(0)
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    staple: StapleCheck | None = None


class OpenSslContext:
    """One context. `local_leaf` is what a server of it shows."""

    def __init__(self, context: SSL.Context, *, verifies: bool, local_leaf: str | None = None) -> None:
        self._context, self._verifies, self._local_leaf = context, verifies, local_leaf

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        server_side: bool = False,
        server_hostname: str | None = None,
        session: object = None,
    ) -> OpenSslObject:
        """One side of a connection, as `ssl.SSLContext.wrap_bio` makes it."""
        return OpenSslObject(
            self._context,
            incoming,
            outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
            verifies=self._verifies,
            local_leaf=self._local_leaf,
            session=session,
        )


def client(identity: tuple[str, str], verifying: Verifying, *, tls12_suites: str | None = None) -> OpenSslContext:
    """A client that shows `identity` (chain and key, PEM) when asked. With `tls12_suites` it speaks those alone."""
    context = _context(SSL.TLS_CLIENT_METHOD, identity, tls12_suites)
    _verify(context, verifying, SSL.VERIFY_PEER)
    check = verifying.staple
    if check is not None:
        context.set_ocsp_client_callback(lambda connection, staple, _: check(staple, _leaf(connection)))
    return OpenSslContext(context, verifies=True)


def server(
    identity: tuple[str, str],
    verifying: Verifying | None,
    *,
    tls12_suites: str | None = None,
    staple: bytes | None = None,
    session_context: bool = True,
    local_leaf: str | None = None,
) -> OpenSslContext:
    """A server that demands a client certificate if it is told how to verify one, and staples `staple` if given.

    Without `session_context` OpenSSL ends every attempt to resume a session in which a client certificate was shown
    with internal_error: a mistake that servers make.
    """
    context = _context(SSL.TLS_SERVER_METHOD, identity, tls12_suites)
    if verifying is not None:
        _verify(context, verifying, SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    else:
        context.set_options(SSL.OP_NO_TICKET)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if session_context:
        context.set_session_id(b"lab")
    if staple is not None:
        context.set_ocsp_server_callback(lambda connection, _: staple)
    return OpenSslContext(context, verifies=verifying is not None, local_leaf=local_leaf)


def _context(method: int, identity: tuple[str, str], tls12_suites: str | None) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    if tls12_suites is not None:
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(tls12_suites.encode())
    chain_pem, key_pem = identity
    leaf, *intermediates = x509.load_pem_x509_certificates(chain_pem.encode())
    context.use_certificate(leaf)
    for intermediate in intermediates:
        context.add_extra_chain_cert(intermediate)
    context.use_privatekey(load_pem_private_key(key_pem.encode(), password=None))  # type: ignore[arg-type]
    return context


def _verify(context: SSL.Context, verifying: Verifying, mode: int) -> None:
    store = context.get_cert_store()
    assert store is not None
    for anchor in x509.load_pem_x509_certificates(verifying.anchors_pem.encode()):
        store.add_cert(X509.from_cryptography(anchor))
    _constrain(store, verifying)

    def judge(connection: SSL.Connection, certificate: X509, code: int, depth: int, good: int) -> bool:
        side = connection.get_app_data()
        assert isinstance(side, OpenSslObject)
        shown = connection.get_peer_cert_chain(as_cryptography=True)
        leaf = certificate.to_cryptography() if depth == 0 else shown[0] if shown and side.server_hostname else None
        side.verifying(leaf)
        return bool(good)

    context.set_verify(mode, judge)


def _constrain(store: X509Store, verifying: Verifying) -> None:
    flags = 0
    if verifying.partial_chain:
        flags |= X509StoreFlags.PARTIAL_CHAIN
    for crl in verifying.crls:
        store.add_crl(crl)
        flags |= X509StoreFlags.CRL_CHECK
    if flags:
        store.set_flags(flags)
    if verifying.clock_ahead:
        store.set_time((datetime.now(UTC) + verifying.clock_ahead).replace(tzinfo=None))


def _leaf(connection: SSL.Connection) -> x509.Certificate:
    leaf = connection.get_peer_certificate(as_cryptography=True)
    assert leaf is not None, "the staple comes after the certificate"
    return leaf
