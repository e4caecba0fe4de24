"""No write after its time: what an activity that has outlived its start-to-close would still send is refused.

A worker may be frozen, or cut off, in the middle of an activity. The server gives the activity up and others act – a
rollback, say. When the first worker wakes, it must not go on where it stood: its request would undo what they did
(FACTS.md; DESIGN.md, promise 1). Every adapter asks here right before it sends something that changes the world.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from domain.errors import TooLate

_deadline: ContextVar[float | None] = ContextVar("acting_until", default=None)


@contextlib.contextmanager
def acting_within(seconds: float | None, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """Everything inside may write for that many seconds from now; None sets no limit.

    The monotonic clock goes on while a process is stopped (SIGSTOP), and no correction of the time of day moves it.
    """
    token = _deadline.set(None if seconds is None else clock() + seconds)
    try:
        yield
    finally:
        _deadline.reset(token)


def ensure_in_time(where: str, clock: Callable[[], float] = time.monotonic) -> None:
    """Raises `TooLate` when the time to write is over; outside of an activity it never is."""
    deadline = _deadline.get()
    if deadline is not None and clock() > deadline:
        raise TooLate(
            "the request is not sent any more",
            where=where,
            seen=f"the activity's time was over {clock() - deadline:.1f} s ago: others act now",
        )
