"""B does harm, and at that moment the worker that runs the guard, or has the workflow, is killed: A is back in time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import cast

import pytest
from temporalio.api.enums.v1 import PendingActivityState

from lab.lab_names import GENESYS
from tests.durability.house import QUICK, House
from tests.durability.steps_seen import METRICS
from tests.durability.taps import Rule
from tests.durability.world_after import World, rolled_back
from tests.e2e.stage import Rotation, until

pytestmark = pytest.mark.durability

BUDGET_S = 30.0
"""Promise 3 of the design."""
LONG_OVERLAP = ('overlap = "1200ms"', 'overlap = "10m"')


@pytest.mark.parametrize("victim", ["runs the guard", "has the workflow"])
@pytest.mark.parametrize(
    ("fault", "phase"),
    [("carrier-distrusts-b", "OVERLAP"), ("b-refused-by-share", "VERIFY")],
)
async def test_the_worker_that_matters_dies_at_a_breach_and_a_is_back_in_30_seconds(
    house: House, fault: str, phase: str, victim: str
) -> None:
    await _with_the_labs_own_a(house)
    async with house.stage() as stage:
        house.dismiss()
        workers = [await house.worker(), await house.worker()]
        before = await World.read(house)
        plan = stage.plan(*QUICK, LONG_OVERLAP)
        rotation = await stage.start(plan)
        await rotation.reaches(phase)
        look, guard, workflow = await _a_look(house, rotation, apart=victim == "has the workflow")
        dying = guard if victim == "runs the guard" else workflow
        (worker,) = [one for one in workers if one.identity == dying]
        house.lab.fault(fault)
        try:
            worker.kill()
            killed_at = datetime.now(UTC)
            await (look.drop() if dying == guard else look.deliver())
            error = await rotation.fails()
        finally:
            house.lab.calm()
        assert error.type == "RolledBack", error
        status = await rotation.status()
        assert status.rollback is not None
        assert status.rollback.a_alone_seconds is not None
        assert status.rollback.a_alone_at is not None
        assert status.rollback.a_alone_seconds < BUDGET_S
        assert (status.rollback.a_alone_at - killed_at).total_seconds() < BUDGET_S
        await rolled_back(house, before, status, b_did_harm=True)


async def _with_the_labs_own_a(house: House) -> None:
    """What the faults call B is whatever is not the A that the lab began with."""
    if (await World.read(house)).a() != house.lab.facts["certificate_a"]:
        house.renew()


async def _a_look(house: House, rotation: Rotation, *, apart: bool) -> tuple[Rule, str, str]:
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
