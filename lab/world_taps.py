"""One tap before each HTTP service of the world."""

from __future__ import annotations

import contextlib
from dataclasses import replace

from lab.settings_text import Addresses
from lab.tap import Taps
from lab.tap_http import HttpTap


async def tapped(stack: contextlib.AsyncExitStack, taps: Taps, services: Addresses) -> Addresses:
    """What the worker is told instead of the services' own addresses; DNS has its tap inside the server."""

    async def tap(name: str, upstream: str) -> str:
        started = HttpTap(name, upstream, taps)
        stack.push_async_callback(started.stop)
        await started.start()
        return started.url

    return replace(
        services,
        vault=await tap("vault", services.vault),
        genesys=await tap("genesys", services.genesys),
        cxone=await tap("cxone", services.cxone),
        datadog=await tap("datadog", services.datadog),
        carrier=await tap("carrier", services.carrier),
        observer=await tap("observer", services.observer) if services.observer is not None else None,
    )
