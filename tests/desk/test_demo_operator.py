"""The person in the demo approves what waits, and turns back what stays undecided under a fault."""

from __future__ import annotations

from typing import Any

import pytest

from desk import demo_operator
from desk.demo_operator import PASSING_S, PATIENCE_S, THINKS_S, Operator
from domain.phases import Phase
from tests.desk.reports import report, status
from workflows.messages import Waiting


class Clock:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Answers:
    """Stands where the client calls are, and remembers them."""

    def __init__(self) -> None:
        self.given: list[str] = []

    async def approve(self, name: str, gate: str, by: str, reason: str) -> None:
        self.given.append(f"approve {gate}")

    async def roll_back(self, name: str, by: str, reason: str) -> None:
        self.given.append(f"roll back: {reason}")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(demo_operator, "time", clock)
    return clock


def operator(answers: Answers, told: list[str], fault: str | None) -> Operator:
    anything: Any = answers
    return Operator(anything, told.append, fault=fault)


FROZEN = status(Phase.SOAK, frozen="the guard cannot see: nothing is said " + "x" * 900)
BLIND = status(Phase.VERIFY, waiting=Waiting(what="the gate verify to see again: 503"))


async def test_a_waiting_gate_is_shown_before_it_is_approved(clock: Clock) -> None:
    answers, told = Answers(), []
    person = operator(answers, told, None)
    waiting = report(status(Phase.APPROVE_PREFER, waiting=Waiting(what="the approval `prefer`", gate="prefer")))
    await person.look(waiting)
    assert answers.given == []
    clock.now = THINKS_S
    await person.look(waiting)
    assert answers.given == ["approve prefer"]
    assert "acts as the operator" in told[0]


@pytest.mark.parametrize("undecided", [FROZEN, BLIND], ids=["frozen", "blind gate"])
async def test_what_stays_undecided_under_a_fault_is_rolled_back_once(clock: Clock, undecided: Any) -> None:
    answers, told = Answers(), []
    person = operator(answers, told, "metrics-empty")
    for clock.now in (0.0, PATIENCE_S - 0.1, PATIENCE_S, PATIENCE_S + 1):
        await person.look(report(undecided))
    assert len(answers.given) == 1
    assert len(answers.given[0]) < 500
    assert "the demo acts as the operator and rolls back" in told[0]


async def test_patience_begins_anew_when_it_sees_again(clock: Clock) -> None:
    answers = Answers()
    person = operator(answers, [], "metrics-empty")
    for clock.now, seen in ((0.0, FROZEN), (PATIENCE_S - 1, status()), (PATIENCE_S, FROZEN), (PATIENCE_S + 5, FROZEN)):
        await person.look(report(seen))
    assert answers.given == []


async def test_a_fault_that_passes_is_given_more_time(clock: Clock) -> None:
    answers = Answers()
    person = operator(answers, [], "api-500")
    for clock.now in (0.0, PATIENCE_S, PASSING_S - 1):
        await person.look(report(FROZEN))
    assert answers.given == []


async def test_without_a_fault_nobody_interferes(clock: Clock) -> None:
    answers = Answers()
    person = operator(answers, [], None)
    for clock.now in (0.0, 1000.0):
        await person.look(report(FROZEN))
    assert answers.given == []
