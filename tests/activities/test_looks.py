"""The form of every watcher: what it returns, what it keeps to itself, and that nothing that fails looks healthy."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.testing import ActivityEnvironment

from activities import looks
from activities.baseline import EndpointBaseline
from activities.health import GateLook, GateRequest, GuardLook, GuardRequest, HealthActivities
from activities.looks import LOOK_DEADLINE_S, WHOLE_LOOK_S, Blind, Sight, look_within
from adapters.edges.base import EdgeHealth
from adapters.probe.base import ProbeTarget
from adapters.registry import Adapters
from domain.errors import CredentialsRefused, Unreachable
from domain.gates import Verdict
from domain.guard import GuardVerdict
from domain.handshakes import Reading, Reporter, Tally
from domain.plan import Endpoint, Plan, Timings
from domain.rotation import Run
from tests.domain.plans import plan
from tests.domain.readings import NOW, A, B, reading, sample, tally
from workflows.pace import LOOK_TIMEOUT, LOST_LOOK_TOLD

PROMISED_FREEZE = timedelta(seconds=15)
TASK_TIMEOUT = timedelta(seconds=5)
"""Of the workflow's own tasks (DESIGN.md): how long one is lost with the worker that held it."""


def two_trunks() -> Plan:
    """East and west."""
    east = plan().endpoints[0]
    west = east.model_copy(update={"name": "west", "trunk": "edge-1/trunk-2"})
    return plan().model_copy(update={"endpoints": (east, west)})


class Sources:
    """Stands where the registry stands: figures by endpoint, or an exception, or a coroutine function to wait for."""

    def __init__(self, platform: dict[str, Any], carrier: Any = None) -> None:
        self._platform, self._carrier = platform, carrier
        self.asked_of_carrier: list[tuple[Any, Any]] = []
        self.settings = None

    def metrics(self, profile: str) -> Any:
        return _Source(self._samples)

    def carrier(self, profile: str) -> Any:
        return _Source(self._told)

    async def _samples(self, endpoint: Endpoint, since: Any, until: Any) -> Reading:
        return await _answer(self._platform[endpoint.name], endpoint, since, until)

    async def _told(self, endpoint: Endpoint, since: Any, until: Any) -> Reading:
        self.asked_of_carrier.append((since, until))
        return await _answer(self._carrier, endpoint, since, until)


class _Source:
    def __init__(self, answer: Any) -> None:
        self.samples = self.reading = answer


async def _answer(given: Any, endpoint: Endpoint, since: Any, until: Any) -> Reading:
    if isinstance(given, Exception):
        raise given
    if callable(given):
        given = await given()
    return given.model_copy(update={"endpoint": endpoint.name, "since": since, "until": until})


def carrier(attempts: int) -> Reading:
    return reading(sample(reporter=Reporter.CARRIER, handshakes=tally(attempts)), reporter=Reporter.CARRIER)


GOOD = reading(sample(handshakes=tally(200), call_setups=tally(200)))
FEW = reading(sample(handshakes=tally(3)))
REFUSED = reading(sample(handshakes=Tally(attempts=9, successes=0, failures={"unknown_ca": 9})))


def guard(**changes: Any) -> GuardRequest:
    usual: dict[str, Any] = {
        "run": Run(plan=two_trunks(), rotation="r", key="k"),
        "sha256_a": A,
        "sha256_b": B,
        "interval": timedelta(seconds=5),
    }
    return GuardRequest(**{**usual, **changes})


async def guarded(sources: Sources, request: GuardRequest | None = None) -> GuardLook:
    activities = HealthActivities(cast(Adapters, sources), clock=lambda: NOW)
    return await ActivityEnvironment().run(activities.guard, request or guard())


async def benign(sources: Sources, request: GuardRequest) -> ApplicationError:
    with pytest.raises(ApplicationError) as told:
        await guarded(sources, request)
    assert told.value.type == "NothingNew"
    assert told.value.category is ApplicationErrorCategory.BENIGN
    assert told.value.next_retry_delay == request.interval
    return told.value


async def never() -> Reading:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


# -- a look ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (CredentialsRefused("the token is expired", where="[platforms.eu]"), "[platforms.eu]: the token is expired"),
        (Unreachable("no answer"), "no answer"),
        (ZeroDivisionError("division by zero"), "unexpected ZeroDivisionError in the look: division by zero"),
        (TimeoutError(), "did not end within"),
    ],
)
async def test_whatever_fails_in_a_look_is_blindness_with_its_reason(failure: Exception, said: str) -> None:
    async def look() -> None:
        raise failure

    with pytest.raises(Blind) as blind:
        await look_within(1.0, look)
    assert said in str(blind.value)


async def test_a_look_that_hangs_says_so_at_its_deadline() -> None:
    with pytest.raises(Blind, match=r"did not end within 0\.01 s"):
        await look_within(0.01, never)


async def test_an_error_text_without_end_is_cut() -> None:
    async def look() -> None:
        raise Unreachable("x" * 5_000_000)

    with pytest.raises(Blind) as blind:
        await look_within(1.0, look)
    assert len(str(blind.value)) <= looks.TEXT_LIMIT


def test_the_advance_is_frozen_15_s_after_the_sight_was_lost_at_the_latest() -> None:
    """From the plan's default interval and the constants, each at its worst, one workflow task lost on the way."""
    assert LOOK_DEADLINE_S < WHOLE_LOOK_S < LOOK_TIMEOUT.total_seconds()
    a_look_hangs = Timings().guard_hot + LOOK_TIMEOUT
    assert a_look_hangs + TASK_TIMEOUT < PROMISED_FREEZE
    assert LOST_LOOK_TOLD.non_retryable_error_types is not None
    assert "TemporalTimeout:StartToClose" in LOST_LOOK_TOLD.non_retryable_error_types


# -- the guard ---------------------------------------------------------------------------------------------------------


async def test_only_a_healthy_look_with_nothing_new_is_benign() -> None:
    error = await benign(Sources({"east": GOOD, "west": GOOD}), guard())
    assert error.message.startswith("HEALTHY: east: handshakes 200 of 200")


async def test_blindness_is_returned_once_and_then_repeated_by_temporal() -> None:
    sources = Sources({"east": Unreachable("no answer"), "west": GOOD})
    assert (await guarded(sources)).verdict is GuardVerdict.BLIND
    await benign(sources, guard(said=GuardVerdict.BLIND))
    seen = await guarded(Sources({"east": GOOD, "west": GOOD}), guard(said=GuardVerdict.BLIND))
    assert seen.verdict is GuardVerdict.HEALTHY


async def test_a_guard_that_flaps_keeps_better_news_back_until_it_may_tell_and_nothing_else() -> None:
    calm = {"calm_until": NOW + timedelta(minutes=1)}
    well = Sources({"east": GOOD, "west": GOOD})
    await benign(well, guard(said=GuardVerdict.BLIND, **calm))
    assert (await guarded(well, guard(said=GuardVerdict.BLIND, calm_until=NOW))).verdict is GuardVerdict.HEALTHY
    worse = Sources({"east": REFUSED, "west": GOOD})
    assert (await guarded(worse, guard(said=GuardVerdict.BLIND, **calm))).verdict is GuardVerdict.BREACH
    blind = Sources({"east": Unreachable("gone"), "west": GOOD})
    assert (await guarded(blind, guard(**calm))).verdict is GuardVerdict.BLIND


@pytest.mark.parametrize(
    "failure",
    [Unreachable("no answer"), ZeroDivisionError("a bug"), never],
    ids=["unreachable", "a bug", "hangs"],
)
async def test_an_endpoint_that_cannot_be_looked_at_hides_no_breach_on_another(
    failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.health.LOOK_DEADLINE_S", 0.2)
    look = await guarded(Sources({"east": failure, "west": REFUSED}))
    assert look.verdict is GuardVerdict.BREACH
    assert look.text.startswith("west: 9 handshakes in a row")
    assert {f.endpoint: f.verdict for f in look.findings} == {"west": GuardVerdict.BREACH, "east": GuardVerdict.BLIND}


@pytest.mark.parametrize("failure", [Unreachable("no answer"), never], ids=["unreachable", "hangs"])
async def test_a_carrier_that_cannot_be_asked_hides_no_breach_that_the_platform_shows(
    failure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five refusals are far below the sample, so that the carrier is asked before a wider window shows them."""
    monkeypatch.setattr("activities.health.CARRIER_DEADLINE_S", 0.1)
    answers = iter([FEW, FEW])

    async def wider() -> Reading:
        return next(answers, REFUSED)

    look = await guarded(Sources({"east": wider, "west": GOOD}, failure))
    assert look.verdict is GuardVerdict.BREACH
    assert "refused for the certificate" in look.text


async def test_without_the_carrier_a_quiet_trunk_is_not_told_from_a_lost_one() -> None:
    answers = iter([FEW])

    async def old_traffic_in_the_wider_window() -> Reading:
        return next(answers, GOOD)

    look = await guarded(Sources({"east": old_traffic_in_the_wider_window, "west": GOOD}, Unreachable("no answer")))
    assert look.verdict is GuardVerdict.BLIND
    assert look.text == "east: 3 attempts here, and the carrier cannot be asked: no answer"


async def test_the_carrier_is_asked_only_for_what_the_platform_has_counted_already() -> None:
    """A source that froze a moment ago, not yet stale: its traffic is not gone, it is not there yet."""
    read_at = NOW - timedelta(seconds=50)
    sources = Sources({"east": FEW.model_copy(update={"read_at": read_at}), "west": GOOD}, carrier(3))
    await benign(sources, guard(said=GuardVerdict.QUIET))
    assert {until for _, until in sources.asked_of_carrier} == {read_at}
    assert sources.asked_of_carrier[0][0] == NOW - Timings().guard_window


async def test_after_a_reset_the_carrier_is_asked_for_the_time_since_alone() -> None:
    """An edge that was restarted has lost figures, not traffic; what is lost from then on is seen all the same."""
    reset = NOW - timedelta(seconds=20)
    restarted = FEW.model_copy(update={"counters_since": reset})
    sources = Sources({"east": restarted, "west": GOOD}, carrier(3))
    await benign(sources, guard(said=GuardVerdict.QUIET))
    assert {since for since, _ in sources.asked_of_carrier} == {reset}
    assert (await guarded(Sources({"east": restarted, "west": GOOD}, carrier(500)))).verdict is GuardVerdict.BREACH
    a_moment_ago = FEW.model_copy(update={"counters_since": NOW - timedelta(milliseconds=1)})
    look = await guarded(Sources({"east": a_moment_ago, "west": GOOD}, carrier(500)), guard(one_look=True))
    assert look.verdict is GuardVerdict.QUIET


async def test_traffic_that_is_gone_is_seen_in_the_first_window_and_not_outvoted_by_older_traffic() -> None:
    answers = iter([FEW])

    async def old_traffic_in_the_wider_window() -> Reading:
        return next(answers, GOOD)

    look = await guarded(Sources({"east": old_traffic_in_the_wider_window, "west": GOOD}, carrier(500)))
    assert look.verdict is GuardVerdict.BREACH
    assert "traffic is gone" in look.text


async def test_a_bug_behind_the_looks_is_blindness_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*arguments: Any) -> GuardLook:
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr("activities.health._guard_look", bug)
    look = await guarded(Sources({"east": GOOD, "west": GOOD}))
    assert look.verdict is GuardVerdict.BLIND
    assert "unexpected KeyError" in look.text


async def test_a_fresh_look_always_answers() -> None:
    look = await guarded(Sources({"east": GOOD, "west": GOOD}), guard(one_look=True))
    assert look.verdict is GuardVerdict.HEALTHY
    look = await guarded(Sources({"east": Unreachable("x"), "west": GOOD}), guard(one_look=True))
    assert look.verdict is GuardVerdict.BLIND


async def test_a_quiet_trunk_is_no_breach() -> None:
    look = await guarded(Sources({"east": FEW, "west": GOOD}, carrier(3)), guard(one_look=True))
    assert look.verdict is GuardVerdict.QUIET
    await benign(Sources({"east": FEW, "west": GOOD}, carrier(3)), guard())


# -- a gate ------------------------------------------------------------------------------------------------------------


def gate(**changes: Any) -> GateRequest:
    baselines = tuple(
        EndpointBaseline.model_construct(endpoint=endpoint.name)  # what VERIFY and ADOPT do not look at
        for endpoint in two_trunks().endpoints
    )
    usual: dict[str, Any] = {
        "run": Run(plan=two_trunks(), rotation="r", key="k"),
        "sha256_a": A,
        "sha256_b": B,
        "baselines": baselines,
        "since": NOW - timedelta(minutes=10),
        "interval": timedelta(seconds=10),
    }
    return GateRequest.model_construct(**{**usual, **changes})


@pytest.mark.parametrize("one_look", [False, True], ids=["watching", "a fresh look"])
@pytest.mark.parametrize("failure", [Unreachable("no answer"), ZeroDivisionError("a bug")])
async def test_a_gate_that_cannot_see_is_an_error_and_never_passes(failure: Exception, one_look: bool) -> None:
    plenty = reading(sample(handshakes=tally(2000), call_setups=tally(2000)))
    activities = HealthActivities(cast(Adapters, Sources({"east": failure, "west": plenty})), clock=lambda: NOW)
    look = await ActivityEnvironment().run(activities.adopt, gate(one_look=one_look))
    assert look.sight is Sight.BLIND
    assert look.text.startswith("east: the look: ")
    assert look.result is None or look.result.verdict is Verdict.ERROR


async def test_a_gates_blind_endpoint_hides_no_failure_of_another() -> None:
    """VERIFY: west fails on its figures while east cannot be read."""
    bad = reading(sample(handshakes=tally(1000, unknown_ca=1000)))
    sources = Sources({"east": Unreachable("no answer"), "west": bad}, carrier(2000))
    activities = HealthActivities(cast(Adapters, sources), clock=lambda: NOW)
    look = await ActivityEnvironment().run(activities.verify, gate())
    assert look.result is not None
    assert look.result.verdict is Verdict.FAIL
    assert "west: handshakes on B" in look.result.reason


async def test_a_gate_that_flaps_keeps_back_that_it_sees_again_but_not_its_decision() -> None:
    calm = {"last": Sight.BLIND, "calm_until": NOW + timedelta(minutes=1)}
    few = HealthActivities(cast(Adapters, Sources({"east": FEW, "west": FEW})), clock=lambda: NOW)
    with pytest.raises(ApplicationError) as told:
        await ActivityEnvironment().run(few.adopt, gate(**calm))
    assert told.value.type == "NothingNew"
    assert (await ActivityEnvironment().run(few.adopt, gate(last=Sight.BLIND))).sight is Sight.SEEING
    plenty = reading(sample(handshakes=tally(2000), call_setups=tally(2000)))
    enough = HealthActivities(cast(Adapters, Sources({"east": plenty, "west": plenty})), clock=lambda: NOW)
    look = await ActivityEnvironment().run(enough.adopt, gate(**calm))
    assert look.result is not None
    assert look.result.verdict is Verdict.PASS


# -- counters that begin anew ------------------------------------------------------------------------------------------


class Restarted(Sources):
    """Both trunks' edges restarted at `reset`; what they count is good."""

    def __init__(self, reset: datetime) -> None:
        on_a, on_b = (
            sample(sha256=s, peer="192.0.2.10", handshakes=tally(700), call_setups=tally(700)) for s in (A, B)
        )
        own = sample(sha256=B, synthetic=True, handshakes=tally(700), call_setups=tally(700))
        seen = reading(on_a, on_b, own, counters_since=reset)
        told = reading(on_b.model_copy(update={"reporter": Reporter.CARRIER}), reporter=Reporter.CARRIER)
        super().__init__({"east": seen, "west": seen}, told)
        self.settings = SimpleNamespace(probe=SimpleNamespace(rate_per_endpoint=1.0))

    def edge(self, profile: str) -> Any:
        return self

    def prober(self) -> Any:
        return self

    async def read_trunk(self, trunk: str) -> Any:
        return SimpleNamespace(canary=B, canary_path=SimpleNamespace(port=None, server_name="canary"))

    async def probe(self, target: ProbeTarget) -> Any:
        return SimpleNamespace(good=True, leaf_sha256=B, handshake_ms=20.0, text=lambda: "good")


@pytest.mark.parametrize(
    ("ago", "verdict"), [(timedelta(minutes=14), Verdict.INCONCLUSIVE), (timedelta(minutes=15), Verdict.PASS)]
)
async def test_soak_begins_again_when_the_edge_restarted_and_passes_a_whole_soak_time_later(
    ago: timedelta, verdict: Verdict
) -> None:
    activities = HealthActivities(cast(Adapters, Restarted(NOW - ago)), clock=lambda: NOW)
    request = gate(since=NOW - timedelta(minutes=20), not_before=NOW - timedelta(minutes=5), one_look=True)
    result = (await ActivityEnvironment().run(activities.soak, request)).result
    assert result is not None
    assert result.verdict is verdict, result.reason
    assert ("the soak time began again" in result.reason) is (verdict is Verdict.INCONCLUSIVE)


@pytest.mark.parametrize("name", ["verify", "adopt"])
async def test_a_gate_judges_what_was_counted_since_a_restart(name: str) -> None:
    activities = HealthActivities(cast(Adapters, Restarted(NOW - timedelta(minutes=1))), clock=lambda: NOW)
    request = gate(since=NOW - timedelta(minutes=20), one_look=True)
    result = (await ActivityEnvironment().run(getattr(activities, name), request)).result
    assert result is not None
    assert "counters were reset" not in result.reason
    assert (result.verdict is Verdict.PASS) is (name == "verify"), "half of the new calls are on A"


# -- DRAIN -------------------------------------------------------------------------------------------------------------


class Drained(Sources):
    """No call on A anywhere, every node serves B, every peer was seen on it."""

    def __init__(self, counters_since: datetime | None, counting_since: datetime | None = None) -> None:
        self.counting_since = counting_since
        peer = two_trunks().endpoints[0].peers[0]
        on_b = reading(sample(handshakes=tally(5), peer=peer), counters_since=counters_since)
        super().__init__({"east": on_b, "west": on_b})

    def edge(self, profile: str) -> Any:
        return self

    def prober(self) -> Any:
        return self

    async def health(self, trunk: str) -> EdgeHealth:
        return EdgeHealth(
            listener_up=True,
            certificates=(),
            active_calls={A: 0},
            clock=NOW,
            read_at=NOW,
            counting_since=self.counting_since,
        )

    async def read_trunk(self, trunk: str) -> Any:
        return SimpleNamespace(pool=(B, A), presented=(B,))

    async def probe(self, target: ProbeTarget) -> Any:
        return SimpleNamespace(good=True, leaf_sha256=B, handshake_ms=20.0, text=lambda: "good")


async def drained(counters_since: datetime | None) -> GateLook:
    activities = HealthActivities(cast(Adapters, Drained(counters_since)), clock=lambda: NOW)
    request = gate(since=NOW - timedelta(hours=71), one_look=True)
    return await ActivityEnvironment().run(activities.drain, request)


async def test_a_reset_between_the_two_counts_of_calls_does_not_let_a_be_removed() -> None:
    result = (await drained(NOW - Timings().drain_spacing)).result
    assert result is not None
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "counters were reset" in result.reason


@pytest.mark.parametrize("age", [None, timedelta(hours=30)], ids=["never reset", "reset in the overlap"])
async def test_a_reset_long_before_the_counts_blocks_drain_for_nobody(age: timedelta | None) -> None:
    result = (await drained(None if age is None else NOW - age)).result
    assert result is not None
    assert result.verdict is Verdict.PASS, result.reason


@pytest.mark.parametrize(
    ("started", "verdict"),
    [(None, Verdict.PASS), (timedelta(hours=1), Verdict.PASS), (timedelta(seconds=20), Verdict.INCONCLUSIVE)],
    ids=["no processes", "long before", "between the counts"],
)
async def test_two_zeros_of_different_processes_do_not_let_a_be_removed(
    started: timedelta | None, verdict: Verdict
) -> None:
    """After a reload counters begin at 0 while old processes still carry connections."""
    world = Drained(None, None if started is None else NOW - started)
    activities = HealthActivities(cast(Adapters, world), clock=lambda: NOW)
    request = gate(since=NOW - timedelta(hours=71), one_look=True, counted_at=NOW - timedelta(seconds=30))
    result = (await ActivityEnvironment().run(activities.drain, request)).result
    assert result is not None
    assert result.verdict is verdict, result.reason
