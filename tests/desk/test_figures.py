"""Figures and their bars."""

from __future__ import annotations

import pytest

from desk.figures import CUT_AT, Figure, bar, from_finding, share_text, spoken, worst_first
from domain.gates import Finding, Verdict, success_rate
from domain.handshakes import Tally


def test_what_a_finding_says_is_understood_again_from_its_text() -> None:
    tally = Tally(attempts=613, successes=612, failures={"timeout": 1})
    finding = success_rate("handshakes, inbound, A and B", tally, threshold=0.995, minimum_sample=600, endpoint="east")
    heard, known = spoken(finding.text())[0], from_finding(finding)
    assert (heard.endpoint, heard.check, heard.seen, heard.expected) == (
        known.endpoint,
        known.check,
        known.seen,
        known.expected,
    )
    assert heard.threshold == pytest.approx(0.995)
    assert heard.value == pytest.approx(612 / 613, abs=1e-4)


def test_a_count_is_no_share() -> None:
    counted = Finding(check="active calls on A", verdict=Verdict.INCONCLUSIVE, seen="3", expected="0", value=3.0)
    assert from_finding(counted).value is None
    assert spoken(counted.text())[0].value is None


def test_no_attempts_are_no_data_and_not_zero() -> None:
    heard = spoken("east: handshakes on B, inbound, platform: no attempts (expected > 99.50 % of at least 600)")[0]
    assert heard.value is None
    assert heard.holds is None
    assert share_text(heard.value) == "no data"


def test_a_part_that_was_cut_off_is_left_out() -> None:
    whole = "east: handshakes: 1 of 1 (100.00 %) (expected ≥ 99.50 % of at least 600); "
    text = (whole * 10)[:CUT_AT]
    assert {figure.check for figure in spoken(text)} == {"handshakes"}


def test_several_endpoints_are_told_apart() -> None:
    text = "east: share of new calls on B, inbound: 1 of 2 (50.00 %) (expected ≥ 85.00 % of at least 9); west: x: 2"
    assert [figure.endpoint for figure in spoken(text)] == ["east", "west"]


def test_figures_below_their_threshold_come_first() -> None:
    good = Figure(check="good", seen="", value=1.0, threshold=0.9)
    bad = Figure(check="bad", seen="", value=0.1, threshold=0.9)
    none = Figure(check="none", seen="")
    assert [figure.check for figure in worst_first([good, none, bad])] == ["bad", "none", "good"]


@pytest.mark.parametrize(
    ("value", "threshold", "drawn"),
    [
        (None, 0.995, "░░░░░░░░░░"),
        (0.0, None, "░░░░░░░░░░"),
        (0.5, None, "█████░░░░░"),
        (1.0, 0.85, "████████┃█"),
        (0.3, 0.85, "███░░░░░┃░"),
        (1.0, 1.0, "█████████┃"),
    ],
)
def test_a_bar_shows_the_share_and_its_threshold(value: float | None, threshold: float | None, drawn: str) -> None:
    assert bar(value, threshold, cells=10).plain == drawn
