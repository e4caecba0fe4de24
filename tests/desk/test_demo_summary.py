"""The end of a demo: its code is 0 only when everything that it promises was seen."""

from __future__ import annotations

from typing import Any

import pytest

from desk.demo_summary import Outcome, summary_view
from desk.lab_client import Settled
from desk.served import Served
from domain.phases import Phase
from domain.rotation import Cause, TurnBack
from tests.desk.reports import at, certificate, rendered, report, status, until
from workflows.messages import PhaseTime, RollbackStatus

A, B = certificate("A").sha256, certificate("B").sha256


def settled(*, lost: int = 0, **changes: Any) -> Settled:
    trunk = {
        "pool": [B],
        "active_calls": {},
        "calls": {"placed": 100, "completed": 100 - lost, "lost": lost, "active": 0},
        "handshakes": {
            "carrier": {A: {"attempts": 40, "failures": {}}, B: {"attempts": 60, "failures": {"unknown_ca": 3}}}
        },
    }
    fields = {"trunks": {"east": trunk}, "violations": [], "faults": {}, "settled": True, "adds_up": True}
    return Settled.model_validate({**fields, **changes})


def serving(sha256: str) -> tuple[Served, ...]:
    return (Served(endpoint="east", address="127.0.0.1:5061", sha256=sha256),)


def completed(**changes: Any) -> Outcome:
    fields: dict[str, Any] = {
        "report": report(status(Phase.COMPLETED, a_revoked=True), execution="COMPLETED"),
        "settled": settled(),
        "served": serving(B),
        "a_revoked_at": at(230),
    }
    return Outcome(**{**fields, **changes})


def rolled_back(**changes: Any) -> Outcome:
    cause = TurnBack(cause=Cause.BREACH, reason="east: handshakes 12 of 40 (30.00 %)", measured_at=at(100))
    back = tuple(PhaseTime(phase=phase, entered_at=at(95)) for phase in (Phase.ROLLING_BACK, Phase.ROLLED_BACK))
    rollback = RollbackStatus(turn_back=cause, started_at=at(101), a_alone_at=at(102.3), a_alone_seconds=2.3)
    answered = status(
        Phase.ROLLED_BACK, phases=(*until(Phase.VERIFY), *back), rollback=rollback, failure="rolled back to A"
    )
    fields: dict[str, Any] = {
        "report": report(answered, execution="FAILED", failure="rolled back to A in 2.3 s"),
        "settled": settled(lost=9),
        "served": serving(A),
        "b_revoked_at": at(110),
        "lost_before_a": 9,
    }
    return Outcome(**{**fields, **changes})


def test_a_completion_without_any_loss_ends_with_0_and_shows_its_figures() -> None:
    text = rendered(summary_view(completed()), width=600)
    assert completed().exit_code == 0
    for words in (
        "COMPLETED",
        "100 placed, 0 lost",
        "3 × unknown_ca",
        "120 events",
        "1 of 1 listeners",
        "SOAK at 50 s",
    ):
        assert words in text
    assert f"serial {certificate('A').serial}" in text
    assert "revoked at 18:03:50 UTC by the PKI's own record" in text
    assert "promise 1 held" in text


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"settled": settled(lost=1)}, "1 calls were lost"),
        ({"served": serving(A)}, f"east 127.0.0.1:5061 serves {A}, not {B}"),
        (
            {"served": (Served(endpoint="east", address="127.0.0.1:5061", problem="refused"),)},
            "east 127.0.0.1:5061 serves refused",
        ),
        ({"a_revoked_at": None}, "the PKI has not revoked A"),
        ({"settled": settled(adds_up=False)}, "calls did not come to an end"),
        (
            {"settled": settled(violations=[{"at": at(9), "endpoint": "east", "reason": "nothing to serve"}])},
            "promise 1 was broken: east, nothing to serve",
        ),
    ],
    ids=["lost call", "wrong leaf", "no listener", "A alive", "open calls", "promise 1"],
)
def test_a_completion_that_contradicts_a_promise_ends_with_1(changes: dict[str, Any], problem: str) -> None:
    outcome = completed(**changes)
    assert outcome.exit_code == 1
    assert problem in " ".join(outcome.problems)
    assert problem.split()[0] in rendered(summary_view(outcome), width=200)


def test_a_rollback_ends_with_3_and_shows_cause_duration_and_losses() -> None:
    text = rendered(summary_view(rolled_back()), width=140)
    assert rolled_back().exit_code == 3
    assert "breach: east: handshakes 12 of 40 (30.00 %)" in text
    assert "A alone on every endpoint after 2.3 s" in text
    assert "9 lost" in text
    assert "0 of them after A was back alone" in text
    assert rolled_back().problems == []


def test_a_rollback_after_which_b_is_still_served_says_so() -> None:
    assert rolled_back(served=serving(B)).problems


def test_an_abort_ends_with_4() -> None:
    answered = status(Phase.ABORTED, phases=until(Phase.PREFLIGHT), failure="aborted", b=None)
    outcome = completed(report=report(answered, execution="FAILED", failure="aborted"), served=serving(A))
    assert outcome.exit_code == 4
    assert "there was none" in rendered(summary_view(outcome))
