"""`CertificateRotation`: one certificate, A → B, on one or more trunk endpoints. It reads like the guide."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from domain.phases import ABORTABLE, Phase
    from domain.rotation import Cause, run_key
    from workflows.messages import (
        Approval,
        Decision,
        Evidence,
        ExtendRequest,
        LeftoverChoice,
        Outcome,
        PauseRequest,
        RollbackRequest,
        RotationRequest,
        RotationStatus,
        RotationSummary,
        parse_message,
    )

from workflows.conduct import Conduct, TurnedBack, failure_text
from workflows.guard import Guard
from workflows.received import Sent, is_plaintext, one_payload, received
from workflows.state import RotationState
from workflows.steps import Steps
from workflows.turning_back import TurningBack


@workflow.defn(name="CertificateRotation")
class CertificateRotation:
    """The contract of every phase is the comment of `domain.phases`."""

    @workflow.init
    def __init__(self, request: RotationRequest) -> None:
        info = workflow.info()
        key = run_key(request.plan.name, info.workflow_id, info.first_execution_run_id)
        self._state = RotationState(request.plan, info.workflow_id, key, request.started_by)
        self._conduct = Conduct(self._state)
        self._guard = Guard(self._conduct)

    @workflow.run
    async def run(self, request: RotationRequest) -> RotationSummary:
        """Completes only in COMPLETED; fails with type RolledBack or Aborted. A cancel never ends it by itself."""
        rotation = asyncio.create_task(self._rotate(request.leftovers))
        while True:
            try:
                return await asyncio.shield(rotation)
            except asyncio.CancelledError:
                if workflow.cancellation_reason() is None:
                    raise
                self._cancelled()

    async def _ten_steps(self, leftovers: LeftoverChoice) -> None:
        steps = Steps(self._conduct, self._guard)
        await steps.preflight(leftovers)
        await steps.issue()  # 1
        await steps.upload()  # 2
        await steps.bind()  # 3
        await steps.readiness()  # 4
        await steps.soak()  # 5
        await steps.approval(Phase.APPROVE_PREFER, "prefer")
        await steps.prefer()  # 6
        await steps.verify()  # 7
        await steps.adopt()  # 8
        await steps.overlap()
        await steps.drain()
        await steps.approval(Phase.APPROVE_REMOVE, "remove")
        await steps.remove()  # 9
        await steps.hold()
        await steps.restore()
        await steps.revoke()  # 10

    async def _rotate(self, leftovers: LeftoverChoice) -> RotationSummary:
        forward = asyncio.create_task(self._ten_steps(leftovers))
        asked = asyncio.create_task(workflow.wait_condition(lambda: self._state.turn_back is not None))
        await workflow.wait([forward, asked], return_when=asyncio.FIRST_COMPLETED)
        forward.cancel()
        asked.cancel()
        await workflow.wait([forward, asked])
        await self._guard.stop()
        error = None if forward.cancelled() else forward.exception()
        if isinstance(error, ActivityError) and self._state.reversible:
            self._conduct.turn(Cause.ACTION_FAILED, failure_text(error))
        elif error is not None and not isinstance(error, TurnedBack):
            raise error
        if self._state.turn_back is None:
            await self._conduct.people.settled()
            return self._summary()
        raise await self._turn_back()

    async def _turn_back(self) -> ApplicationError:
        back = TurningBack(self._conduct)
        failure = await (back.abort() if self._state.phase in ABORTABLE else back.roll_back())
        await self._conduct.people.settled()
        return failure

    def _cancelled(self) -> None:
        self._state.cancelled(workflow.cancellation_reason() or "the workflow was cancelled")
        self._conduct.show()

    def _summary(self) -> RotationSummary:
        a, b = self._state.a, self._state.b
        assert a is not None
        assert b is not None
        return RotationSummary(
            phase=self._state.phase,
            serial_a=a.serial,
            serial_b=b.serial,
            sha256_b=b.sha256,
            a_revoked=self._state.a_revoked,
            evidence_head=self._state.evidence_so_far().head,
        )

    # -- messages: a signal never fails the workflow; what came of it is in the status -----------------------------

    @workflow.signal(description='Approve the gate that waits: {"gate": "prefer", "by": "your name", "reason": "why"}')
    @one_payload
    def approve(self, *payloads: Sent) -> None:
        """Accepted for the gate that waits now; anything else is recorded and changes nothing."""
        value, plaintext = received(*payloads)
        self._conduct.heard(self._state.approve(value, plaintext=plaintext))

    @workflow.signal(description='Turn back to certificate A: {"by": "your name", "reason": "why"}')
    @one_payload
    def rollback(self, *payloads: Sent) -> None:
        """Turns back from every phase up to the end of HOLD."""
        value, plaintext = received(*payloads)
        self._conduct.heard(self._state.ask_rollback(value, plaintext=plaintext))

    @workflow.update
    def approve_gate(self, payload: Sent) -> Decision:
        """Like the signal `approve`, with an answer; refused unless that gate waits."""
        value, plaintext = received(payload)
        decision = self._state.approve(value, plaintext=plaintext)
        self._conduct.heard(decision)
        return decision

    @approve_gate.validator
    def _may_approve(self, payload: Sent) -> None:
        approval = parse_message(Approval, received(payload).value)
        outcome = self._state.approval_outcome(approval)
        if outcome is not Outcome.ACCEPTED:
            waiting = self._state.waiting.gate if self._state.waiting else None
            raise ValueError(f"gate {approval.gate!r}: {outcome}; waiting now: {waiting or 'no gate'}")

    @workflow.update
    def request_rollback(self, payload: Sent) -> Decision:
        """Like the signal `rollback`, with an answer; refused when there is no way back."""
        value, plaintext = received(payload)
        decision = self._state.ask_rollback(value, plaintext=plaintext)
        self._conduct.heard(decision)
        return decision

    @request_rollback.validator
    def _may_roll_back(self, payload: Sent) -> None:
        parse_message(RollbackRequest, received(payload).value)
        outcome = self._state.rollback_outcome()
        if outcome is not Outcome.ACCEPTED:
            raise ValueError(str(outcome))

    @workflow.signal(description='Stop before the next phase: {"by": "your name", "reason": "why"}')
    @one_payload
    def pause(self, *payloads: Sent) -> None:
        """The guard watches on, timers run on, a rollback is heard; the next phase is not entered."""
        value, plaintext = received(*payloads)
        self._conduct.heard(self._state.ask_pause(value, plaintext=plaintext))

    @workflow.signal(description='Go on after a pause: {"by": "your name", "reason": "why"}')
    @one_payload
    def resume(self, *payloads: Sent) -> None:
        """Ends a pause; a fresh look at the traffic comes before the next phase."""
        value, plaintext = received(*payloads)
        self._conduct.heard(self._state.ask_resume(value, plaintext=plaintext))

    @workflow.update
    def request_pause(self, payload: Sent) -> Decision:
        """Like the signal `pause`, with an answer."""
        value, plaintext = received(payload)
        decision = self._state.ask_pause(value, plaintext=plaintext)
        self._conduct.heard(decision)
        return decision

    @request_pause.validator
    def _may_pause(self, payload: Sent) -> None:
        self._may("pause", payload)

    @workflow.update
    def request_resume(self, payload: Sent) -> Decision:
        """Like the signal `resume`, with an answer."""
        value, plaintext = received(payload)
        decision = self._state.ask_resume(value, plaintext=plaintext)
        self._conduct.heard(decision)
        return decision

    @request_resume.validator
    def _may_resume(self, payload: Sent) -> None:
        self._may("resume", payload)

    @workflow.signal(description='Let the overlap end later: {"hours": 24, "by": "your name", "reason": "why"}')
    @one_payload
    def extend(self, *payloads: Sent) -> None:
        """From BIND to the end of the overlap, as long as A lives long enough; each one adds to the one before."""
        value, plaintext = received(*payloads)
        self._conduct.heard(self._state.ask_extension(value, plaintext=plaintext))

    @workflow.update
    def request_extension(self, payload: Sent) -> Decision:
        """Like the signal `extend`, with an answer."""
        value, plaintext = received(payload)
        decision = self._state.ask_extension(value, plaintext=plaintext)
        self._conduct.heard(decision)
        return decision

    @request_extension.validator
    def _may_extend(self, payload: Sent) -> None:
        outcome = self._state.extension_outcome(parse_message(ExtendRequest, received(payload).value))
        if outcome is not Outcome.ACCEPTED:
            raise ValueError(str(outcome))

    def _may(self, message: str, payload: Sent) -> None:
        parse_message(PauseRequest, received(payload).value)
        outcome = self._state.pause_outcome(message)
        if outcome is not Outcome.ACCEPTED:
            raise ValueError(str(outcome))

    @workflow.signal(dynamic=True)
    def unknown_signal(self, name: str, payloads: Sequence[RawValue]) -> None:
        """A name that is not known, misspelt for example: answered in the status; Temporal would keep it unread."""
        self._conduct.heard(self._state.unknown_signal(name, plaintext=is_plaintext(payloads)))

    @workflow.query
    def status(self) -> RotationStatus:
        """Where the rotation stands."""
        return self._state.status()

    @workflow.query
    def evidence(self) -> Evidence:
        """The hash-chained evidence so far."""
        return self._state.evidence_so_far()
