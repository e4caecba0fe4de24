"""When a watcher that changes its mind again and again is believed."""

from __future__ import annotations

from datetime import timedelta

from domain.flapping import CALM, TIMES_BLIND, WITHIN, calm_until
from tests.domain.readings import NOW

MINUTE = timedelta(minutes=1)


def test_a_few_changes_within_the_hour_are_believed_at_once() -> None:
    assert calm_until([], TIMES_BLIND) is None
    assert calm_until([NOW + n * MINUTE for n in range(TIMES_BLIND)], TIMES_BLIND) is None


def test_one_more_has_to_stay_calm_from_the_last_change_on() -> None:
    changes = [NOW + n * MINUTE for n in range(TIMES_BLIND + 1)]
    assert calm_until(changes, TIMES_BLIND) == changes[-1] + CALM


def test_changes_of_more_than_an_hour_ago_do_not_count() -> None:
    old = [NOW - WITHIN - MINUTE] * 10
    assert calm_until([*old, NOW], TIMES_BLIND) is None


def test_a_guard_that_flaps_for_ever_tells_at_most_a_handful_of_times_an_hour() -> None:
    """Blind at once whenever it may tell, and seeing again as soon as it is believed: 72 hours of it."""
    blind, moment = [NOW], NOW
    while moment < NOW + timedelta(hours=72):
        moment = max(moment + MINUTE, calm_until(blind, TIMES_BLIND) or moment)
        blind.append(moment)
    assert len(blind) <= 72 * (WITHIN / CALM + 1)
