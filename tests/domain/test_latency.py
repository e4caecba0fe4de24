"""Handshake times: the distribution, and the words that say B is slower – which few samples never say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.latency import ENOUGH, Latency, latency, regression

TIMES = st.lists(st.floats(0, 5000), min_size=1, max_size=60)


def test_percentiles_are_measured_times_by_nearest_rank() -> None:
    found = latency(float(n) for n in range(200, 0, -1))
    assert (found.count, found.p50, found.p95, found.p99, found.highest) == (200, 100.0, 190.0, 198.0, 200.0)
    assert found.above_budget == 0.5
    assert found.text() == "200 handshakes, p50 100 ms, p95 190 ms, p99 198 ms, max 200 ms, 50.00 % above 100 ms"


def test_a_hundred_milliseconds_are_within_the_budget() -> None:
    assert latency([100.0]).above_budget == 0.0
    assert latency([100.1]).above_budget == 1.0


def test_nothing_measured_is_no_distribution() -> None:
    assert latency([]) == Latency()
    assert latency([]).text() == "no handshakes"


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -1.0])
def test_what_is_no_time_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="finite number of milliseconds"):
        latency([10.0, wrong])


def test_b_that_is_slower_beyond_the_margin_is_told_with_both_figures() -> None:
    a, b = latency([40.0] * ENOUGH), latency([90.0] * ENOUGH)
    assert regression(a, b) == (
        "full handshakes are slower on B (20 handshakes) than on A (20): "
        "p50 90 ms on B, 40 ms on A; p95 90 ms on B, 40 ms on A"
    )
    tail = latency([40.0] * 18 + [300.0] * 2)
    assert regression(a, tail) == (
        "full handshakes are slower on B (20 handshakes) than on A (20): p95 300 ms on B, 40 ms on A"
    )


def test_the_margin_is_a_share_and_a_time_and_must_be_passed() -> None:
    a = latency([40.0] * ENOUGH)
    assert regression(a, latency([60.0] * ENOUGH)) is None
    assert regression(a, latency([60.1] * ENOUGH)) is not None
    assert regression(latency([2.0] * ENOUGH), latency([20.0] * ENOUGH)) is None
    hundred, more = latency([100.0] * ENOUGH), latency([140.0] * ENOUGH)
    assert regression(hundred, more) is None
    assert regression(hundred, more, margin=0.3) is not None


def test_few_samples_on_either_side_say_nothing() -> None:
    slow, fast = [900.0], [10.0]
    assert regression(latency(fast * ENOUGH), latency(slow * (ENOUGH - 1))) is None
    assert regression(latency(fast * (ENOUGH - 1)), latency(slow * ENOUGH)) is None
    assert regression(latency([]), latency([])) is None


@given(TIMES)
def test_the_figures_are_ordered_and_in_any_order_the_same(times: list[float]) -> None:
    found = latency(times)
    assert min(times) <= found.p50 <= found.p95 <= found.p99 <= found.highest == max(times)
    assert latency(reversed(times)) == found
    assert regression(found, found) is None
