"""What an observer adds to the gates, through the real adapter and the real API: nothing that fails looks healthy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities.health import GateLook, GateRequest, HealthActivities
from activities.looks import Sight
from adapters.edges.base import EdgeHealth
from adapters.observers.base import Observer
from adapters.registry import Adapters
from domain.gates import Finding, Verdict
from domain.observed import CONNECTED
from domain.plan import Plan, TrunkObserver
from domain.rotation import Run
from lab.ports import free_port
from tests.activities.test_looks import Drained
from tests.adapters.observer_lab import SECRET, TRUNK, ObserverLab, observer_lab, observer_of
from tests.domain.plans import plan
from tests.domain.readings import A, B

GATES = ("readiness", "verify", "drain")


class Sources(Drained):
    """An edge without a call on A, a carrier without figures, and an observer."""

    def __init__(self, observer: Observer) -> None:
        super().__init__(None)
        self._observer = observer

    def observer(self, profile: str) -> Observer:
        assert profile == "byoc"
        return self._observer

    async def health(self, trunk: str) -> EdgeHealth:
        return (await super().health(trunk)).model_copy(update={"clock": datetime.now(UTC)})

    async def _samples(self, *window: Any) -> Any:
        return (await super()._samples(*window)).model_copy(update={"read_at": datetime.now(UTC)})


def watched_plan(**changes: Any) -> Plan:
    """One trunk, whose other side has an observer; there a flap may last two minutes."""
    observer = TrunkObserver(profile="byoc", trunk=TRUNK, down_for=timedelta(minutes=2), **changes)
    endpoint = plan().endpoints[0].model_copy(update={"observer": observer})
    return plan().model_copy(update={"endpoints": (endpoint,)})


async def looked(
    gate: str, observer: Observer, watched: Plan | None = None, *, later: timedelta = timedelta(0)
) -> GateLook:
    """One fresh look of a gate, by a clock that shows so much later."""
    request = GateRequest.model_construct(
        run=Run(plan=watched or watched_plan(), rotation="r", key="k"),
        sha256_a=A,
        sha256_b=B,
        baselines=(),
        since=datetime.now(UTC) - timedelta(minutes=10),
        interval=timedelta(seconds=10),
        one_look=True,
    )
    activities = HealthActivities(cast(Adapters, Sources(observer)), clock=lambda: datetime.now(UTC) + later)
    return await ActivityEnvironment().run(getattr(activities, gate), request)


def said(look: GateLook) -> Finding:
    """What the observer's finding says."""
    assert look.result is not None
    (finding,) = (one for one in look.result.findings if one.check == CONNECTED)
    return finding


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ObserverLab]:
    """An organisation that is well."""
    monkeypatch.setenv("TEST_OBSERVER_SECRET", SECRET)
    async with observer_lab() as lab:
        yield lab


@pytest.mark.parametrize("gate", GATES)
async def test_each_gate_asks_the_observer(cloud: ObserverLab, gate: str) -> None:
    finding = said(await looked(gate, cloud.observer))
    assert (finding.verdict, finding.endpoint) == (Verdict.PASS, "east"), finding.text()
    cloud.trunk.in_service = False
    look = await looked(gate, cloud.observer)
    assert said(look).verdict is Verdict.FAIL
    assert look.result is not None
    assert look.result.verdict is Verdict.FAIL


async def test_a_trunk_without_an_observer_asks_nobody(cloud: ObserverLab) -> None:
    look = await looked("drain", cloud.observer, watched_plan().model_copy(update={"endpoints": plan().endpoints}))
    assert look.result is not None
    assert CONNECTED not in {finding.check for finding in look.result.findings}
    assert cloud.asked() == []


async def test_a_is_removed_while_its_other_side_is_well_and_not_while_it_may_be_a_flap(cloud: ObserverLab) -> None:
    look = await looked("drain", cloud.observer)
    assert look.result is not None
    assert look.result.verdict is Verdict.PASS, look.result.reason
    cloud.trunk.cut(True)
    look = await looked("drain", cloud.observer)
    assert look.result is not None
    assert look.result.verdict is Verdict.INCONCLUSIVE
    assert look.result.reason.startswith(f"east: {CONNECTED}: SBC Frankfurt: disconnected since ")
    lasting = watched_plan().endpoints[0]
    assert lasting.observer is not None
    at_once = lasting.observer.model_copy(update={"down_for": timedelta(0)})
    impatient = watched_plan().model_copy(update={"endpoints": (lasting.model_copy(update={"observer": at_once}),)})
    assert said(await looked("drain", cloud.observer, impatient)).verdict is Verdict.FAIL


async def test_stale_reports_decide_nothing(cloud: ObserverLab) -> None:
    cloud.trunk.freeze(True)
    impatient = watched_plan(stale_after=timedelta(milliseconds=100))
    finding = said(await looked("verify", cloud.observer, impatient, later=timedelta(milliseconds=200)))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "a report at most 0 s old" in finding.expected


@pytest.mark.parametrize("gate", GATES)
async def test_an_observer_that_cannot_be_asked_is_an_error_and_hides_nothing(cloud: ObserverLab, gate: str) -> None:
    gone = observer_of(f"http://127.0.0.1:{free_port()}")
    look = await looked(gate, gone)
    await gone.close()
    assert look.sight is Sight.BLIND or gate != "drain", "nothing else is wrong with this trunk"
    assert look.result is not None
    (blind,) = (f for f in look.result.findings if f.verdict is Verdict.ERROR and "[observers.byoc]" in f.seen)
    assert blind.endpoint == "east"
    assert len(look.result.findings) > 1


async def test_an_observer_that_asks_to_come_back_later_is_an_error_of_that_look_alone(cloud: ObserverLab) -> None:
    cloud.faults.status = 429
    assert (await looked("drain", cloud.observer)).sight is Sight.BLIND
    cloud.faults.status = None
    assert (await looked("drain", cloud.observer)).sight is Sight.SEEING
