"""The role `Observer`: a platform beside the edge that sees the trunk from its other side. It is only ever read."""

from __future__ import annotations

from typing import Protocol

from domain.observed import ObservedTrunk


class Observer(Protocol):
    """One observer profile. Methods raise `domain.errors.RotatorError`s only, and change nothing over there."""

    profile: str

    async def check_access(self, trunk: str) -> tuple[str, ...]:
        """Logs in and reads the trunk; returns what is missing, in words (empty when all is there)."""
        ...

    async def trunk(self, trunk: str) -> ObservedTrunk:
        """Whether the trunk is connected, what became of its OPTIONS pings, and how many calls are on it."""
        ...

    async def trusted_roots(self, trunk: str) -> frozenset[str] | None:
        """SHA-256 of every certificate in the trust store by which the trunk's other side checks ours.

        None when this kind of trunk is checked against a store that cannot be read.
        """
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...
