"""The diagnosis beside a verdict: it adds words in its time or nothing, and never delays, hides or changes it."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.baseline import EndpointBaseline
from activities.diagnosing import ALL_IN_S, DIAGNOSIS_S, Diagnosing, Suspect
from activities.health import GateLook, GateRequest, GuardLook, GuardRequest, HealthActivities
from activities.looks import WHOLE_LOOK_S
from adapters.edges.base import CertificateHealth, EdgeHealth, TrunkSettings, TrunkState
from adapters.probe.base import Distrust, Layer, ProbeResult, ProbeTarget
from adapters.registry import Adapters
from domain.causes import REMEDIES, FailureCause
from domain.clocks import ClockLimits, NtpTime
from domain.diagnosis import BRIEF, Sure
from domain.errors import Unreachable
from domain.gates import Verdict
from domain.guard import GuardVerdict
from domain.handshakes import Reading, Reporter, Tally
from domain.plan import Endpoint
from domain.probed import Staple, StapleState
from domain.rotation import Run
from domain.texts import LONGEST
from tests.domain.plans import SEPARATE_TARGETS, plan
from tests.domain.readings import NOW, A, B, reading, sample, tally
from workflows.pace import LOOK_TIMEOUT

GOOD = reading(sample(handshakes=tally(200), call_setups=tally(200)))
REFUSED = reading(sample(handshakes=Tally(attempts=9, successes=0, failures={"unknown_ca": 9})))
SHORT_S = 0.2


async def never() -> Any:
    await asyncio.Event().wait()


@dataclass
class Outside:
    """Stands where the registry stands. Each answer is a value, an exception, or a function to wait for."""

    figures: Any = field(default_factory=lambda: REFUSED)
    carriers: Any = field(default_factory=lambda: reading(reporter=Reporter.CARRIER))
    probe: Any = None
    health: Any = None
    canary: bool = False
    addresses: Any = ("192.0.2.1",)
    worker_ahead_s: float | None = None
    asked: list[str] = field(default_factory=list)
    settings: None = None

    def metrics(self, profile: str) -> Any:
        return SimpleNamespace(samples=self._samples)

    def carrier(self, profile: str) -> Any:
        return SimpleNamespace(reading=self._told)

    def edge(self, profile: str) -> Any:
        return SimpleNamespace(read_trunk=self._trunk, health=self._health)

    def prober(self) -> Any:
        return SimpleNamespace(probe=self._probe)

    def time_servers(self) -> Any:
        return SimpleNamespace(time=self._time, limits=ClockLimits()) if self.worker_ahead_s is not None else None

    async def _time(self) -> NtpTime:
        self.asked.append("NTP")
        return NtpTime(ahead_s=self.worker_ahead_s, uncertainty_s=0.01, spread_s=0.0, answered=())

    def zone(self, profile: str) -> Any:
        return SimpleNamespace(addresses=self._addresses)

    async def _samples(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        return await self._answer("platform", self.figures)

    async def _told(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        return await self._answer("carrier", self.carriers)

    async def _trunk(self, trunk: str, *, reachable_only: bool = False) -> TrunkState:
        settings = TrunkSettings(retransmission_timeout_s=None, cipher_suites=())
        state = TrunkState(
            trunk=trunk, name="one", enabled=True, pool=(A, B), settings=settings, mutual_tls=True, version=1
        )
        path = {"server_name": "canary.example.com", "port": None}
        return state.model_validate({**state.model_dump(), "canary": B, "canary_path": path}) if self.canary else state

    async def _health(self, trunk: str) -> EdgeHealth:
        usual = EdgeHealth(listener_up=True, certificates=(), active_calls={}, read_at=NOW)
        return await self._answer("health", self.health or usual)

    async def _probe(self, target: ProbeTarget) -> ProbeResult:
        name = f"probe {target.address}:{target.port} {target.server_name}"
        seen = await self._answer(name, self.probe or {"leaf_sha256": B, "version": "TLSv1.3", "chain_verified": True})
        return ProbeResult(target=target, at=NOW, **seen)

    async def _addresses(self, host: str) -> tuple[str, ...]:
        return await self._answer(f"DNS {host}", self.addresses)

    async def _answer(self, name: str, given: Any) -> Any:
        self.asked.append(name)
        if isinstance(given, Exception):
            raise given
        return await given() if callable(given) else given


def suspect(*changes: tuple[str, str]) -> Suspect:
    wanted = plan(*changes)
    return Suspect(wanted, wanted.endpoints[0], A, B, NOW - timedelta(minutes=1))


def diagnosing(outside: Outside) -> Diagnosing:
    return Diagnosing(cast(Adapters, outside), lambda: NOW)


async def guarded(outside: Outside) -> GuardLook:
    request = GuardRequest(
        run=Run(plan=plan(), rotation="r", key="k"), sha256_a=A, sha256_b=B, interval=timedelta(seconds=5)
    )
    activities = HealthActivities(cast(Adapters, outside), clock=lambda: NOW)
    return await ActivityEnvironment().run(activities.guard, request)


async def ready(outside: Outside) -> GateLook:
    baseline = SimpleNamespace()
    request = GateRequest.model_construct(
        run=Run(plan=plan(), rotation="r", key="k"),
        sha256_a=A,
        sha256_b=B,
        baselines=cast(tuple[EndpointBaseline, ...], (baseline,)),
        since=NOW - timedelta(minutes=1),
        not_before=None,
        interval=timedelta(seconds=1),
        one_look=False,
        calm_until=None,
    )
    activities = HealthActivities(cast(Adapters, outside), clock=lambda: NOW)
    return await ActivityEnvironment().run(activities.readiness, request)


# -- beside the guard and the gates ------------------------------------------------------------------------------------


async def test_a_breach_names_its_cause_and_the_next_step_after_the_figures() -> None:
    look = await guarded(Outside())
    assert look.verdict is GuardVerdict.BREACH
    assert look.looked_at == NOW
    assert look.text.startswith("east: 9 handshakes in a row on bbbbbbbbbbbb")
    assert "; likely: unknown issuer – " in look.text
    assert REMEDIES[FailureCause.UNKNOWN_ISSUER].next_step in look.findings[0].seen


async def test_a_gate_that_fails_names_its_cause_in_the_finding_that_failed_first() -> None:
    invalid = CertificateHealth(sha256=B, valid=False, reason="no path to a trusted root")
    fine = CertificateHealth(sha256=A, valid=True)
    health = EdgeHealth(listener_up=True, certificates=(fine, invalid), active_calls={}, read_at=NOW)
    lone = {"leaf_sha256": B, "failed_layer": Layer.TLS, "cause": "lone", "distrust": Distrust.INCOMPLETE_CHAIN}
    look = await ready(Outside(health=health, probe=lone, canary=True))
    assert look.result is not None
    failed = [finding for finding in look.result.findings if finding.verdict is Verdict.FAIL]
    assert [("incomplete chain" in finding.seen) for finding in failed] == [True, *[False] * (len(failed) - 1)]
    assert failed[0].seen.startswith("bbbbbbbbbbbb invalid: no path to a trusted root; seen: incomplete chain – ")
    assert REMEDIES[FailureCause.INCOMPLETE_CHAIN].next_step in look.text


async def test_a_gate_that_is_undecided_says_first_what_keeps_it() -> None:
    fine = [CertificateHealth(sha256=one, valid=True) for one in (A, B)]
    health = EdgeHealth(listener_up=True, certificates=tuple(fine), active_calls={}, read_at=NOW)
    good = {"leaf_sha256": B, "version": "TLSv1.3", "handshake_ms": 7.0, "chain_verified": True}
    stale = Staple(state=StapleState.STALE)
    with pytest.raises(ApplicationError) as undecided:
        await ready(Outside(health=health, canary=True, probe={**good, "staple": stale}))
    assert undecided.value.message.startswith("east: OCSP staple of B: OCSP staple stale (expected good and fresh)")
    look = await ready(Outside(health=health, canary=True, probe={**good, "staple": Staple(state=StapleState.GOOD)}))
    assert look.result is not None
    assert look.result.verdict is Verdict.PASS


@pytest.mark.parametrize("slow", ["figures", "carriers", "probe", "health"])
async def test_a_source_that_hangs_leaves_the_rest_its_word(slow: str) -> None:
    outside = Outside(**{"canary": True, slow: never})
    found = await diagnosing(outside).symptoms(suspect(), SHORT_S)
    assert bool(found.failures) is (slow != "figures")
    assert bool(found.probes) is (slow != "probe")


async def test_a_diagnosis_that_hangs_is_dropped_and_the_breach_comes_in_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("activities.health.DIAGNOSIS_S", SHORT_S)
    outside = Outside(carriers=never, probe=never, health=never)
    calls = iter([REFUSED])

    async def once_then_never() -> Any:
        return next(calls, None) or await never()

    outside.figures = once_then_never
    started = time.monotonic()
    look = await guarded(outside)
    assert time.monotonic() - started < WHOLE_LOOK_S
    assert look.verdict is GuardVerdict.BREACH
    assert look.text == f"east: {look.findings[0].seen}"
    assert "next:" not in look.text


@pytest.mark.parametrize("failure", [Unreachable("no answer"), ZeroDivisionError("a bug")])
async def test_a_diagnosis_that_fails_changes_nothing(failure: Exception) -> None:
    outside = Outside(carriers=failure, probe=failure, health=failure, addresses=failure)
    look = await guarded(outside)
    assert look.verdict is GuardVerdict.BREACH
    outside.figures = failure
    assert await diagnosing(outside).words(suspect(*SEPARATE_TARGETS)) is None


async def test_what_goes_wrong_in_the_diagnosis_itself_is_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(symptoms: object) -> None:
        raise RuntimeError("a bug of ours")

    monkeypatch.setattr("activities.diagnosing.diagnose", broken)
    look = await guarded(Outside())
    assert look.verdict is GuardVerdict.BREACH
    assert "next:" not in look.text


async def test_nobody_is_probed_as_long_as_nothing_has_failed() -> None:
    outside = Outside(figures=GOOD)
    with pytest.raises(ApplicationError, match="HEALTHY"):
        await guarded(outside)
    assert outside.asked == ["platform"]
    blind = Outside(figures=Unreachable("no answer"))
    assert (await guarded(blind)).verdict is GuardVerdict.BLIND
    assert blind.asked == ["platform"]


async def test_a_look_that_took_its_whole_time_leaves_none_for_a_diagnosis() -> None:
    outside = Outside()
    assert await diagnosing(outside).words(suspect(), 0) is None
    assert outside.asked == []
    assert WHOLE_LOOK_S + DIAGNOSIS_S > ALL_IN_S
    assert LOOK_TIMEOUT.total_seconds() > ALL_IN_S


async def test_long_texts_stay_in_their_bounds_with_figures_and_cause() -> None:
    said = await diagnosing(Outside()).added_to({"east": "x" * 5000, "nobody": "y"}, [suspect()], SHORT_S)
    assert list(said) == ["east"]
    assert len(said["east"]) <= LONGEST
    assert said["east"].startswith("xxx")
    assert REMEDIES[FailureCause.UNKNOWN_ISSUER].next_step in said["east"]
    assert len(said["east"].rpartition("]; ")[2]) <= BRIEF


# -- what is looked at -------------------------------------------------------------------------------------------------


async def test_every_node_is_probed_once_and_b_on_its_canary_path() -> None:
    outside = Outside(canary=True)
    await diagnosing(outside).symptoms(suspect())
    probes = sorted(name for name in outside.asked if name.startswith("probe"))
    assert probes == [
        "probe 198.51.100.1:5061 canary.example.com",
        "probe 198.51.100.1:5061 trunk.example.com",
        "probe 198.51.100.2:5061 trunk.example.com",
    ]
    assert [name for name in outside.asked if not name.startswith("probe")].count("platform") == 1


async def test_targets_without_an_address_are_named() -> None:
    outside = Outside(figures=GOOD, addresses=())
    (first, *_) = await diagnosing(outside).diagnoses(suspect(*SEPARATE_TARGETS))
    assert (first.cause, first.sure) == (FailureCause.NOT_RESOLVED, Sure.SEEN)
    assert "DNS: b.trunk.example.com has no address" in first.evidence


async def test_the_time_of_the_carriers_answer_is_its_clock() -> None:
    late = reading(reporter=Reporter.CARRIER, read_at=NOW - timedelta(hours=25))
    outside = Outside(carriers=late)
    assert (await diagnosing(outside).symptoms(suspect())).drift == timedelta(hours=-25)


async def test_clocks_are_measured_again_when_an_alert_may_come_from_one() -> None:
    """Ours is the one that is off: only NTP can tell."""
    too_early = reading(sample(handshakes=Tally(attempts=9, failures={"bad_certificate": 9})))
    outside = Outside(figures=too_early, carriers=reading(reporter=Reporter.CARRIER), worker_ahead_s=432.0)
    diagnoses = await diagnosing(outside).diagnoses(suspect())
    [drift] = [one for one in diagnoses if one.cause is FailureCause.CLOCK_DRIFT]
    assert any("the worker's clock is 7 min 12 s ahead of NTP" in line for line in drift.evidence)
    assert "NTP" in outside.asked
    other = Outside(figures=REFUSED, worker_ahead_s=432.0)
    await diagnosing(other).diagnoses(suspect())
    assert "NTP" not in other.asked


async def test_without_failures_and_without_sight_nothing_is_said() -> None:
    assert await diagnosing(Outside(figures=GOOD)).words(suspect()) is None
    unknown = reading(sample(handshakes=Tally(attempts=2, failures={"other": 2})))
    said = await diagnosing(Outside(figures=unknown)).words(suspect())
    assert said is not None
    assert said.startswith("cause not known – ")
