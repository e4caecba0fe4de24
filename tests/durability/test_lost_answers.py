"""Services that act and lose their answer, or never answer: the rotation ends as it should and nothing is doubled."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.durability.house import QUICK, House, completes, settled_in
from tests.durability.taps import Passage, Rule
from tests.durability.world_after import World, completed, rolled_back
from tests.e2e.stage import Rotation, Stage

pytestmark = pytest.mark.durability

LONG_HOLD = ('hold = "1s"', 'hold = "3m"')


@pytest.mark.parametrize("action", ["lose-answer", "never-answer"])
async def test_every_answer_of_the_way_forward_fails_once_and_the_rotation_completes(house: House, action: str) -> None:
    async with house.stage() as stage:
        await settled_in(house, stage)
        journal, effects = await _effects_forward(house, stage)
        house.taps.forget()
        before = await World.read(house)
        rules = [house.taps.rule(action, one.service, one.operation, one.number) for one in effects]
        rotation = await stage.start(stage.plan(*QUICK))
        await completes(rotation)
        await _every_kind_was_struck(effects, rules)
        await completed(house, before, await rotation.status())
        assert not _doubled(journal, house.taps.journal())


@pytest.mark.parametrize("action", ["lose-answer", "never-answer"])
async def test_every_answer_of_the_way_back_fails_once_and_a_is_alone(house: House, action: str) -> None:
    async with house.stage() as stage:
        await house.one_worker()
        house.taps.forget()
        before = await World.read(house)
        rotation = await _in_hold(stage)
        forward = house.taps.passages()
        effects = await _effects_back(house, rotation, len(house.taps.journal()))
        await rolled_back(house, before, await rotation.status())

        house.taps.forget()
        rotation = await _in_hold(stage)
        asked = Counter((one.service, one.operation) for one in forward)
        rules = [
            house.taps.rule(action, one.service, one.operation, one.number - asked[one.service, one.operation])
            for one in effects
        ]
        await _roll_back(rotation)
        error = await rotation.fails()
        assert error.type == "RolledBack"
        await _every_kind_was_struck(effects, rules)
        await rolled_back(house, before, await rotation.status())


async def _every_kind_was_struck(effects: list[Passage], rules: list[Rule]) -> None:
    """A side effect that was repeated takes the rule of a later one of its kind, so kinds are compared."""
    kinds = {(one.service, one.operation) for one in effects}
    struck = {(one.service, one.operation) for one, rule in zip(effects, rules, strict=True) if await rule.is_reached()}
    assert struck == kinds


async def _effects_forward(house: House, stage: Stage) -> tuple[list[Passage], list[Passage]]:
    """All side effects of an undisturbed rotation, and those from ISSUE on.

    PREFLIGHT makes a finding of an answer that is lost, and the rotation ends before anything was changed.
    """
    house.taps.forget()
    rotation = await stage.start(stage.plan(*QUICK))
    await completes(rotation)
    issue = next(time.entered_at for time in (await rotation.status()).phases if time.phase == "ISSUE")
    journal = house.taps.journal()
    return journal, [one for one in journal if one.at >= issue]


async def _effects_back(house: House, rotation: Rotation, before: int) -> list[Passage]:
    await _roll_back(rotation)
    await rotation.fails()
    return house.taps.journal()[before:]


async def _in_hold(stage: Stage) -> Rotation:
    rotation = await stage.start(stage.plan(*QUICK, LONG_HOLD))
    await rotation.reaches("HOLD", patience_s=120)
    return rotation


async def _roll_back(rotation: Rotation) -> None:
    await rotation.handle.signal("rollback", {"by": "ann", "reason": "answers will be lost"})


def _doubled(once: list[Passage], now: list[Passage]) -> dict[str, tuple[int, int]]:
    """What the services did more often than in a rotation that nothing disturbed.

    Left out is what may be done twice: a notice, because its id makes the second harmless; a flush of tickets; and a
    revocation, because a revoked certificate stays revoked since then.
    """
    usual = Counter((one.service, one.operation) for one in once)
    seen = Counter((one.service, one.operation) for one in now)
    return {
        f"{service}: {operation}": (usual[service, operation], count)
        for (service, operation), count in seen.items()
        if count > usual[service, operation] and service != "carrier" and not operation.endswith(("flush", "revoke"))
    }
