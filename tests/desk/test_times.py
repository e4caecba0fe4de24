"""Durations as people read them."""

from __future__ import annotations

from datetime import timedelta

import pytest

from desk.times import span


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0.0 s"),
        (0.04, "0.0 s"),
        (2.34, "2.3 s"),
        (9.96, "10.0 s"),
        (45.4, "45 s"),
        (60, "1 min"),
        (725, "12 min 5 s"),
        (3600, "1 h"),
        (10920, "3 h 2 min"),
        (3605, "1 h"),
        (71 * 3600, "2 d 23 h"),
        (86400 * 3, "3 d"),
    ],
)
def test_spans_have_at_most_two_units(seconds: float, text: str) -> None:
    assert span(timedelta(seconds=seconds)) == text
