"""What is made of single handshakes and SIPp's totals: the figures of a row. Nothing here does I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.handshakes import Handshake

DRAINED = ("APPROVE_REMOVE", "REMOVE")
"""The phases that a rotation enters once DRAIN has passed."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Handshakes that succeeded on one certificate; milliseconds, None when there was none."""

    handshakes: int
    p50_ms: float | None
    p99_ms: float | None


@dataclass(frozen=True, slots=True)
class Gap:
    """A time without a successful handshake: when the last one before it ended (Unix time), and how long it was."""

    since: float
    ms: float


@dataclass(frozen=True, slots=True)
class HandshakeFigures:
    """All handshakes of a row, and the longest time without a successful one."""

    made: int
    failed: int
    causes: Mapping[str, int]
    longest_gap: Gap
    a: Latency
    b: Latency
    other: int


@dataclass(frozen=True, slots=True)
class CallFigures:
    """Calls of one kind of caller, as it counted itself."""

    placed: int
    successful: int
    retransmissions: int
    exit_code: int | None
    causes: tuple[str, ...] = ()

    @property
    def lost(self) -> int:
        """Every call that did not succeed, whatever it was counted as."""
        return self.placed - self.successful


def together(each: Sequence[CallFigures]) -> CallFigures:
    """The sum. Its exit code is the first that is not 0 (None stands for a SIPp that had to be killed)."""
    return CallFigures(
        placed=sum(one.placed for one in each),
        successful=sum(one.successful for one in each),
        retransmissions=sum(one.retransmissions for one in each),
        exit_code=next((one.exit_code for one in each if one.exit_code != 0), 0),
        causes=tuple(cause for one in each for cause in one.causes),
    )


@dataclass(frozen=True, slots=True)
class Second:
    """What one second of a row was like: `at` counts from the start of the traffic."""

    at: int
    made: int
    failed: int
    p50_ms: float | None
    p99_ms: float | None


def percentile(values: Sequence[float], percent: float) -> float | None:
    """By nearest rank: a value that occurred. None of nothing. Raises ValueError outside (0, 100]."""
    if not 0 < percent <= 100:
        raise ValueError(f"{percent} is no percentage above 0")
    if not values:
        return None
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


def longest_gap(successes: Sequence[float], begin: float, end: float) -> Gap:
    """The longest time without a success between begin and end; all in seconds, successes in any order."""
    inside = sorted(at for at in successes if begin <= at <= end)
    earlier, later = max(pairwise([begin, *inside, end]), key=lambda pair: pair[1] - pair[0])
    return Gap(earlier, (later - earlier) * 1000)


def handshake_figures(seen: Sequence[Handshake], a: str, b: str | None) -> HandshakeFigures:
    """The figures of a row in which A was replaced by B (None when it never came to that).

    Raises ValueError when there was no handshake at all: that is no measurement.
    """
    if not seen:
        raise ValueError("no handshake was made")
    good = [one for one in seen if one.cause is None]
    times = [one.at for one in seen]
    return HandshakeFigures(
        made=len(seen),
        failed=len(seen) - len(good),
        causes=dict(Counter(one.cause for one in seen if one.cause is not None).most_common()),
        longest_gap=longest_gap([one.at for one in good], min(times), max(times)),
        a=_latency(good, a),
        b=_latency(good, b),
        other=sum(one.leaf not in (a, b) for one in good),
    )


def seconds(seen: Sequence[Handshake], begin: float) -> list[Second]:
    """Second by second from `begin` (Unix time) on; seconds without any attempt are left out."""
    by_second: dict[int, list[Handshake]] = {}
    for one in seen:
        by_second.setdefault(math.floor(one.at - begin), []).append(one)
    return [_second(at, ones) for at, ones in sorted(by_second.items())]


def drain_seconds(phases: Mapping[str, float]) -> float | None:
    """From the entry into PREFER until DRAIN has passed; phases are entry times in seconds. None if it did not."""
    drained = [phases[phase] for phase in DRAINED if phase in phases]
    if "PREFER" not in phases or not drained:
        return None
    return min(drained) - phases["PREFER"]


def _latency(good: Sequence[Handshake], leaf: str | None) -> Latency:
    times = [one.ms for one in good if one.leaf == leaf]
    return Latency(len(times), percentile(times, 50), percentile(times, 99))


def _second(at: int, ones: Sequence[Handshake]) -> Second:
    times = [one.ms for one in ones if one.cause is None]
    return Second(at, len(ones), len(ones) - len(times), percentile(times, 50), percentile(times, 99))
