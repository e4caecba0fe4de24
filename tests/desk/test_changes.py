"""The lines of a watch that has no terminal: every event once, in order, and nothing twice."""

from __future__ import annotations

from desk.changes import Changes
from domain.guard import GuardVerdict
from domain.phases import Phase
from tests.desk.reports import at, report, status
from workflows.messages import AlertStatus, GuardStatus, Waiting


def test_every_event_is_told_once_and_a_verdict_before_the_phase_that_it_opens() -> None:
    changes = Changes()
    lines = changes.lines(report(status(Phase.APPROVE_PREFER)))
    assert lines[0] == "18:00:00  PREFLIGHT"
    assert lines.index("18:01:00  gate soak PASS") < lines.index("18:01:00  APPROVE_PREFER (after 10 s)")
    assert changes.lines(report(status(Phase.APPROVE_PREFER))) == []
    assert changes.lines(report(status(Phase.PREFER))) == ["18:01:10  PREFER (after 10 s)"]


def test_what_is_waited_for_is_told_when_it_changes() -> None:
    changes = Changes()
    waiting = status(Phase.SOAK, waiting=Waiting(what="the soak time", until=at(90)))
    assert changes.lines(report(waiting))[-1].strip() == "waiting for the soak time, until 18:01:30 UTC"
    assert changes.lines(report(waiting)) == []


def test_a_notice_does_not_repeat_what_was_just_told() -> None:
    changes = Changes()
    breach = GuardStatus(verdict=GuardVerdict.BREACH, text="east: 12 of 40 (30.00 %)", at=at(50))
    notice = AlertStatus(at=at(50), to="ops", kind="breach", summary="east: 12 of 40 (30.00 %)")
    lines = changes.lines(report(status(guard=breach, alerts=(notice,))))
    assert "18:00:50  guard BREACH: east: 12 of 40 (30.00 %)" in lines
    assert "18:00:50  notice breach" in lines


def test_a_worker_that_falls_silent_is_told_once_and_its_return_too() -> None:
    changes = Changes()
    changes.lines(report(status()))
    silent = report(None, unanswered="no worker answers")
    assert changes.lines(silent) == ["no worker answers"]
    assert changes.lines(silent) == []
    assert changes.lines(report(status())) == ["a worker answers again"]


def test_a_failed_end_tells_its_reason() -> None:
    ended = status(Phase.PREFLIGHT, failure="aborted before anything was changed")
    last = ended.phases[-1].model_copy(update={"phase": Phase.ABORTED, "entered_at": at(9)})
    ended = ended.model_copy(update={"phase": Phase.ABORTED, "phases": (*ended.phases, last), "gates": ()})
    lines = Changes().lines(report(ended, execution="FAILED"))
    assert "18:00:09  ABORTED (after 9.0 s): aborted before anything was changed" in lines
