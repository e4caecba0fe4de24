"""What travels between a rotation and its activities: the run, side effects, causes of turning back."""

from __future__ import annotations

import hashlib
import re
from datetime import datetime
from enum import StrEnum

from domain.handshakes import Record
from domain.plan import Endpoint, Node, Plan, Topology
from domain.texts import Readable

ROTATION_PREFIX = "rotation-"
"""A rotation's workflow id is this and the plan's name (DESIGN.md, "Interfaces that stay stable")."""

_KEY = re.compile(r"(?P<plan>[a-z0-9][a-z0-9._-]{0,62})-[0-9a-f]{12}")


class Run(Record):
    """One run of one plan. `key` names its custody path and its uploads, so that two runs never meet."""

    plan: Plan
    rotation: str
    key: str


def run_key(plan_name: str, workflow_id: str, first_run_id: str) -> str:
    """The plan's name, and twelve hex digits that tell its runs apart: workflow id and first run id.

    A run that was reset keeps its first run id, and with it its key.
    """
    digits = hashlib.sha256(f"{workflow_id}/{first_run_id}".encode()).hexdigest()[:12]
    return f"{plan_name}-{digits}"


def plan_of(key: str) -> str | None:
    """The name of the plan whose run has this key; None when it is no run's key."""
    found = _KEY.fullmatch(key)
    return found["plan"] if found else None


def rotation_id(plan_name: str) -> str:
    """The workflow id of a plan's rotation."""
    return f"{ROTATION_PREFIX}{plan_name}"


def lease_id(what: str) -> str:
    """The workflow id of the lease on a physical trunk, or on the SHA-256 of A."""
    return f"lease/{what}"


class SideEffect(Record):
    """What an activity found, did and read back. `changed` is False when nothing had to be done."""

    action: Readable
    where: Readable
    before: Readable
    after: Readable
    changed: bool
    at: datetime


class Cause(StrEnum):
    """Why a rotation turned back."""

    BREACH = "breach"
    GATE_FAILED = "gate failed"
    ACTION_FAILED = "action failed"
    REQUESTED = "rollback requested"
    CANCELLED = "cancelled"
    BLIND = "blind for too long"


class TurnBack(Record):
    """The decision to turn back: why, when it was measured or asked for, and by whom."""

    cause: Cause
    reason: Readable
    measured_at: datetime
    by: str | None = None

    def text(self) -> str:
        """For people, one line."""
        by = f" by {self.by}" if self.by else ""
        return f"{self.cause}{by}: {self.reason}"


def served_on(
    endpoint: Endpoint, node: Node, pool: tuple[str, ...], presented: tuple[str, ...] | None = None
) -> tuple[str, ...]:
    """The leaves (SHA-256) of which a node must serve one while the trunk's pool is `pool`, preferred first.

    With separate SRV targets the node of target B serves the second certificate, or the only one; on a ramp it may be
    any of the `presented`; else it is the preferred one.
    """
    second = (
        endpoint.topology is Topology.SEPARATE_SRV_TARGETS
        and endpoint.srv is not None
        and node.target == endpoint.srv.target_b
    )
    if second and len(pool) > 1:
        return pool[1:2]
    return presented or pool[:1]


def short(sha256: str) -> str:
    """The first twelve digits of a fingerprint, as people compare them."""
    return sha256[:12]
