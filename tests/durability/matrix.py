"""The crash matrix: every side effect of a rotation, forward and on the longest way back, with two moments of death.

The side effects come from the taps' journal of two rotations that nothing disturbed, so that a new one is covered by
itself. `DURABILITY` selects: `full` (the default), `tenth` for every tenth case, or `2/10` for the second of ten parts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from domain.phases import Phase
from tests.durability.taps import Passage


class Way(StrEnum):
    """Which rotation the side effect was seen in."""

    FORWARD = "forward"
    BACK = "back from HOLD"


class Death(StrEnum):
    """When the worker is killed."""

    BEFORE = "before it was sent on"
    AFTER = "after it was done, before the worker knew"


@dataclass(frozen=True)
class Case:
    """One worker's death; `phase` is where the side effect was seen."""

    way: Way
    phase: str
    effect: Passage
    death: Death

    def __str__(self) -> str:
        return f"{self.way}, {self.effect}, killed {self.death}"


def cases(forward: Sequence[tuple[str, Passage]], back: Sequence[tuple[str, Passage]]) -> list[Case]:
    """The whole matrix, from phases and side effects. `back` begins where the rollback does: `forward` has the rest.

    Endpoints act side by side, so within a phase it is ordered by name: a part is the same part in every run.
    """
    ways = [(Way.FORWARD, *seen) for seen in sorted(forward, key=_order)]
    ways += [(Way.BACK, *seen) for seen in sorted(back, key=_order)]
    return [Case(way, phase, effect, death) for way, phase, effect in ways for death in Death]


def _order(seen: tuple[str, Passage]) -> tuple[int, str, str, int]:
    phase, effect = seen
    return list(Phase).index(Phase(phase)), effect.service, effect.operation, effect.number


def selected(matrix: Sequence[Case], choice: str | None = None) -> list[Case]:
    """The part that `DURABILITY` names. Raises ValueError when it names none."""
    choice = choice or os.environ.get("DURABILITY") or "full"
    if choice == "full":
        return list(matrix)
    part, _, parts = ("1/10" if choice == "tenth" else choice).partition("/")
    if not (part.isdigit() and parts.isdigit() and 1 <= int(part) <= int(parts)):
        raise ValueError(f"DURABILITY={choice}: tenth, full, or a part like 2/10")
    return list(matrix[int(part) - 1 :: int(parts)])
