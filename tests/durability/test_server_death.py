"""Temporal's server is killed with -9 and started again: nothing that it acknowledged is lost."""

from __future__ import annotations

import asyncio

import pytest

from lab.lab_names import GENESYS
from tests.durability.house import QUICK, House, completes
from tests.durability.steps_seen import TRUNK
from tests.durability.world_after import World, completed
from tests.e2e.stage import Stage

pytestmark = pytest.mark.durability

OVERLAP = ('overlap = "1200ms"', 'overlap = "20s"')
SIGNALS = 20


async def test_the_server_dies_in_the_overlap_and_keeps_every_signal_that_it_acknowledged(house: House) -> None:
    async with house.stage() as stage:
        await house.one_worker()
        house.taps.forget()
        before = await World.read(house)
        rotation = await stage.start(stage.plan(*QUICK, OVERLAP))
        await rotation.reaches("OVERLAP")
        senders = [f"sender {number}" for number in range(SIGNALS)]
        await asyncio.gather(
            *(rotation.handle.signal("approve", {"gate": "remove", "by": sender}) for sender in senders)
        )
        await _killed_and_started_again(house)
        await _again(stage, house)
        await completes(rotation)
        status = await rotation.status()
        assert {decision.by for decision in status.decisions} == set(senders)
        assert not any(decision.accepted for decision in status.decisions)
        await completed(house, before, status)


@pytest.mark.parametrize("held", ["hold-before", "hold-after"])
async def test_the_server_dies_while_an_acting_activity_is_under_way_and_the_rotation_completes(
    house: House, held: str
) -> None:
    """The trunk is written while there is no server to be told; the activity's end is reported when there is one."""
    async with house.stage() as stage:
        await house.one_worker()
        house.taps.forget()
        before = await World.read(house)
        bind = house.taps.rule(held, GENESYS, f"PUT {TRUNK[GENESYS]}")
        rotation = await stage.start(stage.plan(*QUICK))
        await bind.reached()
        house.temporal.kill()
        await bind.deliver()
        await asyncio.to_thread(house.temporal.start)
        await completes(rotation)
        await completed(house, before, await rotation.status())


async def _killed_and_started_again(house: House) -> None:
    house.temporal.kill()
    await asyncio.to_thread(house.temporal.start)


async def _again(stage: Stage, house: House) -> None:
    """The same client finds the server again: same port, same database."""
    assert await stage.client.service_client.check_health()
