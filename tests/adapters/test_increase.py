"""The arithmetic of cumulative counters, over samples written down by hand."""

from __future__ import annotations

import pytest

from adapters.metrics.increase import Points, Starts, increase_of, moment_of

SINCE = 1000.0


@pytest.mark.parametrize(
    ("points", "starts", "increase", "first_at", "last_at", "resets"),
    [
        pytest.param([(995, 10), (1005, 13), (1015, 20)], [(995, 500)], 10, 995, 1015, 0, id="rises"),
        pytest.param([(985, 4), (995, 10), (1005, 13)], [], 3, 995, 1005, 0, id="only the last sample before counts"),
        pytest.param([(1000, 10), (1005, 13)], [], 3, 1000, 1005, 0, id="a sample at the beginning is before it"),
        pytest.param([(995, 10), (1005, 10)], [], 0, 995, 1005, 0, id="stands still"),
        pytest.param([(985, 4), (995, 10)], [], 0, 995, 995, 0, id="no sample within"),
        pytest.param([(995, 10), (1005, 13), (1015, 2), (1025, 5)], [], 8, 995, 1025, 1, id="falls: began anew"),
        pytest.param([(995, 9), (1005, 1), (1015, 0), (1025, 3)], [], 4, 995, 1025, 2, id="falls twice"),
        pytest.param(
            [(995, 3), (1005, 10)],
            [(995, 500), (1005, 1002)],
            10,
            995,
            1005,
            1,
            id="another process that overtook the first unseen",
        ),
        pytest.param(
            [(995, 13), (1005, 10), (1010, 12)],
            [(995, 500), (1005, 1000)],
            12,
            995,
            1010,
            0,
            id="a process with which the window begins",
        ),
        pytest.param(
            [(995, 3), (1005, 10)], [(995, 500), (1005, 501)], 7, 995, 1005, 0, id="a start time that flutters by 1 s"
        ),
        pytest.param(
            [(1005, 2), (1015, 6)],
            [(995, 500), (1005, 500)],
            6,
            995,
            1015,
            0,
            id="appears on a target looked at before",
        ),
        pytest.param(
            [(1010, 2), (1015, 6)],
            [(1005, 1002), (1010, 1002)],
            6,
            1002,
            1015,
            0,
            id="a process younger than the window",
        ),
        pytest.param(
            [(1005, 2), (1015, 6)], [(1005, 500)], 4, 1005, 1015, 0, id="a process that nobody looked at before"
        ),
        pytest.param([(1005, 2), (1015, 6)], [], 4, 1005, 1015, 0, id="a process that does not tell its start"),
        pytest.param(
            [(1005, 2)], [(1005, 1006)], 0, 1005, 1005, 0, id="a start later than what it counted is not believed"
        ),
        pytest.param(
            [(1015, 4)],
            [(995, 500), (1005, 1003), (1015, 1003)],
            4,
            995,
            1015,
            1,
            id="appears after a restart of a target looked at before",
        ),
    ],
)
def test_a_rise_is_counted_to_the_sample(
    points: Points, starts: Points, increase: float, first_at: float, last_at: float, resets: int
) -> None:
    counted = increase_of({"peer": "192.0.2.1"}, points, Starts(starts), SINCE)
    assert counted.increase == increase
    assert (counted.first_at, counted.last_at) == (moment_of(first_at), moment_of(last_at))
    assert counted.resets == resets
    assert counted.labels == {"peer": "192.0.2.1"}


def test_neighbouring_windows_add_up_wherever_they_meet() -> None:
    points: Points = [(990, 5), (1000, 7), (1010, 12), (1020, 3), (1030, 3), (1040, 9)]
    starts = Starts([(990, 500), (1020, 1015), (1040, 1015)])
    whole = increase_of({}, points, starts, 990).increase
    for meeting in range(990, 1041):
        left = increase_of({}, [point for point in points if point[0] <= meeting], starts, 990).increase
        right = increase_of({}, points, starts, meeting).increase
        assert left + right == whole == 16
