"""One TLS connection on pyOpenSSL in the shape of `ssl.SSLObject`, for what Python's `ssl` module cannot do.

A clock of one's own for verification, OCSP staples on either side, and a listener without a session id context. Every
alert is OpenSSL's own, known by its number whether it was sent or received.
"""

from __future__ import annotations

import contextlib
import hashlib
import ssl
from collections.abc import Callable
from typing import TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from lab.tls_causes import AlertSeen

_CHUNK = 65536
_FATAL = 2

T = TypeVar("T")


class OpenSslObject:
    """One side of one connection. Raises what an `ssl.SSLObject` raises, and `AlertSeen`."""

    def __init__(
        self,
        context: SSL.Context,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        server_side: bool,
        server_hostname: str | None,
        verifies: bool,
        local_leaf: str | None = None,
        session: object = None,
    ) -> None:
        """`verifies`: the context demands a certificate. `session` is one to resume, or nothing."""
        self.local_leaf = local_leaf
        self.shown_leaf: str | None = None
        self.refusal: str | None = None
        self.server_hostname = server_hostname
        self._incoming, self._outgoing = incoming, outgoing
        self._alert: int | None = None
        self._verifies, self._verified = verifies, False
        self._connection = SSL.Connection(context, None)
        self._connection.set_app_data(self)
        self._connection.set_info_callback(self._note)
        if server_side:
            self._connection.set_accept_state()
            return
        if server_hostname is not None:
            self._connection.set_tlsext_host_name(server_hostname.encode("ascii"))
        self._connection.request_ocsp()
        self._connection.set_connect_state()
        if isinstance(session, SSL.Session):
            self._connection.set_session(session)

    def do_handshake(self) -> None:
        """As far as the bytes that have come allow."""
        self._run(self._connection.do_handshake)

    def read(self, length: int = _CHUNK) -> bytes:
        """The next bytes that were decrypted."""
        return self._run(lambda: self._connection.recv(length))

    def write(self, data: memoryview) -> int:
        """Encrypts; returns how many bytes it took."""
        return self._run(lambda: self._connection.send(bytes(data)))

    def unwrap(self) -> None:
        """Sends close_notify."""
        self._run(self._connection.shutdown)

    def version(self) -> str | None:
        """`TLSv1.2` or `TLSv1.3`."""
        return self._connection.get_protocol_version_name()

    def cipher(self) -> tuple[str, str, int] | None:
        """Suite, version and bits; None before there is one."""
        name, bits = self._connection.get_cipher_name(), self._connection.get_cipher_bits()
        version = self._connection.get_cipher_version()
        return None if name is None or version is None or bits is None else (name, version, bits)

    def getpeercert(self, binary_form: bool = True) -> bytes | None:
        """DER of the leaf that the peer showed."""
        certificate = self._connection.get_peer_certificate(as_cryptography=True)
        return None if certificate is None else certificate.public_bytes(Encoding.DER)

    @property
    def session(self) -> SSL.Session | None:
        """The session to resume."""
        return self._connection.get_session()

    @property
    def session_reused(self) -> bool:
        """Whether an earlier session was resumed: then no certificate came, and none was verified."""
        return self._verifies and not self._verified

    def verifying(self, leaf: x509.Certificate | None) -> None:
        """Told by the verification: it has begun, and this is the peer's leaf as soon as that is known."""
        self._verified = True
        if leaf is not None:
            self.shown_leaf = hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest()

    def _run(self, action: Callable[[], T]) -> T:
        if data := self._incoming.read():
            self._connection.bio_write(data)
        if self._incoming.eof:
            self._connection.bio_shutdown()
        try:
            return action()
        except SSL.WantReadError:
            raise ssl.SSLWantReadError from None
        except SSL.ZeroReturnError:
            raise ssl.SSLZeroReturnError from None
        except SSL.SysCallError:
            raise ssl.SSLEOFError from None
        except SSL.Error as error:
            raise self._named(error) from None
        finally:
            with contextlib.suppress(SSL.WantReadError):
                while True:
                    self._outgoing.write(self._connection.bio_read(_CHUNK))

    def _named(self, error: SSL.Error) -> ssl.SSLError:
        if self._alert is not None:
            return AlertSeen(self._alert)
        reasons = str(error.args)
        return ssl.SSLEOFError() if "unexpected eof" in reasons else ssl.SSLError(0, reasons)

    def _note(self, connection: SSL.Connection, where: int, value: int) -> None:
        if where & SSL.SSL_CB_ALERT and value >> 8 == _FATAL and self._alert is None:
            self._alert = value & 0xFF
