"""What happens again and again is kept as its first ones, its last ones and a number."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.first_and_last import FirstAndLast


@given(st.integers(0, 6), st.integers(0, 6), st.integers(0, 40))
def test_first_ones_and_last_ones_are_kept_in_order_and_the_rest_is_counted(first: int, last: int, count: int) -> None:
    kept: FirstAndLast[int] = FirstAndLast(first, last)
    for item in range(count):
        assert kept.append(item) == item
    everything = list(range(count))
    wanted = everything if count <= first + last else everything[:first] + everything[count - last :]
    assert list(kept) == wanted
    assert len(kept) == len(wanted)
    assert kept.left_out == count - len(wanted)
    for item in everything:
        assert kept.get(item) == (item if item in wanted else None)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(1, 20), st.data())
def test_an_item_is_replaced_where_it_is_kept_and_nothing_else_is(
    first: int, last: int, count: int, data: st.DataObject
) -> None:
    kept: FirstAndLast[int] = FirstAndLast(first, last)
    for item in range(count):
        kept.append(item)
    number = data.draw(st.integers(0, count - 1))
    before = list(kept)
    kept.replace(number, -1)
    assert list(kept) == [-1 if item == number else item for item in before]
