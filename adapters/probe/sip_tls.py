"""The prober: TCP, a fresh TLS handshake, the SIP identity, OPTIONS, and a test call where the target names one.

TLS and SIP are told apart: a 403 is an answer of SIP, an alert one of TLS. A TLS 1.3 server refuses a client's
certificate after the client believes the handshake done (RFC 8446 section 4.4.2.4), so that only the first SIP answer
proves it; what breaks before that answer is a failure of TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from adapters.probe.base import Layer, ProbeResult, ProbeTarget
from adapters.probe.identity import names_of, speaks_for
from adapters.probe.sip_client import SipClient
from adapters.probe.sip_messages import NotSip
from adapters.probe.staples import read_staple
from adapters.probe.tls_client import TlsClient, TlsFailed, TlsFiles
from domain.certificate_facts import ip_text
from domain.errors import CertificateRefused
from settings import ProbeSettings

CONCURRENCY: Final = 16
"""Probes under way at once; more wait for their turn, and their time starts with it."""

GIVE_UP_S: Final = 0.5
"""How long a CANCEL waits for its effect."""

CALL_DOES_NOT_EXIST: Final = 481
"""What a BYE meets when the other side hung up at the same moment (RFC 3261 section 15.1.2)."""

_FIRST_WORD_S: Final = (0.05, 0.25)
"""Shortest and longest wait for the server's first word after the handshake: twice the handshake's own time between."""


class SipTlsProber:
    """Implements `Prober`. A failed probe is a result; only unusable files in the settings raise (`SettingsInvalid`).

    `settings.timeout` bounds everything up to the answer of OPTIONS, and once more a test call.
    """

    def __init__(
        self,
        settings: ProbeSettings,
        trust_anchor_file: Path,
        *,
        concurrency: int = CONCURRENCY,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Reads the files once, so that wrong settings show at the start. Raises `SettingsInvalid`."""
        self._files = TlsFiles(trust_anchor_file, settings.client_certificate_file, settings.client_key_file)
        self._files.context()
        self._timeout_s = settings.timeout.total_seconds()
        self._places = asyncio.Semaphore(concurrency)
        self._now = now

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        """One look; never resumed, nothing kept between two."""
        async with self._places:
            look = _Look(target, self._files, self._timeout_s, ProbeResult(target=target, at=self._now()))
            return await look.result()


class _Failed(Exception):
    def __init__(self, layer: Layer, cause: str, why: TlsFailed | None = None) -> None:
        super().__init__(cause)
        self.layer, self.cause = layer, cause
        self.alert = why.cause if why is not None and why.alert else None
        self.distrust = why.distrust if why is not None else None


class _TimedOut(_Failed):
    """Nothing came in time."""


@dataclass
class _Look:
    """One probe under way: `seen` grows with every layer that answers."""

    target: ProbeTarget
    files: TlsFiles
    timeout_s: float
    seen: ProbeResult
    layer: Layer = Layer.DNS
    awaited: str = "the address of the name"

    async def result(self) -> ProbeResult:
        try:
            async with contextlib.AsyncExitStack() as closing:
                await self._look(closing)
        except _Failed as failure:
            self._note(failed_layer=failure.layer, cause=failure.cause, alert=failure.alert, distrust=failure.distrust)
        return self.seen

    async def _look(self, closing: contextlib.AsyncExitStack) -> None:
        async with self._in_time():
            context = self.files.context()
            connected = await self._connect()
            closing.callback(connected.close)
            tls = TlsClient(connected, context, self._server_name())
            closing.callback(tls.close)
            await self._handshake(tls)
            self._check_identity(tls)
            sip = SipClient(tls, self.target.identity)
            with self._sip_failures(sip):
                await self._options(tls, sip)
        if self.target.test_call is not None:
            closing.callback(sip.leave)
            with self._sip_failures(sip):
                await self._call(sip, self.target.test_call)

    async def _connect(self) -> socket.socket:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self.target.address, self.target.port, type=socket.SOCK_STREAM)
        except (socket.gaierror, UnicodeError) as error:
            cause = getattr(error, "strerror", None) or "not a host name"
            raise _Failed(Layer.DNS, f"{self.target.address}: {cause.lower()}") from None
        self.layer, self.awaited = Layer.TCP, "the connection"
        failure = "no address"
        for family, kind, protocol, _, address in found:
            connecting = socket.socket(family, kind, protocol)
            connecting.setblocking(False)
            try:
                await loop.sock_connect(connecting, address)
            except OSError as error:
                connecting.close()
                failure = os.strerror(error.errno).lower() if error.errno else type(error).__name__
            except BaseException:
                connecting.close()
                raise
            else:
                return connecting
        raise _Failed(Layer.TCP, failure)

    async def _handshake(self, tls: TlsClient) -> None:
        self.layer, self.awaited = Layer.TLS, "the end of the handshake"
        started = time.perf_counter()
        try:
            await tls.handshake()
        except TlsFailed as failure:
            raise _Failed(Layer.TLS, failure.cause, failure) from None
        finally:
            self._note_handshake(tls, (time.perf_counter() - started) * 1000)

    def _note_handshake(self, tls: TlsClient, took_ms: float) -> None:
        if not tls.chain:
            return
        leaf = tls.chain[0]
        self._note(
            leaf_sha256=hashlib.sha256(leaf.public_bytes(Encoding.DER)).hexdigest(),
            leaf_pem=leaf.public_bytes(Encoding.PEM).decode(),
            version=tls.version,
            cipher=tls.cipher,
            handshake_ms=took_ms,
            chain_verified=tls.trusted,
        )
        if tls.staple is not None:
            self._note(staple=read_staple(tls.staple, leaf, tls.issuer, self.seen.at))
        with contextlib.suppress(CertificateRefused):
            self._note(identity_matches=speaks_for(leaf, self.target.identity))

    def _check_identity(self, tls: TlsClient) -> None:
        if self.seen.identity_matches:
            return
        try:
            names = names_of(tls.chain[0])
        except CertificateRefused:
            names = "names that cannot be read"
        raise _Failed(Layer.IDENTITY, f"the certificate is not for {self.target.identity} but for {names}")

    async def _options(self, tls: TlsClient, sip: SipClient) -> None:
        shortest, longest = _FIRST_WORD_S
        await tls.hear(min(max(shortest, 2 * (self.seen.handshake_ms or 0) / 1000), longest))
        self._note(resumption=tls.resumption)
        self.layer, self.awaited = Layer.SIP, "the answer to OPTIONS"
        status = await sip.options()
        self._note(options_status=status, resumption=tls.resumption)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            raise _Failed(Layer.SIP, f"OPTIONS answered {status}")

    async def _call(self, sip: SipClient, uri: str) -> None:
        self.awaited = "the answer to INVITE"
        try:
            async with self._in_time():
                status = await sip.invite(uri)
                self._note(call_status=status)
                if status >= 300:
                    raise _Failed(Layer.SIP, f"INVITE answered {status}")
                self.awaited = "the answer to BYE"
                status = await sip.bye()
        except _TimedOut:
            with contextlib.suppress(TimeoutError, TlsFailed, NotSip):
                async with asyncio.timeout(GIVE_UP_S):
                    await sip.give_up()
            raise
        if status >= 300 and status != CALL_DOES_NOT_EXIST:
            raise _Failed(Layer.SIP, f"BYE answered {status}")

    @contextlib.asynccontextmanager
    async def _in_time(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self.timeout_s):
                yield
        except TimeoutError:
            raise _TimedOut(self.layer, f"timeout after {self.timeout_s:g} s: {self.awaited}") from None

    @contextlib.contextmanager
    def _sip_failures(self, sip: SipClient) -> Iterator[None]:
        try:
            yield
        except NotSip as failure:
            raise _Failed(Layer.SIP, f"{failure} instead of {self.awaited}") from None
        except TlsFailed as failure:
            if failure.alert:
                raise _Failed(Layer.TLS, failure.cause, failure) from None
            if not sip.answered:
                raise _Failed(Layer.TLS, f"{failure.cause} before the first SIP answer") from None
            raise _Failed(Layer.SIP, f"{failure.cause} before {self.awaited}") from None

    def _server_name(self) -> str | None:
        name = self.target.server_name
        return None if name is None or ip_text(name) else name

    def _note(self, **seen: object) -> None:
        self.seen = self.seen.model_copy(update=seen)
