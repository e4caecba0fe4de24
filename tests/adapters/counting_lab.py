"""One ledger of the lab, counted for Datadog and for Prometheus at once, on a clock that the test turns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import httpx

from adapters.metrics.base import MetricSource
from adapters.metrics.datadog import DatadogMetrics
from adapters.metrics.prometheus import PrometheusMetrics
from domain.handshakes import Reading, Tally
from lab.api_guard import RequestLog
from lab.datadog_api import DatadogApi
from lab.exposition import Exposition
from lab.ledger import Counts, Direction, Ledger
from settings import DatadogMetricsProfile, PrometheusMetricsProfile
from tests.adapters.prometheus_double import PrometheusDouble

TRUNK = "eu-1"
BEGIN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
SCRAPE_S = 5
API_KEY, APPLICATION_KEY = "0123456789abcdef" * 2, "fedcba9876" * 4
ABSENT = ["handshakes_ok", "handshakes_failed", "calls_ok", "calls_failed"]

PROMETHEUS_QUERIES: dict[str, Any] = {
    "handshakes_ok": 'sip_edge_handshakes_total{trunk="{endpoint}",result="ok"}',
    "handshakes_failed": 'sip_edge_handshakes_total{trunk="{endpoint}",result!="ok"}',
    "calls_ok": 'sip_edge_calls_total{trunk="{endpoint}",result="ok"}',
    "calls_failed": 'sip_edge_calls_total{trunk="{endpoint}",result="failed"}',
    "started": 'sip_edge_start_time_seconds{trunk="{endpoint}"}',
    "may_be_absent": ABSENT,
}
_BY = "by {direction,certificate,peer,cause}.as_count()"
DATADOG_QUERIES: dict[str, Any] = {
    "handshakes_ok": f"sum:sip.handshakes.ok{{trunk:{{endpoint}}}} {_BY}",
    "handshakes_failed": f"sum:sip.handshakes.failed{{trunk:{{endpoint}}}} {_BY}",
    "calls_ok": f"sum:sip.calls.ok{{trunk:{{endpoint}}}} {_BY}",
    "calls_failed": f"sum:sip.calls.failed{{trunk:{{endpoint}}}} {_BY}",
    "started": "max:sip.start_time{trunk:{endpoint}} by {host}",
    "may_be_absent": ABSENT,
}


class Event(NamedTuple):
    """A handshake, or a call with its final status, in a second of the story. `cause` is that of a failed handshake."""

    second: int
    direction: Direction = "INBOUND"
    sha256: str | None = None
    peer: str = "192.0.2.10"
    cause: str | None = None
    status: int | None = None


@dataclass
class Faults:
    """Those of the stand-in."""

    status: int | None = None

    def request_fault(self, service: str) -> int | None:
        assert service == "datadog"
        return self.status


class CountingLab:
    """What happens, told to the ledger at half seconds; scraped every five seconds, beginning with the first."""

    def __init__(self, directions: tuple[Direction, ...] = ("INBOUND", "OUTBOUND")) -> None:
        self.now = BEGIN - timedelta(seconds=30)
        self.ledger = Ledger(lambda: self.now)
        ledgers: Mapping[str, tuple[Ledger, tuple[Direction, ...]]] = {TRUNK: (self.ledger, directions)}
        self.exposition = Exposition(ledgers)
        self.faults, self.log = Faults(), RequestLog()
        self.api = DatadogApi(
            ledgers, api_key=API_KEY, application_key=APPLICATION_KEY, log=self.log, faults=self.faults
        )
        self.prometheus_double = PrometheusDouble(clock=lambda: self.now.timestamp())
        self.live(-SCRAPE_S, 0)

    def live(self, first: int, last: int, *events: Event) -> None:
        """From one second of the story to another, both multiples of five; a scrape at each five seconds."""
        for second in range(first, last):
            self._scrape_at(second)
            self.now = at(second + 0.5)
            for event in events:
                if event.second == second:
                    self._happen(event)
        self._scrape_at(last)

    def _scrape_at(self, second: int) -> None:
        self.now = at(second)
        if second % SCRAPE_S == 0:
            text = self.exposition.text()
            self.prometheus_double.scrape(text, self.now.timestamp(), instance="lab:9101", job="lab")

    def _happen(self, event: Event) -> None:
        if event.status is not None:
            self.ledger.call_setup(event.direction, event.sha256, event.peer, event.status)
        else:
            self.ledger.handshake(event.direction, event.sha256, event.peer, event.cause)

    def prometheus(self) -> PrometheusMetrics:
        """What was scraped, through the adapter."""
        profile = {"kind": "prometheus", "base_url": "https://prometheus.example.com", "queries": PROMETHEUS_QUERIES}
        return PrometheusMetrics(
            "prom",
            PrometheusMetricsProfile.model_validate(profile),
            transport=httpx.MockTransport(self.prometheus_double),
        )

    def datadog(self, **changes: Any) -> DatadogMetrics:
        """The stand-in, through the adapter; keys come from DD_API_KEY and DD_APP_KEY."""
        profile = {
            "kind": "datadog",
            "api_key": {"env": "DD_API_KEY"},
            "application_key": {"env": "DD_APP_KEY"},
            "interval": "1s",
            "queries": DATADOG_QUERIES,
        }
        return DatadogMetrics(
            "dog",
            DatadogMetricsProfile.model_validate({**profile, **changes}),
            transport=httpx.ASGITransport(self.api.application),
        )

    def sources(self) -> dict[str, MetricSource]:
        """Both."""
        return {"prometheus": self.prometheus(), "datadog": self.datadog()}


def at(second: float) -> datetime:
    """A moment of the story."""
    return BEGIN + timedelta(seconds=second)


Told = dict[tuple[str | None, str, str | None], tuple[Tally, Tally]]


def told(reading: Reading) -> Told:
    """Handshakes and call setups by certificate, direction and peer, where anything happened."""
    return {
        (sample.sha256, sample.direction.value, sample.peer): (_sorted(sample.handshakes), _sorted(sample.call_setups))
        for sample in reading.samples
        if sample.handshakes.attempts or sample.call_setups.attempts
    }


def counted(ledger: Ledger, since: datetime, until: datetime) -> Told:
    """The same as the ledger has it."""
    return {
        (group.sha256, group.direction.lower(), group.peer): (
            _tally(counts.handshakes.attempts, counts.handshakes.successes, counts.handshakes.failures),
            _tally(counts.call_setups.attempts, counts.call_setups.successes, counts.call_setups.failures),
        )
        for group, counts in ledger.counts(since, until).items()
        if _any(counts)
    }


def _any(counts: Counts) -> bool:
    return bool(counts.handshakes.attempts or counts.call_setups.attempts)


def _tally(attempts: int, successes: int, failures: Mapping[Any, int]) -> Tally:
    causes = {str(cause): number for cause, number in failures.items()}
    return _sorted(Tally(attempts=attempts, successes=successes, failures=causes))


def _sorted(tally: Tally) -> Tally:
    return tally.model_copy(update={"failures": dict(sorted(tally.failures.items()))})
