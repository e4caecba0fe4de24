"""Days in which something happens that is no breach: counters reset, a quiet night, figures that cannot be had."""

from __future__ import annotations

from datetime import datetime

from domain.phases import Phase
from tests.true_time.journey import HOUR, MINUTE, Journey, journey
from tests.true_time.two_endpoints import plan_of_two
from workflows.messages import RotationStatus

MOST_EVENTS = 450
"""Of a whole rotation, these days included."""

EVENTS_AN_HOUR = 80
"""Without workflow tasks, when the guard changes its mind at every second look: it would be 200 if all were told."""


async def overlapping(trip: Journey) -> tuple[datetime, datetime]:
    """The instant at which the overlap began and the one at which it ends."""
    status = await trip.reaches(Phase.OVERLAP, 30 * MINUTE)
    assert status.overlap_until is not None
    return await trip.now(), status.overlap_until


def alerts(status: RotationStatus) -> list[str]:
    """The kinds of the alerts about sight, in their order."""
    return [alert.kind for alert in status.alerts if alert.kind in ("blind", "watching_again")]


async def test_a_reset_a_quiet_night_and_an_outage_at_the_end_of_the_overlap_are_neither_breach_nor_success() -> None:
    async with journey(plan_of_two()) as trip:
        begun, ends = await overlapping(trip)
        script = trip.world.script
        script.resets.append(begun + 30 * HOUR)
        script.quiet.append((begun + 40 * HOUR, begun + 48 * HOUR))
        script.outages.append((ends - 30 * MINUTE, ends + 30 * MINUTE))

        night = await trip.go_to(begun + 44 * HOUR)
        assert night.phase is Phase.OVERLAP
        assert night.guard is None, "a trunk that is quiet at night is no news"
        assert night.rollback is None

        blind = await trip.go_to(ends + 20 * MINUTE)
        assert blind.phase is Phase.OVERLAP, "advance is frozen while nobody sees"
        assert blind.frozen is not None
        assert "does not answer" in blind.frozen
        assert alerts(blind) == ["blind"], [(str(a.at), a.kind, a.summary) for a in blind.alerts]
        assert "does not answer" in next(alert.summary for alert in blind.alerts if alert.kind == "blind")

        status = await trip.completes()
        entered = {time.phase: time.entered_at for time in status.phases}
        assert ends + 30 * MINUTE <= entered[Phase.DRAIN] < ends + 40 * MINUTE
        assert alerts(status) == ["blind", "watching_again"]
        assert (await trip.all_events()).total() <= MOST_EVENTS


async def test_a_trunk_whose_traffic_swings_around_the_guards_sample_leaves_no_events() -> None:
    async with journey(plan_of_two()) as trip:
        begun, _ = await overlapping(trip)
        trip.world.script.light.append((begun + HOUR, begun + 4 * HOUR))
        await trip.go_to(begun + HOUR)
        before = await trip.events()
        status = await trip.go_to(begun + 4 * HOUR)
        assert status.phase is Phase.OVERLAP
        assert alerts(status) == []
        assert await trip.events() == before


async def test_figures_that_come_and_go_leave_few_events_an_hour_and_freeze_the_advance() -> None:
    async with journey(plan_of_two()) as trip:
        begun, _ = await overlapping(trip)
        gone = [begun + n * 5 * MINUTE for n in range(1, 3 * 12 + 1)]
        trip.world.script.outages += [(at, at + 2 * MINUTE) for at in gone]
        before = await trip.events()
        status = await trip.go_to(begun + 3 * HOUR)
        assert status.frozen is not None
        assert "blind" in alerts(status)
        assert (await trip.events() - before).total() < 3 * EVENTS_AN_HOUR
