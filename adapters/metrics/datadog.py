"""Datadog as a source: counts in intervals, asked for by the templates of the settings.

Datadog keeps what its Agent, or whoever submits, has counted since the last time, so resets are recognised there, and a
figure is the sum of the intervals that begin in the window. Neighbouring windows add up.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx

from adapters.metrics.counted import Count, absent, samples_of, whole
from adapters.metrics.datadog_api import DatadogApi, Timeseries
from domain.errors import UnexpectedAnswer
from domain.handshakes import Reading, Reporter
from domain.plan import Endpoint
from settings import DatadogMetricsProfile, MetricName
from settings.templates import filled

LOOKBACK: Final = timedelta(seconds=60)
"""A target that was heard of so long before the window is known to have counted when it began; nor may one be silent
for longer in between. The Agent looks every 15 s by default."""

MOST_INTERVALS: Final = 300
"""Of a request: longer windows get longer intervals. Datadog itself would widen them without a word."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_NO_TAG_CHARACTER: Final = re.compile(r"[^\w\-:./]")


class DatadogMetrics:
    """The figures of `[metrics.<name>]`. `transport` replaces the network in tests."""

    def __init__(
        self, name: str, profile: DatadogMetricsProfile, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._label = f"[metrics.{name}]"
        self._profile = profile
        self._api = DatadogApi(self._label, profile, transport=transport)

    async def samples(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """Counts of the intervals that begin in [since, until), all targets together. One request.

        `read_at` is the beginning of the newest interval with a figure: of start times where the settings ask for them,
        of the target that was heard of longest ago, otherwise of any count. `counters_since` tells when counting began,
        if that lies inside the window and start times are asked for.

        Raises what `DatadogApi` raises, and `UnexpectedAnswer` when a metric has no figure (unless it may be absent),
        fewer than `targets` targets are heard of, a figure is no count, or a direction is unknown. Raises `ValueError`
        when `since` is not before `until`.
        """
        if since >= until:
            raise ValueError(f"a window ends after it begins, not from {since} to {until}")
        opened, closed = _milliseconds(since), _milliseconds(until)
        step = self._step(until - since)
        silence = max(LOOKBACK // _MILLISECOND, 2 * step)
        begin = (opened - silence) // step * step
        end = math.ceil(closed / step) * step
        queries, started = self._queries(endpoint, since, until)
        asked = [*queries.values(), *([started] if started is not None else [])]
        answered = await self._api.timeseries(asked, begin, end, step)
        starts = [one for one in answered if one.query == len(queries) and one.points]
        counted = {
            metric: [cut for one in answered if one.query == index and (cut := _within(one, opened, closed)).points]
            for index, metric in enumerate(queries)
        }
        if started is not None:
            self._must_be_told(starts, started)
        counts = self._counts(queries, counted)
        heard = starts or [one for found in counted.values() for one in found]
        newest = [one.points[-1][0] for one in heard]
        return Reading(
            endpoint=endpoint.name,
            reporter=Reporter.PLATFORM,
            since=since,
            until=until,
            read_at=_moment(min(newest) if starts else max(newest)),
            counters_since=_counted_since(starts, silence, since, until),
            samples=samples_of(endpoint, counts, self._profile, self._profile.tags, where=self._label),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._api.close()

    def _step(self, window: timedelta) -> int:
        """The interval in ms: that of the settings, or the smallest multiple with which the request stays in bounds."""
        interval = self._profile.interval
        return math.ceil((window + LOOKBACK) / (interval * MOST_INTERVALS)) * (interval // _MILLISECOND)

    def _queries(
        self, endpoint: Endpoint, since: datetime, until: datetime
    ) -> tuple[dict[MetricName, str], str | None]:
        """What to ask for each metric, and for the start times."""
        values = {
            "trunk": tag_value(endpoint.trunk),
            "endpoint": tag_value(endpoint.name),
            "since": str(math.floor(since.timestamp())),
            "until": str(math.floor(until.timestamp())),
            "window": str(math.ceil((until - since) / timedelta(seconds=1))),
        }
        templates = self._profile.queries
        started = None if templates.started is None else filled(templates.started, values)
        return {metric: filled(template, values) for metric, template in templates.by_metric().items()}, started

    def _must_be_told(self, starts: Sequence[Timeseries], started: str) -> None:
        targets = self._profile.queries.targets
        if len(starts) < targets:
            raise UnexpectedAnswer(
                "Datadog does not hear of every target of the trunk",
                where=self._label,
                seen=f"{len(starts)} of {targets}: {', '.join(str(dict(one.tags)) for one in starts) or 'none'}",
                action=f"check the Agents, and compare the series of {started} with the targets that there are",
            )

    def _counts(self, queries: dict[MetricName, str], counted: dict[MetricName, list[Timeseries]]) -> list[Count]:
        counts: list[Count] = []
        for metric, query in queries.items():
            if not counted[metric] and metric not in self._profile.queries.may_be_absent:
                raise absent(metric, query, where=self._label)
            for one in counted[metric]:
                number = sum(whole(value, where=self._label, metric=metric) for _, value in one.points)
                counts.append(Count(metric, one.tags, number))
        return counts


def tag_value(text: str) -> str:
    """A name as Datadog keeps it in a tag: lower case, other characters as single underscores, none at the end."""
    return re.sub(r"_+", "_", _NO_TAG_CHARACTER.sub("_", text.lower()))[:200].rstrip("_")


def _within(one: Timeseries, opened: int, closed: int) -> Timeseries:
    return one._replace(points=tuple(point for point in one.points if opened <= point[0] < closed))


def _counted_since(starts: Sequence[Timeseries], silence: int, since: datetime, until: datetime) -> datetime | None:
    """The latest moment inside the window at which a target began to count, or to be heard of again."""
    began = [_moment(round(one.points[-1][1] * 1000)) for one in starts]
    began += [_moment(_heard_from(one, silence)) for one in starts]
    return max((at for at in began if since < at <= until), default=None)


def _heard_from(one: Timeseries, silence: int) -> int:
    """Since when a target was heard of without a longer silence, both in ms."""
    times = [at for at, _ in one.points]
    resumed = [later for earlier, later in itertools.pairwise(times) if later - earlier > silence]
    return resumed[-1] if resumed else times[0]


def _milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def _moment(milliseconds: int) -> datetime:
    return _EPOCH + milliseconds * _MILLISECOND
