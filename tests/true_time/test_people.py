"""Several desks are told, and one that cannot be reached is reported to the others without holding anything up."""

from __future__ import annotations

from domain.phases import Phase
from tests.true_time.journey import HOUR, journey
from tests.true_time.two_endpoints import plan_of_two
from workflows.rotation import CertificateRotation


async def test_a_desk_that_cannot_be_reached_is_reported_once_to_the_others_and_delays_nothing() -> None:
    plan = plan_of_two(operations=["ops", "room", "duty"], guard_overlap="15m", prefer=True)
    async with journey(plan, lab=True) as trip:
        people = trip.world.people
        people.deaf.add("room")
        await trip.reaches(Phase.APPROVE_PREFER, HOUR)
        await trip.go_to(await trip.now() + HOUR)
        await trip.handle.signal(CertificateRotation.approve, {"gate": "prefer", "by": "ann", "reason": "figures"})
        status = await trip.completes()
    assert people.read_at("room") == []
    for desk in ("ops", "duty"):
        kinds = [notice.kind for notice in people.read_at(desk)]
        assert kinds.count("notice_undelivered") == 1, kinds
        assert kinds[-1] == "completed"
    [undelivered] = [n for n in people.read_at("ops") if n.kind == "notice_undelivered"]
    assert "[notify.room]" in undelivered.summary
    lost = [alert for alert in status.alerts if alert.to == "room"]
    assert lost
    assert not any(alert.delivered for alert in lost)
