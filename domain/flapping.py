"""A watcher that changes its mind again and again, and when it is believed again.

Bad news is always told at once. Good news after too many changes has to wait, so that a source which comes and goes
keeps the rotation frozen instead of filling inbox and history: what cannot be relied on is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

WITHIN: Final = timedelta(hours=1)
"""The changes of this time are counted."""

CALM: Final = timedelta(minutes=10)
"""How long better news waits after one change too many."""

TIMES_BLIND: Final = 3
"""So often within the hour may a watcher go blind and be believed at once when it sees again."""

CHANGES: Final = 6
"""So often within the hour may it change between any two verdicts."""


def calm_until(changes: Sequence[datetime], allowed: int) -> datetime | None:
    """The moment before which better news is not told; None while the last hour had no more than `allowed` changes.

    `changes` are the moments of all changes of one kind, oldest first; older ones than an hour do not count.
    """
    if not changes:
        return None
    latest = changes[-1]
    recent = [moment for moment in changes if latest - moment <= WITHIN]
    return latest + CALM if len(recent) > allowed else None
