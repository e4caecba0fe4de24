"""A request of the way forward that lands while the rotation turns back, or after it, undoes nothing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from lab.lab_names import CXONE, GENESYS
from tests.durability.house import QUICK, House
from tests.durability.steps_seen import KEY_FOR_UPLOAD, SRV_CHANGE, TRUNK, UPLOAD
from tests.durability.taps import Rule
from tests.durability.world_after import World, rolled_back
from tests.e2e.stage import Rotation, Stage

pytestmark = pytest.mark.durability

LATE = ('late_request = "1s"', 'late_request = "10s"')
"""The time that the rotation waits for what may still land; long enough that a test meets it."""

LANDING = "late requests to land"


@dataclass(frozen=True)
class Late:
    """A request of the way forward: the `occurrence`-th of its operation."""

    what: str
    service: str
    operation: str
    occurrence: int = 1


BIND = [Late(f"bind on {name}", name, f"PUT {TRUNK[name]}") for name in (GENESYS, CXONE)]
PREFER = Late("prefer on genesys", GENESYS, f"PUT {TRUNK[GENESYS]}", 2)
SRV = Late("SRV change", "dns", SRV_CHANGE)
UPLOADS = [Late(f"upload to {name}", name, UPLOAD[name]) for name in (GENESYS, CXONE)]
TRUNK_WRITES = [*BIND, PREFER]


@pytest.mark.parametrize("late", [*BIND, *UPLOADS, PREFER, SRV], ids=lambda late: late.what)
async def test_a_request_that_lands_in_the_wait_for_late_requests_undoes_nothing(house: House, late: Late) -> None:
    async with house.stage() as stage:
        await house.one_worker()
        before, rotation, held = await _in_flight(house, stage, late)
        await _roll_back(rotation)
        await rotation.shows(lambda status: status.waiting and status.waiting.what == LANDING, LANDING)
        taken = await held.deliver()
        assert taken is (late not in TRUNK_WRITES), "a trunk write meets a newer version; all else lands"
        await _as_found(house, before, rotation)


@pytest.mark.parametrize("moment", ["hold-before", "hold-after"])
@pytest.mark.parametrize("late", TRUNK_WRITES, ids=lambda late: late.what)
async def test_a_trunk_write_that_lands_before_a_alone_is_read_back_is_overruled(
    house: House, late: Late, moment: str
) -> None:
    """It lands just before, or just after, the rollback's own write of that trunk, which is then read back."""
    async with house.stage() as stage:
        await house.one_worker()
        before, rotation, held = await _in_flight(house, stage, late)
        way_back = house.taps.rule(moment, late.service, late.operation)
        await _roll_back(rotation)
        await way_back.reached()
        taken = await held.deliver()
        assert taken is (moment == "hold-before"), "it lands before the rollback's write, and is refused after it"
        await way_back.deliver()
        await _as_found(house, before, rotation)


@pytest.mark.parametrize(
    ("read", "write"),
    [((GENESYS, f"GET {TRUNK[GENESYS]}"), BIND[0]), (("vault", KEY_FOR_UPLOAD), UPLOADS[0])],
    ids=["bind", "upload"],
)
async def test_a_worker_that_is_frozen_before_its_write_and_woken_after_the_rollback_writes_nothing(
    house: House, read: tuple[str, str], write: Late
) -> None:
    async with house.stage() as stage:
        frozen = await house.one_worker()
        occurrence = await _reads_before(house, stage, read, write)
        house.taps.forget()
        before = await World.read(house)
        held = house.taps.rule("hold-after", *read, occurrence)
        rotation = await stage.start(stage.plan(*QUICK))
        await held.reached()
        frozen.freeze()
        await held.deliver()  # the answer lies in the sleeper's socket; its write would follow
        await house.worker()
        await _roll_back(rotation)
        await _as_found(house, before, rotation)
        frozen.thaw()
        await frozen.drained()
        await rolled_back(house, before, await rotation.status())


async def _in_flight(house: House, stage: Stage, late: Late) -> tuple[World, Rotation, Rule]:
    """The world before, and a rotation whose request has left the worker and not arrived."""
    house.taps.forget()
    before = await World.read(house)
    held = house.taps.rule("hold-before", late.service, late.operation, late.occurrence)
    rotation = await stage.start(stage.plan(*QUICK, LATE))
    await held.reached()
    return before, rotation, held


async def _roll_back(rotation: Rotation) -> None:
    await rotation.handle.signal("rollback", {"by": "ann", "reason": "a request is in flight"})


async def _as_found(house: House, before: World, rotation: Rotation) -> None:
    error = await rotation.fails()
    assert error.type == "RolledBack", error
    await rolled_back(house, before, await rotation.status())


async def _reads_before(house: House, stage: Stage, read: tuple[str, str], write: Late) -> int:
    """How often an undisturbed rotation has made this read when it first makes this write."""
    house.taps.forget()
    rotation = await stage.start(stage.plan(*QUICK))
    await rotation.reaches("READINESS")
    await _roll_back(rotation)
    await rotation.fails()
    passages = house.taps.passages()
    first = next(
        index for index, one in enumerate(passages) if (one.service, one.operation) == (write.service, write.operation)
    )
    return sum((one.service, one.operation) == read for one in passages[:first])
