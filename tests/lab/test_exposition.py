"""The trunks' counters as a Prometheus scrapes them: they only rise, and nothing is counted twice or left out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from lab.exposition import Exposition
from lab.ledger import Ledger

BEGIN = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LEAF = "ab" * 32
ON_LEAF = f'trunk="eu",certificate="{LEAF}",direction="inbound",peer="192.0.2.1"'


class Story:
    """A ledger whose clock the test turns, and what is told of it."""

    def __init__(self) -> None:
        self.now = BEGIN
        self.ledger = Ledger(lambda: self.now)
        self.exposition = Exposition({"eu": (self.ledger, ("INBOUND",))})

    def later(self, seconds: float = 1.0) -> None:
        self.now += timedelta(seconds=seconds)

    def scrape(self) -> dict[str, float]:
        """Series and value."""
        lines = [line for line in self.exposition.text().splitlines() if not line.startswith("#")]
        return {series: float(value) for series, _, value in (line.rpartition(" ") for line in lines)}


def started(at: datetime) -> dict[str, float]:
    return {'sip_edge_start_time_seconds{trunk="eu"}': at.timestamp()}


def test_a_counter_appears_with_its_first_count_and_rises() -> None:
    story = Story()
    assert story.scrape() == started(BEGIN)
    story.later()
    story.ledger.handshake("INBOUND", LEAF, "192.0.2.1")
    story.ledger.handshake("INBOUND", LEAF, "192.0.2.1", "unknown_ca")
    story.ledger.handshake("OUTBOUND", LEAF, "192.0.2.1")
    story.ledger.call_setup("INBOUND", LEAF, "192.0.2.1", 200)
    story.later()
    first = story.scrape()
    assert first == {
        **started(BEGIN),
        f'sip_edge_handshakes_total{{{ON_LEAF},result="ok"}}': 1,
        f'sip_edge_handshakes_total{{{ON_LEAF},result="failed",cause="unknown_ca"}}': 1,
        f'sip_edge_calls_total{{{ON_LEAF},result="ok"}}': 1,
    }, "outbound is not among the directions in which our certificate plays a part"
    assert story.scrape() == first
    story.ledger.handshake("INBOUND", LEAF, "192.0.2.1")
    assert story.scrape() == first, "what happens at the moment of a scrape is told by the next one"
    story.later(4000)
    assert story.scrape() == first | {f'sip_edge_handshakes_total{{{ON_LEAF},result="ok"}}': 2}
    story.ledger.handshake("INBOUND", LEAF, "192.0.2.1")
    story.later()
    assert story.scrape()[f'sip_edge_handshakes_total{{{ON_LEAF},result="ok"}}'] == 3, (
        "the ledger forgets, this does not"
    )


def test_a_reset_moves_the_start_time_and_a_skewed_clock_counts_nothing_twice() -> None:
    story = Story()
    story.later()
    story.ledger.handshake("INBOUND", None, "192.0.2.1")
    story.later()
    without_leaf = ON_LEAF.replace(LEAF, "")
    counter = f'sip_edge_handshakes_total{{{without_leaf},result="ok"}}'
    assert story.scrape()[counter] == 1
    story.ledger.skew = timedelta(seconds=-90)
    assert story.scrape() == {**started(BEGIN), counter: 1}
    story.ledger.skew = timedelta(seconds=90)
    story.later()
    assert story.scrape()[counter] == 1
    story.ledger.reset()
    assert story.scrape() == started(story.now)


async def test_frozen_figures_are_left_out_so_that_they_grow_old() -> None:
    story = Story()
    story.ledger.frozen = True
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(story.exposition.application), base_url="http://lab"
    ) as http:
        answer = await http.get("/metrics")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert "{" not in answer.text
    story.ledger.frozen = False
    assert story.scrape() == started(BEGIN)
