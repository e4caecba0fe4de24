"""The trunks' counts for a Prometheus that scrapes `/metrics`, as the edges' own exporters tell theirs.

`sip_edge_handshakes_total` and `sip_edge_calls_total` with the labels trunk, certificate, direction, peer, result and –
of what failed – cause; `sip_edge_start_time_seconds` with trunk. A counter appears with its first count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lab.ledger import Counts, Direction, Group, Ledger

Series = tuple[str, tuple[tuple[str, str], ...]]
"""A metric and its labels."""


class Exposition:
    """The last ledger entries that a scrape has seen are added to the totals; an hour without a scrape loses some."""

    def __init__(self, ledgers: Mapping[str, tuple[Ledger, tuple[Direction, ...]]]) -> None:
        """`ledgers` has each trunk's counts, and the directions in which our certificates play a part."""
        self._trunks = [_Totals(trunk, *of_trunk) for trunk, of_trunk in ledgers.items()]
        self.application = Starlette(routes=[Route("/metrics", self._metrics, methods=["GET"])])

    def text(self) -> str:
        """What a scrape gets now. A trunk whose figures are frozen is left out: Prometheus sees it grow old."""
        lines = [
            "# TYPE sip_edge_handshakes_total counter",
            "# TYPE sip_edge_calls_total counter",
            "# TYPE sip_edge_start_time_seconds gauge",
        ]
        for trunk in self._trunks:
            lines += trunk.lines()
        return "\n".join(lines) + "\n"

    async def _metrics(self, request: Request) -> Response:
        return Response(self.text(), media_type="text/plain; version=0.0.4")


class _Totals:
    """One trunk's counters since its ledger began."""

    def __init__(self, trunk: str, ledger: Ledger, directions: tuple[Direction, ...]) -> None:
        self._trunk, self._ledger, self._directions = trunk, ledger, directions
        self._begun = self._seen = self._beginning()
        self._counters: Counter[Series] = Counter()

    def lines(self) -> list[str]:
        if self._ledger.frozen:
            return []
        if self._beginning() != self._begun:
            self._begun = self._seen = self._beginning()
            self._counters.clear()
        self._add_new()
        started = (("trunk", self._trunk),)
        return [
            f"sip_edge_start_time_seconds{_braces(started)} {self._begun.timestamp()!r}",
            *(f"{name}{_braces(labels)} {number}" for (name, labels), number in sorted(self._counters.items())),
        ]

    def _add_new(self) -> None:
        """Events since the last scrape. Times are the true ones: a skew of the side's clock may change in between."""
        skew = self._ledger.skew
        until = self._ledger.now() - skew
        if until <= self._seen:
            return
        for group, counts in self._ledger.counts(self._seen + skew, until + skew).items():
            if group.direction in self._directions:
                self._add(group, counts)
        self._seen = until

    def _add(self, group: Group, counts: Counts) -> None:
        labels = (
            ("trunk", self._trunk),
            ("certificate", group.sha256 or ""),
            ("direction", group.direction.lower()),
            ("peer", group.peer),
        )
        for name, good, failures in (
            ("sip_edge_handshakes_total", counts.handshakes.successes, counts.handshakes.failures),
            ("sip_edge_calls_total", counts.call_setups.successes, counts.call_setups.failures),
        ):
            if good:
                self._counters[name, (*labels, ("result", "ok"))] += good
            for cause, number in failures.items():
                self._counters[name, (*labels, ("result", "failed"), ("cause", str(cause)))] += number

    def _beginning(self) -> datetime:
        return self._ledger.counters_since - self._ledger.skew


def _braces(labels: tuple[tuple[str, str], ...]) -> str:
    def escaped(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{name}="{escaped(value)}"' for name, value in labels) + "}"
