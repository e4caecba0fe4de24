"""Exact tests on the binomial distribution, against figures from tables and against sums of plain probabilities."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.confidence import at_least, clearly_below


@pytest.mark.parametrize(
    ("failures", "needed"),
    [(0, 598), (1, 947), (2, 1258), (3, 1549)],
)
def test_how_many_attempts_99_5_percent_needs_at_95_percent_confidence(failures: int, needed: int) -> None:
    def shown(attempts: int) -> bool:
        return at_least(0.995, successes=attempts - failures, attempts=attempts, confidence=0.95)

    assert [shown(needed - 1), shown(needed), shown(needed + 1)] == [False, True, True]


def test_no_attempts_show_nothing() -> None:
    assert not at_least(0.5, successes=0, attempts=0, confidence=0.5)
    assert not clearly_below(0.5, successes=0, attempts=0, chance=0.5)


def test_where_every_call_succeeded_before_one_failure_is_no_chance() -> None:
    assert clearly_below(1.0, successes=99, attempts=100, chance=1e-6)
    assert not clearly_below(1.0, successes=100, attempts=100, chance=1e-6)


def test_so_many_attempts_that_plain_powers_would_vanish() -> None:
    assert at_least(0.995, successes=997_000, attempts=1_000_000, confidence=0.99)
    assert not at_least(0.995, successes=995_000, attempts=1_000_000, confidence=0.99)
    assert clearly_below(0.95, successes=940_000, attempts=1_000_000, chance=1e-6)
    assert not clearly_below(0.95, successes=949_500, attempts=1_000_000, chance=1e-6)


samples = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
shares = st.floats(0.05, 0.95)


def plain(attempts: int, share: float, failures: range) -> float:
    return sum(math.comb(attempts, k) * share**k * (1 - share) ** (attempts - k) for k in failures)


@given(samples, shares, st.floats(0.5, 0.999))
def test_the_bound_is_the_sum_of_the_distribution(sample: tuple[int, int], share: float, confidence: float) -> None:
    attempts, failures = sample
    probability = plain(attempts, 1 - share, range(failures + 1))
    if math.isclose(probability, 1 - confidence, rel_tol=1e-6):
        return
    expected = probability <= 1 - confidence and failures < (1 - share) * attempts
    assert at_least(share, successes=attempts - failures, attempts=attempts, confidence=confidence) is expected


@given(samples, shares, st.floats(1e-9, 0.2))
def test_chance_is_the_other_end_of_it(sample: tuple[int, int], share: float, chance: float) -> None:
    attempts, failures = sample
    probability = plain(attempts, 1 - share, range(failures, attempts + 1))
    if math.isclose(probability, chance, rel_tol=1e-6):
        return
    expected = probability <= chance and failures > (1 - share) * attempts
    assert clearly_below(share, successes=attempts - failures, attempts=attempts, chance=chance) is expected
