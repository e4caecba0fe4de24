"""Datadog's answers written by hand, and a source that gets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from adapters.metrics.datadog import DatadogMetrics
from settings import DatadogMetricsProfile

SINCE = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
UNTIL = SINCE + timedelta(seconds=60)
T0 = int(SINCE.timestamp()) * 1000

COUNT = "sum:sip.{}{{trunk:{{trunk}}}} by {{direction,certificate,peer,cause}}.as_count()"
QUERIES: dict[str, Any] = {
    "handshakes_ok": COUNT.format("handshakes.ok"),
    "handshakes_failed": COUNT.format("handshakes.failed"),
    "started": "max:sip.start_time{trunk:{trunk}} by {host}",
}
API_KEY, APPLICATION_KEY = "0123456789abcdef" * 2, "fedcba9876" * 4


@dataclass(frozen=True)
class Series:
    """One series of an answer: points are (second of the window, value)."""

    query: int
    points: tuple[tuple[float, float | None], ...]
    tags: tuple[str, ...] = ("direction:inbound",)


@dataclass
class DatadogDouble:
    """Answers every query with `series`, and notes what it was asked."""

    series: list[Series] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("POST", "/api/v2/query/timeseries")
        assert request.headers["DD-API-KEY"] == API_KEY
        assert request.headers["DD-APPLICATION-KEY"] == APPLICATION_KEY
        body = json.loads(request.content)
        assert body["data"]["type"] == "timeseries_request"
        attributes = body["data"]["attributes"]
        self.asked.append(attributes)
        return httpx.Response(200, json=answer(self.series, attributes["from"], attributes["to"]))


def answer(series: list[Series], since: int = T0 - 60_000, until: int = T0 + 60_000) -> dict[str, Any]:
    """What Datadog makes of the series in [since, until): one list of times, null where a series has no value."""
    points = [{T0 + round(at * 1000): value for at, value in one.points} for one in series]
    times = sorted({at for of_one in points for at in of_one if since <= at < until})
    return whole(
        series=[{"group_tags": list(one.tags), "query_index": one.query, "unit": None} for one in series],
        times=times,
        values=[[of_one.get(at) for at in times] for of_one in points],
    )


def whole(**attributes: Any) -> dict[str, Any]:
    """The body around the attributes."""
    return {"data": {"id": "0", "type": "timeseries_response", "attributes": attributes}}


def started(*at: float, host: str = "edge1", began: float = -900.0, query: int = 2) -> Series:
    """A target that was heard of at these seconds of the window."""
    return Series(query, tuple((one, T0 / 1000 + began) for one in at), (f"host:{host}",))


def source(
    handler: Callable[[httpx.Request], httpx.Response], queries: dict[str, Any] | None = None, **changes: Any
) -> DatadogMetrics:
    """The adapter; its keys come from DD_API_KEY and DD_APP_KEY."""
    profile = {
        "kind": "datadog",
        "api_key": {"env": "DD_API_KEY"},
        "application_key": {"env": "DD_APP_KEY"},
        "queries": QUERIES if queries is None else queries,
        **changes,
    }
    return DatadogMetrics("dog", DatadogMetricsProfile.model_validate(profile), transport=httpx.MockTransport(handler))
