"""What is measured of an endpoint: the platform's figures, a second source's beside them, and the carrier's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal

from adapters.registry import Adapters
from domain.agreement import contradictions
from domain.gates import Finding, freshness
from domain.handshakes import Reading
from domain.plan import Endpoint, Plan

Read = Callable[[Endpoint, datetime, datetime], Awaitable[Reading]]
"""Reads one source on one endpoint in one window."""

Gate = Literal["soak", "verify", "adopt"]


class Readings:
    """Keeps no state. Methods raise `domain.errors.RotatorError`s."""

    def __init__(self, adapters: Adapters, clock: Callable[[], datetime]) -> None:
        self._adapters = adapters
        self._clock = clock

    async def our_side(
        self,
        plan: Plan,
        endpoint: Endpoint,
        gate: Gate,
        since: datetime,
        until: datetime,
        *,
        sha256: str | None = None,
    ) -> tuple[Reading, list[Finding]]:
        """What the gate believes of our side, and in what the endpoint's second source contradicts it.

        Both cover what is left of the window since the counters of either began anew. `sha256`: the gate is about that
        leaf alone.
        """
        if endpoint.metrics is None:
            return await since_reset(self.platform, endpoint, since, until), []
        both = await asyncio.gather(
            *(since_reset(read, endpoint, since, until) for read in (self.platform, self.second))
        )
        begun = max(reading.since for reading in both)
        if any(reading.since != begun for reading in both):
            both = await asyncio.gather(*(read(endpoint, begun, until) for read in (self.platform, self.second)))
        believed, other = both if getattr(endpoint.authority, gate) == "platform" else reversed(both)
        now = self._clock()
        unusable = freshness(other, now=now, stale_after=plan.timings.stale_after)
        return believed, unusable or contradictions(
            endpoint, believed, other, thresholds=plan.thresholds, sha256=sha256
        )

    def believed(self, endpoint: Endpoint, gate: Gate) -> Read:
        """Where the gate's own figures of our side come from."""
        return self.platform if getattr(endpoint.authority, gate) == "platform" else self.second

    async def platform(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """What the endpoint's platform counted."""
        reading = await self._adapters.metrics(endpoint.platform).samples(endpoint, since, until)
        return reading.model_copy(update={"source": endpoint.platform})

    async def second(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """What the endpoint's second source counted; the plan names one."""
        assert endpoint.metrics is not None
        reading = await self._adapters.metric_source(endpoint.metrics).samples(endpoint, since, until)
        return reading.model_copy(update={"source": endpoint.metrics})

    async def carrier(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """What the carrier counted."""
        reading = await self._adapters.carrier(endpoint.carrier).reading(endpoint, since, until)
        return reading.model_copy(update={"source": endpoint.carrier})


async def since_reset(
    read: Read,
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
) -> Reading:
    """The window, or what is left of it since its counters began anew: that much the figures cover.

    An edge that restarts in the middle of a gate must not leave it undecided for ever.
    """
    reading = await read(endpoint, since, until)
    begun = reading.counters_since
    if begun is None or not since < begun < until:
        return reading
    return await read(endpoint, begun, until)
