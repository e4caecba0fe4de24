"""The phases of a rotation and where each may go: one table, and the comment that is its contract.

The order is trust first, use second, distrust last (guide section 4; DESIGN.md "The ten steps"):

PREFLIGHT   Takes the leases, looks at everything and changes nothing: A on every node, the trunks' settings, the PKI,
            the carrier; but takes away what a dead run left when the operator said so. Exists so that a rotation that
            cannot finish never starts. → ISSUE, or ABORTED.
ISSUE       (1) Key and CSR in custody, B signed and checked. No endpoint knows B. → UPLOAD, or ABORTED.
UPLOAD      (2) B's chain and key are on every platform, bound to nothing. → BIND, or ROLLING_BACK.
BIND        (3) B stands beside A in every pool, A preferred. The 72 h count from the last bind. → READINESS.
READINESS   (4) The platform calls both certificates valid and canary handshakes are served B. → SOAK.
SOAK        (5) 15 minutes of success: the endpoints as a whole, and B on the canary path. → APPROVE_PREFER.
APPROVE_PREFER  Waits for a person, if the plan wants one. → PREFER.
PREFER      (6) DNS SRV or pool order prefer B, endpoint by endpoint, each verified before the next. → VERIFY.
VERIFY      (7) Platform and carrier both report > 99.5 % on B. → ADOPT.
ADOPT       (8) Waits until 85 % of new calls are on B. → OVERLAP.
OVERLAP     The rest of the 72 h, as a durable timer. → DRAIN.
DRAIN       Waits until no call is on A, twice. → APPROVE_REMOVE.
APPROVE_REMOVE  Waits for a person, if the plan wants one. → REMOVE.
REMOVE      (9) A leaves every pool; B is served alone; nothing is deleted. → HOLD.
HOLD        A is out of use and still valid: the last corridor back. Its end is the point of no return. → RESTORE.
RESTORE     Trunk settings as they were; the carrier is told. Retried until it succeeds. → REVOKE.
REVOKE      (10) A revoked and deleted from the platforms. Retried until it succeeds. → COMPLETED.
COMPLETED   B alone, A revoked. The only phase in which the workflow completes.
ROLLING_BACK    From UPLOAD to HOLD: by a breach, a failed gate, a `rollback` signal, a failed action or a cancel.
            A alone on every endpoint first, everything else after it. Retried until it succeeds. → ROLLED_BACK.
ROLLED_BACK A alone as PREFLIGHT found it, B deleted and revoked. The workflow fails with type RolledBack.
ABORTED     It ended before anything was changed on an endpoint. The workflow fails with type Aborted.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from itertools import pairwise


class Phase(StrEnum):
    """See the module's comment: it is the contract of every phase."""

    PREFLIGHT = "PREFLIGHT"
    ISSUE = "ISSUE"
    UPLOAD = "UPLOAD"
    BIND = "BIND"
    READINESS = "READINESS"
    SOAK = "SOAK"
    APPROVE_PREFER = "APPROVE_PREFER"
    PREFER = "PREFER"
    VERIFY = "VERIFY"
    ADOPT = "ADOPT"
    OVERLAP = "OVERLAP"
    DRAIN = "DRAIN"
    APPROVE_REMOVE = "APPROVE_REMOVE"
    REMOVE = "REMOVE"
    HOLD = "HOLD"
    RESTORE = "RESTORE"
    REVOKE = "REVOKE"
    COMPLETED = "COMPLETED"
    ROLLING_BACK = "ROLLING_BACK"
    ROLLED_BACK = "ROLLED_BACK"
    ABORTED = "ABORTED"


FORWARD: tuple[Phase, ...] = (
    Phase.PREFLIGHT,
    Phase.ISSUE,
    Phase.UPLOAD,
    Phase.BIND,
    Phase.READINESS,
    Phase.SOAK,
    Phase.APPROVE_PREFER,
    Phase.PREFER,
    Phase.VERIFY,
    Phase.ADOPT,
    Phase.OVERLAP,
    Phase.DRAIN,
    Phase.APPROVE_REMOVE,
    Phase.REMOVE,
    Phase.HOLD,
    Phase.RESTORE,
    Phase.REVOKE,
    Phase.COMPLETED,
)
"""The way of a rotation that succeeds."""

ABORTABLE = frozenset({Phase.PREFLIGHT, Phase.ISSUE})
"""Nothing was changed on any endpoint yet."""

REVERSIBLE = frozenset(FORWARD[FORWARD.index(Phase.UPLOAD) : FORWARD.index(Phase.HOLD) + 1])
"""From here ROLLING_BACK is reachable: UPLOAD up to the end of HOLD."""

GUARDED = frozenset(FORWARD[FORWARD.index(Phase.BIND) : FORWARD.index(Phase.HOLD) + 1])
"""Here the guard watches: BIND up to the end of HOLD, approval waits and the overlap included."""

FINAL = frozenset({Phase.COMPLETED, Phase.ROLLED_BACK, Phase.ABORTED})

HOT = frozenset({Phase.BIND, Phase.READINESS, Phase.SOAK, Phase.PREFER, Phase.VERIFY, Phase.REMOVE})
"""Phases around a change: the guard looks at its short interval."""


def _transitions() -> Mapping[Phase, frozenset[Phase]]:
    table = {phase: {following} for phase, following in pairwise(FORWARD)}
    for phase in ABORTABLE:
        table[phase].add(Phase.ABORTED)
    for phase in REVERSIBLE:
        table[phase].add(Phase.ROLLING_BACK)
    table[Phase.ROLLING_BACK] = {Phase.ROLLED_BACK}
    return {phase: frozenset(table.get(phase, set())) for phase in Phase}


TRANSITIONS: Mapping[Phase, frozenset[Phase]] = _transitions()
"""Every allowed transition; final phases lead nowhere."""


def may_move(current: Phase, following: Phase) -> bool:
    """True when the table allows the step."""
    return following in TRANSITIONS[current]
