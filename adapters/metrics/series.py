"""Counters of a window, and gauges of now, from the Prometheus server that scrapes the edges.

An edge's counters live in its process and end with it; the worker keeps nothing between two looks. So whoever runs the
edge runs a Prometheus beside it (docs/edge-metrics.md), and it is asked for raw samples (HTTP API v1, `query`, a range
selector): the arithmetic is ours (adapters/metrics/increase.py).
"""

from __future__ import annotations

import asyncio
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal, TypeVar

import httpx
from pydantic import BaseModel, ConfigDict

from adapters.http import Http
from adapters.metrics.increase import Increase, Points, Starts, increase_of, moment_of
from domain.handshakes import Record
from settings import PrometheusSource

START_METRIC: Final = "sip_edge_start_time_seconds"
"""Gauge of every edge: when its process began to count, in seconds since 1970 (docs/edge-metrics.md)."""

UNTOLD: Final = ""
"""Instead of a selector of start times: the counters' processes do not tell when they began."""

LOOKBACK: Final = timedelta(seconds=60)
"""How long before the window's beginning a sample still says how a counter stood then. It has to be longer than the
scrape interval; Prometheus' own five minutes would let figures of five minutes pass as those of one."""

_TRUNK = re.compile(r"""[{,]\s*(trunk\s*=\s*"(?:[^"\\]|\\.)*")""")
_PART: Final = "sip_rotate_part"


class Instant(Record):
    """One series now: its value, and when it was taken."""

    labels: Mapping[str, str]
    value: float
    at: datetime


Labels = dict[str, str]
Sampled = tuple[Labels, Points]


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Range(_Body):
    metric: Labels
    values: tuple[tuple[float, str], ...]


class _Matrix(_Body):
    resultType: Literal["matrix"]
    result: tuple[_Range, ...]


class _Value(_Body):
    metric: Labels
    value: tuple[float, str]


class _Vector(_Body):
    resultType: Literal["vector"]
    result: tuple[_Value, ...]


class _Answer(_Body):
    """An answer of the query API. Warnings tell what is missing, for example a store that did not answer.

    `isPartial` is how VictoriaMetrics, which speaks the same API, tells that.
    """

    status: Literal["success"]
    warnings: tuple[str, ...] = ()
    isPartial: bool = False


class _RangeAnswer(_Answer):
    data: _Matrix


class _InstantAnswer(_Answer):
    data: _Vector


A = TypeVar("A", bound=_Answer)


class Series:
    """One Prometheus server. `label` names it in errors, for example `[platforms.edge.metrics]`.

    All methods raise what `adapters.http.Http.send` raises (`RequestRefused` for a selector that is none), and
    `UnexpectedAnswer` for figures that are no counts (NaN, negative), an answer of another shape, and one of which the
    server itself says that it is not complete.
    """

    def __init__(
        self, label: str, source: PrometheusSource, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._label = label
        self._source = source
        self._http = Http(label, source, transport=transport)

    async def increases(
        self, selector: str, since: datetime, until: datetime, *, started: str | None = None
    ) -> tuple[tuple[Increase, ...], datetime | None]:
        """How far each counter of the selector rose in (since, until], and when the newest sample was taken.

        Of several targets (nodes) it is the one that was heard of longest ago that counts: its figures are the oldest
        in the sum. None means that no target was heard of at all. A target that is silent for longer than the window
        and `LOOKBACK` is not among them any more: look at `instant` for which nodes are there.

        `started` selects the start times of the targets; by default those of the selector's `trunk`. Two requests.
        Raises `ValueError` when `since` is not before `until`.
        """
        (increases,), newest = await self.all_increases(
            (selector,), since, until, started=started or _start_of(selector)
        )
        return increases, newest

    async def all_increases(
        self, selectors: Sequence[str], since: datetime, until: datetime, *, started: str
    ) -> tuple[tuple[tuple[Increase, ...], ...], datetime | None]:
        """The same of several selectors, whose processes tell their start times together, or do not (`UNTOLD`).

        One request for each, all at once, and one for the start times.
        """
        if since >= until:
            raise ValueError(f"a window ends after it begins, not from {since} to {until}")
        reach = until - since + LOOKBACK
        starts, *counted = await asyncio.gather(
            self._samples(started, until, reach) if started != UNTOLD else _none(),
            *(self._samples(selector, until, reach) for selector in selectors),
        )
        started_by = {_process(labels): Starts(points) for labels, points in starts}
        increases = tuple(
            tuple(
                increase_of(labels, points, _starts_of(labels, started_by), since.timestamp())
                for labels, points in counters
            )
            for counters in counted
        )
        return increases, _longest_silent([*itertools.chain.from_iterable(counted), *starts])

    async def figures(self, expression: str, at: datetime) -> tuple[tuple[Labels, float], ...]:
        """What the server makes of an expression at a moment, per series. One request.

        Nothing tells how old the samples behind it are. Raises `UnexpectedAnswer` for what is below 0, too.
        """
        response, answer = await self._asked({"query": expression, "time": f"{at.timestamp():.3f}"}, _InstantAnswer)
        found = [(_labels(shown.metric), self._figure(response, shown.value[1])) for shown in answer.data.result]
        if any(value < 0 for _, value in found):
            raise self._http.unexpected(response, "a count below 0", str(min(found, key=lambda one: one[1])))
        return tuple(sorted(found, key=lambda one: sorted(one[0].items())))

    async def instant(self, selector: str) -> tuple[Instant, ...]:
        """Each series of the selector as it is now; one whose target cannot be scraped any more is not there.

        A sample may be five minutes old when it is Prometheus that was away: `at` tells. One request.
        """
        query = (
            f'label_replace({selector}, "{_PART}", "value", "", "") '
            f'or label_replace(timestamp({selector}), "{_PART}", "at", "", "")'
        )
        response, answer = await self._asked({"query": query}, _InstantAnswer)
        values: dict[frozenset[tuple[str, str]], dict[str, float]] = {}
        for shown in answer.data.result:
            key = frozenset((name, value) for name, value in _labels(shown.metric).items() if name != _PART)
            values.setdefault(key, {})[shown.metric.get(_PART, "")] = self._figure(response, shown.value[1])
        if any(set(parts) != {"value", "at"} for parts in values.values()):
            raise self._http.unexpected(response, "a series lacks its value or its time", f"{len(values)} series")
        instants = [
            Instant(labels=dict(sorted(key)), value=parts["value"], at=moment_of(parts["at"]))
            for key, parts in values.items()
        ]
        return tuple(sorted(instants, key=lambda instant: sorted(instant.labels.items())))

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()

    async def _samples(self, selector: str, until: datetime, reach: timedelta) -> list[Sampled]:
        """Labels and samples of each series in the time `reach` up to `until`."""
        milliseconds = math.ceil(reach / timedelta(milliseconds=1))
        query = {"query": f"{selector}[{milliseconds}ms]", "time": f"{until.timestamp():.3f}"}
        response, answer = await self._asked(query, _RangeAnswer)
        found: list[Sampled] = []
        for shown in answer.data.result:
            points = [(at, self._figure(response, value)) for at, value in shown.values]
            if not points or min(value for _, value in points) < 0:
                raise self._http.unexpected(response, "a counter without a value, or below 0", str(shown.metric))
            found.append((_labels(shown.metric), sorted(points)))
        return sorted(found, key=lambda series: sorted(series[0].items()))

    async def _asked(self, query: Mapping[str, str], model: type[A]) -> tuple[httpx.Response, A]:
        headers = {"Accept": "application/json"}
        if self._source.token is not None:
            token = self._source.token.read(f"{self._label} token").get_secret_value()
            headers["Authorization"] = f"Bearer {token}"
        url = f"{self._source.base_url.rstrip('/')}/api/v1/query"
        response = await self._http.send("GET", url, params=query, headers=headers)
        answer = self._http.parse(response, model)
        if answer.warnings:
            raise self._http.unexpected(response, "the server warns about its answer", "; ".join(answer.warnings))
        if answer.isPartial:
            raise self._http.unexpected(response, "the answer is not complete", "isPartial")
        return response, answer

    def _figure(self, response: httpx.Response, text: str) -> float:
        """Raises `UnexpectedAnswer` for NaN and infinities: no data is not 0."""
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self._http.unexpected(response, "a value that is no figure", repr(text[:40]))
        return value


async def _none() -> list[Sampled]:
    return []


def quoted(text: str) -> str:
    """A text as it stands in a double-quoted string of PromQL."""
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _labels(metric: Labels) -> Labels:
    """Without the metric's own name."""
    return {name: value for name, value in metric.items() if name != "__name__"}


def _start_of(selector: str) -> str:
    """The start times that belong to a selector: those of its trunk, or all."""
    trunk = _TRUNK.search(selector)
    return START_METRIC if trunk is None else f"{START_METRIC}{{{trunk[1]}}}"


def _process(labels: Labels) -> tuple[str | None, ...]:
    """What tells the counting processes apart: the target, and the trunk in it."""
    return labels.get("job"), labels.get("instance"), labels.get("trunk")


def _starts_of(labels: Labels, started_by: Mapping[tuple[str | None, ...], Starts]) -> Starts:
    """Those of the counter's own trunk, or of its target as a whole (`process_start_time_seconds` names no trunk)."""
    job, instance, trunk = _process(labels)
    return started_by.get((job, instance, trunk)) or started_by.get((job, instance, None)) or Starts()


def _longest_silent(series: Sequence[Sampled]) -> datetime | None:
    newest: dict[tuple[str | None, ...], float] = {}
    for labels, points in series:
        newest[_process(labels)] = max(newest.get(_process(labels), 0.0), points[-1][0])
    return moment_of(min(newest.values())) if newest else None
