"""The state of a rotation: what was decided, done and asked for. Small, and the source of both queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.baseline import EndpointBaseline
    from domain.certificates import CertificateFacts
    from domain.evidence import EvidenceEntry, append
    from domain.first_and_last import FirstAndLast
    from domain.gates import GateResult, Verdict
    from domain.guard import GuardVerdict
    from domain.phases import ABORTABLE, FINAL, FORWARD, GUARDED, TRANSITIONS, Phase, may_move
    from domain.plan import Plan
    from domain.rotation import Cause, Run, SideEffect, TurnBack
    from domain.texts import readable
    from workflows.messages import (
        AlertStatus,
        Approval,
        Decision,
        EndpointStatus,
        Evidence,
        ExtendRequest,
        GuardStatus,
        Outcome,
        Pause,
        PauseRequest,
        PhaseTime,
        RollbackRequest,
        RollbackStatus,
        RotationStatus,
        Waiting,
        parse_message,
    )

DECISIONS_KEPT = 50
"""Messages without effect that are kept with their text; of further ones only the last, and their number."""

REPEATABLE_KEPT = 100
"""Messages with effect that anybody can repeat (pause, resume, rollback while A cannot serve) and that are kept."""

ALERTS_KEPT = (20, 30)
"""The first and the last ones."""

EVIDENCE_BYTES = 32 * 1024
"""Bytes of the entries of one kind that can be repeated; further ones are counted. Phases, causes, the first verdict of
every gate and every approval are always kept."""


class RotationState:
    """Everything a rotation remembers. Methods record; none of them waits."""

    def __init__(self, plan: Plan, rotation: str, run_key: str, started_by: str) -> None:
        self.run = Run(plan=plan, rotation=rotation, key=run_key)
        self.started_by = started_by
        self.phase = Phase.PREFLIGHT
        self.phases = [PhaseTime(phase=Phase.PREFLIGHT, entered_at=workflow.now())]
        self.waiting: Waiting | None = None
        self.paused: Pause | None = None
        self.turn_back: TurnBack | None = None
        self.failure: str | None = None
        self.a: CertificateFacts | None = None
        self.a_pem: str | None = None
        self.b: CertificateFacts | None = None
        self.a_revoked = False
        self.adopted = False
        self.baselines: dict[str, EndpointBaseline] = {}
        self.overlap_until: datetime | None = None
        self.gates: dict[str, GateResult] = {}
        self.last_gate: GateResult | None = None
        self.guard: GuardStatus | None = None
        trunks = len(plan.endpoints)
        self.effects: FirstAndLast[SideEffect] = FirstAndLast(20 + 12 * trunks, 10 + 4 * trunks)
        self.decisions: list[Decision] = []
        self.decisions_dropped = 0
        self.last_dropped: Decision | None = None
        self.rollbacks_asked = 0
        self.approved: dict[str, Approval] = {}
        self.alerts: FirstAndLast[AlertStatus] = FirstAndLast(*ALERTS_KEPT)
        self.rollback: RollbackStatus | None = None
        self.evidence: tuple[EvidenceEntry, ...] = ()
        self._of_sort: Counter[bool] = Counter()
        self._bytes: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self._told_left_out = 0
        self.record("started", {"plan": plan.name, "plan_sha256": plan.sha256, "by": started_by, "run": run_key})

    @property
    def plan(self) -> Plan:
        """The run's plan."""
        return self.run.plan

    @property
    def frozen(self) -> str | None:
        """Why advance is frozen: the guard cannot see. Where no guard watches, nothing is frozen."""
        if self.phase in GUARDED and self.guard is not None and self.guard.verdict is GuardVerdict.BLIND:
            return f"the guard cannot see: {self.guard.text}"
        return None

    @property
    def held_back(self) -> str | None:
        """Why the next phase is not entered: the guard is blind, or a person paused the rotation."""
        return self.frozen or (self.paused.text() if self.paused is not None else None)

    @property
    def reversible(self) -> bool:
        """True as long as a rollback or an abort is possible."""
        return Phase.ROLLING_BACK in TRANSITIONS[self.phase] or self.phase in ABORTABLE

    def move(self, phase: Phase) -> None:
        """Enters a phase. Raises `RuntimeError` when the table of `domain.phases` does not allow it."""
        if not may_move(self.phase, phase):
            raise RuntimeError(f"the phase table has no way from {self.phase} to {phase}")
        self.phase = phase
        self.phases.append(PhaseTime(phase=phase, entered_at=workflow.now()))
        self.waiting = None
        self.record("phase", {"phase": phase.value})
        dropped = self.left_out.total() + self.decisions_dropped
        if dropped > self._told_left_out:
            self._told_left_out = dropped
            self.record("left out", {**self.left_out, "messages without effect": self.decisions_dropped})

    def repeated(self, kind: str, data: Mapping[str, Any], most: int = EVIDENCE_BYTES) -> None:
        """One more entry of a kind that can come again and again: counted only, when there are `most` bytes of it."""
        if self._bytes[kind] >= most:
            self.left_out[f"evidence: {kind}"] += 1
            return
        self.record(kind, data)
        self._bytes[kind] += len(self.evidence[-1].model_dump_json())

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """One more entry of the evidence."""
        try:
            self.evidence = append(self.evidence, at=workflow.now(), kind=kind, phase=self.phase, data=data)
        except ValueError as refused:
            self.evidence = append(
                self.evidence, at=workflow.now(), kind=kind, phase=self.phase, data={"withheld": str(refused)}
            )

    def decided(self, result: GateResult) -> None:
        """A gate's verdict, kept with its findings."""
        first = result.gate not in self.gates
        self.gates[result.gate] = result
        self.last_gate = result
        (self.record if first else self.repeated)(
            "gate",
            {
                "gate": result.gate,
                "verdict": result.verdict.value,
                "overridden_by": result.overridden_by,
                "findings": [finding.model_dump(mode="json") for finding in result.findings],
            },
        )

    def done(self, *effects: SideEffect) -> None:
        """Side effects, with before and after."""
        for effect in effects:
            self.effects.append(effect)
            most = EVIDENCE_BYTES * (1 + len(self.plan.endpoints))
            self.repeated("side effect", effect.model_dump(mode="json"), most)

    def guarded(self, status: GuardStatus) -> None:
        """The guard changed its mind."""
        self.guard = status
        self.repeated("guard", status.model_dump(mode="json"))

    def turn(self, cause: TurnBack) -> bool:
        """Asks to turn back; the first cause stands. False when there is no way back any more."""
        if not self.reversible and self.turn_back is None:
            return False
        if self.turn_back is None:
            self.turn_back = cause
            self.record("turn back", cause.model_dump(mode="json"))
        return True

    # -- messages ------------------------------------------------------------------------------------------------

    def approve(self, payload: Any, *, plaintext: bool = False) -> Decision:
        """An approval, however it came: accepted only for the gate that waits now."""
        try:
            approval = parse_message(Approval, payload)
        except ValueError as error:
            return self._decide("approve", Outcome.MALFORMED, reason=str(error), plaintext=plaintext)
        outcome = self.approval_outcome(approval)
        if outcome is Outcome.ACCEPTED:
            self.approved[approval.gate] = approval
        return self._decide(
            "approve", outcome, by=approval.by, gate=approval.gate, reason=approval.reason, plaintext=plaintext
        )

    def approval_outcome(self, approval: Approval) -> Outcome:
        """What an approval would do now. Rollback beats approval."""
        gate = approval.gate
        if self.turn_back is not None or self.phase in FINAL:
            return Outcome.ENDED
        if gate in self.approved:
            return Outcome.REPEATED
        if self.waiting is not None and self.waiting.gate == gate:
            return Outcome.ACCEPTED
        known = {"prefer": Phase.APPROVE_PREFER, "remove": Phase.APPROVE_REMOVE} | {
            name: Phase(name.upper()) for name in ("readiness", "soak", "verify", "adopt")
        }
        if gate not in known:
            return Outcome.UNKNOWN
        return Outcome.EARLY if FORWARD.index(self.phase) <= FORWARD.index(known[gate]) else Outcome.LATE

    def ask_rollback(self, payload: Any, *, plaintext: bool = False) -> Decision:
        """A request to roll back, however it came."""
        try:
            request = parse_message(RollbackRequest, payload)
        except ValueError as error:
            return self._decide("rollback", Outcome.MALFORMED, reason=str(error), plaintext=plaintext)
        outcome = self.rollback_outcome()
        self.rollbacks_asked += 1
        if outcome is Outcome.ACCEPTED:
            reason = request.reason or "no reason given"
            self.turn(TurnBack(cause=Cause.REQUESTED, reason=reason, measured_at=workflow.now(), by=request.by))
        return self._decide("rollback", outcome, by=request.by, reason=request.reason, plaintext=plaintext)

    def rollback_outcome(self) -> Outcome:
        """What a rollback request would do now; where A could not serve, it is tried again."""
        if self.phase is Phase.ROLLING_BACK and self.rollback is not None and self.rollback.kept_b:
            return Outcome.ACCEPTED
        if self.turn_back is not None or self.phase in FINAL:
            return Outcome.ENDED
        return Outcome.ACCEPTED if self.reversible else Outcome.TOO_LATE

    def cancelled(self, reason: str) -> Decision:
        """The workflow was cancelled: recorded in any phase, a request to turn back where there is a way back."""
        outcome = Outcome.ACCEPTED if self.reversible else Outcome.TOO_LATE
        if self.turn_back is not None or self.phase in FINAL:
            outcome = Outcome.ENDED
        if outcome is Outcome.ACCEPTED:
            self.turn(TurnBack(cause=Cause.CANCELLED, reason=reason, measured_at=workflow.now()))
        return self._decide("cancel", outcome, reason=reason)

    def ask_pause(self, payload: Any, *, plaintext: bool = False) -> Decision:
        """Stops the advance before the next phase. Guard, timers and rollback live on."""
        return self._ask_pause("pause", payload, plaintext=plaintext)

    def ask_resume(self, payload: Any, *, plaintext: bool = False) -> Decision:
        """Lets the advance go on."""
        return self._ask_pause("resume", payload, plaintext=plaintext)

    def pause_outcome(self, message: str) -> Outcome:
        """What `pause` or `resume` would do now."""
        if self.turn_back is not None or self.phase in FINAL:
            return Outcome.ENDED
        if message == "resume":
            return Outcome.ACCEPTED if self.paused is not None else Outcome.NOT_PAUSED
        if self.paused is not None:
            return Outcome.PAUSED_ALREADY
        return Outcome.ACCEPTED if self.reversible else Outcome.TOO_LATE

    def _ask_pause(self, message: str, payload: Any, *, plaintext: bool) -> Decision:
        try:
            request = parse_message(PauseRequest, payload)
        except ValueError as error:
            return self._decide(message, Outcome.MALFORMED, reason=str(error), plaintext=plaintext)
        outcome = self.pause_outcome(message)
        if outcome is Outcome.ACCEPTED:
            now = workflow.now()
            self.paused = Pause(by=request.by, reason=request.reason, since=now) if message == "pause" else None
        return self._decide(message, outcome, by=request.by, reason=request.reason, plaintext=plaintext)

    def ask_extension(self, payload: Any, *, plaintext: bool = False) -> Decision:
        """The overlap ends later, if A lives long enough for that."""
        try:
            request = parse_message(ExtendRequest, payload)
        except ValueError as error:
            return self._decide("extend", Outcome.MALFORMED, reason=str(error), plaintext=plaintext)
        outcome, reason = self.extension_outcome(request), request.reason
        if outcome is Outcome.ACCEPTED:
            assert self.overlap_until is not None
            self.overlap_until += timedelta(hours=request.hours)
            until = f"until {self.overlap_until:%Y-%m-%d %H:%M:%S} UTC"
            reason = f"{until}: {reason}" if reason else until
        return self._decide("extend", outcome, by=request.by, reason=reason, plaintext=plaintext)

    def extension_outcome(self, request: ExtendRequest) -> Outcome:
        """What a longer overlap would do now."""
        if self.turn_back is not None or self.phase in FINAL:
            return Outcome.ENDED
        if FORWARD.index(self.phase) > FORWARD.index(Phase.OVERLAP):
            return Outcome.OVERLAP_OVER
        if self.overlap_until is None or self.a is None:
            return Outcome.NO_OVERLAP_YET
        timings = self.plan.timings
        needed = self.overlap_until + timedelta(hours=request.hours) + timings.hold + timings.expiry_margin
        return Outcome.ACCEPTED if needed <= self.a.not_after else Outcome.A_EXPIRES

    def unknown_signal(self, name: str, *, plaintext: bool) -> Decision:
        """A signal whose name no rotation knows, a misspelt one for example."""
        return self._decide(readable(name, 60), Outcome.UNKNOWN_SIGNAL, plaintext=plaintext)

    def _decide(
        self,
        message: str,
        outcome: Outcome,
        *,
        by: str | None = None,
        gate: str | None = None,
        reason: str = "",
        plaintext: bool = False,
    ) -> Decision:
        if "PRIVATE KEY" in f"{by}{gate}{reason}":
            by, gate, reason = None, None, "withheld: the message contained a private key"
        decision = Decision(
            at=workflow.now(),
            message=message,
            outcome=outcome,
            by=by,
            gate=gate,
            reason=readable(reason, 500),
            plaintext=plaintext,
        )
        if message == "approve" and decision.accepted:  # once for every gate
            kept = True
        else:
            self._of_sort[decision.accepted] += 1
            kept = self._of_sort[decision.accepted] <= (REPEATABLE_KEPT if decision.accepted else DECISIONS_KEPT)
        if kept:
            self.decisions.append(decision)
            self.record("decision", decision.model_dump(mode="json"))
        else:
            self.decisions_dropped += 1
            self.last_dropped = decision
        return decision

    # -- answers -------------------------------------------------------------------------------------------------

    def status(self) -> RotationStatus:
        """Answer of the query `status`."""
        last = {effect.where: f"{effect.action}: {effect.after}" for effect in self.effects}
        skipped = [f for gate in self.gates.values() for f in gate.findings if f.verdict is Verdict.NOT_CHECKED]
        return RotationStatus(
            rotation=self.run.rotation,
            plan=self.plan.name,
            plan_sha256=self.plan.sha256,
            started_by=self.started_by,
            run=self.run.key,
            phase=self.phase,
            phases=tuple(self.phases),
            waiting=self.waiting,
            frozen=self.frozen,
            paused=self.paused,
            failure=self.failure,
            a=self.a,
            b=self.b,
            a_revoked=self.a_revoked,
            overlap_until=self.overlap_until,
            endpoints=tuple(
                EndpointStatus(name=e.name, platform=e.platform, trunk=e.trunk, role=e.role, last=last.get(e.name, ""))
                for e in self.plan.endpoints
            ),
            gates=tuple(self.gates.values()),
            not_checked=tuple(dict.fromkeys(f.check for f in skipped)),
            guard=self.guard,
            effects=tuple(self.effects),
            decisions=tuple(self.decisions),
            decisions_dropped=self.decisions_dropped,
            last_dropped=self.last_dropped,
            alerts=tuple(self.alerts),
            left_out=self._left_out(),
            rollback=self.rollback,
        )

    def _left_out(self) -> dict[str, int]:
        lists = {"alerts": self.alerts.left_out, "effects": self.effects.left_out}
        return {**{name: count for name, count in lists.items() if count}, **self.left_out}

    def evidence_so_far(self) -> Evidence:
        """Answer of the query `evidence`."""
        head = self.evidence[-1].sha256 if self.evidence else None
        return Evidence(rotation=self.run.rotation, run=self.run.key, entries=self.evidence, head=head)
