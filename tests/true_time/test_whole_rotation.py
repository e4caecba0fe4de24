"""72 hours, 15 minutes and 24 hours as they are; and a history that does not grow with them."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from datetime import datetime

import pytest

from domain.phases import FORWARD, Phase
from tests.true_time.journey import DAY, HOUR, MINUTE, journey
from tests.true_time.two_endpoints import plan_of_two
from workflows.messages import RotationStatus

pytestmark = pytest.mark.xdist_group("true time, whole")

MOST_EVENTS = 450
"""Of a whole rotation on two endpoints."""


@dataclass(frozen=True)
class Usual:
    """What a rotation with default timings left behind."""

    status: RotationStatus
    events: Counter[str]
    all_events: int
    bound_at: datetime


@pytest.fixture(scope="module")
def usual() -> Usual:
    """The rotation with default timings, gone through once."""
    return asyncio.run(gone_through())


async def gone_through() -> Usual:
    """A rotation with default timings, to its end."""
    async with journey(plan_of_two()) as trip:
        status = await trip.completes()
        all_events = (await trip.all_events()).total()
        bound = max(effect.at for effect in status.effects if effect.action == "bind")
        return Usual(status, await trip.events(), all_events, bound)


async def test_a_rotation_with_default_timings_keeps_its_72_hours_15_minutes_and_24_hours(usual: Usual) -> None:
    entered = {time.phase: time.entered_at for time in usual.status.phases}
    assert tuple(entered) == FORWARD
    assert entered[Phase.DRAIN] - usual.bound_at >= 72 * HOUR
    assert entered[Phase.DRAIN] - usual.bound_at < 72 * HOUR + 10 * MINUTE
    assert entered[Phase.APPROVE_PREFER] - entered[Phase.SOAK] >= 15 * MINUTE
    assert entered[Phase.RESTORE] - entered[Phase.HOLD] >= 24 * HOUR
    assert entered[Phase.COMPLETED] - entered[Phase.PREFLIGHT] < 4 * DAY + HOUR
    assert usual.status.a_revoked


async def test_a_whole_rotation_on_two_endpoints_stays_below_450_events(usual: Usual) -> None:
    assert usual.all_events <= MOST_EVENTS


@pytest.mark.parametrize(
    "timings",
    [
        pytest.param({"guard_overlap": "10s", "overlap": "8h", "hold": "1h"}, id="guard every 10 s"),
        pytest.param({"guard_overlap": "300s", "guard_hot": "2s"}, id="guard every 300 s, and 2 s around changes"),
        pytest.param({"guard_overlap": "300s", "gate_interval": "3s"}, id="gates every 3 s"),
        pytest.param({"guard_overlap": "600s", "overlap": "7d"}, id="7 days of overlap"),
    ],
)
async def test_the_number_of_events_is_the_same_whatever_the_intervals_and_the_overlap(
    usual: Usual, timings: dict[str, str]
) -> None:
    async with journey(plan_of_two(**timings), lab=True) as trip:
        await trip.completes()
        assert await trip.events() == usual.events
        assert (await trip.all_events()).total() <= MOST_EVENTS
