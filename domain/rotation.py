"""What travels between a rotation and its activities: the run, side effects, causes of turning back."""

from __future__ import annotations

import hashlib
from datetime import datetime
from enum import StrEnum

from domain.handshakes import Record
from domain.plan import Endpoint, Node, Plan, Topology


class Run(Record):
    """One run of one plan. `key` names its custody path and uploads, so that two runs never meet."""

    plan: Plan
    rotation: str
    key: str

    def upload_name(self) -> str:
        """The certificate's name on a platform."""
        return f"{self.plan.name}-{self.key}"


def run_key(workflow_id: str, first_run_id: str) -> str:
    """Twelve hex digits that identify a run: workflow id and first run id."""
    return hashlib.sha256(f"{workflow_id}/{first_run_id}".encode()).hexdigest()[:12]


class SideEffect(Record):
    """What an activity found, did and read back. `changed` is False when nothing had to be done."""

    action: str
    where: str
    before: str
    after: str
    changed: bool
    at: datetime


class Cause(StrEnum):
    """Why a rotation turned back."""

    BREACH = "breach"
    GATE_FAILED = "gate failed"
    ACTION_FAILED = "action failed"
    REQUESTED = "rollback requested"
    CANCELLED = "cancelled"


class TurnBack(Record):
    """The decision to turn back: why, when it was measured or asked for, and by whom."""

    cause: Cause
    reason: str
    measured_at: datetime
    by: str | None = None

    def text(self) -> str:
        """For people, one line."""
        by = f" by {self.by}" if self.by else ""
        return f"{self.cause}{by}: {self.reason}"


def served_on(endpoint: Endpoint, node: Node, pool: tuple[str, ...]) -> str:
    """The leaf SHA-256 that a node must serve while the trunk's pool is `pool` (preferred first).

    With separate SRV targets the node of target B serves the second certificate, or the only one.
    """
    second = (
        endpoint.topology is Topology.SEPARATE_SRV_TARGETS
        and endpoint.srv is not None
        and node.target == endpoint.srv.target_b
    )
    return pool[1] if second and len(pool) > 1 else pool[0]


def short(sha256: str) -> str:
    """The first twelve digits of a fingerprint, as people compare them."""
    return sha256[:12]
