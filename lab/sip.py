"""SIP messages over a stream, and client transactions on it (RFC 3261).

Messages are framed by Content-Length (section 18.3); parsing and serialising is aiosipua's. The transport is
reliable, so nothing is retransmitted (section 17.1.1.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import AsyncIterator, Callable

from aiosipua import SipMessage, SipRequest, SipResponse

from lab.tls_stream import TlsFailure, TlsStream

log = logging.getLogger(__name__)

_MAX_HEAD = 64 * 1024
_MAX_BODY = 1024 * 1024
_CONTENT_LENGTH = re.compile(rb"^(?:content-length|l)[ \t]*:[ \t]*(\d{1,9})[ \t]*$", re.I | re.M)


class SipFramingError(Exception):
    """The peer sent what cannot be framed or parsed as SIP over a stream."""


class ConnectionLost(Exception):
    """The connection ended under a transaction. `cause` is a name of the platform contract.

    `answered` is false when the peer never sent a single SIP answer on it: then the handshake itself is in
    doubt.
    """

    def __init__(self, cause: str, *, answered: bool) -> None:
        super().__init__(cause)
        self.cause = cause
        self.answered = answered


class SipFraming:
    """Cuts a byte stream into SIP messages; CRLF keepalives between them are skipped (RFC 5626, 3.5.1)."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[SipRequest | SipResponse]:
        """The messages that are complete with this data. Raises SipFramingError."""
        self._buffer += data
        messages: list[SipRequest | SipResponse] = []
        while (message := self._next()) is not None:
            messages.append(message)
        return messages

    def _next(self) -> SipRequest | SipResponse | None:
        keepalive = len(self._buffer) - len(self._buffer.lstrip(b"\r\n"))
        del self._buffer[:keepalive]
        end = self._buffer.find(b"\r\n\r\n")
        if end > _MAX_HEAD or (end < 0 and len(self._buffer) > _MAX_HEAD):
            raise SipFramingError(f"header section of more than {_MAX_HEAD} bytes")
        if end < 0:
            return None
        declared = _CONTENT_LENGTH.search(self._buffer[:end].replace(b"\r\n", b"\n"))
        if declared is None:
            raise SipFramingError("no Content-Length on a stream transport")
        total = end + 4 + int(declared[1])
        if int(declared[1]) > _MAX_BODY:
            raise SipFramingError(f"body of more than {_MAX_BODY} bytes")
        if len(self._buffer) < total:
            return None
        raw = bytes(self._buffer[:total])
        del self._buffer[:total]
        try:
            return SipMessage.parse(raw)
        except ValueError as error:
            raise SipFramingError(str(error)) from error


class SipConnection:
    """One TLS connection that carries SIP both ways.

    `on_request` gets every incoming request and must not block. `on_lost` is called once when the connection
    ends for any reason. Of `on_answered` and `on_unanswered` at most one is called, once: the first at the
    first SIP answer, the second when the connection was lost by the peer, or a request timed out, before
    there was any.
    """

    def __init__(
        self,
        stream: TlsStream,
        *,
        on_request: Callable[[SipRequest], None],
        on_lost: Callable[[str], None] = lambda cause: None,
        on_answered: Callable[[], None] = lambda: None,
        on_unanswered: Callable[[str], None] = lambda cause: None,
    ) -> None:
        self.stream = stream
        self.local_address = stream.local_address
        self.peer_address = stream.peer_address
        self.answered = False
        self.lost: str | None = None
        self._on_request, self._on_lost = on_request, on_lost
        self._on_answered, self._on_unanswered = on_answered, on_unanswered
        self._doubt_settled = False
        self._waiting: dict[tuple[str, str], asyncio.Future[SipResponse]] = {}
        self._reading = asyncio.create_task(self._read(), name="sip-connection")

    def send(self, message: SipRequest | SipResponse) -> None:
        """Sends one message. Raises ConnectionLost."""
        try:
            self.stream.send(bytes(message))
        except ConnectionResetError:
            raise ConnectionLost(self.lost or "connection_reset", answered=self.answered) from None

    async def request(self, request: SipRequest, *, timeout_s: float = 8.0) -> SipResponse:
        """Sends a request and returns its final answer; an INVITE's non-2xx is acknowledged (17.1.1.3).

        Raises ConnectionLost, or TimeoutError when there is no final answer in time.
        """
        key = (request.via[0].branch or "", request.method)
        answer: asyncio.Future[SipResponse] = asyncio.get_running_loop().create_future()
        self._waiting[key] = answer
        try:
            await self._deliver(request)
            async with asyncio.timeout(timeout_s):
                response = await answer
        except TimeoutError:
            if not self.answered:
                self._doubt("timeout")
            raise
        finally:
            self._waiting.pop(key, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # looked at, even when nobody waits for it any more
        if request.method == "INVITE" and response.status_code >= 300:
            with contextlib.suppress(ConnectionLost):
                self.send(_acknowledge(request, response))
        return response

    @property
    def waiting(self) -> bool:
        """A request of ours has no final answer yet."""
        return bool(self._waiting)

    async def ended(self) -> None:
        """Returns when the connection has ended."""
        await asyncio.wait([self._reading])

    async def close(self) -> None:
        """Closes properly; transactions that still wait fail with ConnectionLost. Never raises."""
        self._doubt_settled = True
        await self.stream.close()
        await self.ended()

    def abort(self) -> None:
        """Drops the connection at once."""
        self._doubt_settled = True
        self.stream.abort()

    async def _deliver(self, request: SipRequest) -> None:
        """Sends; when the socket is already gone, the reader may still hold the alert that tells why."""
        try:
            self.send(request)
        except ConnectionLost:
            await asyncio.wait([self._reading], timeout=1.0)
            raise ConnectionLost(self.lost or "connection_reset", answered=self.answered) from None

    async def _read(self) -> None:
        cause = "connection_reset"
        try:
            async for message in self._messages():
                if isinstance(message, SipResponse):
                    self._take_answer(message)
                else:
                    self._on_request(message)
        except TlsFailure as failure:
            cause = failure.cause
        except ConnectionLost as lost:
            cause = lost.cause
        except SipFramingError as error:
            log.warning("SIP from %s cannot be framed: %s", self.peer_address, error)
            cause = "other"
        except Exception:
            log.exception("a SIP message from %s could not be handled", self.peer_address)
            cause = "other"
        finally:
            self._lose(cause)
        await self.stream.close()

    async def _messages(self) -> AsyncIterator[SipRequest | SipResponse]:
        framing = SipFraming()
        while data := await self.stream.read():
            for message in framing.feed(data):
                yield message

    def _take_answer(self, response: SipResponse) -> None:
        if not self.answered:
            self.answered = True
            if not self._doubt_settled:
                self._doubt_settled = True
                self._on_answered()
        cseq, vias = response.cseq, response.via
        if response.status_code < 200 or cseq is None or not vias:
            return
        waiting = self._waiting.get((vias[0].branch or "", cseq.method))
        if waiting is not None and not waiting.done():
            waiting.set_result(response)

    def _doubt(self, cause: str) -> None:
        if not self._doubt_settled:
            self._doubt_settled = True
            self._on_unanswered(cause)

    def _lose(self, cause: str) -> None:
        self.lost = cause
        if not self.answered:
            self._doubt(cause)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(ConnectionLost(cause, answered=self.answered))
        self._on_lost(cause)


def _acknowledge(invite: SipRequest, response: SipResponse) -> SipRequest:
    """The ACK of a non-2xx answer: same branch, Request-URI and CSeq number as the INVITE (17.1.1.3)."""
    ack = SipRequest(method="ACK", uri=invite.uri)
    ack.headers.append("Via", invite.headers.get("via")[0])
    for name in ("From", "Call-ID", "Max-Forwards"):
        ack.headers.set_single(name, invite.headers.get_first(name) or "")
    ack.headers.set_single("To", response.headers.get_first("to") or "")
    ack.headers.set_single("CSeq", f"{invite.cseq.seq if invite.cseq else 1} ACK")
    return ack
