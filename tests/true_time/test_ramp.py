"""PREFER along a ramp: step after step, each as long as the plan says, each looked at before the next."""

from __future__ import annotations

from itertools import pairwise

from domain.phases import Phase
from domain.rotation import Cause, short
from tests.true_time.journey import MINUTE, journey
from tests.true_time.two_endpoints import plan_of_two

STEPS = (5, 25, 50)


async def test_b_gets_its_share_step_by_step_and_then_all_before_the_next_endpoint_turns() -> None:
    async with journey(plan_of_two(ramp=STEPS)) as trip:
        status = await trip.reaches(Phase.OVERLAP, 60 * MINUTE)
        a, b = short(trip.world.a), short(status.b.sha256) if status.b else ""
        preferred = [effect for effect in status.effects if effect.action == "prefer"]
        assert [effect.where for effect in preferred] == ["east", "east", "east", "east", "west"]
        assert [effect.after.partition("]")[0] for effect in preferred[:4]] == [
            f"[{a} 95 %, {b} 5 %",
            f"[{a} 75 %, {b} 25 %",
            f"[{b} 50 %, {a} 50 %",
            f"[{b} 100 %, {a} 0 %",
        ]
        assert all(later.at - earlier.at >= 5 * MINUTE for earlier, later in pairwise(preferred[:4]))


async def test_a_breach_on_a_step_turns_back_and_no_further_step_is_made() -> None:
    async with journey(plan_of_two(ramp=STEPS)) as trip:
        trip.world.script.refused_from["B"] = await trip.now()
        status = await trip.rolls_back()
        assert status.rollback is not None
        assert status.rollback.turn_back.cause is Cause.BREACH
        preferred = [effect.after for effect in status.effects if effect.action == "prefer"]
        assert len(preferred) == 3, "traffic is on B from the half on: the paper world draws no shares"
        assert "50 %" in preferred[-1]
