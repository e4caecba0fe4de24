"""A stand-in for the workflow, as small as the desk's questions: it says a status, and takes or refuses answers."""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.exceptions import ApplicationError

from domain.gates import GateResult, Verdict
from domain.phases import Phase
from domain.rotation import Cause, TurnBack
from tests.desk.reports import at, certificate, passed_gate, status
from workflows.attributes import PHASE
from workflows.messages import Decision, RollbackStatus, RotationRequest, RotationStatus, Waiting

PREFER = Waiting(what="the approval `prefer`", gate="prefer", answer='{"gate": "prefer"}')


@workflow.defn(name="CertificateRotation", sandboxed=False)
class StandIn:
    """Waits for the approval `prefer`, then completes; a rollback makes it fail as the real one does."""

    @workflow.init
    def __init__(self, request: RotationRequest) -> None:
        self._plan = request.plan.name
        self._approved = False
        self._turned = False

    @workflow.run
    async def run(self, request: RotationRequest) -> str:
        await workflow.wait_condition(lambda: self._approved or self._turned)
        if self._turned:
            workflow.upsert_search_attributes([PHASE.value_set(Phase.ROLLED_BACK)])
            raise ApplicationError("rolled back to A in 2.3 s", type="RolledBack", non_retryable=True)
        workflow.upsert_search_attributes([PHASE.value_set(Phase.COMPLETED)])
        return "done"

    @workflow.update
    def approve_gate(self, payload: Any) -> Decision:
        self._approved = True
        return Decision(at=at(1), message="approve", outcome="accepted", by=payload["by"], gate=payload["gate"])

    @approve_gate.validator
    def _may_approve(self, payload: Any) -> None:
        if payload["gate"] != "prefer":
            raise ValueError(f"gate {payload['gate']!r}: unknown gate; waiting now: prefer")

    @workflow.update
    def request_rollback(self, payload: Any) -> Decision:
        self._turned = True
        return Decision(at=at(1), message="rollback", outcome="accepted", by=payload["by"], reason=payload["reason"])

    @workflow.update
    def request_pause(self, payload: Any) -> Decision:
        return Decision(at=at(1), message="pause", outcome="accepted", by=payload["by"], reason=payload["reason"])

    @workflow.update
    def request_resume(self, payload: Any) -> Decision:
        return Decision(at=at(1), message="resume", outcome="accepted", by=payload["by"])

    @request_resume.validator
    def _may_resume(self, payload: Any) -> None:
        if payload["reason"] != "it is":
            raise ValueError("it is not paused")

    @workflow.update
    def request_extension(self, payload: Any) -> Decision:
        reason = f"until then: {payload['hours']:g} h"
        return Decision(at=at(1), message="extend", outcome="accepted", by=payload["by"], reason=reason)

    @request_extension.validator
    def _may_extend(self, payload: Any) -> None:
        if payload["hours"] > 48:
            raise ValueError("A would expire before the end of the quarantine and the plan's margin")

    @workflow.query
    def status(self) -> RotationStatus:
        if not self._turned:
            phase = Phase.COMPLETED if self._approved else Phase.APPROVE_PREFER
            return status(phase, plan=self._plan, waiting=None if self._approved else PREFER)
        cause = TurnBack(cause=Cause.REQUESTED, reason="it rains", measured_at=at(1))
        rollback = RollbackStatus(turn_back=cause, started_at=at(2), a_alone_at=at(3), a_alone_seconds=2.3)
        return status(Phase.ROLLED_BACK, plan=self._plan, rollback=rollback, failure="rolled back to A in 2.3 s")


@workflow.defn(name="RotationDryRun", sandboxed=False)
class StandInDryRun:
    """Finds what the plan's name says."""

    @workflow.run
    async def run(self, request: RotationRequest) -> dict[str, Any]:
        gate = passed_gate()
        if request.plan.name.startswith("bad"):
            failed = gate.findings[0].model_copy(update={"verdict": Verdict.FAIL})
            gate = GateResult(gate="preflight", verdict=Verdict.FAIL, findings=(failed,), decided_at=at(1))
        return {"gate": gate.model_dump(mode="json"), "a": certificate("A").model_dump(mode="json")}
