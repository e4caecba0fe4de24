"""The form of every watcher: look once, and let Temporal repeat it (DESIGN.md, "Watching and acting").

A watcher raises its benign error only when the look was healthy and there is nothing new to say; everything else is
returned. A look has an inner deadline below its start-to-close, so that a look that hangs says BLIND and is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeVar

from pydantic import Field
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from domain.errors import RotatorError
from domain.handshakes import Record
from domain.texts import readable

TEXT_LIMIT = 2000
"""Characters of a look's words, which the Web UI and the desk show."""

LOOK_DEADLINE_S = 2.5
"""Seconds after which the look at an endpoint says BLIND."""

WHOLE_LOOK_S = 3.0
"""Seconds after which the look at all endpoints, which are looked at side by side, says BLIND; below its 4 s."""

T = TypeVar("T")


class Sight(StrEnum):
    """Whether a watcher sees."""

    SEEING = "SEEING"
    BLIND = "BLIND"


class Blind(Exception):
    """The look could not be made: why, in words."""


async def look_within(deadline_s: float, look: Callable[[], Awaitable[T]]) -> T:
    """The look's result. Raises `Blind` for a hang, an unreachable or refused source, or any unexpected failure."""
    try:
        async with asyncio.timeout(deadline_s):
            return await look()
    except TimeoutError:
        raise Blind(f"the look did not end within {deadline_s} s") from None
    except RotatorError as error:
        raise Blind(readable(str(error))) from None
    except Exception as error:
        raise Blind(readable(f"unexpected {type(error).__name__} in the look: {error}", 500)) from error


def nothing_new(text: str, interval: timedelta) -> ApplicationError:
    """The benign error that lets Temporal look again after `interval`; `text` is shown in the Web UI."""
    return ApplicationError(
        text[:TEXT_LIMIT], type="NothingNew", category=ApplicationErrorCategory.BENIGN, next_retry_delay=interval
    )


class Watched(Record):
    """What a watcher was last told, and how often it looks."""

    interval: timedelta
    last: Sight = Sight.SEEING
    calm_until: datetime | None = Field(
        default=None, description="before this moment better news is kept back: it changed its mind too often"
    )

    def calm(self, now: datetime) -> bool:
        """True while better news is kept back."""
        return self.calm_until is not None and now < self.calm_until
