"""The lab's counters: windows, grouping, faults."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from lab.ledger import Group, Ledger

T0 = datetime(2026, 11, 23, 18, 40, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now = T0

    def __call__(self) -> datetime:
        return self.now


def test_events_count_from_since_up_to_but_not_at_until() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    for second in range(4):
        clock.now = T0 + second * SECOND
        ledger.handshake("INBOUND", "a", "192.0.2.10")
    counts = ledger.counts(T0 + SECOND, T0 + 3 * SECOND)
    assert counts[Group("a", "INBOUND", "192.0.2.10")].handshakes.attempts == 2
    assert ledger.counts(T0 + 9 * SECOND, T0 + HOUR) == {}


def test_outcomes_are_grouped_by_leaf_direction_and_peer() -> None:
    ledger = Ledger(Clock())
    ledger.handshake("INBOUND", "a", "p")
    ledger.handshake("INBOUND", "a", "p", "unknown_ca")
    ledger.handshake("INBOUND", None, "p", "handshake_failure")
    for status in (200, 486, 487, 603, 403, 408):
        ledger.call_setup("OUTBOUND", "a", "p", status)
    counts = ledger.counts(T0, T0 + SECOND)
    groups = [Group("a", "INBOUND", "p"), Group(None, "INBOUND", "p"), Group("a", "OUTBOUND", "p")]
    assert set(counts) == set(groups)
    handshakes = counts[Group("a", "INBOUND", "p")].handshakes
    assert (handshakes.attempts, handshakes.successes, handshakes.failures) == (2, 1, {"unknown_ca": 1})
    calls = counts[Group("a", "OUTBOUND", "p")].call_setups
    assert (calls.attempts, calls.successes, calls.failures) == (6, 4, {403: 1, 408: 1})


def test_a_frozen_ledger_knows_nothing_new_until_it_thaws() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.handshake("INBOUND", "a", "p")
    clock.now = T0 + SECOND
    ledger.frozen = True
    clock.now = T0 + 2 * SECOND
    ledger.handshake("INBOUND", "b", "p")
    assert set(ledger.counts(T0, T0 + HOUR)) == {Group("a", "INBOUND", "p")}
    assert ledger.read_at == T0 + SECOND
    ledger.frozen = False
    assert set(ledger.counts(T0, T0 + HOUR)) == {Group("a", "INBOUND", "p"), Group("b", "INBOUND", "p")}
    assert ledger.read_at == clock.now


def test_a_reset_forgets_everything_and_says_when() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.handshake("INBOUND", "a", "p")
    assert ledger.counters_since == T0
    clock.now = T0 + SECOND
    ledger.reset()
    assert ledger.counts(T0, T0 + HOUR) == {}
    assert ledger.counters_since == T0 + SECOND


def test_events_older_than_an_hour_are_forgotten_and_a_clock_set_back_breaks_no_order() -> None:
    clock = Clock()
    ledger = Ledger(clock)
    ledger.handshake("INBOUND", "a", "p")
    clock.now = T0 + HOUR + SECOND
    ledger.handshake("INBOUND", "b", "p")
    assert set(ledger.counts(T0, T0 + 2 * HOUR)) == {Group("b", "INBOUND", "p")}
    clock.now = T0
    ledger.handshake("INBOUND", "c", "p")
    later = ledger.counts(T0 + HOUR + SECOND, T0 + 2 * HOUR)
    assert set(later) == {Group("b", "INBOUND", "p"), Group("c", "INBOUND", "p")}
