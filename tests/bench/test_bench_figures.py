"""The figures of a row, from handshakes and totals that were written by hand."""

from __future__ import annotations

import pytest

from bench.figures import (
    CallFigures,
    drain_seconds,
    handshake_figures,
    longest_gap,
    percentile,
    seconds,
    together,
)
from bench.handshakes import Handshake


def good(at: float, leaf: str = "a", ms: float = 2.0) -> Handshake:
    return Handshake(at, ms, leaf, None)


def failed(at: float, cause: str = "connection refused") -> Handshake:
    return Handshake(at, 0.1, None, cause)


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([], 50, None),
        ([7.0], 1, 7.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 50, 2.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 102)], 99, 100.0),
        ([1.0, 9.0], 100, 9.0),
    ],
)
def test_a_percentile_is_a_value_that_occurred(values: list[float], percent: float, expected: float | None) -> None:
    assert percentile(values, percent) == expected


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_there_is_no_percentile_outside_0_to_100(percent: float) -> None:
    with pytest.raises(ValueError, match="percentage"):
        percentile([1.0], percent)


def test_the_longest_gap_lies_between_two_successes_in_any_order() -> None:
    gap = longest_gap([13.0, 10.0, 10.5, 12.5], 10.0, 13.2)
    assert (gap.since, gap.ms) == (10.5, pytest.approx(2000))


def test_the_ends_of_the_window_bound_gaps_too() -> None:
    assert longest_gap([11.0], 10.0, 15.0).ms == pytest.approx(4000)
    assert longest_gap([14.0], 10.0, 15.0).ms == pytest.approx(4000)
    assert longest_gap([], 10.0, 15.0).ms == pytest.approx(5000)


def test_a_failed_handshake_ends_no_gap_and_has_no_latency() -> None:
    seen = [good(0.0, ms=1.0), failed(1.0), failed(1.5, "no end within 2 s"), good(3.0, "b", ms=5.0), good(3.5, "x")]
    figures = handshake_figures(seen, "a", "b")
    assert (figures.made, figures.failed, figures.other) == (5, 2, 1)
    assert figures.causes == {"connection refused": 1, "no end within 2 s": 1}
    assert (figures.longest_gap.since, figures.longest_gap.ms) == (0.0, 3000)
    assert (figures.a.handshakes, figures.a.p50_ms, figures.a.p99_ms) == (1, 1.0, 1.0)
    assert (figures.b.handshakes, figures.b.p50_ms) == (1, 5.0)


def test_failures_after_the_last_success_are_a_gap() -> None:
    assert handshake_figures([good(0.0), failed(4.0)], "a", "b").longest_gap.ms == 4000


def test_a_change_that_never_came_to_b_has_no_latency_on_b() -> None:
    figures = handshake_figures([good(0.0), failed(1.0)], "a", None)
    assert (figures.b.handshakes, figures.b.p50_ms, figures.b.p99_ms) == (0, None, None)


def test_no_handshake_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="no handshake"):
        handshake_figures([], "a", "b")


def test_every_second_stands_for_itself() -> None:
    first, third = seconds([good(100.2, ms=1.0), good(100.9, ms=3.0), failed(102.0)], 100.0)
    assert (first.at, first.made, first.failed, first.p50_ms, first.p99_ms) == (0, 2, 0, 1.0, 3.0)
    assert (third.at, third.made, third.failed, third.p50_ms) == (2, 1, 1, None)


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        ({"PREFER": 10.0, "DRAIN": 20.0, "APPROVE_REMOVE": 25.0, "REMOVE": 26.0}, 15.0),
        ({"PREFER": 10.0, "DRAIN": 20.0, "REMOVE": 26.0}, 16.0),
        ({"PREFER": 10.0, "DRAIN": 20.0, "ROLLING_BACK": 26.0}, None),
        ({"restart": 10.0}, None),
    ],
)
def test_draining_ends_when_its_phase_has_passed(phases: dict[str, float], expected: float | None) -> None:
    assert drain_seconds(phases) == expected


def test_a_call_that_was_counted_as_neither_good_nor_failed_is_lost() -> None:
    both = together([CallFigures(10, 10, 1, 0), CallFigures(5, 3, 2, 0, ("FailedTcpClosed 1",))])
    assert (both.placed, both.lost, both.retransmissions, both.causes) == (15, 2, 3, ("FailedTcpClosed 1",))


@pytest.mark.parametrize(("codes", "expected"), [([0, 0], 0), ([0, 1], 1), ([None, 0], None), ([0, -11], -11)])
def test_an_exit_code_that_is_not_0_is_not_overlooked(codes: list[int | None], expected: int | None) -> None:
    assert together([CallFigures(1, 1, 0, code) for code in codes]).exit_code == expected
