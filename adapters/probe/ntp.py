"""The worker's clock against NTP servers: SNTP (RFC 5905 section 14), asked side by side, nothing set.

`ntplib` has the wire format and the arithmetic. Its own client is not used: it believes an answer to another request
(it does not compare the originate timestamp) and has no limit on the whole wait.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Final, cast

import ntplib

from domain.clocks import ClockLimits, NtpTime, ServerTime, agreed
from domain.errors import Unreachable
from settings import NtpSettings, host_and_port

VERSION, CLIENT, SERVER = 4, 3, 4
UNSYNCHRONISED_LEAP, UNSYNCHRONISED_STRATUM = 3, 16
STILL_STARTING: Final = ("INIT", "STEP")
"""Kiss codes of a server that has no time yet (RFC 5905 section 7.4); without any code stratum 0 says the same."""
MAXDIST_S: Final = 1.0
"""Root distance from which a server is no candidate (RFC 5905, appendix A.1.1 and `fit()` of A.5.5.3)."""
MINDISP_S: Final = 0.005
"""Least round trip to the primary source that is believed (the same)."""
REQUESTS = 2
"""UDP loses datagrams: a server that is silent for its share of the timeout is asked once more."""

_HEADER = 48
_ORIGINATE, _TRANSMIT = slice(24, 32), slice(40, 48)


class Unusable(Exception):
    """Why a server's answer is not used, in words."""


class NtpServers:
    """The servers of `[ntp]`. Implements `adapters.probe.base.TimeServers`."""

    def __init__(self, settings: NtpSettings) -> None:
        self._settings = settings

    @property
    def limits(self) -> ClockLimits:
        """The limits of drift of the same section."""
        return self._settings.limits

    async def time(self) -> NtpTime:
        """Asks all servers at once. Raises `Unreachable` when none of them gives a usable time."""
        servers, wait_s = self._settings.servers, self._settings.timeout.total_seconds()
        results = await asyncio.gather(*(_asked(server, wait_s) for server in servers))
        unusable = {server: result for server, result in zip(servers, results, strict=True) if isinstance(result, str)}
        answered = [result for result in results if isinstance(result, ServerTime)]
        if not answered:
            raise Unreachable(
                "no NTP server gives a usable time",
                where="[ntp]",
                seen="; ".join(f"{server}: {why}" for server, why in unusable.items()),
                action="correct ntp.servers, or let the worker's host reach their UDP port",
            )
        return agreed(answered, unusable)


async def _asked(server: str, wait_s: float) -> ServerTime | str:
    """What the server says, or why that is nothing."""
    host, port = host_and_port(server)
    heard: dict[str, None] = {}
    try:
        async with asyncio.timeout(wait_s):
            return judged(server, await _exchange(host, port, wait_s / REQUESTS, heard))
    except TimeoutError:
        return "; ".join([f"no answer within {wait_s:g} s", *heard])
    except Unusable as why:
        return str(why)
    except OSError as error:
        return error.strerror or str(error)


def judged(server: str, answer: ntplib.NTPStats) -> ServerTime:
    """The time of one answer to our own request. Raises `Unusable` with the reason."""
    if answer.mode != SERVER:
        raise Unusable(f"answers in mode {answer.mode}, not as a server")
    code = int(answer.ref_id).to_bytes(4, "big").decode("ascii", "replace").strip("\0 ")
    if answer.stratum == 0 and code.isalnum() and code not in STILL_STARTING:
        raise Unusable(f"kiss-o'-death {code}: it gives us no time")
    if answer.leap == UNSYNCHRONISED_LEAP or not 0 < answer.stratum < UNSYNCHRONISED_STRATUM:
        raise Unusable(f"is not synchronised itself: leap {answer.leap}, stratum {answer.stratum}")
    if not answer.recv_timestamp or answer.tx_timestamp < answer.recv_timestamp:
        raise Unusable("says that it answered before it was asked")
    if answer.delay < -MINDISP_S:
        raise Unusable("says that it took longer than the whole round trip")
    delay = max(float(answer.delay), 0.0)
    distance = max(MINDISP_S, answer.root_delay + delay) / 2 + answer.root_dispersion
    if distance > MAXDIST_S:
        raise Unusable(f"is too far from its source: root distance {distance:.1f} s, at most {MAXDIST_S:.0f} s")
    return ServerTime(server=server, stratum=answer.stratum, offset_s=answer.offset, delay_s=delay, distance_s=distance)


async def _exchange(host: str, port: int, patience_s: float, heard: dict[str, None]) -> ntplib.NTPStats:
    """An answer to one of our requests. Raises OSError, also for a port that is closed; waits as long as it is let."""
    transport, talk = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Talk(heard), remote_addr=(host, port)
    )
    try:
        for _ in range(REQUESTS - 1):
            talk.request()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience_s):
                    return await asyncio.shield(talk.answer)
        talk.request()
        return await talk.answer
    finally:
        talk.answer.cancel()
        transport.close()


class _Talk(asyncio.DatagramProtocol):
    """Requests to one server over a socket of their own, and the first answer to any of them.

    What else arrives is noted in `heard`, each sort once, and is no answer.
    """

    def __init__(self, heard: dict[str, None]) -> None:
        self.answer: asyncio.Future[ntplib.NTPStats] = asyncio.get_running_loop().create_future()
        self._heard = heard
        self._sent: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own datagram transport is no subclass of DatagramTransport before Python 3.12.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def request(self) -> None:
        """A client's request with nothing in it but the time (RFC 5905 section 14)."""
        packet = ntplib.NTPPacket(
            version=VERSION, mode=CLIENT, tx_timestamp=ntplib.system_to_ntp_time(time.time())
        ).to_data()
        self._sent.append(packet[_TRANSMIT])
        self._transport.sendto(packet)

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        arrived = ntplib.system_to_ntp_time(time.time())
        if self.answer.done():
            return
        if len(data) < _HEADER:
            self._heard[f"a datagram of {len(data)} bytes is no NTP packet"] = None
        elif data[_ORIGINATE] not in self._sent:
            self._heard["an answer with another originate timestamp is not to our request"] = None
        else:
            self.answer.set_result(_parsed(data, arrived))

    def error_received(self, exc: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc)


def _parsed(data: bytes, arrived: float) -> ntplib.NTPStats:
    answer = ntplib.NTPStats()
    answer.from_data(data)
    answer.dest_timestamp = arrived
    return answer
