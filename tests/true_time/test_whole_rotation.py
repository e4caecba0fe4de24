"""72 hours, 15 minutes and 24 hours as they are; and a history that does not grow with them."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from domain.phases import FORWARD, Phase
from tests.true_time.journey import DAY, HOUR, MINUTE, journey
from tests.true_time.two_endpoints import plan_of_two

MOST_EVENTS = 450
"""Of a whole rotation on two endpoints."""


@pytest.fixture(scope="module")
def expected() -> Counter[str]:
    """The events of a rotation whose guard looks seldom: every other one has the same."""
    return asyncio.run(events_of_a_rotation_with_few_looks())


async def events_of_a_rotation_with_few_looks() -> Counter[str]:
    """The guard looks every 15 minutes in the waits, for which every profile has to be marked as a lab's."""
    async with journey(plan_of_two(guard_overlap="15m"), lab=True) as trip:
        await trip.completes()
        return await trip.events()


async def test_a_rotation_with_default_timings_keeps_its_72_hours_15_minutes_and_24_hours(
    expected: Counter[str],
) -> None:
    async with journey(plan_of_two()) as trip:
        status = await trip.completes()
        entered = {time.phase: time.entered_at for time in status.phases}
        bound_at = max(effect.at for effect in status.effects if effect.action == "bind")
        assert tuple(entered) == FORWARD
        assert entered[Phase.DRAIN] - bound_at >= 72 * HOUR
        assert entered[Phase.DRAIN] - bound_at < 72 * HOUR + 10 * MINUTE
        assert entered[Phase.APPROVE_PREFER] - entered[Phase.SOAK] >= 15 * MINUTE
        assert entered[Phase.RESTORE] - entered[Phase.HOLD] >= 24 * HOUR
        assert entered[Phase.COMPLETED] - entered[Phase.PREFLIGHT] < 4 * DAY + HOUR
        assert status.a_revoked
        assert await trip.events() == expected
        assert (await trip.all_events()).total() <= MOST_EVENTS


@pytest.mark.parametrize(
    "timings",
    [
        pytest.param(
            {"guard_overlap": "10s", "overlap": "8h", "hold": "1h"}, id="guard every 10 s", marks=pytest.mark.durability
        ),
        pytest.param({"guard_overlap": "300s", "guard_hot": "2s"}, id="guard every 300 s, and 2 s around changes"),
        pytest.param({"guard_overlap": "15m", "gate_interval": "3s"}, id="gates every 3 s"),
        pytest.param({"guard_overlap": "15m", "overlap": "7d"}, id="7 days of overlap"),
    ],
)
async def test_the_number_of_events_is_the_same_whatever_the_intervals_and_the_overlap(
    expected: Counter[str], timings: dict[str, str]
) -> None:
    async with journey(plan_of_two(**timings), lab=True) as trip:
        await trip.completes()
        assert await trip.events() == expected
        assert (await trip.all_events()).total() <= MOST_EVENTS
