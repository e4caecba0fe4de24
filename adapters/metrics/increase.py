"""What a cumulative counter counted in a window, from its samples: pure, and exact to the sample.

PromQL's `increase()` extrapolates to the window's ends (11 of 10 calls), and takes a counter that appears for one that
was there all along. Here every difference between two neighbouring samples counts once, in the window in which the
later one was taken, so that neighbouring windows add up.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from pydantic import Field

from domain.handshakes import Record

Points = Sequence[tuple[float, float]]
"""Samples as (seconds since 1970, value), in order."""

START_TOLERANCE_S = 1.5
"""Seconds by which a start time may flutter, computed as it often is from a clock and an uptime in whole seconds."""


class Increase(Record):
    """How far one counter rose in a window (since, until].

    `first_at` is from when on the rise is known: not later than `since` when it covers the whole window, later when
    nobody looked before. `resets` says how often the counter began anew within; what a process counted between its last
    sample and its end is in no figure.
    """

    labels: Mapping[str, str]
    increase: float
    first_at: datetime
    last_at: datetime
    resets: int = Field(default=0, ge=0)


class Starts:
    """When the process behind a target began to count, as it was told at each sample."""

    def __init__(self, points: Points = ()) -> None:
        self._times = [at for at, _ in points]
        self._values = [value for _, value in points]

    def known_at(self, moment: float) -> float | None:
        """The start of the process that was there at a moment, None when nobody had looked by then."""
        position = bisect_right(self._times, moment)
        return self._values[position - 1] if position else None

    def seen_by(self, moment: float) -> float | None:
        """When the target was last looked at by a moment."""
        position = bisect_right(self._times, moment)
        return self._times[position - 1] if position else None

    def changed(self, earlier: float, later: float) -> bool:
        """Whether another process was there at the later moment."""
        before, after = self.known_at(earlier), self.known_at(later)
        return before is not None and after is not None and after - before > START_TOLERANCE_S

    def changed_by(self, moment: float, earlier: float, later: float) -> bool:
        """Whether another process was there at `later` than at `earlier`, and had started by a moment between them.

        A window that begins with a process is covered by it, however late the process was looked at first.
        """
        started = self.known_at(later)
        return started is not None and started <= moment and self.changed(earlier, later)


def increase_of(labels: Mapping[str, str], points: Points, starts: Starts, since: float) -> Increase:
    """The rise after `since` (seconds since 1970) over at least one sample, those before `since` being where it began.

    A counter without one began at 0 if its target was looked at by then (it makes a counter for a peer when the first
    call comes), or if its process started later; otherwise at whatever its first sample shows.
    """
    inside = [point for point in points if point[0] > since]
    if len(inside) < len(points):
        first = previous = points[len(points) - len(inside) - 1]
    else:
        first = previous = _beginning(inside[0], starts, since)
    total, resets = 0.0, 0
    for point in inside:
        anew = point[1] < previous[1] or starts.changed(previous[0], point[0])
        total += point[1] if anew else point[1] - previous[1]
        resets += anew and not starts.changed_by(since, previous[0], point[0])
        previous = point
    return Increase(
        labels=labels, increase=total, first_at=moment_of(first[0]), last_at=moment_of(previous[0]), resets=resets
    )


def _beginning(earliest: tuple[float, float], starts: Starts, since: float) -> tuple[float, float]:
    """Where a counter began of which there is no sample by `since`."""
    looked_at = starts.seen_by(since)
    if looked_at is not None:
        return looked_at, 0.0
    started = starts.known_at(earliest[0])
    if started is not None and since < started <= earliest[0]:
        return started, 0.0
    return earliest


def counted_since(
    increases: Iterable[Increase], started: Iterable[float], since: datetime, until: datetime
) -> datetime | None:
    """The latest moment inside the window (since, until] at which counting began; None when none did.

    `started` is when the processes that count began, in seconds since 1970.
    """
    began = [moment_of(start) for start in started]
    began += [one.first_at for one in increases]
    began += [one.last_at for one in increases if one.resets and not any(since < at <= until for at in began)]
    inside = [at for at in began if since < at <= until]
    return max(inside, default=None)


def moment_of(seconds: float) -> datetime:
    """Seconds since 1970 as a moment in UTC."""
    return datetime.fromtimestamp(seconds, UTC)
