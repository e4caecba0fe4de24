"""The SIP server behind HAProxy, small: it takes the PROXY protocol, answers OPTIONS, and knows who is connected."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiosipua import SipRequest

from lab.ports import LOOPBACK
from lab.sip import SipFraming
from tests.adapters.sip_responder import response

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


@dataclass
class SipBehind:
    """Answers what comes from one slot. `peers` are the true addresses of all connections so far, in order.

    While `lets_go` is not set, it does not close a connection that the other side has closed.
    """

    port: int = 0
    peers: list[str] = field(default_factory=list)
    lets_go: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection from its PROXY header to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                self.peers.append(await _proxied_for(reader))
                await self._converse(reader, writer)
                await self.lets_go.wait()
        finally:
            self._tasks.discard(task)
            writer.close()

    async def end(self) -> None:
        """Breaks everything off."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        framing = SipFraming()
        while data := await reader.read(65536):
            for message in framing.feed(data):
                if isinstance(message, SipRequest):
                    writer.write(bytes(response(message, 200)))
            await writer.drain()


@asynccontextmanager
async def sip_behind() -> AsyncIterator[SipBehind]:
    """Running on a free loopback port."""
    behind = SipBehind()
    behind.lets_go.set()
    server = await asyncio.start_server(behind.serve, LOOPBACK, 0)
    behind.port = server.sockets[0].getsockname()[1]
    try:
        yield behind
    finally:
        server.close()
        await behind.end()
        await server.wait_closed()


async def _proxied_for(reader: asyncio.StreamReader) -> str:
    """The source address in a header of the PROXY protocol, version 2."""
    head = await reader.readexactly(16)
    assert head[:12] == _SIGNATURE, f"no PROXY header: {head!r}"
    family, length = head[13], struct.unpack("!H", head[14:])[0]
    body = await reader.readexactly(length)
    assert family == 0x11, f"no TCP over IPv4: {family:#x}"
    return str(ipaddress.ip_address(body[:4]))
