"""Which worker makes the guard's look that is under way, and which one has the workflow."""

from __future__ import annotations

from typing import cast

from temporalio.api.enums.v1 import PendingActivityState

from lab.lab_names import GENESYS
from tests.durability.house import House
from tests.durability.steps_seen import METRICS
from tests.durability.taps import Rule
from tests.e2e.stage import Rotation, until


async def a_look(house: House, rotation: Rotation, *, apart: bool) -> tuple[Rule, str, str]:
    """A look that is under way, the worker that makes it for the guard, and the one whose turn the workflow is.

    `apart`: these are two workers.
    """
    while True:
        look = house.taps.rule("hold-after", GENESYS, METRICS[GENESYS])
        await look.reached()
        guard, workflow = await _guard_is_at(rotation), await _workflow_is_at(rotation)
        if guard is not None and not (apart and guard == workflow):
            return look, guard, workflow
        await look.deliver()


async def _guard_is_at(rotation: Rotation) -> str | None:
    """The worker that makes the look which the tap holds; None when it is a gate's look and not the guard's."""

    async def found() -> list[str | None]:
        description = await rotation.handle.describe()
        pending = description.raw_description.pending_activities
        started = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
        looking = [one for one in pending if one.state == started]
        guards = [one.last_worker_identity for one in looking if one.activity_type.name == "guard"]
        return [guards[0] if guards else None] if looking else []

    (identity,) = cast("list[str | None]", await until(found, "a look that is being made"))
    return identity


async def _workflow_is_at(rotation: Rotation) -> str:
    """The worker that last took a task of the workflow, and keeps its state."""
    history = await rotation.handle.fetch_history()
    started = [event.workflow_task_started_event_attributes.identity for event in history.events]
    return [identity for identity in started if identity][-1]
