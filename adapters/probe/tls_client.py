"""The client's side of one fresh TLS connection, on pyOpenSSL's memory BIOs over an asyncio socket.

Neither asyncio's TLS nor the `ssl` module tells which certificate was served when it was refused, and asyncio's client
sends no alert. Here the verification callback sees the chain as it came, OpenSSL's own alert goes out, and the alerts
that come in are known by number.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from OpenSSL.crypto import X509

from adapters.probe.sessions import resumption_of
from adapters.probe.tls_causes import alert_name, distrust
from domain.errors import SettingsInvalid
from domain.probed import Distrust, Resumption

_CHUNK: Final = 65536
_ALERT_DELIVERY_S: Final = 0.2

T = TypeVar("T")


class TlsFailed(Exception):
    """The handshake or the connection failed.

    `alert` is true when the peer said why with an alert, whose name is the cause; `distrust` is why we refused.
    """

    def __init__(self, cause: str, *, alert: bool = False, distrust: Distrust | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.alert = alert
        self.distrust = distrust


class TlsFiles:
    """Trust anchors, and our own certificate and key for trunks that demand one; read again for every connection."""

    def __init__(self, anchors: Path, certificate: Path | None = None, key: Path | None = None) -> None:
        self._anchors, self._certificate, self._key = anchors, certificate, key

    def context(self) -> SSL.Context:
        """A client of TLS 1.2 or 1.3 that trusts the anchors alone. Raises `SettingsInvalid`."""
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        try:
            context.load_verify_locations(str(self._anchors))
        except SSL.Error:
            raise SettingsInvalid(
                "the trust anchors cannot be read", where="[probe] trust_anchor_file", seen=str(self._anchors)
            ) from None
        if (self._certificate is None) != (self._key is None):
            raise SettingsInvalid(
                "a client certificate needs its key, and the key its certificate",
                where="[probe]",
                action="set both client_certificate_file and client_key_file, or neither",
            )
        if self._certificate is not None and self._key is not None:
            self._identify(context, self._certificate, self._key)
        return context

    def _identify(self, context: SSL.Context, certificate: Path, key: Path) -> None:
        problem = "is not the certificate's key"
        try:
            leaf, *intermediates = x509.load_pem_x509_certificates(certificate.read_bytes())
            context.use_certificate(leaf)
            for intermediate in intermediates:
                context.add_extra_chain_cert(intermediate)
            context.use_privatekey(load_pem_private_key(key.read_bytes(), password=None))  # type: ignore[arg-type]
            context.check_privatekey()
        except OSError as error:
            problem = f"cannot be read: {error.strerror}"
        except (ValueError, TypeError, UnsupportedAlgorithm):
            problem = "cannot be read: PEM is expected, the key unencrypted"
        except SSL.Error:
            pass
        else:
            return
        raise SettingsInvalid(
            "the prober's client certificate cannot be used",
            where="[probe] client_certificate_file, client_key_file",
            seen=f"{certificate}, {key}: {problem}",
        )


class TlsClient:
    """One connection over a connected, non-blocking socket, which it owns. Methods raise `TlsFailed`."""

    def __init__(self, connected: socket.socket, context: SSL.Context, server_name: str | None) -> None:
        """Takes a context of its own: callbacks are set on it. `server_name` is sent as SNI."""
        self.chain: tuple[x509.Certificate, ...] = ()
        self.trusted: bool | None = None
        self.staple: bytes | None = None
        self._socket = connected
        self._alert: str | None = None
        self._distrust: tuple[Distrust, str] | None = None
        context.set_verify(SSL.VERIFY_PEER, self._verify)
        context.set_info_callback(self._note_alert)
        context.set_ocsp_client_callback(self._note_staple)
        self._tls = SSL.Connection(context, None)
        self._tls.request_ocsp()
        if server_name is not None:
            self._tls.set_tlsext_host_name(server_name.encode("ascii"))
        self._tls.set_connect_state()

    @property
    def version(self) -> str | None:
        """`TLSv1.2` or `TLSv1.3`."""
        return self._tls.get_protocol_version_name() if self._tls.get_cipher_name() else None

    @property
    def cipher(self) -> str | None:
        """OpenSSL's name of the suite; for TLS 1.3 that is IANA's too."""
        return self._tls.get_cipher_name()

    @property
    def issuer(self) -> x509.Certificate | None:
        """Who issued the leaf, by the chain that was verified."""
        verified = self._tls.get_verified_chain(as_cryptography=True) or ()
        return verified[1] if len(verified) > 1 else None

    @property
    def resumption(self) -> Resumption:
        """What the server offered so far; with TLS 1.3 its tickets come after the handshake."""
        return resumption_of(self._tls.get_session())

    @property
    def local_address(self) -> tuple[str, int]:
        """This side's IP address and port."""
        host, port = self._socket.getsockname()[:2]
        return str(host), int(port)

    async def handshake(self) -> None:
        """A full handshake. `chain` and `trusted` are set also when it fails, as far as it came."""
        try:
            await self._pump(self._tls.do_handshake)
        except TlsFailed:
            await self._deliver_alert()
            raise

    async def hear(self, seconds: float) -> None:
        """Waits at most so long for the server's first word after a TLS 1.3 handshake: a ticket, or its refusal of us.

        A server refuses a client's certificate only after our side has finished (RFC 8446 section 4.4.2), and what we
        send meanwhile can turn its alert into a mere reset.
        """
        if self._tls.get_protocol_version() < SSL.TLS1_3_VERSION:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._fill()
        with contextlib.suppress(SSL.WantReadError):
            self._take(lambda: self._tls.recv(1, socket.MSG_PEEK))

    async def send(self, data: bytes) -> None:
        """Sends it all. A connection that is already gone shows when it is read, with the alert if there is one."""
        await self._pump(lambda: self._tls.send(data))

    def send_at_once(self, data: bytes) -> None:
        """Sends what the socket takes without waiting; failures do not matter any more."""
        with contextlib.suppress(SSL.Error, OSError):
            self._tls.send(data)
            self._socket.send(self._tls.bio_read(_CHUNK))

    async def receive(self) -> bytes:
        """The next bytes, at least one. A peer that closes, in order or not, is a failure."""
        return await self._pump(lambda: self._tls.recv(_CHUNK))

    def close(self) -> None:
        """Sends close_notify if it can and closes the socket. Never raises."""
        with contextlib.suppress(SSL.Error, OSError):
            self._tls.shutdown()
            self._socket.send(self._tls.bio_read(_CHUNK))
        self._socket.close()

    async def _pump(self, action: Callable[[], T]) -> T:
        """Repeats an OpenSSL action, carrying bytes both ways, until it has what it needs."""
        while True:
            try:
                result = self._take(action)
            except SSL.WantReadError:
                await self._flush()
                await self._fill()
            else:
                await self._flush()
                return result

    def _take(self, action: Callable[[], T]) -> T:
        try:
            return action()
        except SSL.WantReadError:
            raise
        except SSL.Error as error:
            failure = self._failure(error)
        raise failure

    async def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(SSL.WantReadError, OSError):
            while True:
                await loop.sock_sendall(self._socket, self._tls.bio_read(_CHUNK))

    async def _fill(self) -> None:
        """Takes what has come. Cancelled, it has taken nothing, while asyncio's `sock_recv` may drop what it read."""
        await self._readable()
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            raise TlsFailed((error.strerror or type(error).__name__).lower()) from None
        if data:
            self._tls.bio_write(data)
        else:
            self._tls.bio_shutdown()

    async def _readable(self) -> None:
        loop, there = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._socket, there.set)
        try:
            await there.wait()
        finally:
            loop.remove_reader(self._socket)

    async def _deliver_alert(self) -> None:
        """Sends our alert and waits for the peer to close: a socket closed over unread data destroys it (RST)."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_ALERT_DELIVERY_S):
                await self._flush()
                self._socket.shutdown(socket.SHUT_WR)
                while await asyncio.get_running_loop().sock_recv(self._socket, _CHUNK):
                    pass

    def _failure(self, error: SSL.Error) -> TlsFailed:
        if self._alert is not None:
            return TlsFailed(self._alert, alert=True)
        if self._distrust is not None:
            kind, words = self._distrust
            return TlsFailed(words, distrust=kind)
        if isinstance(error, SSL.ZeroReturnError):
            return TlsFailed("connection closed by the peer")
        if isinstance(error, SSL.SysCallError):
            return TlsFailed("connection closed by the peer without an alert")
        reasons = [entry[-1] for entry in error.args[0]] if error.args and isinstance(error.args[0], list) else []
        return TlsFailed(f"not a TLS answer that can be used: {', '.join(map(str, reasons)) or type(error).__name__}")

    def _verify(self, connection: SSL.Connection, certificate: X509, code: int, depth: int, good: int) -> bool:
        self.chain = tuple(connection.get_peer_cert_chain(as_cryptography=True) or ())
        if not good:
            self.trusted = False
            self._distrust = distrust(code, depth, certificate.to_cryptography(), self.chain)
        elif depth == 0:
            self.trusted = True
        return bool(good)

    def _note_staple(self, connection: SSL.Connection, staple: bytes, data: object) -> bool:
        """Whatever it says, the handshake goes on: we look, and whether a carrier would refuse is not ours to say."""
        self.staple = staple
        return True

    def _note_alert(self, connection: SSL.Connection, where: int, value: int) -> None:
        if where & SSL.SSL_CB_READ_ALERT == SSL.SSL_CB_READ_ALERT and value & 0xFF:
            self._alert = alert_name(value & 0xFF)
