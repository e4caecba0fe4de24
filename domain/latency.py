"""How long full handshakes take: a distribution, and whether B's is worse than A's (guide section 3, edge case 2)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from domain.handshakes import Count, Record, percent

BUDGET_MS: Final = 100.0
"""Guide section 3: sub-100 ms handshakes."""

ENOUGH: Final = 20
"""Handshakes on each side below which nothing is said: the 95th percentile of fewer is one handshake."""

MARGIN: Final = 0.5
"""B may be slower than A by half before it is worth a word."""

MARGIN_MS: Final = 20.0
"""And by that many milliseconds: half of very little is noise."""


class Latency(Record):
    """A distribution of handshake times in milliseconds. `above_budget` is the share 0–1 above 100 ms."""

    count: Count = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    highest: float = 0.0
    above_budget: float = 0.0

    def text(self) -> str:
        """For people, for example `40 handshakes, p50 12 ms, p95 30 ms, p99 41 ms, max 44 ms, 0.00 % above 100 ms`."""
        if not self.count:
            return "no handshakes"
        figures = f"p50 {self.p50:.0f} ms, p95 {self.p95:.0f} ms, p99 {self.p99:.0f} ms, max {self.highest:.0f} ms"
        return f"{self.count} handshakes, {figures}, {percent(self.above_budget)} above {BUDGET_MS:.0f} ms"


def latency(times_ms: Iterable[float]) -> Latency:
    """The distribution of these times; nearest-rank percentiles. Raises `ValueError` for one that is no time."""
    times = sorted(times_ms)
    if not all(math.isfinite(time) and time >= 0 for time in times):
        raise ValueError("a handshake time is a finite number of milliseconds, 0 or more")
    if not times:
        return Latency()
    return Latency(
        count=len(times),
        p50=_rank(times, 50),
        p95=_rank(times, 95),
        p99=_rank(times, 99),
        highest=times[-1],
        above_budget=sum(time > BUDGET_MS for time in times) / len(times),
    )


def regression(a: Latency, b: Latency, *, margin: float = MARGIN, enough: int = ENOUGH) -> str | None:
    """In words, that B's handshakes are slower than A's: median or 95th percentile beyond the margin. Only a warning.

    None when they are not, and when either side has fewer than `enough` handshakes: few say nothing.
    """
    if min(a.count, b.count) < enough:
        return None
    slower = [
        f"{name} {ours:.0f} ms on B, {theirs:.0f} ms on A"
        for name, theirs, ours in (("p50", a.p50, b.p50), ("p95", a.p95, b.p95))
        if ours - theirs > max(theirs * margin, MARGIN_MS)
    ]
    if not slower:
        return None
    return f"full handshakes are slower on B ({b.count} handshakes) than on A ({a.count}): {'; '.join(slower)}"


def _rank(times: list[float], percentile: int) -> float:
    return times[max(math.ceil(len(times) * percentile / 100), 1) - 1]
