"""A value that changes, with the instants at which it did: what a counter is computed from afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Generic, TypeVar

T = TypeVar("T")


class History(Generic[T]):
    """One value through time."""

    def __init__(self, since: datetime, value: T) -> None:
        self._values = [(since, value)]

    @property
    def now(self) -> T:
        """The value after the last change."""
        return self._values[-1][1]

    def change(self, at: datetime, value: T) -> None:
        """From `at` on it is `value`."""
        self._values.append((at, value))

    def at(self, moment: datetime) -> T:
        """The value at that moment; before the first, the first."""
        return next((value for since, value in reversed(self._values) if since <= moment), self._values[0][1])

    def turns(self) -> Iterator[datetime]:
        """The instants of all changes."""
        return (since for since, _ in self._values)
