"""Approvals: awaited, given early, twice, for the wrong gate, malformed; none of it ever fails the workflow."""

from __future__ import annotations

import pytest
from temporalio.client import Client, WorkflowUpdateFailedError

from domain.gates import Verdict
from domain.phases import Phase
from tests.e2e.stage import Stage
from workflows.messages import Approval, Outcome
from workflows.rotation import CertificateRotation

APPROVALS = (("prefer = false", "prefer = true"), ("remove = false", "remove = true"))


async def test_approvals_are_awaited_and_early_repeated_wrong_or_malformed_ones_change_nothing(stage: Stage) -> None:
    rotation = await stage.start(stage.plan(*APPROVALS))

    # early: before the gate waits; it must be sent again
    await rotation.handle.signal("approve", {"gate": "prefer", "by": "eager"})
    await rotation.handle.signal("approve", {"gate": "remove", "by": "eager"})
    status = await rotation.shows(lambda s: s.waiting and s.waiting.gate == "prefer", "the approval `prefer`")
    assert [d.outcome for d in status.decisions] == [Outcome.EARLY, Outcome.EARLY]
    assert status.waiting is not None
    assert '"gate": "prefer"' in (status.waiting.answer or "")

    # wrong and malformed, as a person could send them
    await rotation.handle.signal("approve", {"gate": "remove", "by": "hasty"})
    await rotation.handle.signal("approve", {"gate": "perfer", "by": "typo"})
    await rotation.handle.signal("approve", "yes please")
    await rotation.handle.signal("approve", {"gate": "prefer"})
    await rotation.handle.signal("rollback", {"reason": 7})
    status = await rotation.shows(lambda s: len(s.decisions) == 7, "all messages recorded")
    assert [d.outcome for d in status.decisions[2:]] == [
        Outcome.EARLY,
        Outcome.UNKNOWN,
        Outcome.MALFORMED,
        Outcome.MALFORMED,
        Outcome.MALFORMED,
    ]
    assert "by: Field required" in status.decisions[5].reason
    assert status.phase is Phase.APPROVE_PREFER
    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await rotation.handle.execute_update(CertificateRotation.approve_gate, Approval(gate="remove", by="x"))
    assert "waiting now: prefer" in str(refused.value.cause)

    # the right one, by update, with an answer
    decision = await rotation.handle.execute_update(
        CertificateRotation.approve_gate, Approval(gate="prefer", by="ann", reason="figures are fine")
    )
    assert decision.outcome == Outcome.ACCEPTED
    await rotation.handle.signal("approve", {"gate": "prefer", "by": "bob"})
    status = await rotation.reaches("PREFER")
    assert status.decisions[-1].outcome == Outcome.REPEATED

    # the second by signal in plain text, as a Web UI without codec server or `temporal workflow signal` sends it
    await rotation.shows(lambda s: s.waiting and s.waiting.gate == "remove", "the approval `remove`")
    plain = await Client.connect(stage.client.service_client.config.target_host)
    by_hand = plain.get_workflow_handle(rotation.handle.id)
    await by_hand.signal("approve", "not even an object")
    await by_hand.signal("approve")
    await by_hand.signal("approve", args=[{"gate": "remove", "by": "eve"}, "one too many"])
    await by_hand.signal("approve", {"gate": "remove", "by": "ann", "reason": "no calls on A"})
    await rotation.completes()
    status = await rotation.status()
    accepted = [(d.gate, d.by) for d in status.decisions if d.accepted]
    assert accepted == [("prefer", "ann"), ("remove", "ann")]
    evidence = await rotation.evidence()
    assert len([e for e in evidence.entries if e.kind == "decision"]) == len(status.decisions)


async def test_a_breach_during_an_approval_wait_rolls_back(stage: Stage) -> None:
    rotation = await stage.start(stage.plan(("remove = false", "remove = true")))
    await rotation.shows(lambda s: s.waiting and s.waiting.gate == "remove", "the approval `remove`")
    stage.lab.fault("carrier-distrusts-b")
    error = await rotation.fails()
    assert error.type == "RolledBack"
    status = await rotation.status()
    assert status.phase is Phase.ROLLED_BACK
    assert status.rollback is not None
    assert status.rollback.turn_back.cause == "breach"
    assert not any(d.accepted for d in status.decisions)
    assert stage.lab.get("/lab/state")["violations"] == []


async def test_an_undecided_gate_waits_for_a_person_and_an_override_is_never_a_pass(stage: Stage) -> None:
    """A window too short for the sample: ADOPT cannot be decided in its time."""
    plan = stage.plan(('adopt_window = "5s"', 'adopt_window = "50ms"\nadopt_deadline = "2s"'))
    rotation = await stage.start(plan)
    status = await rotation.shows(lambda s: s.waiting and s.waiting.gate == "adopt", "the gate `adopt` to ask")
    result = next(gate for gate in status.gates if gate.gate == "adopt")
    assert result.verdict is Verdict.INCONCLUSIVE
    await rotation.handle.signal("approve", {"gate": "adopt", "by": "ann", "reason": "I count myself"})
    status = await rotation.reaches("OVERLAP")
    result = next(gate for gate in status.gates if gate.gate == "adopt")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.overridden_by == "ann"
    await rotation.handle.signal("rollback", {"by": "ann"})
    assert (await rotation.fails()).type == "RolledBack"
