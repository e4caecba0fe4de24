"""Every clock that a handshake depends on, measured at once: the worker's, the platform edges', the carriers'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from adapters.registry import Adapters
from domain.clocks import ClockLimits, Clocks, NtpTime, ToldClock, Whose
from domain.errors import RotatorError
from domain.plan import Endpoint
from domain.texts import readable

TOLD_WITHIN_S = 4.0
"""Seconds in which a platform or a carrier has to tell its time; an activity has 8 s."""

ASKED_BACK = timedelta(seconds=60)
"""Window of the carrier's figures with which it tells its time."""

T = TypeVar("T")


async def measure_clocks(
    adapters: Adapters, endpoints: Iterable[Endpoint] = (), clock: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> Clocks:
    """The drift of the worker, and of the platform and the carrier of each endpoint, against the servers of `[ntp]`.

    Takes about 4 s at most and never raises a `RotatorError`: what could not be measured says why. Ask the result for
    `findings()` (PREFLIGHT), `off()` (which clocks are off by more than `warn_above`, in words) or `text()` (one line).
    Without `[ntp]` the clocks are beside the worker's alone. `clock` is what the worker takes for now.
    """
    servers = adapters.time_servers()
    asked = [told for endpoint in endpoints for told in _asked(adapters, endpoint, clock)]
    ntp, told = await asyncio.gather(_ntp(adapters), asyncio.gather(*asked))
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


async def _ntp(adapters: Adapters) -> NtpTime | str | None:
    servers = adapters.time_servers()
    if servers is None:
        return None
    try:
        return await servers.time()
    except RotatorError as error:
        return str(error)


def _asked(
    adapters: Adapters, endpoint: Endpoint, clock: Callable[[], datetime]
) -> list[Coroutine[Any, Any, ToldClock]]:
    async def platform() -> datetime | None:
        return (await adapters.edge(endpoint.platform).health(endpoint.trunk)).clock

    async def carrier() -> datetime | None:
        now = clock()
        return (await adapters.carrier(endpoint.carrier).reading(endpoint, now - ASKED_BACK, now)).read_at

    return [
        _told(ToldClock(whose=Whose.PLATFORM, profile=endpoint.platform, endpoint=endpoint.name), platform, clock),
        _told(ToldClock(whose=Whose.CARRIER, profile=endpoint.carrier, endpoint=endpoint.name), carrier, clock),
    ]


async def _told(
    whose: ToldClock, ask: Callable[[], Awaitable[datetime | None]], clock: Callable[[], datetime]
) -> ToldClock:
    """The other side read its clock somewhere between our question and its answer: half of that is the uncertainty."""
    before = clock()
    try:
        async with asyncio.timeout(TOLD_WITHIN_S):
            told = await ask()
    except TimeoutError:
        return whose.model_copy(update={"problem": f"{whose.name} was not told within {TOLD_WITHIN_S:g} s"})
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
