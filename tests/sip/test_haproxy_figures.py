"""What HAProxy counts per slot and peer, scraped by a real Prometheus and read as a rotation's gates read it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from domain.errors import UnexpectedAnswer
from domain.handshakes import Reading
from domain.plan import Direction, Endpoint
from tests.adapters.endpoints import endpoint
from tests.lab.waiting import until
from tests.sip.haproxy_counts import Counted, counted, exported, reaches
from tests.sip.haproxy_rig import (
    NAMES,
    PEER,
    PREFER,
    TRUNK,
    A,
    B,
    HaproxyRig,
    answers,
    client_context,
    connected,
    handshake,
    haproxy_rig,
    profile_of,
    ramp,
    refused_handshake,
    reset,
)
from tests.sip.scraping import Prometheus, Target

pytestmark = pytest.mark.sip

PROBER, SCANNER = "127.0.0.1", "127.0.0.66"


def plan_endpoint() -> Endpoint:
    return endpoint(trunk=TRUNK, peers=[PEER], probe_addresses=[PROBER])


def public(rig: HaproxyRig) -> tuple[str, int]:
    return rig.node.address, rig.node.ports["public"]


# -- what a node counts ------------------------------------------------------------------------------------------------


async def test_good_and_failed_handshakes_are_counted_per_slot_and_peer(tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path) as rig:
        await rig.bound()
        for _ in range(3):
            await asyncio.to_thread(handshake, *public(rig), PEER)
        await asyncio.to_thread(handshake, rig.node.address, rig.node.ports["canary"], PROBER)
        for _ in range(2):
            await asyncio.to_thread(refused_handshake, *public(rig), PEER)
        await reaches(rig.node, {("one", PEER): (3, 2), ("two", PROBER): (1, 0)})
        await rig.change(PREFER)
        await asyncio.to_thread(refused_handshake, *public(rig), PEER)
        await asyncio.to_thread(handshake, *public(rig), PROBER)
        await reaches(rig.node, {("one", PEER): (3, 2), ("two", PEER): (0, 1), ("two", PROBER): (2, 0)})


async def test_whoever_is_unknown_and_never_succeeds_has_no_name(tmp_path: Path) -> None:
    """Port scanners: one that speaks no TLS, one that hangs up, one that does not like the certificate."""
    async with haproxy_rig(tmp_path) as rig:
        with socket.create_connection(public(rig), 10, source_address=(SCANNER, 0)) as plain:
            plain.sendall(b"OPTIONS sip:x SIP/2.0\r\n\r\n")
            assert plain.recv(100) == b""
        socket.create_connection(public(rig), 10, source_address=(SCANNER, 0)).close()
        await asyncio.to_thread(refused_handshake, *public(rig), SCANNER)
        await reaches(rig.node, {("one", "other"): (0, 3)})
        await asyncio.to_thread(refused_handshake, *public(rig), PEER)
        await reaches(rig.node, {("one", "other"): (0, 3), ("one", PEER): (0, 1)})
        assert SCANNER not in await exported(rig.node)


async def test_a_handshake_under_way_and_a_connection_that_lives_have_not_failed(tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path) as rig:
        living = await rig.connect()
        with socket.create_connection(public(rig), 10, source_address=(PEER, 0)) as plain:
            outgoing = ssl.MemoryBIO()
            half = client_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="trunk.example.com")
            with pytest.raises(ssl.SSLWantReadError):
                half.do_handshake()
            plain.sendall(outgoing.read())
            assert plain.recv(1) == b"\x16", "the server has answered, and waits for the rest"
            assert await counted(rig.node) == {("one", PEER): (1, 0)}
        await reaches(rig.node, {("one", PEER): (1, 1)})
        living.close()
        await reaches(rig.node, {("one", PEER): (1, 1)})


async def test_connections_that_come_and_go_by_the_hundred_do_not_look_like_failures(tmp_path: Path) -> None:
    """Two stages end a connection one after the other; half of these end without a word (RST)."""
    async with haproxy_rig(tmp_path) as rig:
        enough, made = 300, [0]

        def come_and_go(without_a_word: bool) -> None:
            while made[0] < enough:
                made[0] += 1
                tls = connected(*public(rig))
                assert answers(tls)
                if without_a_word:
                    reset(tls)
                else:
                    tls.close()

        async def watch() -> None:
            last = 0
            while made[0] < enough:
                (good, failed) = (await counted(rig.node)).get(("one", PEER), (0, 0))
                assert failed == 0
                assert good >= last
                last = good

        await asyncio.gather(*(asyncio.to_thread(come_and_go, word) for word in (True, False, True)), watch())
        await reaches(rig.node, {("one", PEER): (made[0], 0)})


async def test_a_sip_server_that_is_slow_to_close_makes_no_failures(tmp_path: Path) -> None:
    """The TLS stage then ends long after the stage before it, which the peer has left."""
    async with haproxy_rig(tmp_path) as rig:
        rig.behind["one"].lets_go.clear()
        for leave in (reset, ssl.SSLSocket.close, reset):
            tls = await asyncio.to_thread(connected, *public(rig))
            assert await asyncio.to_thread(answers, tls)
            leave(tls)
        await asyncio.to_thread(refused_handshake, *public(rig), PEER)
        await reaches(rig.node, {("one", PEER): (3, 1)})
        for _ in range(10):
            assert await counted(rig.node) == {("one", PEER): (3, 1)}


# -- as a reading ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def scraped(folder: Path, *, nodes: int = 1) -> AsyncIterator[HaproxyRig]:
    """An edge whose nodes are scraped, A and B in its pool."""
    async with haproxy_rig(folder, nodes=nodes) as rig:
        prometheus = Prometheus(folder / "prometheus", [Target(node.metrics_target) for node in rig.nodes])
        await prometheus.start()
        profile = profile_of(folder, rig.nodes, rig.taps, metrics_url=prometheus.url)
        rig.edge = type(rig.edge)("edge", profile)
        try:
            await rig.bound()
            yield rig
        finally:
            await rig.edge.close()
            await prometheus.stop()


async def read(rig: HaproxyRig, since: datetime) -> Reading:
    return await rig.edge.reading(plan_endpoint(), since, datetime.now(UTC))


def by_leaf(reading: Reading) -> Counted:
    """(certificate, peer) → counts of a reading."""
    return {
        (NAMES.get(s.sha256 or "", "?"), s.peer or ""): (s.handshakes.successes, s.handshakes.failures.get("failed", 0))
        for s in reading.samples
        if s.handshakes.attempts
    }


async def reading_with(rig: HaproxyRig, since: datetime, wanted: Callable[[Reading], bool]) -> Reading:
    """The first reading that is as wanted."""

    async def look() -> Reading | None:
        found = await read(rig, since)
        return found if wanted(found) else None

    return await until(look, 20)


async def test_a_reading_tells_certificates_peers_and_our_own_probes_apart(tmp_path: Path) -> None:
    async with scraped(tmp_path) as rig:
        since = datetime.now(UTC)
        await rig.change(ramp(50))
        for _ in range(10):
            await asyncio.to_thread(handshake, *public(rig), PEER)
        for _ in range(2):
            await asyncio.to_thread(refused_handshake, *public(rig), PEER)
        await asyncio.to_thread(refused_handshake, *public(rig), SCANNER)
        await asyncio.to_thread(handshake, *public(rig), PROBER)

        found = await reading_with(rig, since, lambda r: sum(map(sum, by_leaf(r).values())) == 14)
        counts = by_leaf(found)
        assert sum(counts[name, PEER][0] for name in "AB") == 10
        assert sum(counts[name, PEER][1] for name in "AB") == 2
        assert all(4 <= counts[name, PEER][0] <= 6 for name in "AB")
        assert [s.peer for s in found.samples if s.synthetic and s.handshakes.attempts] == [PROBER]
        assert sum(s.handshakes.attempts for s in found.real(peers=[PEER])) == 12
        assert {s.direction for s in found.samples} == {Direction.INBOUND}
        assert abs(found.read_at - datetime.now(UTC)) < timedelta(seconds=5)
        assert not found.reset_within()


async def test_a_process_that_starts_within_the_window_is_told(tmp_path: Path) -> None:
    async with scraped(tmp_path) as rig:
        since = datetime.now(UTC)
        await asyncio.to_thread(handshake, *public(rig), PEER)
        await reading_with(rig, since, lambda r: by_leaf(r) == {("A", PEER): (1, 0)})
        restarted = datetime.now(UTC)
        await rig.node.restart()
        await asyncio.to_thread(handshake, *public(rig), PEER)
        found = await reading_with(rig, since, lambda r: by_leaf(r) == {("A", PEER): (2, 0)})
        assert found.reset_within()
        assert found.counters_since is not None
        assert restarted <= found.counters_since <= datetime.now(UTC)


async def test_figures_of_two_nodes_add_up_and_outlive_one_of_them(tmp_path: Path) -> None:
    async with scraped(tmp_path, nodes=2) as rig:
        since = datetime.now(UTC)
        for node in rig.nodes:
            await asyncio.to_thread(handshake, node.address, node.ports["public"], PEER)
        await reading_with(rig, since, lambda r: by_leaf(r) == {("A", PEER): (2, 0)})
        await rig.nodes[1].kill()

        async def down() -> bool:
            return (await read(rig, since)).read_at < datetime.now(UTC) - timedelta(seconds=1)

        await until(down)
        assert by_leaf(await read(rig, since)) == {("A", PEER): (2, 0)}, "what it counted is not lost with it"
        await rig.nodes[1].start()

        async def whole() -> Reading | None:
            with contextlib.suppress(UnexpectedAnswer):  # it is back, and may not have been scraped yet
                return await read(rig, since)
            return None

        assert by_leaf(await until(whole)) == {("A", PEER): (2, 0)}


@pytest.mark.parametrize(("targets", "why"), [(0, "no figures"), (1, "does not scrape every node")])
async def test_nodes_that_are_not_scraped_are_missed(targets: int, why: str, tmp_path: Path) -> None:
    async with haproxy_rig(tmp_path, nodes=2) as rig:
        scraped_ones = [Target(node.metrics_target) for node in rig.nodes[:targets]]
        prometheus = Prometheus(tmp_path / "prometheus", scraped_ones)
        await prometheus.start()
        edge = type(rig.edge)("edge", profile_of(tmp_path, rig.nodes, rig.taps, metrics_url=prometheus.url))
        try:
            now = datetime.now(UTC)
            with pytest.raises(UnexpectedAnswer, match=why):
                await edge.reading(plan_endpoint(), now - timedelta(minutes=1), now)
            (problem,) = await edge.configuration_problems(TRUNK)
            assert f"Prometheus scrapes {targets} of 2 nodes" in problem
        finally:
            await edge.close()
            await prometheus.stop()


async def test_a_look_has_time_enough(tmp_path: Path) -> None:
    """The guard's look may take 2.5 s; reading two nodes and their figures takes a tenth of it on a busy machine."""
    async with scraped(tmp_path, nodes=2) as rig:
        now = datetime.now(UTC)
        took = []
        for _ in range(5):
            begun = asyncio.get_running_loop().time()
            await rig.edge.reading(plan_endpoint(), now - timedelta(minutes=1), now)
            await rig.edge.health(TRUNK)
            took.append(asyncio.get_running_loop().time() - begun)
        assert min(took) < 0.5
        assert {leaf for leaf in (await rig.state()).pool} == {A.sha256, B.sha256}
