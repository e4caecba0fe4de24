"""Genesys and CXone for the conformance kit: the lab's strict stand-ins over real HTTP, with real TLS listeners."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from adapters.edges.base import Canary, Edge
from adapters.probe.base import ProbeResult
from tests.adapters.platform_lab import PlatformLab, UnreliableTransport, cloud_adapter, platform_lab
from tests.adapters.trunk_leaves import trunk_leaf
from tests.conformance.dead_ends import closed_port, silent_port


class CloudEdge:
    """Implements `EdgeUnderTest` over a `PlatformLab`."""

    counts_within_s = 0.0

    def __init__(self, lab: PlatformLab) -> None:
        self._lab = lab
        self.edge: Edge = lab.edge
        self.endpoint = lab.endpoint

    async def probe(self, *, canary: bool = False) -> ProbeResult:
        return await self._lab.probe(canary=canary)

    async def count(self) -> None:
        """The platform counts by itself."""

    def changes(self) -> int:
        return len(self._lab.writes())

    def held(self) -> list[str]:
        return [one.sha256 for one in self._lab.platform.certificates]

    def edited_by_somebody(self) -> None:
        trunk = self._lab.trunk

        def rename() -> None:
            changed = {**trunk.settings, "name": "RENAMED", "version": trunk.settings["version"] + 1}
            trunk.replace(changed, trunk.binding)

        self._lab.transport.before["PUT"] = rename

    def edit_survived(self) -> bool:
        return bool(self._lab.trunk.settings["name"] == "RENAMED")

    def lose_an_answer(self) -> None:
        """Of whichever kind the next change is."""
        self._lab.transport.lose = ["PUT", "POST", "DELETE"]
        self._lab.transport.lose_one = True

    @asynccontextmanager
    async def unreachable(self) -> AsyncIterator[None]:
        with closed_port() as self._lab.transport.instead:
            yield
        self._lab.transport.instead = None

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        with silent_port() as self._lab.transport.instead:
            yield
        self._lab.transport.instead = None

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator[Edge]:
        os.environ["TEST_LAB_STRANGER"] = "wr0ng-s3cret"
        edge = cloud_adapter(self._lab.kind, self._lab.url, UnreliableTransport(), secret_in="TEST_LAB_STRANGER")
        yield edge
        await edge.close()

    async def restart(self) -> None:
        await self._lab.trunk.edge.set_listening(False)
        await asyncio.sleep(0)
        await self._lab.trunk.edge.set_listening(True)
        self._lab.trunk.ledger.reset()


@asynccontextmanager
async def cloud_edge(kind: Canary, folder: Path) -> AsyncIterator[CloudEdge]:
    """The platform whose canary is of that kind, its trunk presenting A."""
    async with platform_lab(kind, trunk_leaf("A"), folder) as lab:
        yield CloudEdge(lab)


genesys = partial(cloud_edge, Canary.SNI)
cxone = partial(cloud_edge, Canary.PORT)
