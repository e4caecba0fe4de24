"""TLS over a plain asyncio stream, on `ssl.MemoryBIO`, for both sides of the connection.

asyncio's own TLS client sends no alert when it distrusts the server, and its server tells nobody that a
handshake failed. This one does both: the alert that OpenSSL has ready is flushed and delivered before the
connection closes, and a failure carries the cause's name from the platform contract.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from typing import Self

from lab.openssl_context import OpenSslContext
from lab.openssl_object import OpenSslObject
from lab.tls_causes import failure_cause

_CHUNK = 65536
_ALERT_DELIVERY_S = 0.5
_CLOSE_S = 0.5
_CLIENT_HELLO_HEAD = 6  # record header (5 bytes) and the handshake type


class TlsFailure(Exception):
    """A handshake or an established TLS connection that failed.

    `cause` is the alert's name in lower case, or `connection_reset`, `timeout`, `other`. `client_hello` is
    false on a server when the peer left before it had sent a ClientHello. The leaves are SHA-256 over DER, as
    far as known.
    """

    def __init__(
        self,
        cause: str,
        detail: str,
        *,
        client_hello: bool = True,
        local_leaf: str | None = None,
        peer_leaf: str | None = None,
    ) -> None:
        super().__init__(f"{cause} ({detail})")
        self.cause = cause
        self.client_hello = client_hello
        self.local_leaf = local_leaf
        self.peer_leaf = peer_leaf


class HandshakeObject(ssl.SSLObject):
    """OpenSSL's side of one connection, with what callbacks learn during its handshake."""

    local_leaf: str | None = None
    """SHA-256 of the leaf that this side's certificate callback chose."""
    shown_leaf: str | None = None
    """SHA-256 of the leaf that the peer sent, known even when it was then refused."""
    refusal: str | None = None
    """Alert that this side's certificate callback answered with."""


TlsContext = ssl.SSLContext | OpenSslContext
"""Python's own, or pyOpenSSL's for what Python's cannot do."""


class TlsStream:
    """One TLS connection, made by `connect` or `accept`; one reader, `send` from anywhere."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: TlsContext,
        *,
        server_name: str | None = None,
        server_side: bool = False,
        session: object = None,
    ) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        if isinstance(context, ssl.SSLContext):
            context.sslobject_class = HandshakeObject
        tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_name,
            session=session,  # type: ignore[arg-type]  # of the kind that the context made
        )
        assert isinstance(tls, HandshakeObject | OpenSslObject)
        self._tls = tls
        self._first_bytes = b""
        self._server_side = server_side
        self._closing = False
        self._peer_leaf: str | None = None

    @classmethod
    async def connect(
        cls,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: TlsContext,
        *,
        server_name: str,
        session: object = None,
        timeout_s: float = 5.0,
    ) -> Self:
        """Client side, with SNI and name check. Raises TlsFailure; the connection is then closed."""
        stream = cls(reader, writer, context, server_name=server_name, session=session)
        await stream._negotiate(timeout_s)
        return stream

    @classmethod
    async def accept(
        cls,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        context: TlsContext,
        *,
        timeout_s: float = 5.0,
    ) -> Self:
        """Server side. Raises TlsFailure; the connection is then closed."""
        stream = cls(reader, writer, context, server_side=True)
        await stream._negotiate(timeout_s)
        return stream

    @property
    def peer_leaf(self) -> str | None:
        """SHA-256 over the DER of the peer's leaf; None without a peer certificate."""
        return self._peer_leaf

    @property
    def peer_leaf_der(self) -> bytes | None:
        """The peer's leaf; None without a peer certificate or when it was not verified."""
        return self._tls.getpeercert(binary_form=True)

    @property
    def local_leaf(self) -> str | None:
        """SHA-256 of the leaf that the server's certificate callback chose; None elsewhere."""
        return self._tls.local_leaf

    @property
    def resumed(self) -> bool:
        """True when a ticket or session was resumed: no certificate was shown."""
        return bool(self._tls.session_reused)

    @property
    def session(self) -> object:
        """The session to resume. A TLS 1.3 client has a usable one only after it has read something."""
        return self._tls.session

    @property
    def version(self) -> str | None:
        """`TLSv1.2` or `TLSv1.3`."""
        return self._tls.version()

    @property
    def cipher(self) -> str | None:
        """OpenSSL's name of the cipher suite."""
        suite = self._tls.cipher()
        return suite[0] if suite else None

    @property
    def local_address(self) -> tuple[str, int]:
        """This side's IP address and port."""
        host, port = self._writer.get_extra_info("sockname")[:2]
        return str(host), int(port)

    @property
    def peer_address(self) -> tuple[str, int]:
        """The other side's IP address and port."""
        host, port = self._writer.get_extra_info("peername")[:2]
        return str(host), int(port)

    async def read(self) -> bytes:
        """The next bytes; empty when the peer closed in whatever way. Raises TlsFailure on an alert."""
        while True:
            try:
                return self._tls.read(_CHUNK)
            except ssl.SSLWantReadError:
                self._push()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""
            except ssl.SSLError as error:
                raise self._failure(error) from error
            try:
                await self._pull()
            except OSError as error:
                raise self._failure(error) from error

    def send(self, data: bytes) -> None:
        """Encrypts and hands to the socket without waiting; meant for messages far smaller than its buffer.

        Raises ConnectionResetError when the connection is closed or closing.
        """
        if self._closing or self._writer.is_closing():
            raise ConnectionResetError("the TLS connection is closed")
        view = memoryview(data)
        try:
            while view:
                view = view[self._tls.write(view) :]
        except ssl.SSLError as error:
            raise ConnectionResetError("the TLS connection has failed") from error
        self._push()

    async def close(self) -> None:
        """Sends close_notify and closes the socket. May be called more than once; never raises."""
        if not self._closing:
            self._closing = True
            with contextlib.suppress(ssl.SSLError):
                self._tls.unwrap()
            self._push()
        await _close(self._writer)

    def abort(self) -> None:
        """Drops the connection at once, without close_notify."""
        self._closing = True
        self._writer.transport.abort()

    async def _negotiate(self, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                await self._handshake()
        except (ssl.SSLError, OSError) as error:
            failure = self._failure(error)
            await self._deliver_alert()
            raise failure from error
        except BaseException:
            self.abort()
            raise
        self._peer_leaf = self._tls.shown_leaf or _sha256(self._tls.getpeercert(binary_form=True))

    async def _handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push()
                await self._pull()
            else:
                self._push()
                return

    async def _pull(self) -> None:
        data = await self._reader.read(_CHUNK)
        if len(self._first_bytes) < _CLIENT_HELLO_HEAD:
            self._first_bytes += data[:_CLIENT_HELLO_HEAD]
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _push(self) -> None:
        if (data := self._outgoing.read()) and not self._writer.is_closing():
            self._writer.write(data)

    async def _deliver_alert(self) -> None:
        """Flushes the alert and waits for the peer to close: closing over unread data destroys it (RST)."""
        try:
            self._push()
            if self._writer.can_write_eof():
                self._writer.write_eof()
            async with asyncio.timeout(_ALERT_DELIVERY_S):
                while await self._reader.read(_CHUNK):
                    pass
        except OSError:
            pass
        finally:
            self.abort()
        await _close(self._writer)

    def _failure(self, error: BaseException) -> TlsFailure:
        cause = self._tls.refusal or failure_cause(error)
        if cause == "certificate_required" and self._server_side and not self._is_tls13():
            cause = "handshake_failure"  # certificate_required exists since TLS 1.3
        detail = getattr(error, "reason", None) or type(error).__name__
        return TlsFailure(
            cause,
            str(detail),
            client_hello=not self._server_side or _is_client_hello(self._first_bytes),
            local_leaf=self._tls.local_leaf,
            peer_leaf=self._tls.shown_leaf,
        )

    def _is_tls13(self) -> bool:
        """Before the handshake is complete only the cipher suite tells, and of TLS 1.3 only."""
        suite = self._tls.cipher()
        return suite is not None and suite[1] == "TLSv1.3"


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        async with asyncio.timeout(_CLOSE_S):
            await writer.wait_closed()
    writer.transport.abort()


def _is_client_hello(first_bytes: bytes) -> bool:
    return len(first_bytes) >= _CLIENT_HELLO_HEAD and first_bytes[0] == 0x16 and first_bytes[5] == 0x01


def _sha256(der: bytes | None) -> str | None:
    return hashlib.sha256(der).hexdigest() if der else None
