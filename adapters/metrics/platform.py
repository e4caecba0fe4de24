"""The platform's own metrics as a source: what the edge counted on its listener and its client side."""

from __future__ import annotations

from datetime import datetime

from adapters.edges.base import Edge
from domain.handshakes import Reading
from domain.plan import Endpoint


class PlatformMetrics:
    """Reads the figures of the endpoint's own platform."""

    def __init__(self, edge: Edge) -> None:
        self._edge = edge

    async def samples(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """Counts in [since, until), from the platform's health API (guide section 4)."""
        return await self._edge.reading(endpoint, since, until)
