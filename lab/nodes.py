"""One node of a trunk: an edge, and the configuration that it has taken from the platform.

A node that went away comes back with the configuration it had when it left, like a real edge node, and takes the
platform's current one when it has resynchronised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.edge import Edge

if TYPE_CHECKING:
    from lab.trunk import Binding


class Node:
    """A node by its name; `binding` is what it serves from."""

    def __init__(self, name: str, edge: Edge) -> None:
        self.name = name
        self.edge = edge
        self.up = True
        self.stale = False
        self.binding: Binding | None = None
        self._listening = True

    @property
    def follows(self) -> bool:
        """A change of the trunk reaches it at once."""
        return self.up and not self.stale

    def take(self, settings: dict[str, Any], binding: Binding) -> None:
        """Serve from this binding. On a bad chain raises ssl.SSLError, changing nothing."""
        canary = (binding.canary[0], binding.canary[1].served) if binding.canary else None
        self.edge.serve(
            [certificate.served for certificate in binding.on_primary],
            secondary=binding.on_secondary.served if binding.on_secondary else None,
            canary=canary,
            ticket_lifetime_s=settings["tlsSessionTicketLifetimeSeconds"],
        )
        self.binding, self._listening = binding, settings["enabled"]

    async def go_away(self) -> None:
        """Its listener refuses and its connections die; the platform's changes do not reach it."""
        self.up, self.stale = False, True
        await self.edge.fail()

    async def come_back(self) -> None:
        """Serves again, from what it had; without ticket keys from before. Raises OSError when a port is taken."""
        if not self.up:
            self.edge.flush_tickets()
            await self.edge.start(listening=self._listening)
            self.up = True
