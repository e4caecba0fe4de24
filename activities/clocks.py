"""Every clock that a handshake depends on, measured at once: the worker's, the platform edges', the carriers'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from adapters.probe.base import TimeServers
from adapters.registry import Adapters
from domain.clocks import ClockLimits, Clocks, NtpTime, ToldClock, Whose
from domain.errors import RotatorError
from domain.plan import Endpoint
from domain.texts import readable

WITHIN_S = 4.0
"""Seconds in which everybody has to tell the time; an activity has 8 s."""

ASKED_BACK = timedelta(seconds=60)
"""Window of the carrier's figures with which it tells its time."""

T = TypeVar("T")


async def measure_clocks(
    adapters: Adapters,
    endpoints: Iterable[Endpoint] = (),
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    within_s: float = WITHIN_S,
) -> Clocks:
    """The drift of the worker, and of the platform and the carrier of each endpoint, against the servers of `[ntp]`.

    Takes `within_s` seconds at most and never raises a `RotatorError`: what could not be measured says why. Ask the
    result for `findings()` (PREFLIGHT), `off()` (which clocks are off by more than `warn_above`, in words) or `text()`
    (all of them in one line). Without `[ntp]` the clocks are beside the worker's alone. `clock` is the worker's clock.
    """
    servers = adapters.time_servers()
    asked = [told for endpoint in endpoints for told in _asked(adapters, endpoint, clock, within_s)]
    ntp, told = await asyncio.gather(_ntp(servers, within_s), asyncio.gather(*asked))
    worker = ToldClock(whose=Whose.WORKER, beside_worker_s=0.0)
    return Clocks(
        told=(worker, *told),
        ntp=ntp if isinstance(ntp, NtpTime) else None,
        ntp_problem=ntp if isinstance(ntp, str) else None,
        limits=servers.limits if servers is not None else ClockLimits(),
    )


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Runs `work` while the body runs; it is cancelled when it is not done at the end of the body."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _ntp(servers: TimeServers | None, within_s: float) -> NtpTime | str | None:
    if servers is None:
        return None
    try:
        async with asyncio.timeout(within_s):
            return await servers.time()
    except TimeoutError:
        return f"the NTP servers did not tell the time within {within_s:g} s"
    except RotatorError as error:
        return str(error)


def _asked(
    adapters: Adapters, endpoint: Endpoint, clock: Callable[[], datetime], within_s: float
) -> list[Coroutine[Any, Any, ToldClock]]:
    async def platform() -> datetime | None:
        return (await adapters.edge(endpoint.platform).health(endpoint.trunk)).clock

    async def carrier() -> datetime | None:
        now = clock()
        return (await adapters.carrier(endpoint.carrier).reading(endpoint, now - ASKED_BACK, now)).read_at

    edge = ToldClock(whose=Whose.PLATFORM, profile=endpoint.platform, endpoint=endpoint.name)
    peer = ToldClock(whose=Whose.CARRIER, profile=endpoint.carrier, endpoint=endpoint.name)
    return [_told(edge, platform, clock, within_s), _told(peer, carrier, clock, within_s)]


async def _told(
    whose: ToldClock, ask: Callable[[], Awaitable[datetime | None]], clock: Callable[[], datetime], within_s: float
) -> ToldClock:
    """The other side read its clock somewhere between our question and its answer: half of that is the uncertainty."""
    before = clock()
    try:
        async with asyncio.timeout(within_s):
            told = await ask()
    except TimeoutError:
        return whose.model_copy(update={"problem": f"{whose.name} was not told within {within_s:g} s"})
    except RotatorError as error:
        return whose.model_copy(update={"problem": readable(str(error))})
    if told is None:
        return whose
    half = (clock() - before) / 2
    return whose.model_copy(
        update={
            "beside_worker_s": (told - (before + half)).total_seconds(),
            "uncertainty_s": abs(half.total_seconds()),
        }
    )
