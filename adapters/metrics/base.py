"""The role `MetricSource`: answers `samples(since, until)` for one endpoint and keeps no state."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from domain.handshakes import Reading
from domain.plan import Endpoint


class MetricSource(Protocol):
    """A source of handshakes and call setups. Methods raise `domain.errors.RotatorError`s only."""

    async def samples(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """Counts in [since, until)."""
        ...
