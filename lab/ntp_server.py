"""An SNTP responder on loopback (RFC 5905, mode 4), whose clock and manners may be changed while it runs."""

from __future__ import annotations

import asyncio
import struct
import time
from dataclasses import dataclass
from typing import cast

from lab.ports import LOOPBACK

_HEADER = struct.Struct("!BBbbII4sQQQQ")
"""Leap, version and mode; stratum, poll, precision; root delay and dispersion; reference id; four timestamps."""
_CLIENT, _SERVER = 3, 4
_SECONDS_1900_TO_1970 = 2_208_988_800
_PRECISION = -20
"""Of the system's clock, as a power of two seconds."""


@dataclass
class Manners:
    """How the server answers; times in seconds.

    A `stratum` of 0 is a kiss-o'-death with the code `reference` (RFC 5905 section 7.4). With `echoes` off the answer
    has another originate timestamp than the request; with `answers` off there is none.
    """

    ahead_s: float = 0.0
    stratum: int = 1
    leap: int = 0
    root_delay_s: float = 0.0
    root_dispersion_s: float = 0.001
    reference: str = "LOCL"
    answers: bool = True
    echoes: bool = True


class NtpServer:
    """Answers clients on a free UDP port from `start()` until `stop()`. `requests` counts what was asked."""

    def __init__(self) -> None:
        self.manners = Manners()
        self.requests = 0
        self.address, self.port = LOOPBACK, 0
        """The port is known after the start."""
        self._transport: asyncio.DatagramTransport | None = None

    async def start(self) -> None:
        """Answer from now on."""
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(self.address, 0))
        self.port = int(self._transport.get_extra_info("sockname")[1])

    async def stop(self) -> None:
        """Close the port."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def answer(self, request: bytes) -> bytes | None:
        """The answer to a datagram; None when it is no client's request, or when there is to be none."""
        received = self._now()
        if len(request) < _HEADER.size or request[0] & 0b111 != _CLIENT:
            return None
        self.requests += 1
        manners = self.manners
        if not manners.answers:
            return None
        version = request[0] >> 3 & 0b111
        asked = _HEADER.unpack_from(request)[-1]
        return _HEADER.pack(
            manners.leap << 6 | version << 3 | _SERVER,
            manners.stratum,
            request[2],
            _PRECISION,
            round(manners.root_delay_s * 2**16),
            round(manners.root_dispersion_s * 2**16),
            manners.reference.encode("ascii"),
            received,
            asked if manners.echoes else asked ^ 1,
            received,
            self._now(),
        )

    def _now(self) -> int:
        """The server's clock as an NTP timestamp: seconds since 1900 in units of 2**-32."""
        nanoseconds = time.time_ns() + round(self.manners.ahead_s * 1e9)
        return ((nanoseconds << 32) // 10**9 + (_SECONDS_1900_TO_1970 << 32)) % 2**64


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: NtpServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own datagram transport is no subclass of DatagramTransport before Python 3.12.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        answer = self._server.answer(data)
        if answer is not None:
            self._transport.sendto(answer, address)
