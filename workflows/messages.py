"""What is sent to a rotation and what it answers: the request, signals, updates, and the models of both queries."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from domain.certificates import CertificateFacts
from domain.evidence import EvidenceEntry
from domain.gates import GateResult
from domain.guard import GuardVerdict
from domain.handshakes import Record
from domain.phases import Phase
from domain.plan import Plan
from domain.rotation import SideEffect, TurnBack
from domain.texts import Readable

Text = Annotated[str, Field(min_length=1, max_length=500)]


class LeftoverChoice(StrEnum):
    """What becomes of what an earlier run left when it was terminated: refused, gone on with, or taken away."""

    REFUSE = "refuse"
    ADOPT = "adopt"
    CLEAN = "clean"


class RotationRequest(Record):
    """The input of `CertificateRotation`."""

    plan: Plan
    started_by: str
    leftovers: LeftoverChoice = LeftoverChoice.REFUSE


class _Message(BaseModel):
    """Signals come from hands as well: unknown keys are refused, types are not guessed."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class Approval(_Message):
    """`{"gate": "prefer", "by": "…", "reason": "…"}`: opens a waiting gate, or overrides an INCONCLUSIVE one."""

    gate: Text
    by: Text
    reason: Annotated[str, Field(max_length=500)] = ""


class RollbackRequest(_Message):
    """`{"by": "…", "reason": "…"}`: turns the rotation back to A."""

    by: Text
    reason: Annotated[str, Field(max_length=500)] = ""


class PauseRequest(_Message):
    """`{"by": "…", "reason": "…"}`: stops the advance before the next phase, or lets it go on."""

    by: Text
    reason: Annotated[str, Field(max_length=500)] = ""


class ExtendRequest(_Message):
    """`{"hours": 24, "by": "…", "reason": "…"}`: the overlap ends so much later."""

    hours: Annotated[float, Field(gt=0, le=24 * 90)]
    by: Text
    reason: Annotated[str, Field(max_length=500)] = ""


class Outcome(StrEnum):
    """What became of a message."""

    ACCEPTED = "accepted"
    EARLY = "early: that gate is not waiting yet"
    LATE = "late: that gate has passed"
    REPEATED = "repeated: that gate was approved already"
    UNKNOWN = "unknown gate"
    UNKNOWN_SIGNAL = "unknown signal: there is approve, rollback, pause, resume and extend"
    MALFORMED = "malformed"
    TOO_LATE = "too late: there is no way back after HOLD"
    PAUSED_ALREADY = "it is paused already"
    NOT_PAUSED = "it is not paused"
    NO_OVERLAP_YET = "early: the overlap begins when B is bound"
    OVERLAP_OVER = "late: the overlap is over"
    A_EXPIRES = "A would expire before the end of the quarantine and the plan's margin"
    ENDED = "the rotation is already turning back"


class Decision(Record):
    """One message from a person and what became of it.

    `plaintext` marks one that came without payload encryption: whoever reaches Temporal could have written it.
    """

    at: datetime
    message: Readable
    outcome: str
    by: str | None = None
    gate: str | None = None
    reason: str = ""
    plaintext: bool = False

    @property
    def accepted(self) -> bool:
        """True when it had an effect."""
        return self.outcome == Outcome.ACCEPTED


Message = TypeVar("Message", Approval, RollbackRequest, PauseRequest, ExtendRequest)

EXAMPLES: Mapping[type[BaseModel], str] = {
    Approval: '{"gate": "prefer", "by": "…", "reason": "…"}',
    ExtendRequest: '{"hours": 24, "by": "…", "reason": "…"}',
}


def parse_message(model: type[Message], payload: Any) -> Message:
    """The typed message. Raises `ValueError` with a text that shows the JSON that is expected."""
    example = EXAMPLES.get(model, '{"by": "…", "reason": "…"}')
    if isinstance(payload, ValueError):
        raise ValueError(f"payload: {payload} – send one JSON object: {example}")
    try:
        return model.model_validate(payload.model_dump() if isinstance(payload, BaseModel) else payload)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in p['loc']) or 'payload'}: {p['msg']}" for p in error.errors()[:3]
        )
        raise ValueError(f"{problems} – send one JSON object: {example}") from None


class PhaseTime(Record):
    """When a phase began."""

    phase: Phase
    entered_at: datetime


class EndpointStatus(Record):
    """An endpoint as last read by a side effect."""

    name: str
    platform: str
    trunk: str
    role: str
    last: Readable = ""


class GuardStatus(Record):
    """The guard's last change of mind. Its last look is in the Web UI, at the pending activity."""

    verdict: GuardVerdict
    text: Readable
    at: datetime


class AlertStatus(Record):
    """A notice or alert that was sent, to which profile of the settings, and whether it was delivered."""

    at: datetime
    to: str
    kind: str
    summary: Readable
    delivered: bool | None = None


class RollbackStatus(Record):
    """The way back. `a_alone_seconds` runs from the sample that breached to A alone read back from every endpoint.

    `unread` names nodes that could not be reached then: they served nobody, and are read back before B is deleted.
    """

    turn_back: TurnBack
    started_at: datetime
    a_alone_at: datetime | None = None
    a_alone_seconds: float | None = None
    over_budget: bool = False
    kept_b: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


class Waiting(Record):
    """What a rotation waits for. `gate` and `answer` are set when a person can end the waiting."""

    what: Readable
    until: datetime | None = None
    gate: str | None = None
    answer: str | None = None


class Pause(Record):
    """The advance was stopped by a person; guard and rollback live on."""

    by: str
    reason: str
    since: datetime

    def text(self) -> str:
        """For people, one line."""
        return f"paused by {self.by}: {self.reason or 'no reason given'}"


class RotationStatus(Record):
    """Answer of the query `status`.

    Its lists are bounded: `decisions_dropped` counts messages without effect that came after the first ones, of which
    `last_dropped` is the latest; `left_out` counts what is missing between the first and last of the other lists, and
    in the evidence, by kind.
    """

    rotation: str
    plan: str
    plan_sha256: str
    started_by: str
    run: str
    phase: Phase
    phases: tuple[PhaseTime, ...]
    waiting: Waiting | None = None
    frozen: str | None = None
    paused: Pause | None = None
    failure: str | None = None
    a: CertificateFacts | None = None
    b: CertificateFacts | None = None
    a_revoked: bool = False
    overlap_until: datetime | None = None
    endpoints: tuple[EndpointStatus, ...] = ()
    gates: tuple[GateResult, ...] = ()
    not_checked: tuple[str, ...] = ()
    guard: GuardStatus | None = None
    effects: tuple[SideEffect, ...] = ()
    decisions: tuple[Decision, ...] = ()
    decisions_dropped: int = 0
    last_dropped: Decision | None = None
    alerts: tuple[AlertStatus, ...] = ()
    left_out: Mapping[str, int] = {}
    rollback: RollbackStatus | None = None


class Evidence(Record):
    """Answer of the query `evidence`: the hash-chained entries so far; `head` is the last one's SHA-256."""

    rotation: str
    run: str
    entries: tuple[EvidenceEntry, ...]
    head: str | None


class RotationSummary(Record):
    """The result of a rotation that completed."""

    phase: Phase
    serial_a: str
    serial_b: str
    sha256_b: str
    a_revoked: bool
    evidence_head: str | None
