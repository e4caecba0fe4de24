"""The custom search attributes by which rotations are listed (DESIGN.md, "Interfaces that stay stable")."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from temporalio.common import (
    SearchAttributeKey,
    SearchAttributePair,
    SearchAttributeUpdate,
    TypedSearchAttributes,
)
from temporalio.workflow import unsafe

with unsafe.imports_passed_through():
    from domain.phases import Phase
    from domain.plan import Plan

from workflows.state import RotationState

PHASE = SearchAttributeKey.for_keyword("RotationPhase")
PLATFORM = SearchAttributeKey.for_keyword_list("RotationPlatform")
TRUNK = SearchAttributeKey.for_keyword_list("RotationTrunk")
VERDICT = SearchAttributeKey.for_keyword("RotationVerdict")
EXPIRY = SearchAttributeKey.for_datetime("CertificateExpiry")

LONGEST_LIST_BYTES = 2000
"""Of one list as JSON; the server's limit is 2 KB for the value of an attribute."""

ALL = (PHASE, PLATFORM, TRUNK, VERDICT, EXPIRY)
"""Registered by worker and starter when they are missing."""


def initial(plan: Plan) -> TypedSearchAttributes:
    """What is known when a rotation starts."""
    return TypedSearchAttributes(
        [
            SearchAttributePair(PHASE, Phase.PREFLIGHT.value),
            SearchAttributePair(PLATFORM, fitting(sorted({endpoint.platform for endpoint in plan.endpoints}))),
            SearchAttributePair(TRUNK, fitting([endpoint.fqdn for endpoint in plan.endpoints])),
        ]
    )


def fitting(names: Sequence[str]) -> list[str]:
    """As many of the names as one attribute can hold: Temporal refuses a rotation whose list is longer."""
    kept: list[str] = []
    length = 2
    for name in dict.fromkeys(names):
        length += len(json.dumps(name)) + 1
        if length > LONGEST_LIST_BYTES:
            break
        kept.append(name)
    return kept


def attributes(state: RotationState) -> list[SearchAttributeUpdate[Any]]:
    """Phase, last verdict, and when what is served expires: A until it is revoked, then B."""
    updates: list[SearchAttributeUpdate[Any]] = [PHASE.value_set(state.phase.value)]
    if state.last_gate is not None:
        updates.append(VERDICT.value_set(state.last_gate.verdict.value))
    served = state.b if state.phase in (Phase.REVOKE, Phase.COMPLETED) else state.a
    if served is not None:
        updates.append(EXPIRY.value_set(served.not_after))
    return updates
