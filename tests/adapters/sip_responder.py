"""A TLS server that answers SIP as a test tells it, and remembers what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiosipua import SipRequest, SipResponse

from lab.ports import LOOPBACK
from lab.sip import SipFraming
from lab.tls_contexts import Identity, server_context
from lab.tls_stream import TlsContext, TlsFailure, TlsStream

CLOSE = "close"
Answer = int | bytes | str | tuple[int, ...]


@dataclass
class Responder:
    """`answers` by method: statuses in order, raw bytes, `CLOSE`; a method without an entry is not answered.

    With `asks` the responder sends that message of its own before its answer to an INVITE. `drip` sends one byte at a
    time. `failures` are causes of failed handshakes, by their names in the platform contract.
    """

    answers: Mapping[str, Answer] = field(default_factory=lambda: {"OPTIONS": 200})
    asks: bytes = b""
    drip: bool = False
    requests: list[SipRequest] = field(default_factory=list)
    responses: list[SipResponse] = field(default_factory=list)
    resumed: list[bool] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    busiest: int = 0
    port: int = 0
    _open: int = 0
    _progress: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def methods(self) -> list[str]:
        """What was asked, in order."""
        return [request.method for request in self.requests]

    async def until_asked(self, method: str) -> None:
        """Returns once a request of that method has come."""
        async with asyncio.timeout(5):
            while method not in self.methods:
                self._progress.clear()
                await self._progress.wait()

    async def until_idle(self) -> None:
        """Returns once no connection is open."""
        async with asyncio.timeout(5):
            while self._open:
                self._progress.clear()
                await self._progress.wait()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, context: TlsContext) -> None:
        """One connection from its handshake to its end."""
        self._open += 1
        self.busiest = max(self.busiest, self._open)
        try:
            stream = await TlsStream.accept(reader, writer, context)
            self.resumed.append(stream.resumed)
            with contextlib.suppress(TlsFailure, ConnectionError):
                await self._converse(stream)
            await stream.close()
        except TlsFailure as failure:
            self.failures.append(failure.cause)
        finally:
            writer.transport.abort()
            self._open -= 1
            self._progress.set()

    async def _converse(self, stream: TlsStream) -> None:
        framing = SipFraming()
        while data := await stream.read():
            for message in framing.feed(data):
                if isinstance(message, SipResponse):
                    self.responses.append(message)
                    continue
                self.requests.append(message)
                self._progress.set()
                answer = self.answers.get(message.method)
                if answer == CLOSE:
                    return
                if message.method == "INVITE" and self.asks:
                    stream.send(self.asks)
                await self._answer(stream, message, answer)

    async def _answer(self, stream: TlsStream, request: SipRequest, answer: Answer | None) -> None:
        if answer is None or isinstance(answer, str):
            return
        statuses = () if isinstance(answer, bytes) else (answer,) if isinstance(answer, int) else answer
        wire = answer if isinstance(answer, bytes) else b"".join(bytes(response(request, s)) for s in statuses)
        for start in range(len(wire)) if self.drip else (0,):
            stream.send(wire[start : start + 1] if self.drip else wire)
            await asyncio.sleep(0)


def response(request: SipRequest, status: int) -> SipResponse:
    """A response of the request's transaction; with To tag, Contact and Record-Route where a dialog begins."""
    made = SipResponse(status_code=status, reason_phrase="Because")
    for name in ("Via", "From", "To", "Call-ID", "CSeq"):
        for value in request.headers.get(name):
            made.headers.append(name, value)
    if request.method == "INVITE" and status > 100:
        made.headers.set_single("To", f"{request.headers.get_first('to')};tag=remote")
        made.headers.append("Record-Route", "<sip:edge1.example.com;lr>")
        made.headers.append("Record-Route", "<sip:edge2.example.com;lr>")
        made.headers.set_single("Contact", "<sip:echo@192.0.2.9:5061;transport=tls>")
    return made


@asynccontextmanager
async def serving(
    responder: Responder,
    identity: Identity,
    *,
    client_trust_pem: str | None = None,
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    tickets: int = 1,
) -> AsyncIterator[Responder]:
    """The responder on a free loopback port."""
    context = server_context(identity, client_trust_pem=client_trust_pem)
    context.maximum_version, context.num_tickets = maximum, tickets
    context.sni_callback = lambda tls, name, front: responder.server_names.append(name)
    async with listening(responder, context):
        yield responder


@asynccontextmanager
async def listening(responder: Responder, context: TlsContext) -> AsyncIterator[Responder]:
    """The responder on a free loopback port, with any context."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(asyncio.CancelledError):  # asyncio's own server trips over a cancelled handler
            await responder.connection(reader, writer, context)

    server = await asyncio.start_server(accept, LOOPBACK, 0)
    responder.port = server.sockets[0].getsockname()[1]
    try:
        yield responder
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await server.wait_closed()
