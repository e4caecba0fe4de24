"""PREFLIGHT on a trunk that has an observer: the lab's world, the real adapters, and what an operator does to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.testing import ActivityEnvironment

from activities.preflight import EndpointLook, PreflightActivities
from adapters.registry import Adapters
from domain.gates import Finding, Verdict
from domain.observed import CONNECTED, TRUSTED
from domain.plan import load_plan
from domain.rotation import Run
from lab.world import WorldOptions, running_world
from lab.world_observer import Observer
from settings import load_settings
from tests.lab.waiting import until


@dataclass
class Desk:
    """The world's observer from inside, and PREFLIGHT through it."""

    observer: Observer
    activities: PreflightActivities
    look: EndpointLook

    async def findings(self) -> dict[str, Finding]:
        """What PREFLIGHT says of the endpoint, by check; of those that have several the worst."""
        examined = await ActivityEnvironment().run(self.activities.examine_endpoint, self.look)
        order = [Verdict.PASS, Verdict.NOT_CHECKED, Verdict.INCONCLUSIVE, Verdict.ERROR, Verdict.FAIL]
        ordered = sorted(examined.findings, key=lambda finding: order.index(finding.verdict))
        return {finding.check: finding for finding in ordered}

    async def pings(self, *, answered: bool) -> None:
        """Waits until the cloud's own pings have seen it."""

        async def same() -> bool:
            return {ping.answered for ping in self.observer.trunk.pings.values()} == {answered}

        await until(same)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A world whose Genesys trunk has an observer."""
    async with running_world(WorldOptions(tmp_path, speed="test", call_rate=5.0, observed=True)) as world:
        adapters = Adapters(load_settings(tmp_path / "settings.toml"))
        look = EndpointLook(
            run=Run(plan=load_plan(tmp_path / "plan.toml"), rotation="r", key="lab-0123456789ab"), endpoint="genesys"
        )
        assert world.observer is not None
        yield Desk(world.observer, PreflightActivities(adapters), look)
        await adapters.close()


async def test_a_rotation_begins_on_a_trunk_that_its_other_side_has_and_whose_root_it_trusts(desk: Desk) -> None:
    await desk.pings(answered=True)
    found = await desk.findings()
    assert {found[check].verdict for check in ("observer", CONNECTED, TRUSTED)} == {Verdict.PASS}
    assert not [one.text() for one in found.values() if one.verdict in (Verdict.FAIL, Verdict.ERROR)]

    desk.observer.trusts_our_root(False)
    found = await desk.findings()
    assert found[TRUSTED].verdict is Verdict.FAIL
    assert found[TRUSTED].seen.startswith("missing: ")
    await desk.pings(answered=False)
    found = await desk.findings()
    assert found[CONNECTED].verdict is Verdict.FAIL, "whoever trusts not B's root does not trust A's either"
    assert "tls unknown_ca" in found[CONNECTED].seen
    desk.observer.trusts_our_root(True)
    await desk.pings(answered=True)

    desk.observer.trunk.cut(True)
    found = await desk.findings()
    assert found[CONNECTED].verdict is Verdict.FAIL, "no patience with a flap before anything has begun"
    desk.observer.trunk.cut(False)

    desk.observer.tokens.expire_all()
    assert (await desk.findings())["observer"].verdict is Verdict.PASS


async def test_an_observer_whose_trunk_is_not_there_is_told_with_everything_else(desk: Desk) -> None:
    endpoint = desk.look.run.plan.endpoint("genesys")
    assert endpoint.observer is not None
    other = endpoint.observer.model_copy(update={"trunk": "another"})
    plan = desk.look.run.plan.model_copy(update={"endpoints": (endpoint.model_copy(update={"observer": other}),)})
    desk.look = desk.look.model_copy(update={"run": desk.look.run.model_copy(update={"plan": plan})})
    found = await desk.findings()
    assert found["observer"].verdict is Verdict.FAIL
    assert "[observers.genesys-byoc-lab]" in found["observer"].seen
    assert found[TRUSTED].verdict is Verdict.ERROR
    assert CONNECTED not in found
    assert found["A"].verdict is Verdict.PASS, "everything else was looked at"
