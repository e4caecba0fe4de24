"""What PREFLIGHT recorded of an endpoint: what a rollback goes back to."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from adapters.dns.base import SrvSet
from adapters.edges.base import TrunkState
from domain.certificates import CertificateFacts
from domain.gates import Finding
from domain.handshakes import Record
from domain.plan import Plan
from domain.rotation import Run


class EndpointBaseline(Record):
    """The endpoint as PREFLIGHT found it. `trunk.pool` is what "A alone" means on it."""

    endpoint: str
    physical: str
    trunk: TrunkState
    a_not_after: datetime
    srv: SrvSet | None = None
    setup_success: float | None = Field(
        default=None, description="share of call setups that succeeded before the rotation, 0–1; None: too few to tell"
    )


class EndpointExamined(Record):
    """The findings of PREFLIGHT on one endpoint; without a baseline the rotation cannot start."""

    findings: tuple[Finding, ...]
    a: CertificateFacts | None = None
    a_pem: str | None = None
    baseline: EndpointBaseline | None = None


class EndpointRequest(Record):
    """One endpoint of one run; certificates by leaf SHA-256.

    `every_node`: on the way back, whether a node that cannot be reached is waited for. `share`: on a ramp, the
    percentage of new connections that B is to get.
    """

    run: Run
    endpoint: str
    sha256_a: str
    sha256_b: str
    baseline: EndpointBaseline
    every_node: bool = True
    share: int | None = None

    @property
    def plan(self) -> Plan:
        """The run's plan."""
        return self.run.plan
