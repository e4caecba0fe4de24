"""A rotation's state stays small, whatever flaps, repeats or shouts; what matters is kept whatever else is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from temporalio import workflow
from temporalio.api.common.v1 import Payload
from temporalio.api.history.v1 import HistoryEvent
from temporalio.common import RawValue

from codec.encryption import WAS_PLAINTEXT
from codec.missing_keys import payloads_in
from domain.evidence import verify
from domain.gates import Finding, GateResult, Verdict
from domain.guard import GuardVerdict
from domain.phases import Phase
from domain.rotation import SideEffect
from tests.domain.plans import plan
from workflows.attributes import LONGEST_LIST_BYTES, fitting
from workflows.messages import AlertStatus, GuardStatus, Outcome, Waiting
from workflows.received import LONGEST_BYTES, received
from workflows.state import ALERTS_KEPT, DECISIONS_KEPT, REPEATABLE_KEPT, RotationState

STATE_LIMIT = 256 * 1024
LONG = "x" * 5_000


class Clock:
    """What the workflow takes for now."""

    def __init__(self) -> None:
        self.at = datetime(2026, 12, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(seconds=1)
        return self.at


@pytest.fixture
def state(monkeypatch: pytest.MonkeyPatch) -> RotationState:
    """A rotation in BIND."""
    monkeypatch.setattr(workflow, "now", Clock())
    fresh = RotationState(plan(), "rotation-x", "x-0123456789ab", "test")
    for phase in (Phase.ISSUE, Phase.UPLOAD, Phase.BIND):
        fresh.move(phase)
    return fresh


def small(state: RotationState) -> None:
    assert len(state.status().model_dump_json()) < STATE_LIMIT
    evidence = state.evidence_so_far()
    assert len(evidence.model_dump_json()) < STATE_LIMIT
    assert verify(evidence.entries) is None


def test_a_guard_that_flaps_for_days_leaves_its_first_changes_its_last_word_and_a_number(state: RotationState) -> None:
    for n in range(4000):
        verdict = GuardVerdict.BLIND if n % 2 else GuardVerdict.HEALTHY
        state.guarded(GuardStatus(verdict=verdict, text=f"{n} {LONG}", at=workflow.now()))
        alert = AlertStatus(at=workflow.now(), to="ops", kind="blind", summary=f"{n} {LONG}")
        state.alerts.append(alert)
        state.repeated("notice", alert.model_dump(mode="json"))
    small(state)
    status = state.status()
    assert status.guard is not None
    assert status.guard.text.startswith("3999 ")
    shown = [int(alert.summary.split()[0]) for alert in status.alerts]
    assert shown == [*range(ALERTS_KEPT[0]), *range(4000 - ALERTS_KEPT[1], 4000)]
    assert status.left_out["alerts"] == 4000 - sum(ALERTS_KEPT)
    kept = [entry for entry in state.evidence if entry.kind == "guard"]
    assert len(kept) + status.left_out["evidence: guard"] == 4000
    state.move(Phase.READINESS)
    told = state.evidence[-1]
    assert told.kind == "left out"
    assert told.data["evidence: guard"] == 4000 - len(kept)
    state.move(Phase.SOAK)
    assert state.evidence[-1].kind == "phase", "what was told is not told again"


def test_repeated_gates_and_side_effects_are_counted_and_the_first_verdict_of_every_gate_is_kept(
    state: RotationState,
) -> None:
    finding = Finding(check="calls on A", verdict=Verdict.PASS, seen=LONG, expected=LONG)
    for n in range(1000):
        state.decided(
            GateResult(gate="drain", verdict=Verdict.PASS, findings=(finding,) * 4, decided_at=workflow.now())
        )
        state.done(SideEffect(action=f"{n}", where="eu", before=LONG, after=LONG, changed=True, at=workflow.now()))
    late = GateResult(gate="verify", verdict=Verdict.PASS, findings=(finding,), decided_at=workflow.now())
    state.decided(late)
    small(state)
    assert [e.data["gate"] for e in state.evidence if e.kind == "gate"][-1] == "verify"
    status = state.status()
    assert status.effects[0].action == "0"
    assert status.effects[-1].action == "999"
    assert status.left_out["effects"] == 1000 - len(status.effects)
    assert status.endpoints[0].last == "" or "999" in status.endpoints[0].last


def test_no_flood_of_messages_hides_an_approval(state: RotationState) -> None:
    for n in range(3000):
        state.approve({"gate": "remove", "by": f"early {n}", "reason": LONG[:400]})
        state.ask_pause({"by": "mallory", "reason": LONG[:400]})
        state.ask_resume({"by": "mallory", "reason": LONG[:400]})
    state.waiting = Waiting(what="the approval", gate="prefer")
    decision = state.approve({"gate": "prefer", "by": "ann"}, plaintext=True)
    assert decision.outcome == Outcome.ACCEPTED
    small(state)
    status = state.status()
    assert len(status.decisions) == DECISIONS_KEPT + REPEATABLE_KEPT + 1
    assert status.decisions[-1] == decision
    assert status.decisions_dropped == 9000 - DECISIONS_KEPT - REPEATABLE_KEPT
    assert status.last_dropped is not None
    assert status.last_dropped.message == "resume"
    entry = state.evidence[-1]
    assert (entry.data["by"], entry.data["plaintext"]) == ("ann", True)


def test_trunks_beyond_the_limit_of_a_search_attribute_are_not_sent() -> None:
    names = [f"trunk-{n:03}.{'branch.' * 20}example.com" for n in range(100)]
    kept = fitting(names)
    assert kept == names[: len(kept)]
    assert 5 < len(kept) < 100
    assert sum(len(name) + 3 for name in kept) + 2 <= LONGEST_LIST_BYTES
    assert fitting(["a", "b", "a"]) == ["a", "b"]


def raw(data: bytes, *, plaintext: bool = False) -> RawValue:
    metadata = {"encoding": b"json/plain"} | ({WAS_PLAINTEXT: b"true"} if plaintext else {})
    return RawValue(Payload(metadata=metadata, data=data))


def test_a_message_that_is_too_long_is_not_read_and_none_or_several_are_malformed() -> None:
    assert received(raw(b"x" * (LONGEST_BYTES + 1), plaintext=True)).plaintext
    for sent in ((raw(b"x" * (LONGEST_BYTES + 1)),), (), (raw(b"1"), raw(b"2"))):
        value, plaintext = received(*sent)
        assert isinstance(value, ValueError)
        assert not plaintext
    assert "16385 bytes" in str(received(raw(b"x" * 16385)).value)


def test_a_malformed_message_says_why_and_what_is_expected(state: RotationState) -> None:
    decision = state.approve(received(raw(b"x" * 20_000)).value)
    assert decision.outcome == Outcome.MALFORMED
    assert decision.reason.startswith("payload: 20000 bytes, of which at most 16384 are read – send one JSON object")


def test_every_payload_of_an_event_is_found_however_deep() -> None:
    event = HistoryEvent()
    event.activity_task_scheduled_event_attributes.input.payloads.add().data = b"input"
    event.activity_task_scheduled_event_attributes.header.fields["trace"].data = b"header"
    event.user_metadata.summary.data = b"summary"
    failed = HistoryEvent()
    failure = failed.activity_task_failed_event_attributes.failure
    failure.cause.encoded_attributes.data = b"cause"
    assert {payload.data for payload in payloads_in(event)} == {b"input", b"header", b"summary"}
    assert [payload.data for payload in payloads_in(failed)] == [b"cause"]
