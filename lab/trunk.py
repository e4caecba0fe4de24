"""A platform's trunk: its pool of certificates, its settings as the API shows them, and its nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lab.calls import CallResult
from lab.certificate_check import Chain, validity_problem
from lab.dialogs import Side
from lab.edge import Edge
from lab.ledger import Direction, Ledger
from lab.nodes import Node
from lab.served_certificate import ServedCertificate


@dataclass(frozen=True)
class RegisteredCertificate:
    """A certificate that was uploaded under a name; `served` holds its key, which no API ever shows."""

    id: str
    name: str
    chain: Chain = field(repr=False)
    served: ServedCertificate = field(repr=False)
    created: datetime

    @property
    def sha256(self) -> str:
        """Hex SHA-256 over the DER of the leaf."""
        return self.served.sha256


@dataclass(frozen=True)
class Binding:
    """What a trunk's edge presents.

    `pool` is never empty and in order of preference. `on_primary` and `on_secondary` are what the listeners
    choose from; `canary` is served to handshakes that send this SNI on the primary port.
    """

    pool: tuple[RegisteredCertificate, ...]
    on_primary: tuple[RegisteredCertificate, ...]
    on_secondary: RegisteredCertificate | None = None
    canary: tuple[str, RegisteredCertificate] | None = None

    def served_on(self, moment: datetime) -> dict[str, RegisteredCertificate | None]:
        """Per port, the certificate that a handshake without canary name gets then; None if there is none."""
        first = next((c for c in self.on_primary if validity_problem(c.chain.leaf, moment) is None), None)
        return {"primary": first, "secondary": self.on_secondary or first}


class Trunk:
    """One trunk. `settings` is the object that the API reads and replaces; only `replace` and `edit` change it.

    Each of `edges` is a node; they share a ledger and their dialogs. What an operator or a rotation changes reaches
    every node that is up and synchronised.
    """

    def __init__(
        self, trunk_id: str, edge: Edge, settings: dict[str, Any], binding: Binding, *, more_nodes: Sequence[Edge] = ()
    ) -> None:
        """Binds at once: the edge serves from its start. `edge` is the first node."""
        self.id = trunk_id
        self.edge = edge
        self.nodes = tuple(Node(f"{edge.name}-{n}", one) for n, one in enumerate((edge, *more_nodes), 1))
        self.settings: dict[str, Any] = {}
        self.binding = binding
        self._edit_before_put: dict[str, Any] | None = None
        self._resyncs: dict[str, asyncio.TimerHandle] = {}
        self._placed = 0
        self._observers: list[Callable[[Trunk], None]] = []
        self.replace(settings, binding)

    @property
    def name(self) -> str:
        """The edge's name, by which the lab and the carrier call this trunk."""
        return self.edge.name

    @property
    def ledger(self) -> Ledger:
        """What the platform's side counted, on all nodes."""
        return self.edge.ledger

    @property
    def pool(self) -> tuple[RegisteredCertificate, ...]:
        """The bound certificates in order of preference."""
        return self.binding.pool

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The directions in which this trunk presents its certificate."""
        return ("INBOUND", "OUTBOUND") if self.edge.mutual else ("INBOUND",)

    def observe(self, observer: Callable[[Trunk], None]) -> None:
        """Call `observer` after every change, of a node too, before anything else can happen."""
        self._observers.append(observer)

    def replace(self, settings: dict[str, Any], binding: Binding) -> None:
        """Take over the settings and drive the nodes. On a bad chain raises ssl.SSLError, changing nothing."""
        for node in self.nodes:
            if node.follows:
                node.take(settings, binding)
        self.settings, self.binding = settings, binding
        self._changed()

    # What an operator does in the platform's own pages

    def edit(self, changes: dict[str, Any]) -> None:
        """Changes fields that no certificate hangs on; the version moves on."""
        self.replace({**self.settings, **changes, "version": self.settings["version"] + 1}, self.binding)

    def edit_before_put(self, changes: dict[str, Any]) -> None:
        """The same, between the next writer's read and its write."""
        self._edit_before_put = changes

    def write_begins(self) -> None:
        """Somebody's PUT has arrived: an edit that was to come before it happens now."""
        changes, self._edit_before_put = self._edit_before_put, None
        if changes is not None:
            self.edit(changes)

    # Nodes

    def node(self, name: str) -> Node:
        """The node of that name. Raises KeyError."""
        return {node.name: node for node in self.nodes}[name]

    async def node_goes_away(self, node: Node) -> None:
        """The node fails. Changes of the trunk pass it by until it has come back and resynchronised."""
        self._no_resync(node)
        await node.go_away()
        self._changed()

    async def node_comes_back(self, node: Node, resync_after_s: float | None) -> None:
        """With the pool that it left with; it takes the current one after so many seconds, or when told (None)."""
        await node.come_back()
        self._changed()
        if resync_after_s is not None:
            self._no_resync(node)
            loop = asyncio.get_running_loop()
            self._resyncs[node.name] = loop.call_later(resync_after_s, self.resync, node)

    def resync(self, node: Node) -> None:
        """The node takes the trunk's current configuration."""
        self._no_resync(node)
        if node.up:
            node.stale = False
            node.take(self.settings, self.binding)
            self._changed()

    def _no_resync(self, node: Node) -> None:
        timer = self._resyncs.pop(node.name, None)
        if timer is not None:
            timer.cancel()

    # All nodes together

    def up(self) -> bool:
        """Some node accepts connections on every port."""
        return any(node.edge.up() for node in self.nodes)

    async def set_listening(self, on: bool) -> None:
        """Opens or closes the ports of every node that is up."""
        for node in self.nodes:
            if node.up:
                await node.edge.set_listening(on)

    def flush_tickets(self) -> None:
        """New ticket keys on every node."""
        for node in self.nodes:
            node.edge.flush_tickets()

    def set_persistent(self, on: bool) -> None:
        """The calls that each node places go over one connection that never ages out."""
        for node in self.nodes:
            node.edge.set_persistent(on)

    async def close_connections(self, sha256: str) -> int:
        """Closes in an orderly way what was set up with this leaf, on every node; how many connections that were."""
        return sum(await asyncio.gather(*(node.edge.close_connections(sha256) for node in self.nodes)))

    async def place_call(
        self,
        target_host: str,
        target_port: int,
        *,
        server_name: str,
        hold_s: float,
        reinvite: bool,
        bye_from: Side,
        new_connection: bool,
    ) -> CallResult:
        """An outbound call, from the nodes in turn; see `Edge.place_call`."""
        up = [node.edge for node in self.nodes if node.up] or [self.edge]
        self._placed += 1
        return await up[self._placed % len(up)].place_call(
            target_host,
            target_port,
            server_name=server_name,
            hold_s=hold_s,
            reinvite=reinvite,
            bye_from=bye_from,
            new_connection=new_connection,
        )

    def live_calls(self) -> dict[str, int]:
        """Live dialogs by leaf, summed over the nodes that are up; see `Edge.active_calls`."""
        calls: dict[str, int] = {}
        for node in self.nodes:
            if node.up:
                for leaf, count in node.edge.active_calls().items():
                    calls[leaf] = calls.get(leaf, 0) + count
        return calls

    def active_calls(self, registered: Sequence[RegisteredCertificate]) -> dict[str, int]:
        """Live calls by certificate id: every bound certificate, and others that still carry a call."""
        by_leaf = self.live_calls()
        calls = {certificate.id: by_leaf.get(certificate.sha256, 0) for certificate in self.pool}
        bound = {certificate.sha256 for certificate in self.pool}
        for certificate in registered:
            if certificate.sha256 not in bound and by_leaf.get(certificate.sha256):
                calls[certificate.id] = by_leaf[certificate.sha256]
        return calls

    def _changed(self) -> None:
        for observer in self._observers:
            observer(self)
