"""Every path of the workflows that is kept as a history. A path is a function, from which a history gets its name.

Those that complete use a lab up and stand last; all others leave the trunks with A alone, as they found them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from domain.guard import GuardVerdict
from tests.e2e.stage import Rotation
from tests.replay.recording import Recording
from workflows.messages import LeftoverChoice

Take = Callable[[Recording], Awaitable[None]]

APPROVE_PREFER = ("prefer = false", "prefer = true")
APPROVE_REMOVE = ("remove = false", "remove = true")
SHORT_OVERLAP = ('overlap = "8s"', 'overlap = "4s"')
LONG_HOLD = ('hold = "1s"', 'hold = "5m"')
LONG_OVERLAP = ('overlap = "8s"', 'overlap = "5m"')

BY = {"by": "ann", "reason": "recorded"}


@dataclass(frozen=True)
class Path:
    """How to take a path, and the histories that come of it."""

    take: Take
    histories: tuple[str, ...]


PATHS: dict[str, Path] = {}


def path(*others: str) -> Callable[[Take], Take]:
    """Registers a path. Without names its history is called as the function is."""

    def register(take: Take) -> Take:
        name = take.__name__.replace("_", "-")
        PATHS[name] = Path(take, others or (name,))
        return take

    return register


def all_histories() -> set[str]:
    """The names of every history that is to be there."""
    return {name for one in PATHS.values() for name in one.histories}


# -- before anything was changed -----------------------------------------------------------------------------------


@path()
async def dry_run(recording: Recording) -> None:
    await recording.dry_run("dry-run")


@path()
async def aborted_in_preflight(recording: Recording) -> None:
    """A check fails: A does not stay valid until the end of HOLD and the margin."""
    rotation = await recording.start("aborted-in-preflight", ('expiry_margin = "1h"', 'expiry_margin = "4000d"'))
    await _ends(rotation, "Aborted")


@path()
async def aborted_in_issue(recording: Recording) -> None:
    """B would not have the names that A has: refused by the rules before an endpoint knows it."""
    rotation = await recording.start("aborted-in-issue", ("ip_addresses = [", 'ip_addresses = ["192.0.2.7", '))
    await _ends(rotation, "Aborted")


@path()
async def aborted_by_cancel(recording: Recording) -> None:
    rotation = await recording.start("aborted-by-cancel")
    await rotation.handle.cancel()
    await _ends(rotation, "Aborted")


@path()
async def aborted_without_a_lease(recording: Recording) -> None:
    """Another rotation holds the trunks and A."""
    holder = await recording.start("holder", LONG_OVERLAP, wanted=False)
    await holder.reaches("ISSUE")
    rotation = await recording.start("aborted-without-a-lease")
    await _ends(rotation, "Aborted")
    await holder.handle.signal("rollback", BY)
    await _ends(holder, "RolledBack", "Aborted")


# -- turned back ---------------------------------------------------------------------------------------------------


@path()
async def rolled_back_by_request(recording: Recording) -> None:
    rotation = await recording.start("rolled-back-by-request")
    await rotation.reaches("SOAK")
    await rotation.handle.signal("rollback", BY)
    await _ends(rotation, "RolledBack")


@path()
async def rolled_back_in_hold(recording: Recording) -> None:
    """The last moment: A has left every pool already. Asked for by the update."""
    rotation = await recording.start("rolled-back-in-hold", SHORT_OVERLAP, LONG_HOLD)
    await rotation.reaches("HOLD")
    await rotation.handle.execute_update("request_rollback", BY)
    await _ends(rotation, "RolledBack")


@path()
async def rolled_back_by_cancel(recording: Recording) -> None:
    rotation = await recording.start("rolled-back-by-cancel", LONG_OVERLAP)
    await rotation.reaches("OVERLAP")
    await rotation.handle.cancel()
    await _ends(rotation, "RolledBack")


@path()
async def rolled_back_by_breach(recording: Recording) -> None:
    """The carrier begins to refuse B while an approval is awaited."""
    rotation = await recording.start("rolled-back-by-breach", SHORT_OVERLAP, APPROVE_REMOVE)
    await _waits_for(rotation, "remove")
    recording.stage.lab.fault("carrier-distrusts-b")
    await _ends(rotation, "RolledBack")


@path()
async def rolled_back_by_gate(recording: Recording) -> None:
    recording.stage.lab.fault("health-invalid")
    rotation = await recording.start("rolled-back-by-gate")
    await _ends(rotation, "RolledBack")


@path()
async def rolled_back_by_failed_action(recording: Recording) -> None:
    recording.stage.lab.fault("refuse-removal")
    short = ('action_deadline = "20s"', 'action_deadline = "4s"')
    rotation = await recording.start("rolled-back-by-failed-action", SHORT_OVERLAP, short)
    await _ends(rotation, "RolledBack")


# -- stopped on the way --------------------------------------------------------------------------------------------


@path()
async def paused_and_resumed(recording: Recording) -> None:
    """Twice, by signals and by updates: the rotation stands still before PREFER, and before OVERLAP."""
    rotation = await recording.start("paused-and-resumed", APPROVE_PREFER, LONG_OVERLAP)
    await _waits_for(rotation, "prefer")
    await rotation.handle.signal("pause", BY)
    await rotation.handle.execute_update("approve_gate", {"gate": "prefer", **BY})
    await _stands_still(rotation)
    await rotation.handle.signal("resume", BY)
    await rotation.reaches("PREFER")
    await rotation.handle.execute_update("request_pause", BY)
    await _stands_still(rotation)
    await rotation.handle.execute_update("request_resume", BY)
    await rotation.reaches("OVERLAP")
    await rotation.handle.signal("rollback", BY)
    await _ends(rotation, "RolledBack")


@path()
async def rolled_back_while_paused(recording: Recording) -> None:
    rotation = await recording.start("rolled-back-while-paused", APPROVE_PREFER)
    await _waits_for(rotation, "prefer")
    await rotation.handle.signal("pause", BY)
    await rotation.handle.signal("approve", {"gate": "prefer", **BY})
    await _stands_still(rotation)
    await rotation.handle.signal("rollback", BY)
    await _ends(rotation, "RolledBack")


@path()
async def overlap_extended(recording: Recording) -> None:
    """By a signal before the overlap, by an update in it."""
    longer = {"hours": 0.001, **BY}
    rotation = await recording.start("overlap-extended")
    await rotation.reaches("SOAK")
    await rotation.handle.signal("extend", longer)
    await rotation.reaches("OVERLAP")
    await rotation.handle.execute_update("request_extension", longer)
    await rotation.reaches("DRAIN")
    await rotation.handle.signal("rollback", BY)
    await _ends(rotation, "RolledBack")


@path()
async def overridden_gate(recording: Recording) -> None:
    """ADOPT cannot be decided in its time, and a person decides."""
    short = ('adopt_window = "5s"', 'adopt_window = "50ms"\nadopt_deadline = "2s"')
    rotation = await recording.start("overridden-gate", LONG_OVERLAP, short)
    await _waits_for(rotation, "adopt")
    await rotation.handle.signal("approve", {"gate": "adopt", **BY})
    await rotation.reaches("OVERLAP")
    await rotation.handle.signal("rollback", BY)
    await _ends(rotation, "RolledBack")


@path()
async def connections_closed(recording: Recording) -> None:
    """ADOPT takes longer than the plan lets connections keep A: they are closed in an orderly way."""
    undecided = ('adopt_window = "5s"', 'adopt_window = "50ms"\nadopt_deadline = "3s"\nclose_connections_after = "1s"')
    rotation = await recording.start("connections-closed", LONG_OVERLAP, undecided)
    await _waits_for(rotation, "adopt")
    await rotation.handle.signal("approve", {"gate": "adopt", **BY})
    await rotation.reaches("OVERLAP")
    await rotation.handle.signal("rollback", BY)
    await _ends(rotation, "RolledBack")


@path()
async def blind_guard(recording: Recording) -> None:
    """In the overlap the metrics say nothing any more: advance freezes, and goes on when they speak again."""
    rotation = await recording.start("blind-guard", LONG_OVERLAP)
    await rotation.reaches("OVERLAP")
    recording.stage.lab.fault("metrics-empty")
    await rotation.shows(lambda s: s.frozen, "the guard to be blind")
    recording.stage.lab.fault("metrics-empty", on=False)
    await rotation.shows(lambda s: s.guard and s.guard.verdict is not GuardVerdict.BLIND, "the guard to see again")
    await rotation.handle.signal("rollback", BY)
    await _ends(rotation, "RolledBack")


@path()
async def rolled_back_when_blind_for_too_long(recording: Recording) -> None:
    patience = (LONG_OVERLAP[0], f'{LONG_OVERLAP[1]}\nblind_rollback_after = "2s"')
    rotation = await recording.start("rolled-back-when-blind-for-too-long", patience)
    await rotation.reaches("OVERLAP")
    recording.stage.lab.fault("metrics-empty")
    await _ends(rotation, "RolledBack")


@path()
async def blind_gate(recording: Recording) -> None:
    """The metrics say nothing from the start: guard and gate are blind, and both see again."""
    recording.stage.lab.fault("metrics-empty")
    rotation = await recording.start("blind-gate", LONG_OVERLAP)
    await rotation.shows(lambda s: s.frozen, "the guard to be blind")
    await rotation.shows(lambda s: any(alert.kind == "blind" for alert in s.alerts), "the alert")
    recording.stage.lab.fault("metrics-empty", on=False)
    await rotation.reaches("OVERLAP")
    await rotation.handle.signal("rollback", BY)
    await _ends(rotation, "RolledBack")


# -- after a rotation that was terminated --------------------------------------------------------------------------


@path("leftovers-refused", "leftovers-cleaned")
async def leftovers_refused_then_cleaned(recording: Recording) -> None:
    """What a terminated rotation left stops the next one, until an operator says what is to become of it."""
    left = await recording.start("left-behind", LONG_OVERLAP, wanted=False)
    await left.reaches("OVERLAP")
    await left.handle.terminate("by hand")
    refused = await recording.start("leftovers-refused")
    await _ends(refused, "Aborted")
    cleaned = await recording.start("leftovers-cleaned", leftovers=LeftoverChoice.CLEAN)
    await cleaned.reaches("SOAK")
    await cleaned.handle.signal("rollback", BY)
    await _ends(cleaned, "RolledBack")


@path()
async def leftovers_adopted(recording: Recording) -> None:
    left = await recording.start("left-to-adopt", LONG_OVERLAP, wanted=False)
    await left.reaches("OVERLAP")
    await left.handle.terminate("by hand")
    adopting = await recording.start("leftovers-adopted", LONG_OVERLAP, leftovers=LeftoverChoice.ADOPT)
    await adopting.reaches("OVERLAP")
    await adopting.handle.signal("rollback", BY)
    await _ends(adopting, "RolledBack")


# -- completed -----------------------------------------------------------------------------------------------------


@path("completed", "lease-of-trunk", "lease-of-certificate")
async def completed(recording: Recording) -> None:
    rotation = await recording.start("completed")
    await rotation.completes()
    await recording.keep_leases_of("completed")


@path()
async def completed_with_approvals(recording: Recording) -> None:
    rotation = await recording.start("completed-with-approvals", APPROVE_PREFER, APPROVE_REMOVE)
    await rotation.handle.signal("approve", {"gate": "prefer", "by": "eager"})
    await rotation.handle.signal("approve", "not even an object")
    await rotation.handle.signal("aprove", {"gate": "prefer", **BY})
    await _waits_for(rotation, "prefer")
    await rotation.handle.execute_update("approve_gate", {"gate": "prefer", **BY})
    await _waits_for(rotation, "remove")
    await rotation.handle.signal("approve", {"gate": "remove", **BY})
    await rotation.completes()


@path()
async def completed_with_a_handed_over(recording: Recording) -> None:
    """Another trunk goes on using A: it is neither revoked nor deleted."""
    used = ('ca = "vault-lab"', 'also_used_by = ["another trunk"]\nca = "vault-lab"')
    rotation = await recording.start("completed-with-a-handed-over", used)
    await rotation.completes()


async def _waits_for(rotation: Rotation, gate: str) -> None:
    await rotation.shows(lambda s: s.waiting and s.waiting.gate == gate, f"the gate {gate} to wait for a person")


async def _stands_still(rotation: Rotation) -> None:
    await rotation.shows(
        lambda s: s.paused and s.waiting and "advance to be free" in s.waiting.what, "the rotation to stand still"
    )


async def _ends(rotation: Rotation, *types: str) -> None:
    """It fails with one of the types."""
    try:
        await rotation.completes()
    except WorkflowFailureError as failed:
        cause = failed.cause
    else:
        raise AssertionError(f"{rotation.handle.id} completed, and should have ended as {' or '.join(types)}")
    if not isinstance(cause, ApplicationError) or cause.type not in types:
        raise AssertionError(f"{rotation.handle.id} should have ended as {' or '.join(types)}: {cause!r}")
