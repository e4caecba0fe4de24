"""Tallies, samples and readings."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.handshakes import (
    CERTIFICATE_ALERTS,
    Record,
    Tally,
    call_setups,
    certificate_alerts,
    handshakes,
    percent,
    total,
)
from domain.plan import Direction
from tests.domain.readings import NOW, A, B, reading, sample, tally

tallies = st.builds(
    lambda good, failures: Tally(attempts=good + sum(failures.values()), successes=good, failures=failures),
    st.integers(0, 10_000),
    st.dictionaries(st.sampled_from(["unknown_ca", "timeout", "other"]), st.integers(0, 1000)),
)


# -- tallies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "figures",
    [
        {"attempts": 10, "successes": 9},
        {"attempts": 10, "successes": 11},
        {"attempts": 10, "successes": 9, "failures": {"timeout": 2}},
        {"attempts": 0, "successes": 0, "failures": {"timeout": 1}},
        {"attempts": -1, "successes": -1},
        {"attempts": 1, "successes": 2, "failures": {"timeout": -1}},
        {"attempts": float("nan"), "successes": 0},
        {"attempts": 10.5, "successes": 10.5},
    ],
)
def test_figures_that_do_not_add_up_are_refused(figures: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Tally(**figures)


@pytest.mark.parametrize(
    ("counted", "rate"),
    [(Tally(), None), (tally(0, timeout=5), 0.0), (tally(5), 1.0), (tally(995, timeout=5), 0.995)],
)
def test_no_attempts_have_no_success_rate(counted: Tally, rate: float | None) -> None:
    assert counted.success_rate == rate


@given(tallies, tallies, tallies)
def test_adding_tallies_loses_nothing_and_knows_no_order(a: Tally, b: Tally, c: Tally) -> None:
    assert (a + b) + c == a + (b + c)
    assert (a + b).attempts == a.attempts + b.attempts
    assert (a + b).successes == (b + a).successes
    assert total([a, b, c]) == a + b + c + Tally()


@pytest.mark.parametrize(
    ("counted", "text"),
    [
        (Tally(), "no attempts"),
        (tally(612), "612 of 612 (100.00 %)"),
        (tally(611, unknown_ca=1), "611 of 612 (99.83 %): 1 × unknown_ca"),
        (tally(1, timeout=0), "1 of 1 (100.00 %)"),
    ],
)
def test_a_tally_reads_as_a_sentence(counted: Tally, text: str) -> None:
    assert counted.text() == text


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (0.99499, "99.49 %"),
        (0.995, "99.50 %"),
        (0.98, "98.00 %"),
        (0.9799999, "97.99 %"),
        (1.0, "100.00 %"),
        (0, "0.00 %"),
    ],
)
def test_a_percentage_is_never_rounded_up_across_a_threshold(rate: float, text: str) -> None:
    assert percent(rate) == text


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_no_shown_percentage_lies_above_the_measured_one(parts: tuple[int, int]) -> None:
    successes, attempts = parts
    assert float(percent(successes / attempts).removesuffix(" %")) <= 100 * successes / attempts + 1e-6


# -- records -----------------------------------------------------------------------------------------------------------


class Figure(Record):
    """A record with a number."""

    value: float


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf"), "nan"])
def test_a_record_cannot_hold_a_figure_that_is_none(value: Any) -> None:
    with pytest.raises(ValidationError):
        Figure(value=value)


def test_a_record_is_not_changed_and_takes_no_unknown_field() -> None:
    with pytest.raises(ValidationError):
        Figure(value=1.0).value = 2.0  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Figure(value=1.0, other=2)  # type: ignore[call-arg]


# -- readings ----------------------------------------------------------------------------------------------------------


def test_the_age_of_a_reading_counts_from_when_it_was_read() -> None:
    assert reading(read_at=NOW - timedelta(seconds=7)).age(NOW) == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("counters_since", "reset"),
    [
        (None, False),
        (NOW - timedelta(hours=1), False),
        (NOW - timedelta(minutes=1), False),
        (NOW - timedelta(seconds=59), True),
    ],
    ids=["not told", "long ago", "as the window opened", "inside the window"],
)
def test_counters_that_were_reset_inside_the_window_do_not_cover_it(
    counters_since: datetime | None, reset: bool
) -> None:
    assert reading(counters_since=counters_since).reset_within() is reset


@pytest.mark.parametrize(
    ("narrowed", "kept"),
    [
        ({}, {"b in", "a in", "b out", "unknown", "stranger", "no peer"}),
        ({"sha256": B}, {"b in", "b out", "stranger", "no peer"}),
        ({"direction": Direction.OUTBOUND}, {"b out"}),
        ({"peers": ["192.0.2.10"]}, {"b in", "a in", "b out", "unknown", "no peer"}),
        ({"peers": []}, {"no peer"}),
        ({"sha256": B, "direction": Direction.INBOUND, "peers": ["192.0.2.10"]}, {"b in", "no peer"}),
    ],
    ids=["all", "one certificate", "one direction", "known peers", "no known peer", "all together"],
)
def test_real_traffic_is_narrowed_and_never_holds_our_own_probes(narrowed: dict[str, Any], kept: set[str]) -> None:
    known = "192.0.2.10"
    by_name = {
        "b in": sample(peer=known),
        "a in": sample(peer=known, sha256=A),
        "b out": sample(peer=known, direction=Direction.OUTBOUND),
        "unknown": sample(peer=known, sha256=None),
        "stranger": sample(peer="203.0.113.66", handshakes=tally(11)),
        "no peer": sample(handshakes=tally(12)),
        "probe": sample(peer=known, synthetic=True),
    }
    found = reading(*by_name.values()).real(**narrowed)
    assert {name for name, one in by_name.items() if one in found} == kept


def test_synthetic_samples_are_those_of_our_prober_on_that_certificate() -> None:
    ours = sample(synthetic=True)
    read = reading(ours, sample(), sample(synthetic=True, sha256=A), sample(synthetic=True, sha256=None))
    assert read.synthetic(sha256=B) == (ours,)


def test_handshakes_and_call_setups_are_counted_apart() -> None:
    samples = [sample(handshakes=tally(3, timeout=1), call_setups=tally(2)), sample(handshakes=tally(4))]
    assert handshakes(samples) == tally(7, timeout=1)
    assert call_setups(samples) == tally(2)


def test_only_alerts_about_the_certificate_count_as_certificate_alerts() -> None:
    failures = {"unknown_ca": 2, "certificate_expired": 1, "handshake_failure": 5, "timeout": 3, "connection_reset": 1}
    assert certificate_alerts([sample(handshakes=tally(1, **failures)), sample(handshakes=tally(0, unknown_ca=4))]) == 7
    assert len(CERTIFICATE_ALERTS) == 7
    assert "certificate_required" not in CERTIFICATE_ALERTS
