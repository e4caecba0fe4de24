"""Datadog as a metric source: what it counts in a window, and when it has to say that it does not know."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.fence import acting_within
from adapters.metrics.datadog import tag_value
from adapters.metrics.increase import moment_of
from domain.errors import (
    CredentialsRefused,
    PermissionMissing,
    RequestRefused,
    RotatorError,
    ServerFailed,
    SettingsInvalid,
    Throttled,
    UnexpectedAnswer,
    Unreachable,
)
from domain.handshakes import Reading
from domain.plan import Direction
from tests.adapters.datadog_double import (
    API_KEY,
    APPLICATION_KEY,
    QUERIES,
    SINCE,
    T0,
    UNTIL,
    DatadogDouble,
    Series,
    answer,
    source,
    started,
    whole,
)
from tests.adapters.endpoints import endpoint

LEAF = "ab" * 32
WHOLE = (f"certificate:{LEAF}", "direction:inbound", "peer:192.0.2.10", "cause:N/A")
OK, BAD = Series(0, ((0, 3),)), Series(1, ((0, 0),))


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_API_KEY", API_KEY)
    monkeypatch.setenv("DD_APP_KEY", APPLICATION_KEY)


async def reading(*series: Series, queries: dict[str, Any] | None = None, **changes: Any) -> Reading:
    return await source(DatadogDouble(list(series)), queries, **changes).samples(endpoint(), SINCE, UNTIL)


# -- what is counted ---------------------------------------------------------------------------------------------------


async def test_all_queries_go_out_in_one_request_filled_in_and_aligned() -> None:
    double = DatadogDouble([Series(0, ((0, 99), (10, 3))), Series(1, ((60, 1),)), started(50)])
    window = SINCE + timedelta(seconds=3), UNTIL + timedelta(milliseconds=1)
    found = await source(double).samples(endpoint(trunk="Edge 1,{trunk}_1"), *window)
    assert found.samples[0].handshakes.attempts == 4, "the interval in which the window begins is not part of it"
    (asked,) = double.asked
    good, bad = (QUERIES[name].replace("{trunk}", "edge_1_trunk_1") for name in ("handshakes_ok", "handshakes_failed"))
    since_when = "max:sip.start_time{trunk:edge_1_trunk_1} by {host}"
    assert asked == {
        "from": T0 - 60_000,
        "to": T0 + 70_000,
        "interval": 10_000,
        "queries": [
            {"data_source": "metrics", "name": f"query{number}", "query": query}
            for number, query in enumerate((good, bad, since_when), 1)
        ],
        "formulas": [{"formula": "query1"}, {"formula": "query2"}, {"formula": "query3"}],
    }


async def test_a_long_window_gets_longer_intervals() -> None:
    at = -T0 // 1000 % 80
    double = DatadogDouble([Series(0, ((at, 1),)), Series(1, ((at, 1),)), started(at - 80, at, at + 80)])
    found = await source(double).samples(endpoint(), SINCE, SINCE + timedelta(hours=6))
    assert found.samples[0].handshakes.attempts == 2
    assert found.counters_since is None, "80 s between two long intervals are no pause"
    assert double.asked[0]["interval"] == 80_000
    assert (double.asked[0]["to"] - double.asked[0]["from"]) / 80_000 < 300
    assert double.asked[0]["from"] % 80_000 == 0


async def test_intervals_are_summed_per_certificate_direction_and_peer() -> None:
    found = await reading(
        Series(1, ((10, 1), (20, None), (30, 2)), (*WHOLE[:3], "cause:Unknown CA")),
        Series(0, ((0, 5), (10, None), (30, 7)), WHOLE),
        Series(0, ((20, 4),), ("peer:2001:db8::1", "direction:outbound", "certificate:N/A")),
        Series(0, ((20, 1),), ("peer:198.51.100.7", "direction:inbound")),
        started(-10, 0, 10, 20, 30, 50),
    )
    by_peer = {sample.peer: sample for sample in found.samples}
    assert len(by_peer) == len(found.samples) == 3
    carrier = by_peer["192.0.2.10"]
    assert (carrier.sha256, carrier.direction, carrier.peer) == (LEAF, Direction.INBOUND, "192.0.2.10")
    assert (carrier.handshakes.attempts, carrier.handshakes.failures) == (15, {"unknown_ca": 3})
    assert by_peer["2001:db8::1"].sha256 is None
    assert by_peer["2001:db8::1"].direction is Direction.OUTBOUND
    assert by_peer["198.51.100.7"].synthetic
    assert found.read_at == moment_of(T0 / 1000 + 50)
    assert found.counters_since is None


async def test_a_tag_that_a_series_does_not_have_is_absent() -> None:
    found = await reading(
        OK, Series(1, ((0, 2),), ("direction:inbound", "peer:N/A", "certificate:N/A", "cause:n/a")), started(0)
    )
    (sample,) = found.samples
    assert (sample.peer, sample.sha256, sample.handshakes.failures) == (None, None, {"failed": 2})
    with pytest.raises(UnexpectedAnswer, match="does not tell its direction"):
        await reading(OK, Series(1, ((0, 2),), ("direction:N/A",)), started(0))


async def test_what_was_counted_before_the_window_or_after_it_does_not_count() -> None:
    found = await reading(Series(0, ((-10, 100), (0, 1), (50, 2))), Series(1, ((-20, 9), (0, 0))), started(-20, 50))
    assert found.samples[0].handshakes.attempts == 3
    with pytest.raises(UnexpectedAnswer, match="time 1795"):
        await source(lambda _: httpx.Response(200, json=answer([Series(0, ((70, 1),))], until=T0 + 10**6))).samples(
            endpoint(), SINCE, UNTIL
        )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    numbers=st.lists(st.none() | st.integers(0, 90), min_size=6, max_size=6).filter(lambda n: n[0] is not None),
    cut=st.integers(1, 59_999),
    order=st.randoms(use_true_random=False),
)
async def test_neighbouring_windows_add_up_whatever_the_order_of_the_answer(
    numbers: list[int | None], cut: int, order: random.Random
) -> None:
    points = tuple((second * 10, number) for second, number in enumerate(numbers))
    series = [Series(0, points), Series(1, tuple((at, 1) for at, _ in points)), started(*range(-60, 60, 10))]
    order.shuffle(series)

    def handler(request: httpx.Request) -> httpx.Response:
        asked = json.loads(request.content)["data"]["attributes"]
        body = answer(series, asked["from"], asked["to"])
        attributes = body["data"]["attributes"]
        columns = list(range(len(attributes["times"])))
        order.shuffle(columns)
        attributes["times"] = [attributes["times"][column] for column in columns]
        attributes["values"] = [[row[column] for column in columns] for row in attributes["values"]]
        return httpx.Response(200, json=body)

    queries = {**QUERIES, "may_be_absent": ["handshakes_ok", "handshakes_failed"]}
    metrics, middle = source(handler, queries), SINCE + timedelta(milliseconds=cut)
    good, bad = [], []
    for window in ((SINCE, UNTIL), (SINCE, middle), (middle, UNTIL)):
        samples = (await metrics.samples(endpoint(), *window)).samples
        good.append(sum(sample.handshakes.successes for sample in samples))
        bad.append(sum(sum(sample.handshakes.failures.values()) for sample in samples))
    assert good[0] == good[1] + good[2] == sum(number or 0 for number in numbers)
    assert bad[0] == bad[1] + bad[2] == 6


async def test_asking_is_no_write_that_could_come_too_late() -> None:
    with acting_within(-1.0):
        assert (await reading(OK, BAD, started(0))).samples


# -- no data is not success --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param([], id="no series"),
        pytest.param([Series(1, ((0, None), (10, None)))], id="nothing but nulls"),
        pytest.param([Series(1, ((-10, 4),))], id="nothing in the window"),
    ],
)
async def test_a_metric_without_a_figure_is_an_error_and_not_0(missing: list[Series]) -> None:
    others = [Series(0, ((0, 3), (10, 2), (-10, 1))), started(0, 50)]
    with pytest.raises(UnexpectedAnswer, match="no series of handshakes_failed: no data is not 0"):
        await reading(*others, *missing)
    found = await reading(*others, *missing, queries={**QUERIES, "may_be_absent": ["handshakes_failed"]})
    assert (found.samples[0].handshakes.attempts, found.samples[0].handshakes.failures) == (5, {})


async def test_nothing_at_all_is_an_outage_also_where_counts_may_be_absent() -> None:
    absent = {**QUERIES, "may_be_absent": ["handshakes_ok", "handshakes_failed"]}
    with pytest.raises(UnexpectedAnswer, match=r"does not hear of every target.*0 of 1: none"):
        await reading(queries=absent)
    found = await reading(started(-10, 40), queries=absent)
    assert (found.samples, found.read_at) == ((), moment_of(T0 / 1000 + 40))
    with pytest.raises(UnexpectedAnswer, match="no series of handshakes_ok"):
        await reading(queries={name: QUERIES[name] for name in ("handshakes_ok", "handshakes_failed")})


async def test_fewer_targets_than_there_have_to_be_are_an_error() -> None:
    two = {**QUERIES, "targets": 2}
    with pytest.raises(UnexpectedAnswer, match=r"1 of 2: \{'host': 'edge1'\}"):
        await reading(OK, BAD, started(0, 50), queries=two)
    found = await reading(OK, BAD, started(0, 50), started(0, 20, host="edge2"), queries=two)
    assert found.read_at == moment_of(T0 / 1000 + 20), "that of the target heard of longest ago"


async def test_without_start_times_the_age_is_that_of_the_newest_count() -> None:
    two = {name: QUERIES[name] for name in ("handshakes_ok", "handshakes_failed")}
    found = await reading(Series(0, ((0, 3), (30, 1), (40, None))), Series(1, ((0, 0), (20, 1))), queries=two)
    assert found.read_at == moment_of(T0 / 1000 + 30)
    assert found.age(UNTIL) == timedelta(seconds=30)
    assert found.counters_since is None


@pytest.mark.parametrize("value", [0.5, -1])
async def test_a_figure_that_is_no_count_is_an_error(value: float) -> None:
    with pytest.raises(UnexpectedAnswer, match=r"no count.*handshakes_ok"):
        await reading(Series(0, ((0, value),)), BAD, started(0, 50))


ONE = {"group_tags": ["direction:inbound"], "query_index": 0, "unit": None}


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({}, "data: Field required"),
        ({"data": None, "errors": "query timed out"}, "reports errors.*query timed out"),
        ({**whole(series=[], times=[], values=[]), "errors": ["a", "b"]}, "reports errors.*a; b"),
        ({"data": {"type": "scalar_response", "attributes": {}}}, "data.type"),
        (whole(series=[ONE], times=[T0], values=[]), "1 series, 0 lists of values"),
        (whole(series=[ONE], times=[T0], values=[[1, 2]]), "1 times, but 2 values"),
        (whole(series=[ONE], times=[T0, T0], values=[[1, 2]]), "twice"),
        (whole(series=[ONE], times=[T0 + 5000], values=[[1]]), "intervals of 10000 ms"),
        (whole(series=[ONE], times=[T0 - 70_000], values=[[1]]), "time 1795"),
        (whole(series=[{**ONE, "query_index": 3}], times=[T0], values=[[1]]), "query_index 3 of 3 queries"),
        (whole(series=[{**ONE, "query_index": -1}], times=[T0], values=[[1]]), "query_index: Input should be"),
        (whole(series=[{"group_tags": []}], times=[T0], values=[[1]]), "query_index: Field required"),
        (whole(series=[ONE], times=[T0], values=[["1"]]), "values"),
        ('{"data":{"type":"timeseries_response","attributes":{"series":[],"times":[],"values":[[NaN]]}}}', "values"),
        ("<html>login</html>", "Invalid JSON"),
    ],
)
async def test_an_answer_that_does_not_fit_is_an_error(body: Any, told: str) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    metrics = source(lambda _: httpx.Response(200, text=content, headers={"Content-Type": "application/vnd.api+json"}))
    with pytest.raises(UnexpectedAnswer, match=told) as raised:
        await metrics.samples(endpoint(), SINCE, UNTIL)
    assert raised.value.where == "[metrics.dog] POST https://api.datadoghq.com/api/v2/query/timeseries"


async def test_a_window_that_ends_before_it_begins_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="ends after it begins"):
        await source(DatadogDouble()).samples(endpoint(), UNTIL, SINCE)


# -- restarts and pauses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "since"),
    [
        (started(-10, 0, 50, began=-900), None),
        (started(-10, 0, 50, began=20), 20),
        (started(30, 50, began=-900), 30),
        (started(-60, 10, 50, began=-900), 10),
        (started(-60, 0, 50, began=-900), None),
    ],
    ids=["covers the window", "restarted", "heard of later", "a pause too long", "a pause that is short enough"],
)
async def test_since_when_is_counted_is_told(start: Series, since: float | None) -> None:
    found = await reading(OK, BAD, start)
    assert found.counters_since == (None if since is None else moment_of(T0 / 1000 + since))


# -- refusals ----------------------------------------------------------------------------------------------------------


def refusing(status: int, body: Any, check: httpx.Response | None = None, **headers: str) -> Any:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/api/v2/validate_keys":
            assert (request.method, request.headers["DD-API-KEY"]) == ("GET", API_KEY)
            assert check is not None
            return check
        return httpx.Response(status, json=body, headers=headers)

    return handler


@pytest.mark.parametrize(
    ("handler", "expected", "told"),
    [
        (refusing(400, {"errors": ["Error parsing query"]}), RequestRefused, "Error parsing query"),
        (refusing(401, {"errors": ["Unauthorized"]}), CredentialsRefused, "Unauthorized"),
        (refusing(403, {"errors": ["Forbidden"]}, httpx.Response(403)), CredentialsRefused, "check api_key"),
        (refusing(403, {"errors": ["Forbidden"]}, httpx.Response(401)), CredentialsRefused, "check api_key"),
        (
            refusing(403, {"errors": ["Forbidden"]}, httpx.Response(200, json={"status": "ok"})),
            PermissionMissing,
            "timeseries_query",
        ),
        (refusing(500, {"errors": ["Internal"]}), ServerFailed, "Internal"),
        (refusing(503, {"errors": ["Down"]}), ServerFailed, "Down"),
        (refusing(302, {}, Location="https://app.datadoghq.com/"), UnexpectedAnswer, "302"),
    ],
)
async def test_a_refusal_is_told_for_what_it_is(handler: Any, expected: type[RotatorError], told: str) -> None:
    with pytest.raises(RotatorError, match=told) as raised:
        await source(handler).samples(endpoint(), SINCE, UNTIL)
    assert type(raised.value) is expected
    assert "[metrics.dog]" in str(raised.value)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"X-RateLimit-Reset": "42", "X-RateLimit-Period": "60"}, 42.0),
        ({"X-RateLimit-Reset": "9999999"}, 86400.0),
        ({"Retry-After": "3"}, 3.0),
        ({"X-RateLimit-Reset": "soon"}, 1.0),
        ({}, 1.0),
    ],
)
async def test_the_rate_limit_says_when_to_come_back(headers: dict[str, str], seconds: float) -> None:
    with pytest.raises(Throttled, match="rate limit") as raised:
        await source(refusing(429, {"errors": ["Rate limit"]}, **headers)).samples(endpoint(), SINCE, UNTIL)
    assert raised.value.retry_after_s == seconds


@pytest.mark.parametrize("status", [200, 400, 403, 429, 500])
async def test_no_error_shows_a_key_also_when_the_answer_does(status: int) -> None:
    body = {"errors": [f"what about {API_KEY} and {APPLICATION_KEY}?"]}
    handler = refusing(status, body, httpx.Response(403, json=body))
    with pytest.raises(RotatorError, match="what about") as raised:
        await source(handler).samples(endpoint(), SINCE, UNTIL)
    assert API_KEY not in str(raised.value)
    assert APPLICATION_KEY not in str(raised.value)
    assert raised.value.__cause__ is None


async def test_datadog_out_of_reach_and_a_key_that_is_not_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unreachable, match=r"api\.datadoghq\.com"):
        await source(away).samples(endpoint(), SINCE, UNTIL)
    monkeypatch.delenv("DD_APP_KEY")
    with pytest.raises(SettingsInvalid, match=r"\[metrics\.dog\] application_key: the secret is missing"):
        await source(away).samples(endpoint(), SINCE, UNTIL)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Edge-1/Trunk 1", "edge-1/trunk_1"),
        ("a:b.c", "a:b.c"),
        ("x{},__(", "x"),
        ("Köln", "köln"),
        ("y" * 300, "y" * 200),
    ],
)
def test_a_name_is_asked_for_as_datadog_keeps_it(text: str, kept: str) -> None:
    assert tag_value(text) == kept
