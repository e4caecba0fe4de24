"""SNTP against the lab's responder: what is believed, what is not and why, and that silence is never zero."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from adapters.probe.ntp import NtpServers
from domain.clocks import NtpTime
from domain.errors import Unreachable
from lab.ntp_server import Manners, NtpServer
from lab.ports import LOOPBACK
from settings import NtpSettings

PATIENT, SHORT = "4s", "300ms"


@asynccontextmanager
async def responders(*manners: Manners) -> AsyncIterator[list[NtpServer]]:
    """As many of the lab's servers, each with its manners."""
    servers = [NtpServer() for _ in manners]
    try:
        for server, its in zip(servers, manners, strict=True):
            server.manners = its
            await server.start()
        yield servers
    finally:
        for server in servers:
            await server.stop()


def name(server: NtpServer) -> str:
    return f"{server.address}:{server.port}"


async def asked(*servers: NtpServer, timeout: str = PATIENT) -> NtpTime:
    settings: dict[str, Any] = {"servers": tuple(name(server) for server in servers), "timeout": timeout}
    return await NtpServers(NtpSettings(**settings)).time()


def ten_seconds_before(timestamp: bytes) -> bytes:
    return (int.from_bytes(timestamp, "big") - (10 << 32)).to_bytes(8, "big")


GOOD = Manners()


async def test_a_good_server_says_that_the_worker_is_on_time() -> None:
    async with responders(GOOD) as servers:
        found = await asked(*servers)
        assert found.ahead_s is not None
        assert abs(found.ahead_s) <= found.uncertainty_s < 1.0
        [one] = found.answered
        assert (one.server, one.stratum) == (name(servers[0]), 1)
        assert 0 <= one.delay_s / 2 < one.distance_s
        assert found.unusable == {}


@pytest.mark.parametrize("server_ahead_s", [432.0, -432.0, 0.75])
async def test_a_shifted_server_shows_the_workers_drift_with_its_direction(server_ahead_s: float) -> None:
    async with responders(replace(GOOD, ahead_s=server_ahead_s)) as servers:
        found = await asked(*servers)
    assert found.ahead_s == pytest.approx(-server_ahead_s, abs=found.uncertainty_s)
    assert found.uncertainty_s < 1.0


@pytest.mark.parametrize(
    ("manners", "why"),
    [
        (replace(GOOD, leap=3, stratum=2), "is not synchronised itself: leap 3, stratum 2"),
        (replace(GOOD, stratum=16), "is not synchronised itself: leap 0, stratum 16"),
        (replace(GOOD, stratum=0, reference="RATE"), "kiss-o'-death RATE"),
        (replace(GOOD, stratum=0, reference="DENY", leap=3), "kiss-o'-death DENY"),
        (replace(GOOD, stratum=0, reference=""), "is not synchronised itself: leap 0, stratum 0"),
        (replace(GOOD, stratum=0, reference="INIT", leap=3), "is not synchronised itself: leap 3, stratum 0"),
        (replace(GOOD, root_dispersion_s=1.2), "root distance 1.2 s, at most 1 s"),
        (replace(GOOD, root_delay_s=2.4), "root distance 1.2 s, at most 1 s"),
    ],
    ids=["leap 3", "stratum 16", "RATE", "DENY", "stratum 0", "INIT", "dispersion", "delay"],
)
async def test_a_server_that_is_unfit_is_left_out_and_told(manners: Manners, why: str) -> None:
    async with responders(manners, replace(GOOD, ahead_s=5.0)) as (unfit, good):
        found = await asked(unfit, good)
        assert found.ahead_s == pytest.approx(-5.0, abs=found.uncertainty_s)
        assert [one.server for one in found.answered] == [name(good)]
        assert why in found.unusable[name(unfit)]
        with pytest.raises(Unreachable, match="no NTP server gives a usable time") as nobody:
            await asked(unfit)
        assert why in nobody.value.seen
        assert nobody.value.where == "[ntp]"
        assert nobody.value.action


@pytest.mark.parametrize(
    ("manners", "why"),
    [
        (replace(GOOD, answers=False), "no answer within 0.3 s"),
        (replace(GOOD, echoes=False), "an answer with another originate timestamp is not to our request"),
    ],
    ids=["silence", "wrong originate timestamp"],
)
async def test_a_server_without_an_answer_to_our_request_is_asked_twice_and_never_means_zero(
    manners: Manners, why: str
) -> None:
    async with responders(manners) as (server,):
        begun = time.monotonic()
        with pytest.raises(Unreachable) as nobody:
            await asked(server, timeout=SHORT)
        assert time.monotonic() - begun >= 0.3
        assert server.requests == 2
    assert why in nobody.value.seen
    assert nobody.value.retryable


async def test_the_answer_to_the_second_request_counts_when_the_first_was_lost() -> None:
    class LosesTheFirst(NtpServer):
        def answer(self, request: bytes) -> bytes | None:
            found = super().answer(request)
            return found if self.requests > 1 else None

    server = LosesTheFirst()
    await server.start()
    found = await asked(server, timeout="2s")
    await server.stop()
    assert found.ahead_s == pytest.approx(0.0, abs=found.uncertainty_s)
    assert server.requests == 2


async def test_servers_that_contradict_each_other_give_no_drift() -> None:
    async with responders(GOOD, replace(GOOD, ahead_s=0.1), replace(GOOD, ahead_s=3.0)) as servers:
        found = await asked(*servers)
        assert found.ahead_s is None
        assert found.spread_s == pytest.approx(3.0, abs=0.5)
        assert len(found.answered) == 3
        servers[2].manners = replace(GOOD, ahead_s=0.2)
        found = await asked(*servers)
    assert found.ahead_s == pytest.approx(-0.1, abs=found.uncertainty_s)


async def test_a_closed_port_and_a_name_that_nobody_knows_are_told_apart_without_waiting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    async with responders(GOOD) as (server,):
        gone = name(server)
    settings = NtpSettings(servers=(gone, "ntp.invalid"), timeout=PATIENT)  # type: ignore[arg-type]
    begun = time.monotonic()
    with pytest.raises(Unreachable) as nobody:
        await NtpServers(settings).time()
    assert time.monotonic() - begun < 3.9
    assert f"{gone}: Connection refused" in nobody.value.seen
    assert "ntp.invalid: Name or service not known" in nobody.value.seen


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda wire: wire[:40], "a datagram of 40 bytes is no NTP packet"),
        (lambda wire: bytes([wire[0] & 0b11111000 | 5]) + wire[1:], "answers in mode 5, not as a server"),
        (lambda wire: wire[:40] + bytes(8), "says that it answered before it was asked"),
        (lambda wire: wire[:32] + bytes(8) + wire[40:], "says that it answered before it was asked"),
        (lambda wire: wire[:32] + ten_seconds_before(wire[32:40]) + wire[40:], "longer than the whole round trip"),
    ],
    ids=["short", "broadcast", "no transmit timestamp", "no receive timestamp", "slower than it was"],
)
async def test_what_is_no_answer_of_a_server_is_not_believed(change: Any, why: str) -> None:
    class Garbles(NtpServer):
        def answer(self, request: bytes) -> bytes | None:
            found = super().answer(request)
            return change(found) if found is not None else None

    server = Garbles()
    await server.start()
    with pytest.raises(Unreachable) as nobody:
        await asked(server, timeout=SHORT)
    await server.stop()
    assert why in nobody.value.seen


async def test_a_flood_of_foreign_answers_does_not_outlast_the_timeout() -> None:
    class Floods(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport
            self.sent = 0

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.flood(address)

        def flood(self, address: Any) -> None:
            if not self.transport.is_closing():
                self.transport.sendto(bytes([0x24, 1]) + bytes(46), address)
                self.sent += 1
                asyncio.get_running_loop().call_later(0.01, self.flood, address)

    transport, flooding = await asyncio.get_running_loop().create_datagram_endpoint(Floods, local_addr=(LOOPBACK, 0))
    port = transport.get_extra_info("sockname")[1]
    settings = NtpSettings(servers=(f"{LOOPBACK}:{port}",), timeout=SHORT)  # type: ignore[arg-type]
    begun = time.monotonic()
    with pytest.raises(Unreachable, match="another originate timestamp") as nobody:
        await NtpServers(settings).time()
    transport.close()
    assert time.monotonic() - begun < 3
    assert flooding.sent > 2
    assert len(nobody.value.seen) < 300, "the same is said once"
