"""What an operator reads of a rotation: where it stands, why, and what to type."""

from __future__ import annotations

import pytest

from desk.status_view import brief_view, status_view
from domain.gates import Finding, GateResult, Verdict
from domain.guard import GuardVerdict
from domain.phases import FORWARD, Phase
from domain.rotation import Cause, TurnBack
from tests.desk.reports import at, look, rendered, report, status, until
from workflows.messages import (
    AlertStatus,
    Decision,
    GuardStatus,
    PhaseTime,
    RollbackStatus,
    RotationStatus,
    Waiting,
)

SOAK_LOOK = (
    "east: handshakes, inbound, A and B: 41 of 42 (97.61 %): 1 × unknown_ca (expected ≥ 99.50 % of at least 600); "
    "east: handshakes on B, canary: 80 of 80 (100.00 %) (expected ≥ 99.50 % of at least 600) [synthetic]"
)


def rolled_back() -> RotationStatus:
    cause = TurnBack(cause=Cause.BREACH, reason="east: handshakes 12 of 40 (30.00 %)", measured_at=at(100))
    way_back = (
        PhaseTime(phase=Phase.ROLLING_BACK, entered_at=at(101)),
        PhaseTime(phase=Phase.ROLLED_BACK, entered_at=at(110)),
    )
    return status(
        Phase.ROLLED_BACK,
        phases=(*until(Phase.VERIFY), *way_back),
        failure="rolled back to A in 2.3 s – breach: east: handshakes 12 of 40 (30.00 %)",
        rollback=RollbackStatus(turn_back=cause, started_at=at(101), a_alone_at=at(102.3), a_alone_seconds=2.3),
    )


def test_a_waiting_gate_shows_the_exact_command_that_answers_it() -> None:
    waiting = Waiting(what="the approval `prefer`", gate="prefer", answer='{"gate": "prefer"}')
    text = rendered(status_view(report(status(Phase.APPROVE_PREFER, waiting=waiting))))
    assert "Waiting for the approval `prefer`" in text
    assert 'approve east-2026 prefer --reason "why"' in text
    assert 'rollback east-2026 --reason "why"' in text


def test_a_decided_gate_shows_its_figure_against_the_threshold() -> None:
    text = rendered(status_view(report(status())))
    assert "soak PASS" in text
    assert "99.83 %" in text
    assert "┃" in text


def test_the_running_gate_shows_the_figures_of_its_last_look() -> None:
    text = rendered(brief_view(report(status(), looks=(look("soak", SOAK_LOOK),))), width=120)
    assert "soak look 7" in text
    assert "97.61 %" in text
    assert "41 of 42 (97.61 %): 1 × unknown_ca" in text
    assert "80 of 80 (100.00 %) (synthetic)" in text


def test_the_guards_verdict_stands_beside_its_last_look() -> None:
    guard = GuardStatus(verdict=GuardVerdict.BLIND, text="the platform does not answer", at=at(70))
    shown = report(status(guard=guard, frozen="the guard cannot see"), looks=(look("guard", "BLIND: still nothing"),))
    text = rendered(status_view(shown))
    assert "Advance is frozen: the guard cannot see" in text
    assert "guard BLIND  since 18:01:10: the platform does not answer" in text
    assert "BLIND: still nothing" in text


def test_a_rolled_back_rotation_is_shown_as_failed_with_its_reason() -> None:
    text = rendered(status_view(report(rolled_back(), execution="FAILED")))
    assert "ROLLED_BACK  failed" in text
    assert "Failed: rolled back to A in 2.3 s – breach" in text
    assert "A alone everywhere after 2.3 s" in text
    assert "COMPLETED" not in text
    assert "--reason" not in text


@pytest.mark.parametrize("phase", FORWARD)
def test_the_way_back_is_offered_exactly_where_there_is_one(phase: Phase) -> None:
    text = rendered(status_view(report(status(phase))))
    reversible = FORWARD.index(Phase.UPLOAD) <= FORWARD.index(phase) <= FORWARD.index(Phase.HOLD)
    assert ("to go back" in text) is reversible


def test_without_a_worker_the_search_attributes_and_the_reason_are_shown() -> None:
    shown = report(None, unanswered="no worker answers on task queue sip-tls-rotation")
    text = rendered(status_view(shown))
    assert "SOAK" in text
    assert "no worker answers on task queue sip-tls-rotation" in text


def test_without_a_worker_a_closed_rotation_still_tells_why_it_failed() -> None:
    shown = report(None, execution="FAILED", unanswered="no worker", failure="aborted before anything was changed")
    assert "Failed: aborted before anything was changed" in rendered(status_view(shown))


def test_what_is_retried_is_shown_with_its_error() -> None:
    shown = report(status(), looks=(look("remove", "genesys: 500; seen: internal.error"),))
    assert "remove, attempt 7: genesys: 500; seen: internal.error" in rendered(status_view(shown))


def test_messages_and_undelivered_alerts_are_shown() -> None:
    decision = Decision(at=at(5), message="approve", outcome="early: that gate is not waiting yet", by="eve", gate="x")
    alert = AlertStatus(at=at(6), to="ops", kind="blind", summary="the guard cannot see", delivered=False)
    text = rendered(status_view(report(status(decisions=(decision,), alerts=(alert,)))))
    assert "approve x by eve: early: that gate is not waiting yet" in text
    assert "the guard cannot see  NOT DELIVERED" in text


def test_text_from_outside_is_never_taken_for_markup() -> None:
    finding = Finding(check="[bold]x[/]", verdict=Verdict.PASS, seen="[red]1 of 1[/]", value=1.0, threshold=0.9)
    gate = GateResult(gate="soak", verdict=Verdict.PASS, findings=(finding,), decided_at=at(1))
    text = rendered(status_view(report(status(gates=(gate,)))))
    assert "[bold]x[/]" in text
    assert "[red]1 of 1[/]" in text


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    shown = report(status(), looks=(look("soak", SOAK_LOOK), look("guard", "HEALTHY: " + "x" * 300)))
    for view in (status_view(shown, link="http://127.0.0.1:8233/w"), brief_view(shown)):
        assert max(len(line) for line in rendered(view, width=width).splitlines()) <= width


def test_no_color_means_no_escape_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    text = rendered(status_view(report(rolled_back(), execution="FAILED")), force_terminal=True)
    assert "\x1b[3" not in text
    assert "ROLLED_BACK" in text


def test_plain_bars_are_ascii() -> None:
    text = rendered(status_view(report(status()), plain=True))
    bar_line = next(line for line in text.splitlines() if "99.83 %" in line)
    assert "####" in bar_line
    assert "█" not in text
