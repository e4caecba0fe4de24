"""The Genesys observer against the lab's organisation over real HTTP, and the organisation from inside."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from adapters.observers.genesys import GenesysObserver
from lab.api_guard import RequestLog
from lab.authorities import Authorities
from lab.byoc_trunk import ByocTrunk
from lab.genesys_public_api import GenesysPublicApi
from lab.genesys_public_wire import PERMISSION
from lab.http_service import HttpService
from lab.tokens import ApiClient, Tokens
from settings import GenesysObserverProfile
from tests.adapters.platform_lab import ArmedFaults

TRUNK = "0c1a7d2e-5d1f-4a6b-9d58-3f6c2b7f9a10"
PROXIES = ("198.51.100.10:5061", "198.51.100.11:5061")
SECRET = "s3cret"


@dataclass
class ObserverLab:
    """The adapter, and the inside of the organisation that it speaks to."""

    observer: GenesysObserver
    trunk: ByocTrunk
    authorities: Authorities
    tokens: Tokens
    log: RequestLog
    faults: ArmedFaults

    def asked(self) -> list[str]:
        """Method, last part of the path and status of every request so far."""
        return [f"{one.method} {one.path.rpartition('/')[2]} {one.status}" for one in self.log.entries]


def observer_of(url: str, *, transport: httpx.AsyncBaseTransport | None = None, **changes: Any) -> GenesysObserver:
    """The adapter, told to speak to `url`; its secret is in TEST_OBSERVER_SECRET."""
    profile = GenesysObserverProfile.model_validate(
        {
            "kind": "genesys",
            "lab": True,
            "base_url": url,
            "login_url": url,
            "client_id": "observer",
            "client_secret": {"env": "TEST_OBSERVER_SECRET"},
            "timeout": "20s",
            **changes,
        }
    )
    return GenesysObserver("byoc", profile, transport=transport)


@asynccontextmanager
async def observer_lab(
    *, page_size: int = 25, permissions: tuple[str, ...] = (PERMISSION,), secret: str = SECRET, **trunk: Any
) -> AsyncIterator[ObserverLab]:
    """The organisation with one trunk of BYOC Premises, connected, both of its pings answered."""
    byoc, authorities = ByocTrunk(TRUNK, "SBC Frankfurt", PROXIES, **trunk), Authorities()
    tokens = Tokens([ApiClient("observer", secret, permissions)], 86400)
    log, faults = RequestLog(), ArmedFaults()
    api = GenesysPublicApi([byoc], authorities, tokens, log, faults, page_size=page_size)
    service = HttpService(api.application)
    await service.start()
    observer = observer_of(service.url)
    try:
        yield ObserverLab(observer, byoc, authorities, tokens, log, faults)
    finally:
        await observer.close()
        await service.stop()
