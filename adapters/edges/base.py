"""The role `Edge`: a platform on which trunks present certificates from a pool.

Every side effect looks first, acts on the difference and reads back, so that it may be repeated after a lost response
without leaving a duplicate (DESIGN.md, promise 6). Nothing here retries: Temporal does.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from pydantic import Field, SecretStr

from domain.handshakes import Reading, Record
from domain.plan import Endpoint


class Canary(StrEnum):
    """How a prober can be served B before it is preferred."""

    SNI = "sni"
    PORT = "port"
    NONE = "none"


class Capabilities(Record):
    """What a platform can do. A plan that needs what is missing is refused at PREFLIGHT."""

    pool: bool
    prefer: bool
    canary: Canary
    weights: bool = False
    drain: bool = False
    per_certificate_handshakes: bool = False
    active_calls: bool = False
    ticket_flush: bool = False
    close_connections: bool = False
    stapling: bool = False
    trust_store: bool = False
    call_setups: bool = Field(default=True, description="counts call setups per certificate")
    trunk_settings: bool = Field(
        default=True,
        description="retransmission timer and cipher suites are settings of the trunk that the API changes",
    )


class PlatformCertificate(Record):
    """A certificate as the platform keeps it. `sha256` is that of the leaf."""

    id: str
    name: str
    sha256: str
    valid: bool
    reason: str | None = None


class TrunkSettings(Record):
    """The settings of a trunk that a rotation changes for its window, as found or as wanted."""

    retransmission_timeout_s: int | None
    cipher_suites: tuple[str, ...]


class CanaryPath(Record):
    """Where a handshake is served B before B is preferred: another SNI, another port, or the same with neither."""

    server_name: str | None = None
    port: int | None = None


class TrunkState(Record):
    """A trunk as read. `pool` holds leaf SHA-256 fingerprints, preferred first.

    `shares` are the percentages of new connections that each of the pool gets, in its order; None where the edge has no
    weights. `unread` names nodes that could not be reached when that was accepted (`TrunkChange.reachable_only`).
    """

    trunk: str
    name: str
    enabled: bool
    pool: tuple[str, ...]
    canary: str | None = Field(default=None, description="leaf SHA-256 that the canary path serves, None when unset")
    canary_path: CanaryPath | None = None
    settings: TrunkSettings
    mutual_tls: bool
    version: int
    shares: tuple[int, ...] | None = None
    unread: tuple[str, ...] = ()

    @property
    def presented(self) -> tuple[str, ...]:
        """The leaves that a new connection may be served: with weights every one that has a share, else the first."""
        if self.shares is None:
            return self.pool[:1]
        return tuple(sha256 for sha256, share in zip(self.pool, self.shares, strict=True) if share)


class TrunkChange(Record):
    """What a trunk should become; None leaves a part as it is.

    `canary` is a leaf SHA-256, or "" to take the canary path away. With `always` the trunk is written even when it is
    as wanted: its version moves on, and a write that is still in flight on the old one is refused when it lands.

    `shares` go with `pool`, in percent; without them a weighted edge gives everything to the first. With
    `reachable_only` nodes that cannot be reached are named in `TrunkState.unread`; they serve nobody now.
    """

    pool: tuple[str, ...] | None = None
    canary: str | None = None
    settings: TrunkSettings | None = None
    always: bool = False
    shares: tuple[int, ...] | None = None
    reachable_only: bool = False


class CertificateHealth(Record):
    """The platform's own validation of one certificate on one trunk (guide: `tlsCertificateValidation`)."""

    sha256: str
    valid: bool
    reason: str | None = None


class EdgeHealth(Record):
    """The platform's health answer for one trunk.

    `counting_since` is the latest start of a process whose live calls were counted, old processes after a reload
    included; None where the platform has no such thing.
    """

    listener_up: bool
    certificates: tuple[CertificateHealth, ...]
    active_calls: Mapping[str, int] = Field(description="leaf SHA-256 → live calls set up with that certificate")
    clock: datetime | None = None
    read_at: datetime
    counting_since: datetime | None = None


class Edge(Protocol):
    """One platform profile. Methods raise `domain.errors.RotatorError`s only."""

    profile: str
    capabilities: Capabilities

    def physical_trunk(self, trunk: str) -> str:
        """The trunk's identity apart from the profile's name: host of the API and the platform's ids."""
        ...

    async def check_access(self) -> tuple[str, ...]:
        """Logs in; returns the scopes that are missing (empty when all are there)."""
        ...

    async def configuration_problems(self, trunk: str) -> tuple[str, ...]:
        """What the edge's own configuration lacks or does in an unsafe way, and what to do; empty when it is fit."""
        ...

    async def read_trunk(self, trunk: str, *, reachable_only: bool = False) -> TrunkState:
        """The trunk as it is.

        Where its nodes differ – a write reached some of them – `pool` holds what any node holds, so that nothing is
        taken for gone, and `update_trunk` makes them equal. Raises `Unreachable` when a node cannot be read; with
        `reachable_only` it is named in `unread`, and only all of them raise.
        """
        ...

    async def trunks_presenting(self, sha256: str) -> tuple[str, ...]:
        """Ids, in the plan's notation, of all trunks that this profile can see whose pool holds the certificate."""
        ...

    async def find_certificate(self, sha256: str) -> PlatformCertificate | None:
        """The uploaded certificate with that leaf, if there is one."""
        ...

    async def certificates(self) -> tuple[PlatformCertificate, ...]:
        """Every uploaded certificate whose leaf the platform shows."""
        ...

    async def upload(self, name: str, chain_pem: str, private_key: SecretStr) -> PlatformCertificate:
        """Registers leaf, intermediates and key under `name`; found already there, nothing is sent."""
        ...

    async def update_trunk(self, trunk: str, change: TrunkChange) -> TrunkState:
        """Brings the trunk to `change` in at most one write and returns it as read back.

        Raises `ConcurrentEdit` when somebody else wrote in between, `NotAsWritten` when the read-back differs,
        `RequestRefused` when a certificate is not uploaded. Fields of the trunk that are not named stay as they are.
        """
        ...

    async def health(self, trunk: str) -> EdgeHealth:
        """The platform's own view of the trunk's listener and certificates."""
        ...

    async def reading(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """Handshakes and call setups of the trunk in [since, until), per certificate, direction and peer.

        Samples whose peer is one of `endpoint.probe_addresses` are synthetic. A platform id that is not in the
        platform's store any more gives a sample without `sha256`.
        """
        ...

    async def flush_tickets(self, trunk: str) -> None:
        """Makes every TLS session ticket of the trunk worthless (guide edge case 2)."""
        ...

    async def close_connections(self, trunk: str, sha256: str) -> int:
        """Closes in an orderly way every TLS connection of the trunk, on all nodes, that was set up with this leaf.

        Only for an edge with the capability. Returns how many connections the platform closed. Calls live on: a dialog
        is not bound to a connection, its next request opens another, with the certificate that is served then. Raises
        `RequestRefused` when the platform does not hold the certificate.
        """
        ...

    async def delete_certificate(self, sha256: str) -> bool:
        """Deletes the certificate from the platform; False when it was not there. Refused while a trunk uses it."""
        ...

    async def close(self) -> None:
        """Closes the connections."""
        ...
