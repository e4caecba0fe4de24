"""What may happen in a wait: it is made longer, A's expiry comes near in it, or nobody sees the trunk for too long."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from temporalio.client import WorkflowUpdateFailedError

from domain.phases import Phase
from tests.e2e.stage import Stage
from tests.e2e.test_rolling_back import assert_a_alone_and_b_gone
from workflows.messages import Outcome, RotationStatus
from workflows.rotation import CertificateRotation

OVERLAP = 'overlap = "8s"'
APPROVED = ("prefer = false", "prefer = true")
A_LITTLE_H = 0.001
"""3.6 seconds."""
A_LITTLE = {"hours": A_LITTLE_H, "by": "ann", "reason": "the carrier's holiday"}


def entered(status: RotationStatus, phase: Phase) -> datetime:
    return next(time.entered_at for time in status.phases if time.phase is phase)


async def test_an_overlap_is_made_longer_while_it_lasts(stage: Stage) -> None:
    rotation = await stage.start(stage.plan((OVERLAP, 'overlap = "10m"')))
    with pytest.raises(WorkflowUpdateFailedError) as early:
        await rotation.handle.execute_update(CertificateRotation.request_extension, A_LITTLE)
    assert "the overlap begins when B is bound" in str(early.value.cause)

    before = (await rotation.reaches("OVERLAP")).overlap_until
    assert before is not None
    decision = await rotation.handle.execute_update(CertificateRotation.request_extension, A_LITTLE)
    assert decision.outcome == Outcome.ACCEPTED
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await rotation.handle.execute_update(CertificateRotation.request_extension, {**A_LITTLE, "hours": 24 * 90})
    assert "A would expire" in str(refused.value.cause)
    later = before + timedelta(hours=A_LITTLE_H)
    status = await rotation.shows(lambda s: s.waiting and s.waiting.until == later, "the timer set anew")
    assert status.overlap_until == later
    await rotation.handle.signal("rollback", {"by": "ann"})
    assert (await rotation.fails()).type == "RolledBack"


async def test_an_overlap_that_was_made_longer_lasts_so_long_and_the_message_is_kept(stage: Stage) -> None:
    rotation = await stage.start()
    before = (await rotation.reaches("READINESS")).overlap_until
    assert before is not None
    await rotation.handle.signal("extend", A_LITTLE)
    await rotation.handle.signal("extend", {**A_LITTLE, "hours": -1})
    await rotation.handle.signal("extend", A_LITTLE)
    status = await rotation.reaches("DRAIN")
    assert status.overlap_until == before + timedelta(hours=2 * A_LITTLE_H)
    assert entered(status, Phase.DRAIN) >= status.overlap_until
    await rotation.handle.signal("extend", A_LITTLE)
    await rotation.completes()
    status = await rotation.status()
    assert [(d.message, d.by, d.outcome) for d in status.decisions] == [
        ("extend", "ann", Outcome.ACCEPTED),
        ("extend", None, Outcome.MALFORMED),
        ("extend", "ann", Outcome.ACCEPTED),
        ("extend", "ann", Outcome.OVERLAP_OVER),
    ]
    assert status.decisions[0].reason.endswith("UTC: the carrier's holiday")
    evidence = [entry for entry in (await rotation.evidence()).entries if entry.kind == "decision"]
    assert len(evidence) == 4


async def test_a_rotation_that_waits_tells_when_a_is_about_to_expire(stage: Stage) -> None:
    a = x509.load_pem_x509_certificate((await stage.leaf_served()).encode())
    near = (a.not_valid_after_utc - datetime.now(UTC)).total_seconds() - 30
    levels = ", ".join(f'"{seconds:.0f}s"' for seconds in (near, near - 1, near + 3600))
    rotation = await stage.start(stage.plan(APPROVED, (OVERLAP, f"{OVERLAP}\nexpiry_alerts = [{levels}]")))
    await rotation.reaches("APPROVE_PREFER")
    status = await rotation.shows(lambda s: any(a.kind == "expiry_imminent" for a in s.alerts), "both alerts")
    told = [alert for alert in status.alerts if alert.kind.startswith("expiry")]
    assert [alert.kind for alert in told] == ["expiry_near", "expiry_imminent"]
    assert all("A expires in" in alert.summary for alert in told)
    assert all(" UTC, and the rotation waits for " in alert.summary for alert in told)
    assert status.phase is Phase.APPROVE_PREFER
    await rotation.handle.signal("approve", {"gate": "prefer", "by": "ann"})
    await rotation.completes()


async def test_a_plan_may_turn_back_when_nobody_has_seen_the_trunk_for_so_long(stage: Stage) -> None:
    rotation = await stage.start(stage.plan(APPROVED, (OVERLAP, f'{OVERLAP}\nblind_rollback_after = "3s"')))
    await rotation.reaches("APPROVE_PREFER")
    stage.lab.post("/lab/metrics", {"trunk": "genesys", "frozen": True})
    try:
        error = await rotation.fails()
    finally:
        stage.lab.post("/lab/metrics", {"trunk": "genesys", "frozen": False})
    assert error.type == "RolledBack"
    assert "blind for too long: the guard has seen nothing for 3s: " in error.message
    await assert_a_alone_and_b_gone(stage, rotation)


async def test_a_source_that_comes_back_in_time_turns_nothing_back(stage: Stage) -> None:
    rotation = await stage.start(stage.plan(APPROVED, (OVERLAP, f'{OVERLAP}\nblind_rollback_after = "60s"')))
    await rotation.reaches("APPROVE_PREFER")
    stage.lab.post("/lab/metrics", {"trunk": "genesys", "frozen": True})
    await rotation.shows(lambda s: s.frozen, "blindness")
    stage.lab.post("/lab/metrics", {"trunk": "genesys", "frozen": False})
    await rotation.shows(lambda s: s.frozen is None, "sight")
    await rotation.handle.signal("approve", {"gate": "prefer", "by": "ann"})
    await rotation.completes()
    cancelled = (await rotation.history_json()).count("EVENT_TYPE_TIMER_CANCELED")
    assert cancelled >= 1, "the patience ended with the blindness"
