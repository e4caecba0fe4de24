"""The table of losses: its size, its rows one after the other, and its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.machine import Machine, this_machine
from bench.rows import Measured, Row, RowSize, measure


@dataclass(frozen=True, slots=True)
class LossTable:
    """All rows as measured, and what was asked for."""

    command: str
    machine: Machine
    size: RowSize
    rows: tuple[Measured, ...]

    @property
    def rotations_lost_nothing(self) -> bool:
        """The claim: every rotation of the table completed and lost neither a call nor a handshake."""
        return all(row.nothing_lost for row in self.rows if row.is_rotation)


def row_size(calls: int, handshakes: int, rate: float, rows: int) -> RowSize:
    """A row's part of a table of so many calls and handshakes, at `rate` calls per second."""
    return RowSize(-(-calls // rows), -(-handshakes // rows), rate)


async def loss_table(rows: Sequence[Row], size: RowSize, command: str, say: Callable[[str], None]) -> LossTable:
    """Measures one row after the other, each on servers of its own; `say` gets a line for people now and then."""
    machine, measured = this_machine(), []
    for row in rows:
        say(f"{row.title}: {size.calls} calls and {size.handshakes} handshakes in about {size.seconds:.0f} s")
        measured.append(await measure(row, size))
        one = measured[-1]
        say(f"  {one.ended}; {one.total.lost} calls and {one.handshakes.failed} handshakes lost")
    return LossTable(command, machine, size, tuple(measured))
