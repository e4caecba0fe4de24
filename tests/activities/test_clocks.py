"""PREFLIGHT and clocks: the lab's world with its NTP server, the real adapters, and clocks that are off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities.clocks import beside, measure_clocks
from activities.preflight import EndpointLook, PreflightActivities
from adapters.registry import Adapters
from domain.clocks import DRIFT, ClockLimits, Clocks, NtpTime, Whose
from domain.errors import CredentialsRefused, Unreachable
from domain.gates import Finding, Verdict
from domain.plan import Endpoint, load_plan
from domain.rotation import Run
from lab.ntp_server import Manners
from lab.world import WorldOptions, running_world
from lab.world_parts import World
from settings import NtpSettings, Settings, load_settings
from tests.domain.plans import plan

CLOCKS = {f"clock of the {whose}" for whose in Whose}


@dataclass
class Desk:
    """The world from inside, and PREFLIGHT through the settings that it wrote."""

    world: World
    settings: Settings
    run: Run

    def clock(self, service: str, ahead_s: float) -> None:
        self.world.set_skew(service, timedelta(seconds=ahead_s))

    def ntp(self, **changes: Any) -> None:
        self.world.ntp.manners = replace(Manners(), **changes)

    async def findings(self, ntp: NtpSettings | str | None = "as the lab wrote it") -> dict[str, Finding]:
        """Of worker and trunk together, what PREFLIGHT says of clocks; and everything that stops it."""
        settings = self.settings if isinstance(ntp, str) else self.settings.model_copy(update={"ntp": ntp})
        adapters, environment = Adapters(settings), ActivityEnvironment()
        try:
            activities = PreflightActivities(adapters)
            worker = await environment.run(activities.examine_worker, self.run)
            trunk = await environment.run(activities.examine_endpoint, EndpointLook(run=self.run, endpoint="cxone"))
        finally:
            await adapters.close()
        both = [*worker.findings, *trunk.findings]
        stopping = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE)
        return {f.check: f for f in both if f.check in {*CLOCKS, DRIFT} or f.verdict in stopping}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A world in which all clocks are right."""
    async with running_world(WorldOptions(tmp_path, speed="test", call_rate=5.0)) as world:
        run = Run(plan=load_plan(tmp_path / "plan.toml"), rotation="r", key="lab-0123456789ab")
        yield Desk(world, load_settings(tmp_path / "settings.toml"), run)


async def test_preflight_holds_the_clocks_of_worker_platform_and_carrier_against_ntp(desk: Desk) -> None:
    found = await desk.findings()
    assert {check: finding.verdict for check, finding in found.items()} == dict.fromkeys(CLOCKS, Verdict.PASS)
    assert f"{desk.world.ntp.address}:{desk.world.ntp.port}, stratum 1" in found["clock of the worker"].seen
    assert found["clock of the platform"].endpoint == "cxone"
    assert found["clock of the carrier"].seen.startswith("the carrier's clock (carrier-lab) is 0.")

    desk.clock("cxone", -100)
    desk.clock("carrier", 432)
    found = await desk.findings()
    assert set(found) == CLOCKS, "nothing else is made of it"
    assert found["clock of the worker"].verdict is Verdict.PASS
    slow, fast = found["clock of the platform"], found["clock of the carrier"]
    assert (slow.verdict, fast.verdict) == (Verdict.WARN, Verdict.FAIL)
    assert slow.seen.startswith("the platform's clock (cxone-lab) is 100 s behind NTP")
    assert fast.seen.startswith("the carrier's clock (carrier-lab) is 7 min 12 s ahead of NTP")
    assert fast.expected == "at most 5 min; have the carrier synchronise its SIP proxies by NTP"


async def test_the_worker_is_accused_when_everybody_else_agrees_with_ntp(desk: Desk) -> None:
    for service in ("genesys", "cxone", "carrier"):
        desk.clock(service, 432)
    desk.ntp(ahead_s=432)
    found = await desk.findings()
    assert {check: finding.verdict for check, finding in found.items()} == {
        "clock of the worker": Verdict.FAIL,
        "clock of the platform": Verdict.PASS,
        "clock of the carrier": Verdict.PASS,
    }
    assert found["clock of the worker"].seen.startswith("the worker's clock is 7 min 12 s behind NTP")


@pytest.mark.parametrize(
    ("manners", "words"),
    [({"answers": False}, "no answer within 2 s"), ({"leap": 3}, "is not synchronised itself: leap 3, stratum 1")],
    ids=["silence", "unsynchronised"],
)
async def test_ntp_that_says_nothing_is_an_error_and_the_rest_is_looked_at(
    desk: Desk, manners: dict[str, Any], words: str
) -> None:
    desk.ntp(**manners)
    found = await desk.findings()
    assert {check: finding.verdict for check, finding in found.items()} == {DRIFT: Verdict.ERROR}
    assert words in found[DRIFT].seen
    assert "[ntp]: no NTP server gives a usable time" in found[DRIFT].seen


async def test_without_ntp_preflight_passes_and_says_that_it_did_not_look(desk: Desk) -> None:
    desk.clock("carrier", 432)
    found = await desk.findings(None)
    assert {check: finding.verdict for check, finding in found.items()} == {DRIFT: Verdict.NOT_CHECKED}
    assert found[DRIFT].seen.startswith("not checked against NTP: no [ntp] servers in the settings; ")
    assert "the carrier's clock (carrier-lab) is 7 min 12 s ahead of the worker's" in found[DRIFT].seen


# -- measure_clocks on its own -----------------------------------------------------------------------------------------


class Sources:
    """The part of `Adapters` that is asked for the time: each answer, exception, or coroutine function."""

    def __init__(self, *, platform: Any, carrier: Any, ntp: Any = None) -> None:
        self._platform, self._carrier, self._ntp = platform, carrier, ntp

    def time_servers(self) -> Any:
        answer = self._ntp

        class Servers:
            limits = ClockLimits()

            async def time(self) -> NtpTime:
                return cast(NtpTime, await _answer(answer))

        return Servers() if answer is not None else None

    def edge(self, profile: str) -> Any:
        sources = self

        class Edge:
            async def health(self, trunk: str) -> Any:
                return type("Health", (), {"clock": await _answer(sources._platform)})

        return Edge()

    def carrier(self, profile: str) -> Any:
        sources = self

        class Carrier:
            async def reading(self, endpoint: Endpoint, since: datetime, until: datetime) -> Any:
                assert until - since == timedelta(seconds=60)
                return type("Reading", (), {"read_at": await _answer(sources._carrier)})

        return Carrier()


async def _answer(given: Any) -> Any:
    if isinstance(given, Exception):
        raise given
    return await given() if callable(given) else given


async def measured(**answers: Any) -> Clocks:
    return await measure_clocks(cast(Adapters, Sources(**answers)), plan().endpoints)


async def test_what_cannot_be_measured_says_why_and_nothing_is_raised() -> None:
    refused = CredentialsRefused("the token is expired", where="[carriers.acme]")
    clocks = await measured(platform=None, carrier=refused, ntp=Unreachable("nobody answers", where="[ntp]"))
    assert clocks.ntp_problem == "[ntp]: nobody answers"
    _, platform, carrier = clocks.told
    assert (platform.beside_worker_s, platform.problem) == (None, None)
    assert (carrier.beside_worker_s, carrier.problem) == (None, "[carriers.acme]: the token is expired")
    assert clocks.off() == ()


async def test_a_side_that_hangs_does_not_hold_the_others_up() -> None:
    async def never() -> datetime:
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    sources = Sources(platform=never, carrier=datetime.now(UTC) + timedelta(seconds=432), ntp=never)
    clocks = await measure_clocks(cast(Adapters, sources), plan().endpoints, within_s=0.2)
    assert clocks.ntp_problem == "the NTP servers did not tell the time within 0.2 s"
    _, platform, carrier = clocks.told
    assert platform.problem == "the platform's clock (genesys-eu) was not told within 0.2 s"
    assert carrier.beside_worker_s == pytest.approx(432, abs=5)
    [off] = clocks.off()
    assert off.startswith("the carrier's clock (")
    assert off.endswith("ahead of the worker's")


async def test_the_way_there_and_back_is_the_uncertainty() -> None:
    begun = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    now = [begun]

    async def told_after_two_seconds() -> datetime:
        now[0] += timedelta(seconds=2)
        return begun + timedelta(seconds=101)

    sources = cast(Adapters, Sources(platform=told_after_two_seconds, carrier=begun))
    platform = (await measure_clocks(sources, plan().endpoints, lambda: now[0])).told[1]
    assert (platform.beside_worker_s, platform.uncertainty_s) == (100.0, 1.0)


async def test_work_beside_is_cancelled_when_the_body_fails() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def fails() -> None:
        async with beside(work()):
            await asyncio.sleep(0)
            raise Unreachable("the platform is away")

    with pytest.raises(Unreachable):
        await fails()
    assert ended.is_set()
