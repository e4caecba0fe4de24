"""Samples and readings in a few words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from domain.handshakes import Reading, Reporter, Sample, Tally
from domain.plan import Direction

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
A, B = "a" * 64, "b" * 64

UNUSABLE: list[dict[str, Any]] = [
    {"read_at": NOW - timedelta(minutes=5)},
    {"read_at": NOW + timedelta(minutes=5)},
    {"counters_since": NOW - timedelta(seconds=1)},
]
"""Stale, from the future, counters reset inside the window."""


def tally(successes: int, **failures: int) -> Tally:
    """So many successes, and failures by cause."""
    return Tally(attempts=successes + sum(failures.values()), successes=successes, failures=failures)


def sample(**changes: Any) -> Sample:
    """Ten good inbound handshakes on B, seen by the platform."""
    usual: dict[str, Any] = {
        "endpoint": "east",
        "reporter": Reporter.PLATFORM,
        "direction": Direction.INBOUND,
        "sha256": B,
        "handshakes": tally(10),
    }
    return Sample(**{**usual, **changes})


def reading(*samples: Sample, **changes: Any) -> Reading:
    """The platform's answer for the last minute, read now."""
    usual: dict[str, Any] = {
        "endpoint": "east",
        "reporter": Reporter.PLATFORM,
        "since": NOW - timedelta(minutes=1),
        "until": NOW,
        "read_at": NOW,
        "samples": samples,
    }
    return Reading(**{**usual, **changes})
