"""A Prometheus server as a source: counters of any name, asked for by the templates of the settings.

What a selector names is read sample by sample (adapters/metrics/series.py), exact over restarts. An expression is what
the server makes of it, `increase()` with its extrapolation too, and is rounded to the trunk's disadvantage.
"""

from __future__ import annotations

import asyncio
import math
from datetime import datetime, timedelta

import httpx

from adapters.metrics.counted import Count, absent, estimated, samples_of, whole
from adapters.metrics.increase import Increase, counted_since
from adapters.metrics.series import UNTOLD, Instant, Labels, Series, quoted
from domain.errors import UnexpectedAnswer
from domain.handshakes import Reading, Reporter
from domain.plan import Endpoint
from settings import MetricName, PrometheusMetricsProfile
from settings.templates import filled, is_selector

Figures = tuple[tuple[Labels, float], ...]


class PrometheusMetrics:
    """The figures of `[metrics.<name>]`. `transport` replaces the network in tests."""

    def __init__(
        self, name: str, profile: PrometheusMetricsProfile, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self._label = f"[metrics.{name}]"
        self._profile = profile
        self._series = Series(self._label, profile, transport=transport)

    async def samples(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """Counts in (since, until], all targets together. At most seven requests, all at once.

        `read_at` is the newest sample of the target that was heard of longest ago. `counters_since` tells when counting
        began, if that lies inside the window: a restart, or a target that nobody scraped before.

        Raises what `Series` raises, and `UnexpectedAnswer` when a metric has no series (unless it may be absent), no
        target is heard of, fewer than `targets` are there, a figure is no count, or a direction is unknown.
        """
        queries, started = self._queries(endpoint, since, until)
        exact = {metric: query for metric, query in queries.items() if is_selector(query)}
        rest = {metric: query for metric, query in queries.items() if metric not in exact}
        # The samples of the start times say from when on an expression's targets were scraped.
        scraped = [started] if rest and started is not None else []
        (rises, heard), starts, figures = await asyncio.gather(
            self._series.all_increases([*exact.values(), *scraped], since, until, started=started or UNTOLD),
            self._series.instant(started) if started is not None else _nothing(),
            self._figures(tuple(rest.values()), until),
        )
        self._must_be_heard(heard, starts, started)
        assert heard is not None
        counted = dict(zip(exact, rises, strict=False))
        made = dict(zip(rest, figures, strict=True))
        coverage = [one.model_copy(update={"resets": 0}) for one in (rises[-1] if scraped else ())]
        every = [one for increases in counted.values() for one in increases]
        return Reading(
            endpoint=endpoint.name,
            reporter=Reporter.PLATFORM,
            since=since,
            until=until,
            read_at=heard,
            counters_since=counted_since([*every, *coverage], (start.value for start in starts), since, until),
            samples=samples_of(
                endpoint,
                self._counts(queries, counted, made),
                self._profile,
                self._profile.labels,
                where=self._label,
            ),
        )

    async def close(self) -> None:
        """Closes the connections."""
        await self._series.close()

    def _queries(
        self, endpoint: Endpoint, since: datetime, until: datetime
    ) -> tuple[dict[MetricName, str], str | None]:
        """What to ask for each metric, and for the start times."""
        values = {
            "trunk": quoted(endpoint.trunk),
            "endpoint": quoted(endpoint.name),
            "since": f"{since.timestamp():.3f}",
            "until": f"{until.timestamp():.3f}",
            "window": f"{math.ceil((until - since) / timedelta(milliseconds=1))}ms",
        }
        templates = self._profile.queries
        started = None if templates.started is None else filled(templates.started, values)
        return {metric: filled(template, values) for metric, template in templates.by_metric().items()}, started

    async def _figures(self, expressions: tuple[str, ...], until: datetime) -> list[Figures]:
        return await asyncio.gather(*(self._series.figures(expression, until) for expression in expressions))

    def _must_be_heard(self, heard: datetime | None, starts: tuple[Instant, ...], started: str | None) -> None:
        targets = self._profile.queries.targets
        if heard is None:
            raise UnexpectedAnswer(
                "Prometheus has no figures of the trunk",
                where=self._label,
                seen=f"nothing for {started}" if started else "no series for any query",
                action="check the queries, and that Prometheus scrapes what counts",
            )
        if started is not None and len(starts) < targets:
            raise UnexpectedAnswer(
                "Prometheus does not scrape every target of the trunk",
                where=self._label,
                seen=f"{len(starts)} of {targets}: {', '.join(_target(start) for start in starts) or 'none'}",
                action=f"compare the targets that {started} shows with those that there are",
            )

    def _counts(
        self,
        queries: dict[MetricName, str],
        counted: dict[MetricName, tuple[Increase, ...]],
        made: dict[MetricName, Figures],
    ) -> list[Count]:
        counts: list[Count] = []
        for metric, query in queries.items():
            if not counted.get(metric) and not made.get(metric) and metric not in self._profile.queries.may_be_absent:
                raise absent(metric, query, where=self._label)
            for one in counted.get(metric, ()):
                counts.append(Count(metric, one.labels, whole(one.increase, where=self._label, metric=metric)))
            for labels, figure in made.get(metric, ()):
                counts.append(Count(metric, labels, estimated(figure, metric)))
        return counts


async def _nothing() -> tuple[Instant, ...]:
    return ()


def _target(start: Instant) -> str:
    return start.labels.get("instance", str(dict(start.labels)))
