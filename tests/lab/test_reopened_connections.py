"""Dialogs outlive their connections: closed in an orderly way, lost, or kept for ever, on real TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from lab.call_mix import CallMix, CallShape
from lab.calls import CallResult
from lab.dialogs import Side
from lab.ledger import Direction
from tests.lab.one_trunk import INBOUND, OUTBOUND, Pki, Trunk, call_setups, counted, handshakes, running, until

DIRECTIONS: tuple[Direction, ...] = ("INBOUND", "OUTBOUND")
BOTH_WAYS = pytest.mark.parametrize("direction", ["INBOUND", "OUTBOUND"])


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@pytest_asyncio.fixture
async def mutual(pki: Pki) -> AsyncIterator[Trunk]:
    """A trunk with mutual TLS, with a quiet carrier."""
    async with running(pki, mutual=True) as trunk:
        yield trunk


async def talking(trunk: Trunk, shape: CallShape) -> asyncio.Task[CallResult]:
    """A call that has been answered."""
    call = asyncio.create_task(trunk.call(shape))
    leaf = trunk.pki.a.sha256
    await until(lambda: call_setups(trunk.edge.ledger, shape.direction, leaf)[0] == 1)
    await until(lambda: trunk.edge.active_calls() == {leaf: 1})
    return call


def on_b(trunk: Trunk, direction: Direction) -> tuple[int, int]:
    """Good handshakes on B, as both sides counted them."""
    leaf = trunk.pki.b.sha256
    return handshakes(trunk.edge.ledger, direction, leaf)[0], handshakes(trunk.carrier_ledger, direction, leaf)[0]


@BOTH_WAYS
@pytest.mark.parametrize("bye_from", ["caller", "callee"])
async def test_a_dialog_goes_on_over_a_new_connection_with_the_certificate_served_then(
    mutual: Trunk, direction: Direction, bye_from: Side
) -> None:
    shape = CallShape(direction, hold_s=1.0, reinvite=True, bye_from=bye_from, new_connection=True)
    call = await talking(mutual, shape)
    mutual.edge.serve([mutual.pki.b, mutual.pki.a])
    assert await mutual.edge.close_connections(mutual.pki.a.sha256) == 1
    # on no certificate until its next request
    assert mutual.edge.active_calls() == {}
    assert mutual.edge.waiting_calls == 1
    await until(lambda: mutual.edge.active_calls() == {mutual.pki.b.sha256: 1})
    assert mutual.edge.waiting_calls == 0
    assert (await call).loss is None
    assert on_b(mutual, direction) == (1, 1)
    # the setup counts once, on the certificate on which it happened
    assert call_setups(mutual.edge.ledger, direction, mutual.pki.b.sha256) == (0, {})
    await until(lambda: mutual.edge.active_calls() == {})


@BOTH_WAYS
async def test_the_bye_alone_opens_a_connection(mutual: Trunk, direction: Direction) -> None:
    shape = CallShape(direction, hold_s=0.5, reinvite=False, bye_from="caller", new_connection=True)
    call = await talking(mutual, shape)
    mutual.edge.serve([mutual.pki.b])
    await mutual.edge.close_connections(mutual.pki.a.sha256)
    assert (await call).loss is None
    assert on_b(mutual, direction) == (1, 1)


async def test_a_callee_that_cannot_dial_is_hung_up_on(mutual: Trunk) -> None:
    shape = CallShape("INBOUND", hold_s=0.4, reinvite=False, bye_from="callee", new_connection=True)
    call = await talking(mutual, shape)
    await mutual.edge.close_connections(mutual.pki.a.sha256)
    assert (await call).loss is None
    await until(lambda: mutual.edge.waiting_calls == 0)


async def test_a_dialog_whose_peer_refuses_the_certificate_served_then_is_lost(mutual: Trunk) -> None:
    shape = CallShape("INBOUND", hold_s=0.4, reinvite=False, bye_from="caller", new_connection=True)
    call = await talking(mutual, shape)
    mutual.carrier.set_trust(mutual.pki.intermediate_a.pem, True)
    mutual.edge.serve([mutual.pki.b])
    await mutual.edge.close_connections(mutual.pki.a.sha256)
    assert (await call).loss == "dropped tls unknown_ca"
    assert handshakes(mutual.edge.ledger, "INBOUND", mutual.pki.b.sha256) == (0, {"unknown_ca": 1})


async def test_only_connections_of_the_named_certificate_close(mutual: Trunk) -> None:
    call = await talking(mutual, CallShape("INBOUND", 0.6, reinvite=False, bye_from="caller", new_connection=True))
    assert await mutual.edge.close_connections(mutual.pki.b.sha256) == 0
    assert mutual.edge.active_calls() == {mutual.pki.a.sha256: 1}
    assert (await call).loss is None
    assert handshakes(mutual.edge.ledger, "INBOUND", mutual.pki.a.sha256) == (1, {})


def placed_at_least(trunk: Trunk, count: int) -> bool:
    return trunk.carrier.stats()["pstn"].placed >= count


async def test_orderly_closes_under_load_lose_no_call(pki: Pki) -> None:
    """Again and again, both ways, while calls are set up, changed and ended on the very connections."""
    mix = CallMix(long_s=2.0, long_every_s=0.5)
    async with running(pki, mutual=True, calls_per_s=30, mix=mix, placing=True) as trunk:
        closed = 0
        for pool in ([pki.b, pki.a], [pki.a, pki.b]) * 3:
            placed = trunk.carrier.stats()["pstn"].placed
            trunk.edge.serve(pool)
            for leaf in (pki.a, pki.b):
                closed += await trunk.edge.close_connections(leaf.sha256)
            await until(partial(placed_at_least, trunk, placed + 15))
        trunk.carrier.stop_placing()
        assert await trunk.carrier.drain(8)
        stats = trunk.carrier.stats()["pstn"]
        assert closed > 6
        assert (stats.lost, stats.completed) == (0, stats.placed), stats.losses
        assert counted(trunk.edge.ledger)
        await until(lambda: trunk.edge.waiting_calls == 0)


async def test_dialogs_survive_a_node_that_fails_and_comes_back_and_a_restart_loses_them(mutual: Trunk) -> None:
    call = await talking(mutual, CallShape("INBOUND", 1.0, reinvite=False, bye_from="caller", new_connection=True))
    await mutual.edge.fail()
    assert (mutual.edge.up(), mutual.edge.active_calls(), mutual.edge.waiting_calls) == (False, {}, 1)
    assert (await mutual.call(INBOUND)).loss == "tcp refused"
    await mutual.edge.start()
    assert (await call).loss is None

    call = asyncio.create_task(mutual.call(CallShape("INBOUND", 0.5, False, "caller", new_connection=True)))
    await until(lambda: call_setups(mutual.edge.ledger, "INBOUND", mutual.pki.a.sha256)[0] == 2)
    await mutual.edge.stop()
    await mutual.edge.start()
    assert (await call).loss == "BYE sip 481"


async def test_on_a_persistent_trunk_every_call_keeps_the_first_certificate_until_its_connection_closes(
    mutual: Trunk,
) -> None:
    mutual.carrier.set_persistent("pstn", True)
    mutual.edge.set_persistent(True)
    a, b = mutual.pki.a.sha256, mutual.pki.b.sha256
    both = [INBOUND, OUTBOUND] * 3
    assert [result.loss for result in await asyncio.gather(*(mutual.call(shape) for shape in both))] == [None] * 6
    mutual.edge.serve([mutual.pki.b, mutual.pki.a])
    assert [result.loss for result in await asyncio.gather(*(mutual.call(shape) for shape in both))] == [None] * 6
    for direction in DIRECTIONS:
        assert handshakes(mutual.edge.ledger, direction, a) == (1, {})
        assert call_setups(mutual.edge.ledger, direction, a) == (6, {})
        assert handshakes(mutual.edge.ledger, direction, b) == (0, {})

    assert await mutual.edge.close_connections(a) == 2
    assert [result.loss for result in await asyncio.gather(*(mutual.call(shape) for shape in both))] == [None] * 6
    for direction in DIRECTIONS:
        assert handshakes(mutual.edge.ledger, direction, b) == (1, {})
        assert call_setups(mutual.edge.ledger, direction, b) == (3, {})

    mutual.carrier.set_persistent("pstn", False)
    mutual.edge.set_persistent(False)
    assert (await mutual.call(INBOUND)).loss is None
    assert handshakes(mutual.edge.ledger, "INBOUND", b) == (2, {})
