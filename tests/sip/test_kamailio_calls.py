"""Calls across a rotation on a real Kamailio: counted by certificate, never cut, connections closed only at rest."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from adapters.edges.base import EdgeHealth
from adapters.edges.kamailio.edge import KamailioEdge
from domain.errors import RequestRefused, UnexpectedAnswer
from domain.handshakes import Reading
from domain.plan import Direction
from tests.adapters.endpoints import endpoint
from tests.adapters.trunk_leaves import trunk_leaf
from tests.sip.kamailio_node import TOKEN, TRUNK
from tests.sip.kamailio_rig import A_ALONE, BACK, BIND, CALLS_FROM, PREFER, A, B, Rig, kamailio_rig, profile
from tests.sip.programs import until
from tests.sip.scraping import Prometheus, Target

pytestmark = pytest.mark.sip

PROBER = "127.0.0.5"
ENDPOINT = endpoint(trunk=TRUNK, peers=[CALLS_FROM], probe_addresses=[PROBER])


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    """One node that serves A alone and calls out with it."""
    async with kamailio_rig(tmp_path, outbound=True) as running:
        yield running


async def health(rig: Rig) -> EdgeHealth:
    return await rig.edge.health(TRUNK)


async def calls(rig: Rig) -> dict[str, int]:
    """Live calls by certificate."""
    return dict((await health(rig)).active_calls)


# -- live calls --------------------------------------------------------------------------------------------------------


async def test_live_calls_are_counted_on_the_certificate_of_their_setup_across_a_switch(rig: Rig) -> None:
    await rig.upload_b()
    await rig.change(BIND)
    with closing(rig.caller()) as before:
        on_a = before.call()
        assert await calls(rig) == {A.sha256: 1, B.sha256: 0}
        await rig.change(PREFER)
        with closing(rig.caller()) as after:
            assert (before.served, after.served) == (A.sha256, B.sha256)
            on_b = after.call()
            assert before.in_dialog(on_a, "INVITE") == 200, "a re-INVITE on the old connection"
            assert await calls(rig) == {A.sha256: 1, B.sha256: 1}
            assert before.in_dialog(on_a, "BYE") == 200
            assert await calls(rig) == {A.sha256: 0, B.sha256: 1}
            assert after.in_dialog(on_b, "BYE") == 200
    assert await calls(rig) == {A.sha256: 0, B.sha256: 0}


async def test_a_ringing_call_counts_and_one_that_is_refused_does_not(rig: Rig) -> None:
    with closing(rig.caller()) as one:
        call_id = one.send_invite("late")
        await _until_calls(rig, {A.sha256: 1})
        rig.core.answer_late(call_id, 486)
        assert one.final().status == 486
        await _until_calls(rig, {A.sha256: 0})


async def test_a_bye_comes_from_either_side_also_on_another_connection(rig: Rig) -> None:
    await rig.upload_b()
    await rig.change(BIND)
    assert rig.carrier is not None
    with closing(rig.caller()) as one:
        one.contact = rig.carrier.uri  # where the carrier can be called back: it listens there
        first, second = one.call(), one.call()
        await rig.change(PREFER)
    with closing(rig.caller()) as again:
        assert again.served == B.sha256
        assert again.in_dialog(first, "BYE") == 200
    assert rig.core.hang_up(second.call_id) == 200
    assert rig.carrier.presented == [B.sha256], "the BYE opened a connection to the carrier, with B"
    assert await calls(rig) == {A.sha256: 0, B.sha256: 0}


async def test_a_call_whose_connection_has_closed_is_on_no_certificate(rig: Rig) -> None:
    with closing(rig.caller()) as one, closing(rig.caller()) as other:
        other.options()
        one.call()
        one.close()
        await until(lambda: _connections(rig, 1), "the call's connection to be closed")
        assert await calls(rig) == {A.sha256: 1}, "it could have been the other one's"
    await _until_calls(rig, {A.sha256: 0})


async def test_calls_on_a_certificate_that_nobody_knows_any_more_are_not_overlooked(rig: Rig) -> None:
    await rig.upload_b()
    for step in (BIND, PREFER):
        await rig.change(step)
    with closing(rig.caller()) as one:
        one.call()
        for step in (BACK, A_ALONE):
            await rig.change(step)
        await rig.edge.delete_certificate(B.sha256)
        with pytest.raises(UnexpectedAnswer, match="calls are active"):
            await health(rig)


async def test_a_restart_says_since_when_it_counts(rig: Rig) -> None:
    first = (await health(rig)).counting_since
    assert first is not None
    assert abs(datetime.now(UTC) - first) < timedelta(minutes=1)
    await asyncio.sleep(1.1)  # it tells whole seconds
    await asyncio.to_thread(rig.node.restart, killed=True)
    again = (await health(rig)).counting_since
    assert again is not None
    assert again > first


async def test_two_nodes_count_together(tmp_path: Path) -> None:
    async with kamailio_rig(tmp_path, nodes=2) as rig:
        for number in (0, 1):
            rig.caller(number=number).call()
        assert await calls(rig) == {A.sha256: 2}


# -- an orderly close --------------------------------------------------------------------------------------------------


async def test_connections_on_a_are_closed_in_order_and_whoever_comes_back_is_served_b(rig: Rig) -> None:
    await rig.upload_b()
    for step in (BIND, PREFER):
        await rig.change(step)
    await rig.change(BACK)
    with closing(rig.caller()) as quiet, closing(rig.caller()) as talking:
        assert quiet.options() == 200
        dialog = talking.call()
        await rig.change(PREFER)
        with closing(rig.caller()) as on_b:
            assert on_b.options() == 200
            assert await rig.edge.close_connections(TRUNK, A.sha256) == 2
            assert quiet.closed_in_order()
            assert talking.closed_in_order()
            assert on_b.still_open()
            assert on_b.in_dialog(dialog, "BYE") == 200, "the call lives on, on another connection"
    assert await rig.edge.close_connections(TRUNK, A.sha256) == 0
    assert await calls(rig) == {A.sha256: 0, B.sha256: 0}


async def test_a_connection_with_a_call_being_set_up_stays_until_it_is_acknowledged(rig: Rig) -> None:
    with closing(rig.caller()) as one:
        call_id = one.send_invite("late")
        await _until_calls(rig, {A.sha256: 1})
        assert await rig.edge.close_connections(TRUNK, A.sha256) == 1
        assert one.still_open()
        rig.core.answer_late(call_id)
        answer = one.final()
        assert answer.status == 200
        assert one.still_open(), "its ACK is still to come"
        one.acknowledged(answer)
        assert one.closed_in_order()


async def test_more_connections_than_a_loop_usually_takes_are_closed(rig: Rig) -> None:
    many = [rig.caller() for _ in range(130)]
    assert {one.options() for one in many} == {200}
    assert await rig.edge.close_connections(TRUNK, A.sha256) == 130
    assert all(one.closed_in_order() for one in many)


async def test_only_a_certificate_that_is_there_can_be_closed_on(rig: Rig) -> None:
    with pytest.raises(RequestRefused, match="cannot be told apart"):
        await rig.edge.close_connections(TRUNK, trunk_leaf("foreign").sha256)


# -- outbound, mutual TLS ----------------------------------------------------------------------------------------------


async def test_calls_to_the_carrier_present_what_the_trunk_prefers(rig: Rig) -> None:
    assert rig.carrier is not None
    await rig.upload_b()
    await rig.change(BIND)
    assert rig.core.call_out().status == 200
    assert rig.carrier.presented == [A.sha256]
    await rig.change(PREFER)
    assert rig.core.call_out().status == 200
    assert rig.carrier.presented == [A.sha256], "the connection that there was"
    assert await calls(rig) == {A.sha256: 2, B.sha256: 0}
    assert await rig.edge.close_connections(TRUNK, A.sha256) == 1
    await until(lambda: _connections(rig, 0), "the outbound connection to be closed")
    assert rig.core.call_out().status == 200
    assert rig.carrier.presented == [A.sha256, B.sha256]
    assert await calls(rig) == {A.sha256: 0, B.sha256: 1}, "whatever comes in the first two calls comes with B"
    await rig.change(BACK)
    await rig.edge.close_connections(TRUNK, B.sha256)
    await until(lambda: _connections(rig, 0), "the outbound connection to be closed")
    assert rig.core.call_out().status == 200
    assert rig.carrier.presented == [A.sha256, B.sha256, A.sha256]


# -- figures of a window, from a real Prometheus -----------------------------------------------------------------------


async def test_calls_are_counted_by_certificate_peer_and_outcome(tmp_path: Path) -> None:
    async with figures(tmp_path) as (rig, read, settled):
        since = datetime.now(UTC)
        await rig.upload_b()
        await rig.change(BIND)
        with closing(rig.caller()) as one:
            for user, status in (("echo", 200), ("echo", 200), ("486", 486), ("603", 603), ("404", 404), ("503", 500)):
                one.send_invite(user)
                answer = one.final()
                assert answer.status == status
                if status == 200:
                    one.acknowledged(answer)
        await rig.change(PREFER)
        with closing(rig.caller()) as one, closing(rig.caller(PROBER)) as prober:
            one.call()
            assert prober.options() == 200
        assert rig.core.call_out().status == 200
        await settled(6 + 1 + 1)
        found = await read(since)
        assert found.counters_since is None or found.counters_since <= since
        assert abs(found.read_at - datetime.now(UTC)) < timedelta(seconds=10)
        shown = {
            (s.sha256, s.direction, s.peer, s.synthetic): (s.handshakes.successes, s.call_setups.text())
            for s in found.samples
        }
        assert shown == {
            (A.sha256, Direction.INBOUND, CALLS_FROM, False): (1, "4 of 6 (66.66 %): 1 × 404, 1 × 503"),
            (B.sha256, Direction.INBOUND, CALLS_FROM, False): (1, "1 of 1 (100.00 %)"),
            (B.sha256, Direction.INBOUND, PROBER, True): (1, "no attempts"),
            (B.sha256, Direction.OUTBOUND, CALLS_FROM, False): (1, "1 of 1 (100.00 %)"),
        }


async def test_a_call_that_the_carrier_never_took_has_no_certificate(tmp_path: Path) -> None:
    """Nobody knows what a handshake that failed would have presented; as a failure of the trunk it counts."""
    async with figures(tmp_path) as (rig, read, settled):
        since = datetime.now(UTC)
        assert rig.carrier is not None
        rig.carrier.close()
        assert rig.core.call_out().status >= 400
        await settled(1)
        (sample,) = (await read(since)).samples
        assert (sample.sha256, sample.direction, sample.peer) == (None, Direction.OUTBOUND, None)
        assert 'certificate="none",direction="outbound",peer=""' in await _metrics(rig)
        assert (sample.call_setups.attempts, sample.call_setups.successes) == (1, 0)


async def test_counters_of_another_process_say_so(tmp_path: Path) -> None:
    async with figures(tmp_path) as (rig, read, settled):
        since = datetime.now(UTC)
        with closing(rig.caller()) as one:
            one.call()
        await settled(1)
        await asyncio.to_thread(rig.node.restart, killed=True)
        with closing(rig.caller()) as one:
            one.call()

        async def told() -> bool:
            return (await read(since)).reset_within()

        await until(told, "the reading to tell of the new process")


async def test_a_node_that_is_not_scraped_is_told(tmp_path: Path) -> None:
    async with figures(tmp_path) as (rig, read, _):
        await asyncio.to_thread(rig.node.kill)

        async def gone() -> bool:
            try:
                await read(datetime.now(UTC) - timedelta(seconds=30))
            except UnexpectedAnswer as error:
                return "0 of 1" in str(error) or "no figures" in str(error)
            return False

        await until(gone, "the reading to tell that the node is not there")


# -- parts -------------------------------------------------------------------------------------------------------------


Read = Callable[[datetime], Awaitable[Reading]]
Settled = Callable[[int], Awaitable[None]]


@asynccontextmanager
async def figures(folder: Path) -> AsyncIterator[tuple[Rig, Read, Settled]]:
    """The rig under a Prometheus; what the adapter reads from a moment on; a wait until so many calls are scraped."""
    async with kamailio_rig(folder, outbound=True) as rig:
        prometheus = Prometheus(folder / "prometheus", [Target(rig.node.control_url.removeprefix("http://"), TOKEN)])
        await prometheus.start()
        edge = KamailioEdge("edge", profile(folder, rig.nodes, outbound=True, metrics_url=prometheus.url))
        try:

            async def read(since: datetime) -> Reading:
                return await edge.reading(ENDPOINT, since, datetime.now(UTC))

            async def settled(count: int) -> None:
                await prometheus.reaches("sip_edge_calls_total", count)

            yield rig, read, settled
        finally:
            await edge.close()
            await prometheus.stop()


async def _until_calls(rig: Rig, wanted: dict[str, int]) -> None:
    async def there() -> bool:
        return await calls(rig) == wanted

    await until(there, f"live calls to be {wanted}")


async def _connections(rig: Rig, wanted: int) -> bool:
    """Whether so many TLS connections are open, as Kamailio itself counts them."""
    counts = re.findall(r"^sip_edge_connections\{[^}]*\} (\d+)$", await _metrics(rig), re.M)
    return sum(map(int, counts)) == wanted


async def _metrics(rig: Rig) -> str:
    """What Prometheus is shown."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with httpx.AsyncClient(base_url=rig.node.control_url, headers=headers, trust_env=False) as client:
        return (await client.get("/metrics")).text
