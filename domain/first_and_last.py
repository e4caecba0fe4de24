"""A record of what happens again and again: the first ones, the last ones, and how many there were in between.

Whoever sends signals, or a source that comes and goes for three days, must not make a rotation's state grow for ever.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class FirstAndLast(Generic[T]):
    """Keeps the first `first` and the last `last` of everything that was appended, in its order."""

    def __init__(self, first: int, last: int) -> None:
        self._most_first, self._most_last = first, last
        self._first: list[T] = []
        self._last: deque[T] = deque()
        self._count = 0

    def append(self, item: T) -> int:
        """Keeps it, perhaps at the cost of an older one in the middle. Its number, by which it can be replaced."""
        if len(self._first) < self._most_first:
            self._first.append(item)
        else:
            self._last.append(item)
            if len(self._last) > self._most_last:
                self._last.popleft()
        self._count += 1
        return self._count - 1

    def replace(self, number: int, item: T) -> None:
        """Another item in its place; nothing happens when it is not kept any more."""
        at = number - (self._count - len(self._last))
        if number < len(self._first):
            self._first[number] = item
        elif at >= 0:
            self._last[at] = item

    def get(self, number: int) -> T | None:
        """The item of that number, if it is kept."""
        at = number - (self._count - len(self._last))
        if number < len(self._first):
            return self._first[number]
        return self._last[at] if 0 <= at < len(self._last) else None

    @property
    def left_out(self) -> int:
        """How many were appended and are not kept."""
        return self._count - len(self)

    def __len__(self) -> int:
        return len(self._first) + len(self._last)

    def __iter__(self) -> Iterator[T]:
        yield from self._first
        yield from self._last
