"""A platform's trunk: its pool of certificates, its settings as the API shows them, and its edge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lab.certificate_check import Chain, validity_problem
from lab.edge import Edge
from lab.ledger import Direction, Ledger
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
    """One trunk. `settings` is the object that the API reads and replaces; only `replace` changes it."""

    def __init__(self, trunk_id: str, edge: Edge, settings: dict[str, Any], binding: Binding) -> None:
        """Binds at once: the edge serves from its start."""
        self.id = trunk_id
        self.edge = edge
        self.settings: dict[str, Any] = {}
        self.binding = binding
        self._observers: list[Callable[[Trunk], None]] = []
        self.replace(settings, binding)

    @property
    def name(self) -> str:
        """The edge's name, by which the lab and the carrier call this trunk."""
        return self.edge.name

    @property
    def ledger(self) -> Ledger:
        """What the platform's side counted."""
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
        """Call `observer` after every change, before anything else can happen."""
        self._observers.append(observer)

    def replace(self, settings: dict[str, Any], binding: Binding) -> None:
        """Take over the settings and drive the edge. On a bad chain raises ssl.SSLError, changing nothing."""
        canary = (binding.canary[0], binding.canary[1].served) if binding.canary else None
        self.edge.serve(
            [certificate.served for certificate in binding.on_primary],
            secondary=binding.on_secondary.served if binding.on_secondary else None,
            canary=canary,
            ticket_lifetime_s=settings["tlsSessionTicketLifetimeSeconds"],
        )
        self.settings, self.binding = settings, binding
        for observer in self._observers:
            observer(self)

    def active_calls(self, registered: Sequence[RegisteredCertificate]) -> dict[str, int]:
        """Live calls by certificate id: every bound certificate, and others that still carry a call."""
        by_leaf = self.edge.active_calls()
        calls = {certificate.id: by_leaf.get(certificate.sha256, 0) for certificate in self.pool}
        bound = {certificate.sha256 for certificate in self.pool}
        for certificate in registered:
            if certificate.sha256 not in bound and by_leaf.get(certificate.sha256):
                calls[certificate.id] = by_leaf[certificate.sha256]
        return calls
