"""What happened in a rotation since the last look, one line each: for terminals that are none, and for logs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import IntEnum
from typing import NamedTuple

from desk.report import Report
from desk.times import clock, span
from domain.phases import FINAL
from workflows.messages import RotationStatus


class _Rank(IntEnum):
    """The order of events at one instant: a verdict, the phase that it opens, and who was told."""

    VERDICT = 0
    PHASE = 1
    NOTICE = 2


class _Event(NamedTuple):
    key: tuple[object, ...]
    at: datetime
    text: str
    rank: _Rank = _Rank.VERDICT


def _order(event: _Event) -> tuple[datetime, _Rank]:
    return event.at, event.rank


class Changes:
    """Remembers what it has told; every event is told once, in the order in which it happened."""

    def __init__(self) -> None:
        self._told: set[tuple[object, ...]] = set()
        self._texts: list[str] = []
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
        events = [event for event in self._events(report.status) if self._new(event.key)]
        lines += [f"{clock(event.at, day=False)}  {self._line(event)}" for event in sorted(events, key=_order)]
        waiting = self._waiting_for(report.status)
        if waiting != self._waiting:
            self._waiting = waiting
            if waiting is not None and not report.final:
                lines.append(f"          waiting for {waiting}")
        return lines

    def _line(self, event: _Event) -> str:
        """A notice repeats what was told already by its kind alone."""
        head, _, told = event.text.partition(": ")
        if event.rank is _Rank.NOTICE and any(told in text for text in self._texts):
            return head
        self._texts.append(event.text)
        return event.text

    def _new(self, key: tuple[object, ...]) -> bool:
        if key in self._told:
            return False
        self._told.add(key)
        return True

    def _events(self, status: RotationStatus) -> Iterator[_Event]:
        for at, entered in enumerate(status.phases):
            took = f" (after {span(entered.entered_at - status.phases[at - 1].entered_at)})" if at else ""
            failure = f": {status.failure}" if entered.phase in FINAL and status.failure else ""
            yield _Event(("phase", at), entered.entered_at, f"{entered.phase}{took}{failure}", _Rank.PHASE)
        for gate in status.gates:
            by = f", overridden by {gate.overridden_by}" if gate.overridden_by else ""
            why = "" if gate.verdict.value == "PASS" else f": {gate.reason}"
            key = ("gate", gate.gate, gate.decided_at, gate.overridden_by)
            yield _Event(key, gate.decided_at, f"gate {gate.gate} {gate.verdict}{by}{why}")
        if status.guard is not None:
            guard = status.guard
            yield _Event(("guard", guard.at, guard.verdict), guard.at, f"guard {guard.verdict}: {guard.text}")
        for at, decision in enumerate(status.decisions):
            what = f"{decision.message} {decision.gate or ''}".strip()
            yield _Event(("decision", at), decision.at, f"{what} by {decision.by or '?'}: {decision.outcome}")
        for alert in status.alerts:
            yield _Event(
                ("notice", alert.at, alert.to, alert.kind, alert.summary),
                alert.at,
                f"notice {alert.kind}: {alert.summary}",
                _Rank.NOTICE,
            )
        rollback = status.rollback
        if rollback is not None and rollback.a_alone_at is not None:
            text = f"A alone on every endpoint after {rollback.a_alone_seconds:.1f} s"
            yield _Event(("a alone",), rollback.a_alone_at, text)

    def _waiting_for(self, status: RotationStatus) -> str | None:
        if status.waiting is None:
            return None
        until = f", until {clock(status.waiting.until, day=False)} UTC" if status.waiting.until else ""
        return f"{status.waiting.what}{until}"
