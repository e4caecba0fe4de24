"""People who change their mind in the last hour, or answer days late."""

from __future__ import annotations

import pytest

from domain.phases import Phase
from domain.rotation import Cause
from tests.true_time.journey import DAY, HOUR, MINUTE, journey
from tests.true_time.two_endpoints import plan_of_two
from workflows.messages import Outcome
from workflows.rotation import CertificateRotation

ROLLBACK = {"by": "alice", "reason": "the carrier asks for it"}


@pytest.mark.durability
async def test_a_rollback_in_hour_71_of_the_overlap_turns_back() -> None:
    async with journey(plan_of_two()) as trip:
        status = await trip.reaches(Phase.OVERLAP, 30 * MINUTE)
        assert status.overlap_until is not None
        await trip.go_to(status.overlap_until - HOUR)
        await trip.handle.signal(CertificateRotation.rollback, ROLLBACK)
        status = await trip.rolls_back()
        assert status.rollback is not None
        assert (status.rollback.turn_back.cause, status.rollback.turn_back.by) == (Cause.REQUESTED, "alice")
        assert status.rollback.a_alone_seconds is not None
        assert status.rollback.a_alone_seconds < 30


async def test_a_cancel_in_the_overlap_turns_back() -> None:
    async with journey(plan_of_two()) as trip:
        await trip.reaches(Phase.OVERLAP, 30 * MINUTE)
        await trip.go_to(await trip.now() + HOUR)
        await trip.handle.cancel()
        status = await trip.rolls_back()
        assert status.rollback is not None
        assert status.rollback.turn_back.cause is Cause.CANCELLED


@pytest.mark.durability
async def test_an_approval_two_days_late_goes_on_and_hour_23_of_the_quarantine_still_turns_back() -> None:
    async with journey(plan_of_two(prefer=True)) as trip:
        asked = (await trip.reaches(Phase.APPROVE_PREFER, 30 * MINUTE)).phases[-1].entered_at
        waiting = await trip.go_to(asked + 2 * DAY)
        assert waiting.phase is Phase.APPROVE_PREFER
        assert waiting.waiting is not None
        assert waiting.waiting.gate == "prefer"
        await trip.handle.signal(CertificateRotation.approve, {"gate": "prefer", "by": "bob", "reason": "back again"})
        # the 72 hours count from the bind, so two days of them are over
        status = await trip.reaches(Phase.OVERLAP, 30 * MINUTE)
        assert status.overlap_until is not None
        assert status.overlap_until - await trip.now() < DAY
        await trip.go_to(status.overlap_until)
        status = await trip.reaches(Phase.HOLD, HOUR)
        assert all(trip.world.a not in pool for pool in trip.world.pools())
        await trip.go_to(status.phases[-1].entered_at + 23 * HOUR)
        await trip.handle.signal(CertificateRotation.rollback, ROLLBACK)
        status = await trip.rolls_back()
        assert [time.phase for time in status.phases][-3:] == [Phase.HOLD, Phase.ROLLING_BACK, Phase.ROLLED_BACK]
        assert status.rollback is not None
        assert status.rollback.a_alone_seconds is not None
        assert status.rollback.a_alone_seconds < 30


async def test_after_the_quarantine_neither_a_signal_nor_a_cancel_turns_back() -> None:
    async with journey(plan_of_two(guard_overlap="300s"), lab=True) as trip:
        status = await trip.reaches(Phase.OVERLAP, 30 * MINUTE)
        assert status.overlap_until is not None
        await trip.go_to(status.overlap_until)
        status = await trip.reaches(Phase.HOLD, HOUR)
        trip.world.script.read_only = True  # RESTORE takes its time
        await trip.go_to(status.phases[-1].entered_at + 24 * HOUR + 5 * MINUTE)
        await trip.handle.signal(CertificateRotation.rollback, ROLLBACK)
        await trip.handle.cancel()
        status = await trip.go_to(await trip.now() + 5 * MINUTE)
        assert status.phase is Phase.RESTORE
        assert [decision.outcome for decision in status.decisions] == [Outcome.TOO_LATE, Outcome.TOO_LATE]
        assert "action_failing" in [alert.kind for alert in status.alerts]
        trip.world.script.read_only = False
        status = await trip.completes()
        assert all(trip.world.a not in pool for pool in trip.world.pools())
        assert status.a_revoked
