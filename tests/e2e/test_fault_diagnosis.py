"""Each fault of the lab, and what the diagnosis makes of it: real TLS, real figures, the worker's own adapters.

Without a rotation, so that every cause is tried: B is bound and preferred through the platforms' APIs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from activities.diagnosing import Diagnosing, Suspect
from adapters.registry import Adapters
from domain.causes import REMEDIES, FailureCause
from domain.diagnosis import Diagnosis, Sure
from domain.plan import Plan, load_plan
from lab.bao import Bao
from lab.lab_names import CXONE, GENESYS
from settings import load_settings
from tests.lab.lab_with_b import LabWithB, lab_for_faults
from tests.lab.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

CAUSES: dict[str, tuple[FailureCause, Sure]] = {
    "b-without-intermediate": (FailureCause.INCOMPLETE_CHAIN, Sure.SEEN),
    "carrier-distrusts-b": (FailureCause.UNKNOWN_ISSUER, Sure.LIKELY),
    "carrier-expects-other-name": (FailureCause.NAME_MISMATCH, Sure.LIKELY),
    "cipher-mismatch-on-b": (FailureCause.CIPHER_MISMATCH, Sure.LIKELY),
    "protocol-mismatch-on-b": (FailureCause.PROTOCOL_MISMATCH, Sure.LIKELY),
    "carrier-clock-behind": (FailureCause.CLOCK_DRIFT, Sure.SEEN),
    "carrier-clock-ahead": (FailureCause.CLOCK_DRIFT, Sure.SEEN),
    "b-revoked": (FailureCause.REVOKED, Sure.SEEN),
    "staple-missing": (FailureCause.STAPLE_MISSING, Sure.SEEN),
    "staple-stale": (FailureCause.STAPLE_STALE, Sure.SEEN),
    "resumption-breaks-on-b": (FailureCause.RESUMPTION, Sure.LIKELY),
    "dns-gone-for-b": (FailureCause.NOT_RESOLVED, Sure.SEEN),
    "tcp-refused-for-b": (FailureCause.NOT_REACHABLE, Sure.SEEN),
    "invites-403": (FailureCause.SIP_REFUSED, Sure.SEEN),
}
"""What the diagnosis has to say of each fault that has one cause."""

BUDGET_S = 20.0
"""Not the worker's second: what is found is tested here, and a busy machine must not decide it."""

TRUNKS = {
    "resumption-breaks-on-b": (GENESYS,),
    "dns-gone-for-b": (CXONE,),
    "tcp-refused-for-b": (CXONE,),
}
"""Where a fault strikes, if not on both trunks."""

NO_FAILURES = {"dns-gone-for-b", "tcp-refused-for-b"}
"""Carriers go elsewhere: nothing is counted as failed."""


@pytest.fixture(scope="module")
def bao(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bao]:
    with Bao(tmp_path_factory.mktemp("bao")) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lab(tmp_path_factory: pytest.TempPathFactory, bao: Bao) -> AsyncIterator[LabWithB]:
    async with lab_for_faults(tmp_path_factory.mktemp("lab") / "faults", bao) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def adapters(lab: LabWithB) -> AsyncIterator[Adapters]:
    built = Adapters(load_settings(lab.lab.directory / "settings.toml"))
    yield built
    await built.close()


@pytest.fixture
def plan(lab: LabWithB) -> Plan:
    return load_plan(lab.lab.directory / "plan.toml")


async def diagnosed(lab: LabWithB, adapters: Adapters, plan: Plan, trunk: str) -> tuple[Diagnosis, ...]:
    (endpoint,) = [one for one in plan.endpoints if one.name == trunk]
    suspect = Suspect(plan, endpoint, lab.sha256_a, lab.sha256_b, lab.since)
    return await Diagnosing(adapters, lambda: datetime.now(UTC)).diagnoses(suspect, BUDGET_S)


async def counted(lab: LabWithB, trunk: str) -> bool:
    """The platform has counted failures in each direction of the trunk; where only resumed sessions fail, inbound."""
    leaves = (lab.sha256_b, None)
    return any(sum(lab.failures(trunk, "platform", "INBOUND", leaf).values()) >= 5 for leaf in leaves)


@pytest.mark.parametrize("fault", CAUSES)
async def test_the_cause_of_a_fault_is_named_with_its_evidence_and_the_next_step(
    lab: LabWithB, adapters: Adapters, plan: Plan, fault: str
) -> None:
    cause, sure = CAUSES[fault]
    async with lab.fault(fault):
        for trunk in TRUNKS.get(fault, (GENESYS, CXONE)):

            async def failing(trunk: str = trunk) -> bool:
                if fault in NO_FAILURES:
                    return fault != "tcp-refused-for-b" or not lab.lab.world.trunks[trunk].edge.up()
                return await counted(lab, trunk)

            await until(failing)
            first, *others = await diagnosed(lab, adapters, plan, trunk)
            assert (first.cause, first.sure) == (cause, sure), [one.text() for one in (first, *others)]
            assert first.evidence
            assert first.next_step == REMEDIES[cause].next_step
            assert [one.cause for one in others if one.sure is Sure.SEEN] == []


async def test_a_clock_that_is_ahead_refuses_a_as_well_and_the_text_says_so(
    lab: LabWithB, adapters: Adapters, plan: Plan
) -> None:
    async with lab.fault("carrier-clock-ahead", prefer_b=False):

        async def on_a() -> bool:
            return lab.failures(CXONE, "platform", "INBOUND", lab.sha256_a).get("certificate_expired", 0) > 0

        await until(on_a)
        first, *_ = await diagnosed(lab, adapters, plan, CXONE)
    assert first.cause is FailureCause.CLOCK_DRIFT
    assert "going back to A does not mend it" in first.sentence


async def test_without_a_fault_nothing_is_said(lab: LabWithB, adapters: Adapters, plan: Plan) -> None:
    async with lab.fault("metrics-empty"):

        async def on_b() -> bool:
            return lab.successes(GENESYS, "carrier", "INBOUND", lab.sha256_b) > 0

        await until(on_b)
        found = await diagnosed(lab, adapters, plan, GENESYS)
    assert FailureCause.UNKNOWN not in [one.cause for one in found]
    assert found == ()
