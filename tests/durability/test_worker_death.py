"""A worker is killed with -9 before and after every side effect; another goes on, and nobody could tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime

import pytest

from tests.durability.conftest import MATRIX
from tests.durability.house import QUICK, House, completes, settled_in
from tests.durability.matrix import Case, Death, Way, cases, selected
from tests.durability.results import Results, Row
from tests.durability.taps import Passage
from tests.durability.world_after import World, completed, rolled_back
from tests.e2e.stage import Rotation, Stage
from workflows.messages import RotationStatus

pytestmark = pytest.mark.durability

GROUP = "worker death"
HALVES = (1, 2)
"""Two processes of pytest take one each, with a lab of its own."""
DISTURBED = ("blind", "watching_again", "inconclusive", "action_failing")
CASE_S = 360.0
"""Long after any rotation has ended; no case is judged by its speed."""
LONG_HOLD = ('hold = "1s"', 'hold = "2m"')
"""So that the rollback is asked in HOLD, however slow the machine."""


@pytest.mark.parametrize("half", HALVES)
async def test_a_worker_dies_before_and_after_every_side_effect_and_nothing_is_doubled_or_left(
    half: int, house: House, results: Results, subtests: pytest.Subtests, record_property: Callable[[str, object], None]
) -> None:
    async with house.stage() as stage:
        await settled_in(house, stage)
        matrix = cases(await _journal_forward(house, stage), await _journal_back(house, stage))
    chosen = selected(matrix)[half - 1 :: len(HALVES)]
    size = f"{len(matrix)} deaths: {len(matrix) // 2} side effects, derived, before and after each"
    record_property(MATRIX, f"half {half}: the matrix has {size}; {len(chosen)} of them were run")
    results.keep_only(GROUP, map(str, matrix))
    for case in chosen:
        with subtests.test(str(case)):
            await _survives(case, house, results)


async def _survives(case: Case, house: House, results: Results) -> None:
    began = time.monotonic()
    try:
        async with asyncio.timeout(CASE_S), house.stage() as stage:
            found = await _killed(case, house, stage)
    except BaseException as error:  # an interrupt too: pytest goes on with the next case, which needs a world in order
        results.add(_row(case, f"FAILED: {type(error).__name__}: {str(error)[:300]}", began))
        house.renew()
        async with house.stage() as stage:
            await settled_in(house, stage)
        raise
    results.add(_row(case, found, began))


def _row(case: Case, found: str, began: float) -> Row:
    seconds = round(time.monotonic() - began, 1)
    return Row(str(case), GROUP, f"{case.way}, {case.phase}: {case.effect}", f"killed {case.death}", found, seconds)


async def _killed(case: Case, house: House, stage: Stage) -> str:
    """One rotation whose worker dies at the case's moment; what was found of it."""
    worker = await house.one_worker()
    house.taps.forget()
    before = await World.read(house)
    action = "hold-before" if case.death is Death.BEFORE else "hold-after"
    rule = house.taps.rule(action, case.effect.service, case.effect.operation, case.effect.number)
    rotation = await _start(case.way, stage)
    driving = asyncio.create_task(_drive(case.way, rotation))
    try:
        await rule.reached()
        worker.kill()
        await rule.drop()
        await house.worker()
        await driving
        return await _ends_well(case.way, house, before, rotation)
    finally:
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)


async def _ends_well(way: Way, house: House, before: World, rotation: Rotation) -> str:
    if way is Way.FORWARD:
        await completes(rotation)
        await completed(house, before, await rotation.status())
        return "completed: one B, in use; A revoked at the end"
    error = await rotation.fails()
    assert error.type == "RolledBack", error
    status = await rotation.status()
    await rolled_back(house, before, status)
    assert status.rollback is not None
    return f"rolled back: A alone after {status.rollback.a_alone_seconds:.1f} s, B gone"


async def _start(way: Way, stage: Stage) -> Rotation:
    return await stage.start(stage.plan(*QUICK, *((LONG_HOLD,) if way is Way.BACK else ())))


async def _drive(way: Way, rotation: Rotation) -> None:
    """On the longest way back a person asks for it in the quarantine."""
    if way is Way.BACK:
        await rotation.reaches("HOLD", patience_s=120)
        await rotation.handle.signal("rollback", {"by": "ann", "reason": "the longest way back"})


async def _journal_forward(house: House, stage: Stage) -> list[tuple[str, Passage]]:
    """The side effects of a rotation that completes."""
    house.taps.forget()
    before = await World.read(house)
    rotation = await _start(Way.FORWARD, stage)
    await completes(rotation)
    journal = house.taps.journal()
    status = await rotation.status()
    await completed(house, before, status)
    return _in_phases(journal, status)


async def _journal_back(house: House, stage: Stage) -> list[tuple[str, Passage]]:
    """The side effects from HOLD back to A."""
    house.taps.forget()
    before = await World.read(house)
    rotation = await _start(Way.BACK, stage)
    await rotation.reaches("HOLD", patience_s=120)
    forward = house.taps.journal()
    await _drive(Way.BACK, rotation)
    assert (await rotation.fails()).type == "RolledBack"
    journal = house.taps.journal()
    status = await rotation.status()
    await rolled_back(house, before, status)
    return _in_phases(journal[len(forward) :], status)


def _in_phases(journal: list[Passage], status: RotationStatus) -> list[tuple[str, Passage]]:
    """Each side effect with the phase in which it passed. What disturbs a rotation alerts, and would be derived too."""
    disturbed = [alert.summary for alert in status.alerts if alert.kind in DISTURBED]
    assert not disturbed, f"the matrix is derived from undisturbed rotations: {disturbed}"
    return [(_phase_at(one.at, status), one) for one in journal]


def _phase_at(moment: datetime, status: RotationStatus) -> str:
    entered = [time.phase.value for time in status.phases if time.entered_at <= moment]
    return entered[-1] if entered else status.phases[0].phase.value
