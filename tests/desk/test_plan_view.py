"""What `starter.py plan` shows of a dry run."""

from __future__ import annotations

import pytest
from rich.console import Console

from desk.plan_view import dry_run_view
from desk.report import DryRun
from domain.gates import Finding, Verdict, combine
from tests.domain.readings import NOW


@pytest.mark.parametrize(
    ("verdict", "stops"),
    [
        (Verdict.PASS, False),
        (Verdict.NOT_CHECKED, False),
        (Verdict.WARN, False),
        (Verdict.INCONCLUSIVE, True),
        (Verdict.ERROR, True),
        (Verdict.FAIL, True),
    ],
)
def test_a_dry_run_shows_every_finding_and_counts_those_that_stop_a_rotation(verdict: Verdict, stops: bool) -> None:
    findings = [
        Finding(check="trunk", verdict=Verdict.PASS, seen="there"),
        Finding(check="clock of the worker", verdict=verdict, seen="the worker's clock is off"),
    ]
    console = Console(width=200, record=True)
    with console.capture() as shown:
        console.print(dry_run_view(DryRun(gate=combine("preflight", findings, NOW), a=None)))
    text = shown.get()
    assert "the worker's clock is off" in text
    assert ("1 finding: the rotation would not start" in text) is stops
    assert ("PREFLIGHT PASS" in text) is not stops
