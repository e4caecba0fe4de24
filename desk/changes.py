"""What happened in a rotation since the last look, one line each: for terminals that are none, and for logs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from desk.report import Report
from desk.times import clock, span
from domain.phases import FINAL
from workflows.messages import RotationStatus


class Changes:
    """Remembers what it has told; every event is told once, in the order in which it happened."""

    def __init__(self) -> None:
        self._told: set[tuple[object, ...]] = set()
        self._waiting: str | None = None
        self._unanswered: str | None = None

    def lines(self, report: Report) -> list[str]:
        """The lines that are new in this report."""
        lines = []
        if report.unanswered != self._unanswered:
            self._unanswered = report.unanswered
            lines.append(report.unanswered or "a worker answers again")
        if report.status is None:
            return lines
        events = [(at, text) for key, at, text in self._events(report.status) if self._new(key)]
        lines += [f"{clock(at, day=False)}  {text}" for at, text in sorted(events, key=lambda event: event[0])]
        waiting = self._waiting_for(report.status)
        if waiting != self._waiting:
            self._waiting = waiting
            if waiting is not None and not report.final:
                lines.append(f"          waiting for {waiting}")
        return lines

    def _new(self, key: tuple[object, ...]) -> bool:
        if key in self._told:
            return False
        self._told.add(key)
        return True

    def _events(self, status: RotationStatus) -> Iterator[tuple[tuple[object, ...], datetime, str]]:
        for at, entered in enumerate(status.phases):
            took = f" (after {span(entered.entered_at - status.phases[at - 1].entered_at)})" if at else ""
            failure = f": {status.failure}" if entered.phase in FINAL and status.failure else ""
            yield ("phase", at), entered.entered_at, f"{entered.phase}{took}{failure}"
        for gate in status.gates:
            by = f", overridden by {gate.overridden_by}" if gate.overridden_by else ""
            why = "" if gate.verdict.value == "PASS" else f": {gate.reason}"
            yield (
                ("gate", gate.gate, gate.decided_at, gate.overridden_by),
                gate.decided_at,
                f"gate {gate.gate} {gate.verdict}{by}{why}",
            )
        if status.guard is not None:
            guard = status.guard
            yield ("guard", guard.at, guard.verdict), guard.at, f"guard {guard.verdict}: {guard.text}"
        for at, decision in enumerate(status.decisions):
            what = f"{decision.message} {decision.gate or ''}".strip()
            yield ("decision", at), decision.at, f"{what} by {decision.by or '?'}: {decision.outcome}"
        for at, alert in enumerate(status.alerts):
            yield ("alert", at), alert.at, f"alert {alert.kind}: {alert.summary}"
        rollback = status.rollback
        if rollback is not None and rollback.a_alone_at is not None:
            text = f"A alone on every endpoint after {rollback.a_alone_seconds:.1f} s"
            yield ("a alone",), rollback.a_alone_at, text

    def _waiting_for(self, status: RotationStatus) -> str | None:
        if status.waiting is None:
            return None
        until = f", until {clock(status.waiting.until, day=False)} UTC" if status.waiting.until else ""
        return f"{status.waiting.what}{until}"
