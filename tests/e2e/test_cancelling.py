"""Cancelling the workflow, in every phase: aborted before UPLOAD, a shielded rollback until HOLD ends, nothing after.

It always ends as failed with a typed error or completes; it is never CANCELED, which would look like nobody's fault.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from temporalio import activity
from temporalio.client import WorkflowExecutionStatus

from adapters.edges.base import EdgeHealth
from domain.phases import ABORTABLE, FORWARD, REVERSIBLE, Phase
from domain.rotation import Cause
from tests.e2e.stage import LabProcess, Rotation, Stage, staged
from tests.e2e.tampering import Call, TamperedAdapters
from tests.e2e.test_rolling_back import assert_a_alone_and_b_gone
from workflows.messages import Outcome, RotationStatus

IN_ORDER = [phase for phase in FORWARD if phase in REVERSIBLE]
AFTER_HOLD = {Phase.RESTORE: "edge.update_trunk", Phase.REVOKE: "authority.revoke"}
"""Phases without a way back, and the call that each of them has to make."""


@pytest.fixture
async def stage(temporal: str, lab: LabProcess) -> AsyncIterator[Stage]:
    """A worker whose every adapter can be held."""
    async with staged(temporal, lab, build=TamperedAdapters) as ready:
        yield ready


def tampered(stage: Stage) -> TamperedAdapters:
    assert isinstance(stage.adapters, TamperedAdapters)
    return stage.adapters


@pytest.mark.parametrize(
    ("phase", "call"),
    [(Phase.PREFLIGHT, "authority.check_access"), (Phase.ISSUE, "authority.sign")],
)
async def test_cancelled_before_anything_was_changed_it_aborts_and_leaves_nothing(
    stage: Stage, phase: Phase, call: str
) -> None:
    assert phase in ABORTABLE
    with tampered(stage).held(call) as held:
        rotation = await stage.start()
        await held.reached.wait()
        assert (await rotation.status()).phase is phase
        await rotation.handle.cancel()
        await _recorded(rotation, Outcome.ACCEPTED)
        held.release.set()
        error = await rotation.fails()
    assert error.type == "Aborted"
    assert "cancelled" in error.message
    status = await rotation.status()
    assert status.phase is Phase.ABORTED
    spec = stage.plan().certificate
    custodian, authority = stage.adapters.custodian(spec.custody), stage.adapters.authority(spec.ca)
    assert await custodian.public_key_sha256(status.run) is None
    assert await custodian.chain(status.run) is None
    signed = tampered(stage).answers["authority.sign"]
    assert len(signed) == (1 if phase is Phase.ISSUE else 0)
    for chain in signed:
        assert (await authority.status(chain)).ocsp_revoked is True
    assert stage.lab.as_found()
    await _ended_as_failed(rotation)


@pytest.mark.durability
async def test_cancelled_in_any_phase_from_upload_to_hold_it_is_a_shielded_rollback(stage: Stage) -> None:
    """One lab, one rotation after another: each leaves the world as it was, so that the next can start."""
    for phase in IN_ORDER:
        plan = stage.plan(
            ("prefer = false", "prefer = true"),
            ("remove = false", "remove = true"),
            ('overlap = "8s"', 'overlap = "10m"' if phase is Phase.OVERLAP else 'overlap = "1s"'),
            ('hold = "1s"', 'hold = "10m"'),
            ('soak = "2s"', 'soak = "10m"' if phase is Phase.SOAK else 'soak = "2s"'),
            ('adopt_window = "5s"', 'adopt_window = "50ms"' if phase is Phase.ADOPT else 'adopt_window = "5s"'),
            name=f"cancelled-in-{phase.lower().replace('_', '-')}",
        )
        rotation = await stage.start(plan)
        with _staying_in(phase, tampered(stage)):
            await _drive_to(rotation, phase)
            assert (await rotation.status()).phase is phase
            await rotation.handle.cancel()
            status = await _recorded(rotation, Outcome.ACCEPTED)
            assert status.phase in {phase, Phase.ROLLING_BACK}
        error = await rotation.fails()
        assert error.type == "RolledBack", (phase, error)
        status = await rotation.status()
        assert status.rollback is not None
        assert status.rollback.turn_back.cause is Cause.CANCELLED
        assert [time.phase for time in status.phases][-3:] == [phase, Phase.ROLLING_BACK, Phase.ROLLED_BACK]
        await assert_a_alone_and_b_gone(stage, rotation)
        await _ended_as_failed(rotation)
    assert stage.lab.get("/lab/state")["violations"] == []


async def test_a_cancel_while_it_turns_back_changes_nothing(stage: Stage) -> None:
    rotation = await stage.start(stage.plan(("prefer = false", "prefer = true")))
    await rotation.shows(lambda s: s.waiting and s.waiting.gate == "prefer", "the approval `prefer`")
    with tampered(stage).held("edge.update_trunk") as held:
        await rotation.handle.signal("rollback", {"by": "ann", "reason": "before anybody cancels"})
        await held.reached.wait()
        await rotation.handle.cancel()
        await _recorded(rotation, Outcome.ENDED)
        await rotation.handle.cancel()
    error = await rotation.fails()
    assert error.type == "RolledBack"
    assert "before anybody cancels" in error.message
    await assert_a_alone_and_b_gone(stage, rotation)
    await _ended_as_failed(rotation)


@pytest.mark.parametrize("phase", list(AFTER_HOLD))
async def test_a_cancel_after_hold_is_recorded_and_the_rotation_completes(stage: Stage, phase: Phase) -> None:
    rotation = await stage.start()
    with tampered(stage).held(AFTER_HOLD[phase], within="restore" if phase is Phase.RESTORE else "revoke_a") as held:
        await held.reached.wait()
        assert (await rotation.status()).phase is phase
        await rotation.handle.cancel()
        await _recorded(rotation, Outcome.TOO_LATE)
        held.release.set()
        summary = await rotation.completes()
    assert summary.phase is Phase.COMPLETED
    assert summary.a_revoked
    assert (await rotation.handle.describe()).status is WorkflowExecutionStatus.COMPLETED
    evidence = await rotation.evidence()
    assert [e.data["outcome"] for e in evidence.entries if e.data.get("message") == "cancel"] == [Outcome.TOO_LATE]
    assert stage.lab.post("/lab/settle")["violations"] == []


# -- parts -------------------------------------------------------------------------------------------------------------


ACTION_HELD = {
    Phase.UPLOAD: ("edge.upload", "upload"),
    Phase.BIND: ("edge.update_trunk", "bind"),
    Phase.PREFER: ("edge.update_trunk", "prefer"),
    Phase.REMOVE: ("edge.update_trunk", "remove"),
}
"""Phases of one action: it is in flight when the cancel comes."""


@contextlib.contextmanager
def _staying_in(phase: Phase, adapters: TamperedAdapters) -> Iterator[None]:
    """Keeps the rotation in a phase that it would leave by itself: an action in flight, a gate that cannot pass."""

    async def no_figures(call: Call) -> Any:
        if activity.info().activity_type == phase.lower():
            raise RuntimeError("the test keeps the gate waiting")
        return await call()

    async def one_call_on_a(call: Call) -> EdgeHealth:
        health: EdgeHealth = await call()
        if activity.info().activity_type != "drain":
            return health
        return health.model_copy(update={"active_calls": dict.fromkeys(health.active_calls, 1)})

    with contextlib.ExitStack() as stack:
        if phase in ACTION_HELD:
            call, within = ACTION_HELD[phase]
            stack.enter_context(adapters.held(call, within=within))
        elif phase is Phase.READINESS:
            stack.enter_context(adapters.instead("edge.health", no_figures))
        elif phase is Phase.VERIFY:
            stack.enter_context(adapters.instead("carrier.reading", no_figures))
        elif phase is Phase.DRAIN:
            stack.enter_context(adapters.instead("edge.health", one_call_on_a))
        yield


async def _drive_to(rotation: Rotation, phase: Phase) -> None:
    """Waits for the phase, and approves on the way."""
    for gate, behind in (("prefer", Phase.APPROVE_PREFER), ("remove", Phase.APPROVE_REMOVE)):
        if IN_ORDER.index(phase) > IN_ORDER.index(behind):
            await rotation.shows(lambda s, gate=gate: s.waiting and s.waiting.gate == gate, f"approval {gate}")
            await rotation.handle.signal("approve", {"gate": gate, "by": "ann"})
    await rotation.reaches(phase.value)


async def _recorded(rotation: Rotation, outcome: Outcome) -> RotationStatus:
    """The status once the cancel has been answered, with that outcome."""
    status = await rotation.shows(lambda s: any(d.message == "cancel" for d in s.decisions), "the cancel in the status")
    assert [d.outcome for d in status.decisions if d.message == "cancel"] == [outcome]
    return status


async def _ended_as_failed(rotation: Rotation) -> None:
    assert (await rotation.handle.describe()).status is WorkflowExecutionStatus.FAILED
