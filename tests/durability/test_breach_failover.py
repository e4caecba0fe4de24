"""B does harm, and at that moment the worker that runs the guard, or has the workflow, is killed: A is back in time."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tests.durability.house import QUICK, House
from tests.durability.looking import a_look
from tests.durability.world_after import World, rolled_back

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
        look, guard, workflow = await a_look(house, rotation, apart=victim == "has the workflow")
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
