"""SIPp as a trunk's load for minutes: calls with a connection each, and calls that share one that is renewed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from bench.figures import CallFigures, together
from tests.sip.sipp import PLAIN, REINVITE, Callers, Totals
from tests.sip.trunk_path import TrunkPath

OWN_CONNECTION, ONE_CONNECTION = "a connection for each call", "one connection for many calls, renewed"
RENEWED_AFTER_S = 8.0
"""The shared connection takes calls for so long, and is left for another one: some carriers renew theirs like this."""
_SHARED = 0.4
_PAUSE_MS = 1000
_KINDS = (PLAIN, REINVITE)
"""Kinds that this SIPp survives when the edge is restarted below it; with those that reconnect it crashes."""
_LAST_CALLS_S = 20.0
_CONNECTION_S = RENEWED_AFTER_S + 50.0
_LOOK_AGAIN_S = 0.5


class CallSource(Protocol):
    """Who calls. `kind` is how, for people."""

    kind: str

    async def start(self) -> None:
        """Begins to call."""
        ...

    def placed(self) -> int:
        """Calls so far, as SIPp wrote it last."""
        ...

    async def finish(self) -> CallFigures:
        """No new calls; returns when the last has ended, or should have."""
        ...

    async def stop(self) -> None:
        """Ends everything, whatever state it is in."""
        ...


def sources(path: TrunkPath, rate: float) -> tuple[CallSource, ...]:
    """Both kinds of callers on a path, together at `rate` calls per second."""

    shared_rate = rate * _SHARED
    calls = max(1, round(shared_rate * RENEWED_AFTER_S))

    def shared(name: str) -> Callers:
        return path.callers(name, rate=shared_rate, kinds=_KINDS, pause_ms=_PAUSE_MS, persistent=True, calls=calls)

    own = path.callers("own", rate=rate - shared_rate, kinds=_KINDS, pause_ms=_PAUSE_MS)
    return OwnConnections(own), SharedConnections(shared, calls)


class OwnConnections:
    """One SIPp that opens a connection for each call."""

    kind = OWN_CONNECTION

    def __init__(self, callers: Callers) -> None:
        self._callers = callers

    async def start(self) -> None:
        """See `CallSource`."""
        await self._callers.start()

    def placed(self) -> int:
        """See `CallSource`."""
        return self._callers.totals().created

    async def finish(self) -> CallFigures:
        """See `CallSource`."""
        return await _finished(self._callers)

    async def stop(self) -> None:
        """See `CallSource`."""
        await self._callers.stop()


class SharedConnections:
    """One SIPp after the other, each with one connection; the next begins when one has placed its calls.

    SIPp cannot go on when its only connection is closed below it in order, as real SIP stacks can: it notices with its
    next request, which is lost. So nobody closes these connections, but each lives for some ten seconds only; and one
    on which a call failed gets no more calls as soon as SIPp has written that down, within a second.
    """

    kind = ONE_CONNECTION

    def __init__(self, make: Callable[[str], Callers], calls: int) -> None:
        """`make` gives callers of a name that make so many `calls`, all on one connection."""
        self._make, self._calls = make, calls
        self._all: list[Callers] = []
        self._endings: list[asyncio.Task[CallFigures]] = []
        self._broken: list[asyncio.Task[CallFigures]] = []
        self._renewing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """See `CallSource`."""
        self._renewing = asyncio.create_task(self._renew())

    def placed(self) -> int:
        """See `CallSource`."""
        return sum(callers.totals().created for callers in self._all)

    async def finish(self) -> CallFigures:
        """See `CallSource`."""
        await self._no_more()
        if self._all:
            await _finished(self._all[-1])
        await asyncio.gather(*self._broken)
        return together(await asyncio.gather(*self._endings))

    async def stop(self) -> None:
        """See `CallSource`."""
        await self._no_more()
        for ending in (*self._endings, *self._broken):
            ending.cancel()
        for callers in self._all:
            await callers.stop()

    async def _renew(self) -> None:
        while True:
            callers = self._make(f"one-{len(self._all) + 1}")
            self._all.append(callers)
            await callers.start()
            ending = asyncio.create_task(_ended(callers))
            self._endings.append(ending)
            while not ending.done() and (now := callers.totals()).created < self._calls:
                if now.failed:
                    self._broken.append(asyncio.create_task(_finished(callers)))
                    break
                await asyncio.sleep(_LOOK_AGAIN_S)

    async def _no_more(self) -> None:
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)


async def _finished(callers: Callers) -> CallFigures:
    """No new calls, and the end of those that there are; by force when they do not end."""
    try:
        async with asyncio.timeout(_LAST_CALLS_S):
            totals = await callers.finish()
    except TimeoutError:
        await callers.stop()
        totals = callers.totals()
    return _figures(totals)


async def _ended(callers: Callers) -> CallFigures:
    """The end of callers with a number of calls; by force when it does not come."""
    try:
        totals = await callers.ends(_CONNECTION_S)
    except TimeoutError:
        await callers.stop()
        totals = callers.totals()
    return _figures(totals)


def _figures(totals: Totals) -> CallFigures:
    return CallFigures(totals.created, totals.successful, totals.retransmissions, totals.exit_code, totals.causes)
