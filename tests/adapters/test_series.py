"""What is asked of Prometheus, and what its answers mean, against a strict stand-in of its query API (v1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from adapters.metrics.increase import moment_of
from adapters.metrics.series import Series
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
from settings import PrometheusSource

HANDSHAKES = 'sip_edge_handshakes_total{trunk="t-1"}'
START = 'sip_edge_start_time_seconds{trunk="t-1"}'
NODE = {"job": "edge", "instance": "edge1:9901", "trunk": "t-1"}
OTHER_NODE = {**NODE, "instance": "edge2:9901"}
OK = {**NODE, "result": "ok"}

SINCE = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
UNTIL = SINCE + timedelta(seconds=60)

Sampled = tuple[dict[str, str], list[tuple[float, float]]]


def at(seconds: float) -> float:
    """Seconds after the window's beginning, since 1970."""
    return SINCE.timestamp() + seconds


@dataclass
class PrometheusDouble:
    """Knows the selectors that it was given, and takes no other request than those of the contract."""

    series: dict[str, list[Sampled]] = field(default_factory=dict)
    token: str | None = None
    requests: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("GET", "/prometheus/api/v1/query")
        assert request.headers.get("Authorization") == (None if self.token is None else f"Bearer {self.token}")
        asked = dict(request.url.params)
        assert set(asked) == {"query", "time"}
        self.requests.append(asked)
        shape = re.fullmatch(r"(.+)\[([0-9]+)ms\]", asked["query"])
        assert shape, asked["query"]
        until = float(asked["time"])
        return answer(
            [
                {"metric": {"__name__": shape[1].partition("{")[0], **labels}, "values": within}
                for labels, points in self.series[shape[1]]
                if (within := [[t, repr(v)] for t, v in points if until - int(shape[2]) / 1000 <= t <= until])
            ]
        )


def answer(result: list[Any], kind: str = "matrix", **more: Any) -> httpx.Response:
    return httpx.Response(
        200, json={"status": "success", "data": {"resultType": kind, "result": result}, "isPartial": False, **more}
    )


def series_on(handler: Callable[[httpx.Request], httpx.Response], **changes: Any) -> Series:
    source = {"base_url": "https://metrics.example.com/prometheus/", **changes}
    return Series(
        "[platforms.edge.metrics]", PrometheusSource.model_validate(source), transport=httpx.MockTransport(handler)
    )


# -- increases ---------------------------------------------------------------------------------------------------------


async def test_every_counter_is_told_with_its_labels_and_the_time_of_the_newest_sample() -> None:
    failed = {**NODE, "result": "failed", "peer": "192.0.2.1"}
    double = PrometheusDouble(
        {
            HANDSHAKES: [(OK, [(at(-5), 10), (at(25), 12), (at(55), 17)]), (failed, [(at(55), 2)])],
            START: [(NODE, [(at(-5), at(-900)), (at(25), at(-900)), (at(55), at(-900))])],
        }
    )
    increases, newest = await series_on(double).increases(HANDSHAKES, SINCE, UNTIL)
    assert [(dict(i.labels), i.increase) for i in increases] == [(failed, 2), (OK, 7)]
    assert [i.first_at for i in increases] == [moment_of(at(-5))] * 2, "both cover the whole window"
    assert newest == moment_of(at(55))
    assert len(double.requests) == 2


async def test_a_minute_before_the_window_is_asked_for_and_not_more() -> None:
    double = PrometheusDouble({HANDSHAKES: [(OK, [(at(-61), 10), (at(5), 12), (at(9), 15)])], START: []})
    increases, _ = await series_on(double).increases(HANDSHAKES, SINCE, SINCE + timedelta(seconds=10.5))
    assert {request["query"] for request in double.requests} == {f"{HANDSHAKES}[70500ms]", f"{START}[70500ms]"}
    assert {request["time"] for request in double.requests} == {f"{at(10.5):.3f}"}
    assert increases[0].increase == 3
    assert increases[0].first_at == moment_of(at(5)) > SINCE, "what was before the first sample is not known"


async def test_start_times_are_those_of_the_same_target() -> None:
    double = PrometheusDouble(
        {
            HANDSHAKES: [(OK, [(at(-5), 3), (at(55), 10)]), ({**OTHER_NODE}, [(at(-5), 3), (at(55), 10)])],
            START: [
                (NODE, [(at(-5), at(-900)), (at(55), at(30))]),
                (OTHER_NODE, [(at(-5), at(-900)), (at(55), at(-900))]),
            ],
        }
    )
    increases, _ = await series_on(double).increases(HANDSHAKES, SINCE, UNTIL)
    assert {i.labels["instance"]: (i.increase, i.resets) for i in increases} == {
        "edge1:9901": (10, 1),
        "edge2:9901": (7, 0),
    }


async def test_the_newest_sample_is_that_of_the_node_that_was_heard_of_longest_ago() -> None:
    double = PrometheusDouble(
        {
            HANDSHAKES: [(OK, [(at(-5), 3), (at(55), 10)])],
            START: [(NODE, [(at(55), at(-900))]), (OTHER_NODE, [(at(-5), at(-900)), (at(20), at(-900))])],
        }
    )
    _, newest = await series_on(double).increases(HANDSHAKES, SINCE, UNTIL)
    assert newest == moment_of(at(20))


async def test_an_edge_without_calls_is_heard_of_by_its_start_time() -> None:
    double = PrometheusDouble({HANDSHAKES: [], START: [(NODE, [(at(55), at(-900))])]})
    assert await series_on(double).increases(HANDSHAKES, SINCE, UNTIL) == ((), moment_of(at(55)))


async def test_without_any_series_there_is_no_newest_sample() -> None:
    double = PrometheusDouble({HANDSHAKES: [], START: []})
    assert await series_on(double).increases(HANDSHAKES, SINCE, UNTIL) == ((), None)


@pytest.mark.parametrize(
    ("selector", "started"),
    [
        ('calls_total{direction="inbound", trunk="a \\"quoted\\" one",result="ok"}', '{trunk="a \\"quoted\\" one"}'),
        ("calls_total", ""),
        ('calls_total{backtrunk="x"}', ""),
    ],
)
async def test_start_times_are_asked_for_by_the_selectors_trunk(selector: str, started: str) -> None:
    double = PrometheusDouble({selector: [], f"sip_edge_start_time_seconds{started}": []})
    await series_on(double).increases(selector, SINCE, UNTIL)
    assert len(double.requests) == 2


async def test_start_times_can_be_asked_for_by_another_selector() -> None:
    double = PrometheusDouble({HANDSHAKES: [], "process_start_time_seconds": []})
    await series_on(double).increases(HANDSHAKES, SINCE, UNTIL, started="process_start_time_seconds")
    assert len(double.requests) == 2


async def test_a_window_that_ends_before_it_begins_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="ends after it begins"):
        await series_on(PrometheusDouble()).increases(HANDSHAKES, UNTIL, UNTIL)


# -- instants ----------------------------------------------------------------------------------------------------------


def part(labels: dict[str, str], part: str, value: str) -> dict[str, Any]:
    return {"metric": {**labels, "sip_rotate_part": part}, "value": [at(60), value]}


async def test_an_instant_has_its_value_and_its_own_time_in_one_request() -> None:
    asked: list[dict[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        named = {"__name__": "sip_edge_active_calls", **NODE}
        return answer(
            [
                part({**OTHER_NODE}, "at", f"{at(51):.3f}"),
                part(named, "value", "4"),
                part({**named, "instance": "edge2:9901"}, "value", "-1.5"),
                part(NODE, "at", f"{at(50.25):.3f}"),
            ],
            "vector",
        )

    instants = await series_on(handler).instant("sip_edge_active_calls")
    assert [(dict(i.labels), i.value, i.at) for i in instants] == [
        (NODE, 4.0, moment_of(at(50.25))),
        (OTHER_NODE, -1.5, moment_of(at(51))),
    ]
    assert asked == [
        {
            "query": 'label_replace(sip_edge_active_calls, "sip_rotate_part", "value", "", "") '
            'or label_replace(timestamp(sip_edge_active_calls), "sip_rotate_part", "at", "", "")'
        }
    ]


async def test_an_instant_without_its_time_is_no_answer() -> None:
    with pytest.raises(UnexpectedAnswer, match="lacks its value or its time"):
        await series_on(lambda _: answer([part(NODE, "value", "4")], "vector")).instant("x")


async def test_nothing_now_is_an_empty_answer() -> None:
    assert await series_on(lambda _: answer([], "vector")).instant("x") == ()


# -- what is no answer -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "expected", "told"),
    [
        (httpx.Response(200, text="<html>login</html>"), UnexpectedAnswer, "body: Invalid JSON"),
        (httpx.Response(200, json={"status": "success"}), UnexpectedAnswer, "data: Field required"),
        (httpx.Response(200, json={"status": "error", "error": "x"}), UnexpectedAnswer, "status"),
        (answer([], "vector"), UnexpectedAnswer, "data.resultType"),
        (answer([{"metric": {}, "histograms": []}]), UnexpectedAnswer, "values: Field required"),
        (answer([{"metric": {}, "values": []}]), UnexpectedAnswer, "without a value"),
        (answer([{"metric": {}, "values": [[at(1), "NaN"]]}]), UnexpectedAnswer, "no figure; seen: 'NaN'"),
        (answer([{"metric": {}, "values": [[at(1), "+Inf"]]}]), UnexpectedAnswer, r"no figure; seen: '\+Inf'"),
        (answer([{"metric": {}, "values": [[at(1), "many"]]}]), UnexpectedAnswer, "no figure; seen: 'many'"),
        (answer([{"metric": {}, "values": [[at(1), "-1"]]}]), UnexpectedAnswer, "below 0"),
        (answer([], warnings=["a store did not answer"]), UnexpectedAnswer, "warns.*a store did not answer"),
        (httpx.Response(302, headers={"Location": "https://sso.example.com/"}), UnexpectedAnswer, "302"),
        (httpx.Response(400, json={"status": "error", "error": "parse error"}), RequestRefused, "400 parse error"),
        (httpx.Response(401), CredentialsRefused, "401"),
        (httpx.Response(403), PermissionMissing, "403"),
        (
            httpx.Response(422, json={"status": "error", "error": "too many samples"}),
            RequestRefused,
            "too many samples",
        ),
        (httpx.Response(429), Throttled, "429"),
        (httpx.Response(503, json={"status": "error", "error": "query timed out"}), ServerFailed, "query timed out"),
    ],
)
async def test_what_is_no_answer_is_an_error_and_never_a_figure(
    response: httpx.Response, expected: type[RotatorError], told: str
) -> None:
    with pytest.raises(expected, match=told) as raised:
        await series_on(lambda _: response).increases(HANDSHAKES, SINCE, UNTIL)
    assert type(raised.value) is expected
    assert "[platforms.edge.metrics] GET https://metrics.example.com/prometheus/api/v1/query" in raised.value.where


async def test_an_instant_that_is_no_figure_is_an_error() -> None:
    shown = [part(NODE, "value", "NaN"), part(NODE, "at", "1")]
    with pytest.raises(UnexpectedAnswer, match="no figure"):
        await series_on(lambda _: answer(shown, "vector")).instant("x")


async def test_a_server_that_cannot_be_reached_is_told_as_such() -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unreachable, match=r"metrics\.example\.com"):
        await series_on(refuse).increases(HANDSHAKES, SINCE, UNTIL)


async def test_a_token_is_read_from_its_source_and_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    double = PrometheusDouble({HANDSHAKES: [], START: []}, token="hush")
    series = series_on(double, token={"env": "TEST_METRICS_TOKEN"})
    monkeypatch.setenv("TEST_METRICS_TOKEN", "hush")
    await series.increases(HANDSHAKES, SINCE, UNTIL)
    monkeypatch.delenv("TEST_METRICS_TOKEN")
    with pytest.raises(SettingsInvalid, match=r"\[platforms\.edge\.metrics\] token: the secret is missing"):
        await series.increases(HANDSHAKES, SINCE, UNTIL)


async def test_http_is_for_labs() -> None:
    with pytest.raises(ValueError, match="must be https://"):
        PrometheusSource(base_url="http://metrics.example.com")
    assert PrometheusSource(base_url="http://127.0.0.1:9090", lab=True).base_url
