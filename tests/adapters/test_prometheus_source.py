"""Prometheus as a metric source: what it counts in a window, and when it has to say that it does not know."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.metrics.increase import moment_of
from adapters.metrics.prometheus import PrometheusMetrics
from domain.errors import RequestRefused, RotatorError, UnexpectedAnswer, Unreachable
from domain.handshakes import Reading, Reporter, Sample
from domain.plan import Direction
from settings import PrometheusMetricsProfile
from tests.adapters.endpoints import endpoint
from tests.adapters.prometheus_double import PrometheusDouble

LEAF, OTHER = "ab" * 32, "cd" * 32
TRUNK = "edge-1/trunk-1"
PEER, PROBE = "192.0.2.10", "198.51.100.7"
SINCE = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
UNTIL = SINCE + timedelta(seconds=60)
T0 = SINCE.timestamp()
NODE = {"instance": "edge1:9101", "job": "edge"}
OTHER_NODE = {"instance": "edge2:9101", "job": "edge"}
ON_TRUNK = {"trunk": TRUNK, "certificate": LEAF, "direction": "inbound", "peer": PEER}

OK = 'handshakes_total{trunk="{trunk}",result="ok"}'
FAILED = 'handshakes_total{trunk="{trunk}",result!="ok"}'
STARTED = 'start_time_seconds{trunk="{trunk}"}'
EXACT: dict[str, Any] = {"handshakes_ok": OK, "handshakes_failed": FAILED, "started": STARTED}
ESTIMATED: dict[str, Any] = {
    "handshakes_ok": 'increase(ok_total{trunk="{trunk}"}[{window}] @ {until})',
    "handshakes_failed": 'increase(bad_total{trunk="{trunk}"}[{window}] @ {until})',
    "started": STARTED,
}


@pytest.fixture
def double() -> PrometheusDouble:
    return PrometheusDouble(clock=lambda: T0 + 60)


def source(double: PrometheusDouble, queries: dict[str, Any] | None = None, **changes: Any) -> PrometheusMetrics:
    profile = {"kind": "prometheus", "base_url": "https://prometheus.example.com", "queries": queries or EXACT}
    return PrometheusMetrics(
        "site",
        PrometheusMetricsProfile.model_validate({**profile, **changes}),
        transport=httpx.MockTransport(double),
    )


async def reading(double: PrometheusDouble, queries: dict[str, Any] | None = None, **changes: Any) -> Reading:
    return await source(double, queries, **changes).samples(endpoint(), SINCE, UNTIL)


def alive(double: PrometheusDouble, *at: float, started: float = T0 - 900, **node: str) -> None:
    """A target that was scraped at these seconds of the window."""
    double.add("start_time_seconds", {"trunk": TRUNK, **(node or NODE)}, *((T0 + one, started) for one in at))


def counted(double: PrometheusDouble, *points: tuple[float, float], **labels: str) -> None:
    """A series of handshakes: (second of the window, value)."""
    double.add("handshakes_total", {**ON_TRUNK, **NODE, **labels}, *((T0 + at, value) for at, value in points))


def only(reading: Reading) -> Sample:
    (sample,) = reading.samples
    return sample


async def test_handshakes_and_calls_come_per_certificate_direction_and_peer(double: PrometheusDouble) -> None:
    alive(double, -5, 25, 55)
    counted(double, (-5, 100), (25, 130), (55, 141), result="ok")
    counted(double, (-5, 100), (55, 103), result="failed", cause="unknown ca")
    counted(double, (55, 2), result="failed", cause="timeout")
    counted(double, (-5, 7), (55, 9), result="ok", peer=PROBE, certificate=OTHER)
    outward = {**ON_TRUNK, **NODE, "direction": "outbound"}
    double.add("calls_total", {**outward, "result": "ok"}, (T0 - 5, 50), (T0 + 55, 61))
    double.add("calls_total", {**outward, "result": "503"}, (T0 + 55, 1))
    calls = {"calls_ok": 'calls_total{trunk="{trunk}",result="ok"}', "calls_failed": 'calls_total{result!="ok"}'}
    found = await reading(double, {**EXACT, **calls})
    assert (found.endpoint, found.reporter, found.since, found.until) == ("eu-1", Reporter.PLATFORM, SINCE, UNTIL)
    assert found.read_at == moment_of(T0 + 55)
    assert found.counters_since is None
    inbound, outbound, probe = found.samples
    assert (inbound.sha256, inbound.direction, inbound.peer) == (LEAF, Direction.INBOUND, PEER)
    assert (inbound.handshakes.attempts, inbound.handshakes.successes) == (46, 41)
    assert inbound.handshakes.failures == {"unknown_ca": 3, "timeout": 2}
    assert (outbound.direction, outbound.call_setups.attempts) == (Direction.OUTBOUND, 12)
    assert outbound.call_setups.failures == {"failed": 1}, "no label cause: the default"
    assert (probe.sha256, probe.synthetic, probe.handshakes.attempts) == (OTHER, True, 2)


async def test_labels_have_the_names_and_meanings_of_the_settings(double: PrometheusDouble) -> None:
    alive(double, -5, 55)
    labels = {"trunk": TRUNK, "cert": "slot-1", "way": "ingress", "from": PEER, **NODE}
    double.add("handshakes_total", {**labels, "result": "ok"}, (T0 - 5, 1), (T0 + 55, 3))
    double.add("handshakes_total", {**labels, "result": "404", "why": "bad-certificate"}, (T0 - 5, 1), (T0 + 55, 2))
    found = await reading(
        double,
        labels={"direction": "way", "certificate": "cert", "peer": "from", "cause": "why"},
        certificates={"slot-1": LEAF},
        directions={"ingress": "inbound"},
    )
    assert (only(found).sha256, only(found).peer) == (LEAF, PEER)
    assert only(found).handshakes.failures == {"bad_certificate": 1}


async def test_without_labels_the_defaults_count_and_the_leaf_is_not_known(double: PrometheusDouble) -> None:
    alive(double, -5, 55)
    for result in ("ok", "bad"):
        double.add("handshakes_total", {"trunk": TRUNK, "result": result, **NODE}, (T0 - 5, 1), (T0 + 55, 2))
    found = await reading(double, default_direction="outbound", default_cause="unstated")
    assert (only(found).sha256, only(found).peer, only(found).direction) == (None, None, Direction.OUTBOUND)
    assert only(found).handshakes.failures == {"unstated": 1}
    with pytest.raises(UnexpectedAnswer, match="does not tell its direction"):
        await reading(double)
    counted(double, (55, 2), result="ok", direction="sideways")
    with pytest.raises(UnexpectedAnswer, match="direction is 'sideways'"):
        await reading(double, default_direction="outbound")


async def test_a_trunks_name_is_escaped_and_other_trunks_do_not_count(double: PrometheusDouble) -> None:
    odd = 'a "b" \\ c'
    double.add("start_time_seconds", {"trunk": odd, **NODE}, (T0 + 55, T0 - 9))
    for result in ("ok", "bad"):
        double.add("handshakes_total", {**ON_TRUNK, "trunk": odd, "result": result, **NODE}, (T0 - 5, 1), (T0 + 55, 4))
        counted(double, (-5, 1), (55, 1000), result=result)
    found = await source(double).samples(endpoint(trunk=odd), SINCE, UNTIL)
    assert only(found).handshakes.attempts == 6


# -- no data is not success --------------------------------------------------------------------------------------------


async def test_a_metric_without_any_series_is_an_error_and_not_0(double: PrometheusDouble) -> None:
    alive(double, -5, 55)
    counted(double, (-5, 1), (55, 9), result="ok")
    with pytest.raises(
        UnexpectedAnswer, match=r"no series of handshakes_failed: no data is not 0.*list handshakes_fai"
    ):
        await reading(double)
    found = await reading(double, {**EXACT, "may_be_absent": ["handshakes_failed"]})
    assert (only(found).handshakes.attempts, only(found).handshakes.failures) == (8, {})


async def test_nothing_at_all_is_an_outage_also_where_counters_may_be_absent(double: PrometheusDouble) -> None:
    absent = {**EXACT, "may_be_absent": ["handshakes_ok", "handshakes_failed"]}
    with pytest.raises(UnexpectedAnswer, match=r"no figures of the trunk.*nothing for start_time_seconds"):
        await reading(double, absent)
    without = {"handshakes_ok": OK, "handshakes_failed": FAILED}
    with pytest.raises(UnexpectedAnswer, match="no series for any query"):
        await reading(double, without)
    alive(double, -5, 55)
    found = await reading(double, absent)
    assert (found.samples, found.read_at) == ((), moment_of(T0 + 55)), "quiet, and heard of"


async def test_fewer_targets_than_there_have_to_be_are_an_error(double: PrometheusDouble) -> None:
    absent = {**EXACT, "may_be_absent": ["handshakes_ok", "handshakes_failed"], "targets": 2}
    alive(double, -5, 55)
    with pytest.raises(UnexpectedAnswer, match="every target of the trunk; seen: 1 of 2: edge1:9101"):
        await reading(double, absent)
    alive(double, -5, 55, **OTHER_NODE)
    assert (await reading(double, absent)).read_at == moment_of(T0 + 55)


async def test_the_age_is_that_of_the_target_heard_of_longest_ago(double: PrometheusDouble) -> None:
    alive(double, -5, 55)
    alive(double, -5, 12, **OTHER_NODE)
    for result in ("ok", "bad"):
        counted(double, (-5, 1), (55, 2), result=result)
    found = await reading(double)
    assert found.read_at == moment_of(T0 + 12)
    assert found.age(UNTIL) == timedelta(seconds=48), "asking later makes it no newer"


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "many", "-1"])
@pytest.mark.parametrize("queries", [EXACT, ESTIMATED], ids=["exact", "estimated"])
async def test_what_is_no_figure_is_an_error(double: PrometheusDouble, queries: dict[str, Any], value: str) -> None:
    alive(double, -5, 55)

    def spoilt(request: httpx.Request) -> httpx.Response:
        query = request.url.params["query"]
        if query.startswith(("handshakes_total", "increase(")):
            one = {"values": [[T0 + 1, value]]} if queries is EXACT else {"value": [T0 + 60, value]}
            kind = "matrix" if queries is EXACT else "vector"
            return httpx.Response(
                200, json={"status": "success", "data": {"resultType": kind, "result": [{"metric": ON_TRUNK, **one}]}}
            )
        return double(request)

    profile = {"kind": "prometheus", "base_url": "https://prometheus.example.com", "queries": queries}
    metrics = PrometheusMetrics(
        "site", PrometheusMetricsProfile.model_validate(profile), transport=httpx.MockTransport(spoilt)
    )
    with pytest.raises(UnexpectedAnswer):
        await metrics.samples(endpoint(), SINCE, UNTIL)


@pytest.mark.parametrize(
    ("more", "told"), [({"warnings": ["a store is away"]}, "a store is away"), ({"isPartial": True}, "not complete")]
)
async def test_an_answer_that_is_not_whole_is_an_error(double: PrometheusDouble, more: Any, told: str) -> None:
    alive(double, -5, 55)
    for result in ("ok", "bad"):
        counted(double, (-5, 1), (55, 2), result=result)
    assert len((await reading(double)).samples) == 1
    double.more = more
    with pytest.raises(UnexpectedAnswer, match=told):
        await reading(double)


async def test_a_counter_that_is_no_count_is_an_error(double: PrometheusDouble) -> None:
    alive(double, -5, 55)
    counted(double, (-5, 1), (55, 2), result="bad")
    counted(double, (-5, 1), (55, 2.25), result="ok")
    with pytest.raises(UnexpectedAnswer, match=r"no count; seen: 1\.25 for handshakes_ok"):
        await reading(double)


async def test_a_server_that_is_away_and_a_query_that_is_none_are_told_as_such(
    double: PrometheusDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROM_TOKEN", "hush-hush")

    def away(request: httpx.Request) -> httpx.Response:
        assert request.headers["Authorization"] == "Bearer hush-hush"
        raise httpx.ConnectError("refused", request=request)

    async def failure(handler: Any) -> RotatorError:
        profile = {"kind": "prometheus", "base_url": "https://prometheus.example.com", "queries": ESTIMATED}
        metrics = PrometheusMetrics(
            "site",
            PrometheusMetricsProfile.model_validate({**profile, "token": {"env": "PROM_TOKEN"}}),
            transport=httpx.MockTransport(handler),
        )
        with pytest.raises(RotatorError) as raised:
            await metrics.samples(endpoint(), SINCE, UNTIL)
        assert "hush" not in str(raised.value)
        assert "[metrics.site]" in raised.value.where
        return raised.value

    assert isinstance(await failure(away), Unreachable)
    alive(double, -5, 55)
    assert isinstance(await failure(double), RequestRefused), "the double knows no such expression"


# -- restarts ----------------------------------------------------------------------------------------------------------


async def test_a_restart_inside_the_window_is_told_and_counted_on(double: PrometheusDouble) -> None:
    restarted = T0 + 20
    alive(double, -5)
    alive(double, 25, 55, started=restarted)
    for result in ("ok", "bad"):
        counted(double, (-5, 10), (15, 14), (25, 12), (55, 13), result=result)
    found = await reading(double)
    assert only(found).handshakes.successes == 4 + 13, "12 is not less than 14 - but another process counted it"
    assert found.counters_since == moment_of(restarted)
    assert found.reset_within()


async def test_a_target_that_nobody_scraped_before_covers_the_window_from_then_on(double: PrometheusDouble) -> None:
    alive(double, 30, 55)
    for result in ("ok", "bad"):
        counted(double, (30, 500), (55, 503), result=result)
    found = await reading(double)
    assert only(found).handshakes.successes == 3
    assert found.counters_since == moment_of(T0 + 30)


async def test_start_times_of_a_whole_process_belong_to_each_of_its_trunks(double: PrometheusDouble) -> None:
    double.add("process_start_time_seconds", NODE, (T0 - 5, T0 - 900), (T0 + 55, T0 + 30))
    for result in ("ok", "bad"):
        counted(double, (-5, 3), (55, 10), result=result)
    found = await reading(double, {**EXACT, "started": "process_start_time_seconds"})
    assert only(found).handshakes.successes == 10, "it rose, but from 0"
    assert found.counters_since == moment_of(T0 + 30)


@given(
    rises=st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=2, max_size=12),
    cut=st.integers(0, 59),
    seed=st.randoms(use_true_random=False),
)
async def test_windows_add_up_over_restarts_whatever_the_order_of_the_answer(
    rises: list[tuple[int, bool]], cut: int, seed: random.Random
) -> None:
    double = PrometheusDouble(clock=lambda: T0 + 60)
    value, started, expected = 100, T0 - 900, 0
    points, starts = [(T0 - 5, 100.0)], [(T0 - 5, started)]
    for number, (rise, anew) in enumerate(rises):
        at = T0 + 1 + number * 5
        value, started = (rise, at - 1) if anew else (value + rise, started)
        expected += rise
        points.append((at, float(value)))
        starts.append((at, started))
    for result in ("ok", "bad"):
        shuffled = list(points)
        seed.shuffle(shuffled)
        double.add("handshakes_total", {**ON_TRUNK, **NODE, "result": result}, *shuffled)
    seed.shuffle(starts)
    double.add("start_time_seconds", {"trunk": TRUNK, **NODE}, *starts)
    metrics, middle = source(double), SINCE + timedelta(seconds=cut, milliseconds=500)
    windows = [(SINCE, UNTIL), (SINCE, middle), (middle, UNTIL)]
    sums = []
    for window in windows:
        found = await metrics.samples(endpoint(), *window)
        sums.append(sum(sample.handshakes.successes for sample in found.samples))
    assert sums[0] == expected == sums[1] + sums[2]


# -- expressions -------------------------------------------------------------------------------------------------------


async def test_an_expression_is_rounded_to_the_trunks_disadvantage(double: PrometheusDouble) -> None:
    alive(double, -5, 25, 55)
    filled = f'increase({{}}{{{{trunk="{TRUNK}"}}}}[60000ms] @ {T0 + 60:.3f})'
    double.vectors = {
        filled.format("ok_total"): [({"direction": "inbound", "certificate": LEAF}, "10.909")],
        filled.format("bad_total"): [({"direction": "inbound", "certificate": LEAF, "cause": "unknown_ca"}, "0.2")],
    }
    found = await reading(double, ESTIMATED)
    assert (only(found).handshakes.successes, only(found).handshakes.failures) == (10, {"unknown_ca": 1})
    assert found.read_at == moment_of(T0 + 55), "the age is that of the samples behind it"
    assert found.counters_since is None
    times = {request["time"] for request in double.requests if "increase" in request["query"]}
    assert times == {f"{T0 + 60:.3f}"}


async def test_an_expression_over_targets_scraped_later_covers_the_window_from_then_on(
    double: PrometheusDouble,
) -> None:
    alive(double, 30, 55)
    filled = f'increase({{}}{{{{trunk="{TRUNK}"}}}}[60000ms] @ {T0 + 60:.3f})'
    double.vectors = {filled.format(name): [({"direction": "inbound"}, "3")] for name in ("ok_total", "bad_total")}
    assert (await reading(double, ESTIMATED)).counters_since == moment_of(T0 + 30)


async def test_an_expression_without_a_result_is_an_error_and_not_0(double: PrometheusDouble) -> None:
    alive(double, -5, 55)
    filled = f'increase({{}}{{{{trunk="{TRUNK}"}}}}[60000ms] @ {T0 + 60:.3f})'
    double.vectors = {filled.format("ok_total"): [({"direction": "inbound"}, "3")], filled.format("bad_total"): []}
    with pytest.raises(UnexpectedAnswer, match="no series of handshakes_failed"):
        await reading(double, ESTIMATED)


async def test_all_is_asked_for_in_seven_requests_at_most(double: PrometheusDouble) -> None:
    alive(double, -5, 55)
    names = ("handshakes_ok", "handshakes_failed", "calls_ok", "calls_failed")
    mixed = {name: OK for name in names} | {"calls_ok": ESTIMATED["handshakes_ok"], "started": STARTED}
    double.vectors = {f'increase(ok_total{{trunk="{TRUNK}"}}[60000ms] @ {T0 + 60:.3f})': []}
    await reading(double, {**mixed, "may_be_absent": list(names)})
    assert len(double.requests) == 7
