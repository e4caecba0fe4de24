"""A breach after days of health, by the guard's interval as the plan's default has it."""

from __future__ import annotations

from domain.phases import Phase
from domain.rotation import Cause
from tests.true_time.journey import HOUR, MINUTE, Journey, journey
from tests.true_time.two_endpoints import plan_of_two

FEW = 300
"""Events of a rotation that turned back: fewer than one that completed may have, whatever the hours before."""


async def in_overlap(trip: Journey) -> None:
    """Lets the rotation go on to its overlap."""
    await trip.reaches(Phase.OVERLAP, 30 * MINUTE)


async def test_a_breach_after_70_healthy_hours_is_seen_within_one_window_and_turns_back() -> None:
    plan = plan_of_two()
    async with journey(plan) as trip:
        await in_overlap(trip)
        breaks_at = await trip.now() + 70 * HOUR
        trip.world.script.refused_from["B"] = breaks_at
        status = await trip.rolls_back()
        assert status.rollback is not None
        turned = status.rollback.turn_back
        assert turned.cause is Cause.BREACH
        assert "unknown_ca" in turned.reason
        assert breaks_at < turned.measured_at <= breaks_at + plan.timings.guard_overlap + plan.timings.guard_window
        assert status.rollback.a_alone_seconds is not None
        assert status.rollback.a_alone_seconds < 30
        assert (await trip.all_events()).total() < FEW


async def test_the_guard_watches_while_an_approval_is_waited_for() -> None:
    plan = plan_of_two(prefer=True)
    async with journey(plan) as trip:
        await trip.reaches(Phase.APPROVE_PREFER, 30 * MINUTE)
        breaks_at = await trip.now() + 20 * HOUR
        trip.world.script.refused_from["A"] = breaks_at
        status = await trip.rolls_back()
        assert status.rollback is not None
        assert [time.phase for time in status.phases][-3:] == [
            Phase.APPROVE_PREFER,
            Phase.ROLLING_BACK,
            Phase.ROLLED_BACK,
        ]
        assert status.rollback.turn_back.cause is Cause.BREACH
        turned_at = status.rollback.turn_back.measured_at
        assert breaks_at < turned_at <= breaks_at + plan.timings.guard_overlap + plan.timings.guard_window
