"""What the conformance kit needs of an edge: the adapter, and hands on the server behind it.

A new edge implements this once (docs/adding-an-edge.md); the tests are the same for every edge.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from adapters.edges.base import Edge, TrunkState
from adapters.probe.base import ProbeResult
from domain.plan import Endpoint


class EdgeUnderTest(Protocol):
    """One trunk that presents A (`tests.adapters.trunk_leaves`) alone on a server that really serves TLS."""

    edge: Edge
    endpoint: Endpoint
    """Names the trunk as a plan does; our own prober's address is one of its probe addresses, or none is counted."""
    counts_within_s: float
    """After how many seconds a handshake stands in the figures at the latest."""

    async def probe(self, *, canary: bool = False) -> ProbeResult:
        """A fresh handshake and OPTIONS, on the trunk's usual way or on the canary path."""
        ...

    async def count(self) -> None:
        """Whoever collects the edge's figures is up when this returns; without it they need not be there."""
        ...

    def changes(self) -> int:
        """How many changes of certificates or of the trunk the server has carried out."""
        ...

    def held(self) -> list[str]:
        """Leaf SHA-256 of every certificate that the server keeps, placeholders apart."""
        ...

    def edited_by_somebody(self) -> None:
        """Right before the next change of the trunk is written, somebody else changes the same trunk."""
        ...

    def edit_survived(self) -> bool:
        """What somebody else changed is still there."""
        ...

    def lose_an_answer(self) -> None:
        """The next change is carried out, and its answer is lost."""
        ...

    def unreachable(self) -> AbstractAsyncContextManager[None]:
        """Nothing answers on the server's management side."""
        ...

    def slow(self) -> AbstractAsyncContextManager[None]:
        """The management side answers later than the adapter's timeout."""
        ...

    def stranger(self) -> AbstractAsyncContextManager[Edge]:
        """The adapter with credentials that the server does not know; a secret among them contains `wr0ng`."""
        ...

    async def restart(self) -> None:
        """The edge's own process ends and starts again from what it has written down; its counters begin at zero."""
        ...


async def state(lab: EdgeUnderTest) -> TrunkState:
    """The trunk as the adapter reads it."""
    return await lab.edge.read_trunk(lab.endpoint.trunk)
