"""Pause and resume: the advance stops before the next phase; guard and rollback live on."""

from __future__ import annotations

import pytest
from temporalio.client import WorkflowUpdateFailedError

from domain.phases import Phase
from tests.e2e.stage import Stage
from workflows.messages import Outcome
from workflows.rotation import CertificateRotation


async def test_a_paused_rotation_enters_no_phase_until_it_is_resumed(stage: Stage) -> None:
    rotation = await stage.start()
    await rotation.reaches("SOAK")
    await rotation.handle.signal("pause", {"by": "ann", "reason": "the carrier works on its side"})
    status = await rotation.shows(lambda s: s.waiting and "paused by ann" in s.waiting.what, "the pause")
    assert status.phase is Phase.SOAK
    assert status.paused is not None
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await rotation.handle.execute_update(CertificateRotation.request_pause, {"by": "bob"})
    assert "paused already" in str(refused.value.cause)

    decision = await rotation.handle.execute_update(CertificateRotation.request_resume, {"by": "bob"})
    assert decision.outcome == Outcome.ACCEPTED
    await rotation.completes()
    messages = [(d.message, d.by, d.outcome) for d in (await rotation.status()).decisions]
    assert messages == [("pause", "ann", Outcome.ACCEPTED), ("resume", "bob", Outcome.ACCEPTED)]


async def test_a_breach_and_a_rollback_are_heard_in_a_pause(stage: Stage) -> None:
    rotation = await stage.start()
    await rotation.reaches("SOAK")
    await rotation.handle.signal("pause", {"by": "ann"})
    await rotation.handle.signal("pause", "malformed")
    await rotation.handle.signal("resume", {"by": ""})
    await rotation.shows(lambda s: s.waiting and "paused by ann" in s.waiting.what, "the pause")
    await rotation.handle.signal("rollback", {"by": "ann"})
    assert (await rotation.fails()).type == "RolledBack"
    assert stage.lab.as_found()

    rotation = await stage.start(stage.plan(('overlap = "8s"', 'overlap = "6s"')))
    await rotation.reaches("ADOPT")
    await rotation.handle.signal("pause", {"by": "ann"})
    await rotation.shows(lambda s: s.waiting and "paused by ann" in s.waiting.what, "the pause")
    stage.lab.fault("carrier-distrusts-b")
    error = await rotation.fails()
    assert error.type == "RolledBack"
    assert "unknown_ca" in error.message
    assert stage.lab.get("/lab/state")["violations"] == []


async def test_resuming_what_is_not_paused_changes_nothing(stage: Stage) -> None:
    rotation = await stage.start(stage.plan(('overlap = "8s"', 'overlap = "10m"')))
    await rotation.handle.signal("resume", {"by": "ann"})
    status = await rotation.shows(lambda s: s.decisions, "the decision")
    assert status.decisions[0].outcome == Outcome.NOT_PAUSED
    await rotation.reaches("BIND")
    await rotation.handle.signal("rollback", {"by": "ann"})
    assert (await rotation.fails()).type == "RolledBack"
