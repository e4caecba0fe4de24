"""Counters of a window against a real Prometheus that scrapes a real exporter five times a second."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.metrics.increase import Increase
from adapters.metrics.series import Series
from domain.errors import RequestRefused, Unreachable
from lab.ports import LOOPBACK, free_port
from settings import PrometheusSource
from tests.sip.prometheus_server import PATIENCE_S, Exporter, prometheus

pytestmark = pytest.mark.sip


@dataclass
class Edge:
    """One process that counts, as its exporter tells it."""

    trunk: str
    exporter: Exporter
    series: Series
    started: float
    counters: dict[str, float] = field(default_factory=dict)

    @property
    def selector(self) -> str:
        return f'sip_edge_calls_total{{trunk="{self.trunk}"}}'

    @property
    def start_selector(self) -> str:
        return f'sip_edge_start_time_seconds{{trunk="{self.trunk}"}}'

    def tell(self, started: float | None = None, **counters: float) -> None:
        """What the next scrape shows; counters by peer."""
        self.started = self.started if started is None else started
        self.counters = counters
        lines = [f'sip_edge_start_time_seconds{{trunk="{self.trunk}"}} {self.started!r}']
        lines += [f'sip_edge_calls_total{{trunk="{self.trunk}",peer="{p}"}} {v!r}' for p, v in counters.items()]
        self.exporter.text = "\n".join(lines) + "\n"

    async def until_scraped(self) -> datetime:
        """Waits until Prometheus shows exactly what is told; a moment after that."""
        over = time.monotonic() + PATIENCE_S
        while time.monotonic() < over:
            shown = {i.labels["peer"]: i.value for i in await self.series.instant(self.selector)}
            start = [i.value for i in await self.series.instant(self.start_selector)]
            if shown == self.counters and start == [self.started]:
                return datetime.now(UTC)
            await asyncio.sleep(0.02)
        raise AssertionError(f"Prometheus shows {shown}, started {start}, and not {self.counters}, {self.started}")

    async def until_gone(self) -> datetime:
        """Waits until the exporter's series are stale; a moment after that."""
        over = time.monotonic() + PATIENCE_S
        while time.monotonic() < over:
            if not await self.series.instant(self.start_selector):
                return datetime.now(UTC)
            await asyncio.sleep(0.02)
        raise AssertionError("Prometheus still shows an exporter that is gone")

    async def increases(self, since: datetime, until: datetime) -> dict[str, Increase]:
        """By peer."""
        counted, newest = await self.series.increases(self.selector, since, until)
        assert newest is None or newest <= until
        return {increase.labels["peer"]: increase for increase in counted}


@dataclass
class Server:
    url: str
    exporters: list[Exporter]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests, with an exporter for each."""
    exporters = [Exporter() for _ in range(8)]
    targets = {f"edge-{number}": exporter.target for number, exporter in enumerate(exporters)}
    with prometheus(tmp_path_factory.mktemp("prometheus"), targets) as url:
        yield Server(url, exporters)


@pytest.fixture
async def series(server: Server) -> AsyncIterator[Series]:
    series = Series("[platforms.edge.metrics]", source(server.url))
    yield series
    await series.close()


@pytest.fixture
async def edge(server: Server, series: Series, request: pytest.FixtureRequest) -> AsyncIterator[Edge]:
    """An edge that has run for an hour, not yet looked at."""
    exporter = server.exporters.pop()
    edge = Edge(request.node.name, exporter, series, started=time.time() - 3600.0)
    yield edge
    exporter.stop()


def source(url: str, **changes: object) -> PrometheusSource:
    return PrometheusSource.model_validate({"base_url": url, "lab": True, "timeout": "10s", **changes})


async def test_neighbouring_windows_hold_exactly_what_was_counted_in_each(edge: Edge) -> None:
    edge.tell(one=100, two=7)
    edge.exporter.start()
    moments = [await edge.until_scraped()]
    for one, two in ((103, 7), (150, 8), (150, 1008)):
        edge.tell(one=one, two=two)
        moments.append(await edge.until_scraped())
    counted = [await edge.increases(*window) for window in itertools.pairwise(moments)]
    assert [(c["one"].increase, c["two"].increase) for c in counted] == [(3, 0), (47, 1), (0, 1000)]
    whole = await edge.increases(moments[0], moments[-1])
    assert (whole["one"].increase, whole["two"].increase) == (50, 1001)
    assert all(i.first_at <= moments[0] and i.resets == 0 for i in whole.values())
    assert whole["one"].labels["trunk"] == edge.trunk


async def test_a_counter_that_began_anew_is_summed_piece_by_piece(edge: Edge) -> None:
    edge.tell(one=100)
    edge.exporter.start()
    since = await edge.until_scraped()
    edge.tell(one=110)
    await edge.until_scraped()
    edge.tell(started=time.time(), one=4)
    await edge.until_scraped()
    edge.tell(one=9)
    until = await edge.until_scraped()
    counted = await edge.increases(since, until)
    assert (counted["one"].increase, counted["one"].resets) == (10 + 9, 1)


async def test_a_restarted_process_that_overtakes_the_first_one_unseen_is_told_by_its_start_time(edge: Edge) -> None:
    edge.tell(one=3)
    edge.exporter.start()
    since = await edge.until_scraped()
    edge.tell(started=time.time(), one=10)
    until = await edge.until_scraped()
    counted = await edge.increases(since, until)
    assert (counted["one"].increase, counted["one"].resets) == (10, 1)


async def test_a_counter_that_appears_within_the_window_began_at_zero(edge: Edge) -> None:
    edge.tell(one=5)
    edge.exporter.start()
    since = await edge.until_scraped()
    edge.tell(one=5, new=6)
    until = await edge.until_scraped()
    counted = await edge.increases(since, until)
    assert (counted["one"].increase, counted["new"].increase) == (0, 6)
    assert counted["new"].first_at <= since, "the target was looked at before: the figure covers the window"


async def test_a_process_that_nobody_looked_at_before_covers_the_window_from_its_first_sample_only(edge: Edge) -> None:
    since = datetime.now(UTC)
    edge.tell(one=500)
    edge.exporter.start()
    await edge.until_scraped()
    edge.tell(one=502)
    until = await edge.until_scraped()
    counted = await edge.increases(since, until)
    assert counted["one"].increase == 2
    assert counted["one"].first_at > since


async def test_an_exporter_that_died_keeps_its_figures_and_its_newest_sample_grows_old(edge: Edge) -> None:
    edge.tell(one=5)
    edge.exporter.start()
    since = await edge.until_scraped()
    edge.tell(one=8)
    counted_at = await edge.until_scraped()
    edge.exporter.stop()
    until = await edge.until_gone()
    counted, newest = await edge.series.increases(edge.selector, since, until)
    assert [i.increase for i in counted] == [3]
    assert newest is not None
    assert counted[0].last_at == newest < until
    _, later = await edge.series.increases(edge.selector, counted_at, datetime.now(UTC))
    assert later == newest, "looking again makes it no newer"
    assert await edge.series.instant(edge.selector) == ()


async def test_an_edge_without_calls_is_heard_of_and_a_trunk_that_is_not_there_is_not(edge: Edge) -> None:
    edge.tell()
    edge.exporter.start()
    since = await edge.until_scraped()
    until = datetime.now(UTC)
    assert since < until
    counted, newest = await edge.series.increases(edge.selector, since, until)
    assert counted == ()
    assert newest is not None
    assert await edge.series.increases('sip_edge_calls_total{trunk="none"}', since, until) == ((), None)


async def test_an_instant_has_the_time_at_which_it_was_scraped(edge: Edge) -> None:
    edge.tell(one=5, two=6)
    before = datetime.now(UTC)
    edge.exporter.start()
    await edge.until_scraped()
    instants = await edge.series.instant(edge.selector)
    assert [(i.labels["peer"], i.value) for i in instants] == [("one", 5.0), ("two", 6.0)]
    assert all(before <= i.at <= datetime.now(UTC) for i in instants)
    assert len({i.at for i in instants}) == 1, "one scrape"


async def test_a_selector_that_is_none_is_refused_with_the_servers_words(series: Series) -> None:
    now = datetime.now(UTC)
    with pytest.raises(RequestRefused, match="400 invalid parameter"):
        await series.increases("calls{", datetime.fromtimestamp(now.timestamp() - 1, UTC), now)


async def test_a_server_that_is_gone_is_unreachable(tmp_path: Path) -> None:
    with prometheus(tmp_path, {"nothing": f"{LOOPBACK}:{free_port()}"}) as url:
        series = Series("[platforms.edge.metrics]", source(url))
        assert await series.instant("sip_edge_start_time_seconds") == ()
    with pytest.raises(Unreachable):
        await series.instant("sip_edge_start_time_seconds")
    await series.close()
