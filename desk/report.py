"""What the desk knows of a rotation: the answer of its workflow and what Temporal itself says. Printed by `--json`."""

from __future__ import annotations

from datetime import datetime

from desk.exit_codes import ExitCode
from domain.certificates import CertificateFacts
from domain.gates import GateResult
from domain.handshakes import Record
from domain.phases import Phase
from workflows.messages import RotationStatus


class DryRun(Record):
    """The answer of `RotationDryRun`: what PREFLIGHT would say now, and A as it is served."""

    gate: GateResult
    a: CertificateFacts | None = None


class Look(Record):
    """An activity that Temporal repeats now: a watcher's last words, or the error of something that is retried."""

    activity: str
    attempt: int
    said: str | None = None
    next_at: datetime | None = None


class Row(Record):
    """A rotation as the list shows it, from search attributes alone."""

    id: str
    run_id: str
    execution: str
    phase: str | None = None
    verdict: str | None = None
    platforms: tuple[str, ...] = ()
    trunks: tuple[str, ...] = ()
    expiry: datetime | None = None
    started_at: datetime
    closed_at: datetime | None = None


class Report(Record):
    """One rotation. `status` is the workflow's own answer, missing when no worker gives it (`unanswered` says why)."""

    row: Row
    history_events: int
    looks: tuple[Look, ...] = ()
    status: RotationStatus | None = None
    unanswered: str | None = None
    failure: str | None = None

    @property
    def phase(self) -> Phase | None:
        """The phase by the workflow's answer, else by its search attribute."""
        if self.status is not None:
            return self.status.phase
        return next((phase for phase in Phase if phase.value == self.row.phase), None)

    @property
    def final(self) -> bool:
        """True when the workflow has ended, however it did."""
        return self.row.closed_at is not None

    def look(self, activity: str) -> Look | None:
        """The pending look of that watcher."""
        return next((look for look in self.looks if look.activity == activity and look.said), None)

    @property
    def exit_code(self) -> ExitCode:
        """What a verb that waits for the end leaves with."""
        if not self.final or self.row.execution == "COMPLETED":
            return ExitCode.FINE
        if self.phase is Phase.ROLLED_BACK:
            return ExitCode.ROLLED_BACK
        return ExitCode.ABORTED if self.phase is Phase.ABORTED else ExitCode.UNEXPECTED
