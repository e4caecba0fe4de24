"""What happens to traffic and figures, and when by the server's clock. A test writes it; the paper world plays it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from domain.errors import Unreachable

Span = tuple[datetime, datetime]
"""From the first instant up to, and without, the second."""


@dataclass
class Script:
    """Traffic flows and every figure can be had, but for what stands here."""

    refused_from: dict[str, datetime] = field(default_factory=dict)
    """"A" or "B" → from when one in ten handshakes on it is refused with `unknown_ca`."""
    quiet: list[Span] = field(default_factory=list)
    """Nobody calls."""
    light: list[Span] = field(default_factory=list)
    """Somebody calls now and then: about the guard's sample in its widest window."""
    resets: list[datetime] = field(default_factory=list)
    """The platforms' counters start at zero again."""
    outages: list[Span] = field(default_factory=list)
    """The platforms' figures cannot be had."""
    read_only: bool = False
    """The platforms take no change."""

    def turns(self) -> Iterator[datetime]:
        """Every instant at which the traffic becomes another."""
        yield from self.refused_from.values()
        for span in (*self.quiet, *self.light):
            yield from span

    def counters_since(self, at: datetime) -> datetime | None:
        """The last reset before `at`."""
        return max((reset for reset in self.resets if reset <= at), default=None)

    def must_write(self, endpoint: str) -> None:
        """Raises `Unreachable` while the platforms take no change."""
        if self.read_only:
            raise Unreachable("the configuration API does not answer", where=endpoint, seen="timed out")

    def must_see(self, endpoint: str, at: datetime) -> None:
        """Raises `Unreachable` during an outage of the figures."""
        if within(at, self.outages):
            raise Unreachable("the metrics API does not answer", where=endpoint, seen="timed out")


def within(at: datetime, spans: list[Span]) -> bool:
    """True when `at` lies in one of the spans."""
    return any(since <= at < until for since, until in spans)
