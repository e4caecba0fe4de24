"""A real Prometheus scrapes the lab; what the metric source reads from it is what the lab's ledgers hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from adapters.metrics.prometheus import PrometheusMetrics
from adapters.registry import Adapters
from domain.errors import UnexpectedAnswer
from domain.handshakes import Reading
from domain.plan import Endpoint, parse_plan
from lab.carrier_ca import CarrierCa
from lab.lab_names import CXONE, GENESYS
from lab.ledger import Ledger
from lab.world import WorldOptions
from lab.world_parts import World
from settings import PrometheusMetricsProfile, load_settings
from tests.adapters.counting_lab import PROMETHEUS_QUERIES, Told, counted, told
from tests.lab.lab_client import lab_client
from tests.sip.programs import until
from tests.sip.scraping import Prometheus, Target

pytestmark = pytest.mark.sip

ESTIMATES = {
    **PROMETHEUS_QUERIES,
    **{
        name: f"sum by (direction, certificate, peer, cause) (increase({query}[{{window}}]))"
        for name, query in PROMETHEUS_QUERIES.items()
        if name.startswith(("handshakes", "calls"))
    },
}


@dataclass
class Rig:
    """A lab that nobody calls on yet, and a Prometheus that has scraped it."""

    world: World
    prometheus: Prometheus
    adapters: Adapters
    endpoints: dict[str, Endpoint]

    def source(self, queries: dict[str, object]) -> PrometheusMetrics:
        profile = {"kind": "prometheus", "lab": True, "timeout": "10s", "base_url": self.prometheus.url}
        return PrometheusMetrics("prom", PrometheusMetricsProfile.model_validate({**profile, "queries": queries}))

    def ledger(self, trunk: str) -> Ledger:
        return self.world.trunks[trunk].ledger

    def expected(self, trunk: str, since: datetime, end: datetime) -> Told:
        """What the ledger holds, in the directions in which our certificate plays a part."""
        directions = {direction.lower() for direction in self.world.trunks[trunk].directions}
        return {
            key: tallies for key, tallies in counted(self.ledger(trunk), since, end).items() if key[1] in directions
        }

    async def scraped_after(self, moment: datetime) -> None:
        """Waits for a sample that was taken later."""

        async def newer() -> bool:
            return await self.prometheus.sum("max(timestamp(sip_edge_start_time_seconds))") > moment.timestamp()

        await until(newer, f"a scrape after {moment}")


@pytest.fixture
async def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rig]:
    monkeypatch.setenv("SIP_ROTATE_SETTINGS", "")
    async with lab_client(WorldOptions(tmp_path / "lab", speed="test", call_rate=10.0)) as lab:
        lab.world.carrier.stop_placing()
        assert await lab.world.carrier.drain(10)
        prometheus = Prometheus(tmp_path / "prometheus", [Target(urlsplit(lab.facts["exposition"]).netloc)])
        await prometheus.start()
        adapters = Adapters(load_settings(lab.directory / "settings.toml"))
        plan = parse_plan((lab.directory / "plan.toml").read_text())
        yield Rig(lab.world, prometheus, adapters, {one.name: one for one in plan.endpoints})
        await adapters.close()
        await prometheus.stop()


async def next_second() -> datetime:
    """The next whole second, when it has come: Datadog's intervals begin there."""
    moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)

    async def come() -> bool:
        return datetime.now(UTC) >= moment

    await until(come, f"{moment}")
    return moment


async def counts(rig: Rig) -> tuple[datetime, datetime]:
    """Calls, and then handshakes on one trunk that the carrier refuses; the window around, scraped to its end."""
    since = await next_second()
    await rig.scraped_after(since)
    for trunk in (GENESYS, CXONE):
        rig.world.carrier.set_quiet(trunk, False)

    async def enough() -> bool:
        now = datetime.now(UTC)
        return all(
            sum(one.call_setups.successes for one in rig.ledger(trunk).counts(since, now).values()) >= 20
            for trunk in (GENESYS, CXONE)
        )

    await until(enough, "20 good calls on each trunk")
    rig.world.carrier.set_trust(CarrierCa().certificate_pem, trunk=CXONE)

    async def refused() -> bool:
        now = datetime.now(UTC)
        return any(one.handshakes.failures for one in rig.ledger(CXONE).counts(since, now).values())

    await until(refused, "a handshake that the carrier refuses")
    assert await rig.world.settle()
    end = await next_second()
    await rig.scraped_after(end)
    return since, end


async def read(source: PrometheusMetrics, endpoint: Endpoint, since: datetime, end: datetime) -> Reading:
    try:
        return await source.samples(endpoint, since, end)
    finally:
        await source.close()


async def test_prometheus_datadog_and_the_ledger_agree_on_every_count(rig: Rig) -> None:
    since, end = await counts(rig)
    datadog = rig.adapters.metric_source("datadog-lab")
    for trunk in (GENESYS, CXONE):
        expected = rig.expected(trunk, since, end)
        scraped = await read(rig.source(PROMETHEUS_QUERIES), rig.endpoints[trunk], since, end)
        assert told(scraped) == expected
        assert scraped.counters_since is None
        assert timedelta(0) <= end - scraped.read_at < timedelta(seconds=2)
        assert told(await datadog.samples(rig.endpoints[trunk], since, end)) == expected
    failures = [handshakes.failures for handshakes, _ in rig.expected(CXONE, since, end).values()]
    assert {"unknown_ca"} == {cause for causes in failures for cause in causes}


async def test_an_expression_is_read_with_the_age_of_the_samples_behind_it(rig: Rig) -> None:
    since, end = await counts(rig)
    estimate = await read(rig.source(ESTIMATES), rig.endpoints[CXONE], since, end)
    guessed = told(estimate)
    assert guessed, "some counter had more than one sample"
    assert set(guessed) <= set(rig.expected(CXONE, since, end))
    assert estimate.counters_since is None
    assert timedelta(0) <= end - estimate.read_at < timedelta(seconds=2)


async def test_figures_that_froze_are_no_figures(rig: Rig) -> None:
    since, end = await counts(rig)
    rig.ledger(GENESYS).frozen = True

    async def stale() -> bool:
        return await rig.prometheus.sum(f'sip_edge_start_time_seconds{{trunk="{GENESYS}"}}') == 0

    await until(stale, "the frozen trunk to be stale")
    with pytest.raises(UnexpectedAnswer, match="does not scrape every target of the trunk; seen: 0 of 1"):
        await read(rig.source(PROMETHEUS_QUERIES), rig.endpoints[GENESYS], since, end)
    other = await read(rig.source(PROMETHEUS_QUERIES), rig.endpoints[CXONE], since, end)
    assert told(other) == rig.expected(CXONE, since, end)
