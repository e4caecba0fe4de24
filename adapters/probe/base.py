"""The roles `Prober`: our own fresh TLS handshakes, SIP OPTIONS, test calls towards one address; and `TimeServers`."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from domain.clocks import ClockLimits, NtpTime
from domain.handshakes import Record
from domain.probed import Distrust, Layer, Resumption, Staple

__all__ = ["Distrust", "Layer", "ProbeResult", "ProbeTarget", "Prober", "Resumption", "Staple"]


class ProbeTarget(Record):
    """What to probe: the address is apart from the SNI, and both are apart from the identity that is expected."""

    address: str
    port: int
    server_name: str | None
    identity: str
    test_call: str | None = None


class ProbeResult(Record):
    """What a probe saw. `leaf_sha256` is what was served, also when the chain or the identity was refused.

    `alert` is the alert with which the peer ended the connection, `distrust` why we did. `staple` is None when the
    handshake did not come that far, `resumption` when nothing was heard after it.
    """

    target: ProbeTarget
    at: datetime
    leaf_sha256: str | None = None
    leaf_pem: str | None = None
    version: str | None = None
    cipher: str | None = None
    handshake_ms: float | None = None
    chain_verified: bool | None = None
    identity_matches: bool | None = None
    options_status: int | None = None
    call_status: int | None = None
    failed_layer: Layer | None = None
    cause: str | None = None
    alert: str | None = None
    distrust: Distrust | None = None
    staple: Staple | None = None
    resumption: Resumption | None = None

    @property
    def good(self) -> bool:
        """Every layer that was tried answered well."""
        return self.failed_layer is None

    def text(self) -> str:
        """For people, one line."""
        where = f"{self.target.address}:{self.target.port}"
        served = f" served {self.leaf_sha256[:12]}" if self.leaf_sha256 else ""
        if self.failed_layer is not None:
            return f"{where}{served}: failed at {self.failed_layer}: {self.cause}"
        return f"{where}{served}, {self.version}, {self.handshake_ms:.0f} ms"


class Prober(Protocol):
    """One prober. A failed probe is a result, not an exception."""

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        """A fresh handshake (never resumed), then SIP OPTIONS, then a test call where the target names one."""
        ...


class TimeServers(Protocol):
    """The servers whose time is taken for true. They are asked, and no clock is set."""

    @property
    def limits(self) -> ClockLimits:
        """How far a clock may be off."""
        ...

    async def time(self) -> NtpTime:
        """This worker's clock against all servers. Raises `Unreachable` when none gives a usable time."""
        ...
