"""What one side counts: handshakes and call setups as time-stamped events, grouped when somebody asks.

The counting rules are those of the platform contract; whoever records an event applies them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple

Direction = Literal["INBOUND", "OUTBOUND"]
"""Seen from the platform: who opened the TLS connection."""

KEPT = timedelta(hours=1)
"""Older events are forgotten."""

USER_REJECTIONS = frozenset({486, 487, 603})
"""Final answers with which a user declines: the call setup itself worked."""


class Group(NamedTuple):
    """Counts are grouped by the leaf's SHA-256 (None: tied to none), direction and the peer's address."""

    sha256: str | None
    direction: Direction
    peer: str


@dataclass(slots=True)
class HandshakeCount:
    """Full handshakes; `failures` by cause."""

    attempts: int = 0
    successes: int = 0
    failures: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class CallSetupCount:
    """Initial INVITEs with a final answer (408: timed out); `failures` by SIP status."""

    attempts: int = 0
    successes: int = 0
    failures: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Counts:
    """One group's figures."""

    handshakes: HandshakeCount = field(default_factory=HandshakeCount)
    call_setups: CallSetupCount = field(default_factory=CallSetupCount)


@dataclass(frozen=True, slots=True)
class _Handshake:
    at: datetime
    group: Group
    cause: str | None


@dataclass(frozen=True, slots=True)
class _CallSetup:
    at: datetime
    group: Group
    status: int


class Ledger:
    """Counters of one trunk on one side. `clock` gives UTC.

    `skew` is how far the side's own clock, by which it stamps and answers, is ahead of the true one.
    """

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._clock = clock
        self._events: deque[_Handshake | _CallSetup] = deque()
        self._groups: dict[Group, Group] = {}
        self._frozen_at: datetime | None = None
        self._counters_since = clock()
        self.skew = timedelta(0)

    def handshake(
        self,
        direction: Direction,
        sha256: str | None,
        peer: str,
        cause: str | None = None,
    ) -> None:
        """A full handshake: good without a cause, otherwise failed by the contract's name of the cause."""
        self._add(_Handshake(self._now(), self._group(sha256, direction, peer), cause))

    def call_setup(self, direction: Direction, sha256: str | None, peer: str, status: int) -> None:
        """An initial INVITE that got this final status; 408 when it timed out."""
        self._add(_CallSetup(self._now(), self._group(sha256, direction, peer), status))

    def counts(self, since: datetime, until: datetime) -> Mapping[Group, Counts]:
        """Figures of the events with since <= time < until, by the side's clock; empty when there were none."""
        since, until = since - self.skew, until - self.skew
        if self._frozen_at is not None:
            until = min(until, self._frozen_at)
        groups: dict[Group, Counts] = {}
        for event in reversed(self._events):
            if event.at >= until:
                continue
            if event.at < since:
                break
            _count(groups.setdefault(event.group, Counts()), event)
        return groups

    def reset(self) -> None:
        """All counters start at zero, now."""
        self._events.clear()
        self._counters_since = self._clock()

    @property
    def counters_since(self) -> datetime:
        """When the counters last started at zero, by the side's clock."""
        return self._counters_since + self.skew

    @property
    def frozen(self) -> bool:
        """While true, `counts` knows nothing newer than its setting: a metric source that has gone stale."""
        return self._frozen_at is not None

    @frozen.setter
    def frozen(self, on: bool) -> None:
        if on != self.frozen:
            self._frozen_at = self._now() if on else None

    @property
    def read_at(self) -> datetime:
        """How fresh the figures are: now, or the moment they were frozen."""
        return (self._frozen_at or self._clock()) + self.skew

    def now(self) -> datetime:
        """What the side's clock shows."""
        return self._clock() + self.skew

    def _now(self) -> datetime:
        """The clock, never before the last event: a clock set back must not break the order."""
        now = self._clock()
        return max(now, self._events[-1].at) if self._events else now

    def _group(self, sha256: str | None, direction: Direction, peer: str) -> Group:
        """One object for all events of a group: an hour holds many events and few groups."""
        group = Group(sha256, direction, peer)
        return self._groups.setdefault(group, group)

    def _add(self, event: _Handshake | _CallSetup) -> None:
        self._events.append(event)
        oldest = event.at - KEPT
        while self._events[0].at < oldest:
            self._events.popleft()


def _count(counts: Counts, event: _Handshake | _CallSetup) -> None:
    if isinstance(event, _Handshake):
        handshakes = counts.handshakes
        handshakes.attempts += 1
        if event.cause is None:
            handshakes.successes += 1
        else:
            handshakes.failures[event.cause] = handshakes.failures.get(event.cause, 0) + 1
    else:
        call_setups = counts.call_setups
        call_setups.attempts += 1
        if event.status < 300 or event.status in USER_REJECTIONS:
            call_setups.successes += 1
        else:
            call_setups.failures[event.status] = call_setups.failures.get(event.status, 0) + 1
