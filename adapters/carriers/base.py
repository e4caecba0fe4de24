"""The role `Carrier`: the other side's own figures about the trunk."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from domain.handshakes import Reading
from domain.plan import Endpoint


class Carrier(Protocol):
    """One carrier profile. Methods raise `domain.errors.RotatorError`s only."""

    profile: str

    async def check_access(self, endpoint: Endpoint) -> tuple[str, ...]:
        """Asks for the trunk's health; returns what is missing, in words."""
        ...

    async def reading(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """The carrier's own counts in [since, until), per certificate that it was shown and direction."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...
