"""The table of rollbacks as files: rollback.json with each, rollback.md to read, rollback.png to look at."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from bench.machine import Machine
from bench.rollbacks import Took

BUDGET_S = 30.0
"""Promise 3: from the sample that breached to A alone read back from every endpoint."""


@dataclass(frozen=True, slots=True)
class RollbackTable:
    """All rollbacks as measured, and what was asked for."""

    command: str
    machine: Machine
    rollbacks: tuple[Took, ...]
    load_average: tuple[float, float]

    @property
    def all_in_time(self) -> bool:
        """The claim: every one ended with A alone, inside the budget."""
        return all(
            one.trouble is None and one.ended == "ROLLED_BACK" and one.seconds is not None and one.seconds < BUDGET_S
            for one in self.rollbacks
        )


def at_rank(values: Sequence[float], share: float) -> float:
    """The value at that share (0–1) by nearest rank. Raises ValueError without any value."""
    if not values:
        raise ValueError("no values")
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def write(table: RollbackTable, directory: Path) -> None:
    """Writes the three files, over older ones."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "rollback.json").write_text(json.dumps(asdict(table), indent=1) + "\n")
    (directory / "rollback.md").write_text(markdown(table))
    draw(table, directory / "rollback.png")


def groups(table: RollbackTable) -> dict[str, list[Took]]:
    """The rollbacks by edge and cause, in the order in which they were made."""
    found: dict[str, list[Took]] = {}
    for one in table.rollbacks:
        found.setdefault(f"{one.case.edge}, {one.case.cause}", []).append(one)
    return found


def markdown(table: RollbackTable) -> str:
    """The table and what it was measured on."""
    lines = [
        "# How long a rollback takes",
        "",
        "| Edge, cause | Rollbacks | Not in time | A alone: p50 | p99 | max | First call: p50 | max |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(name, ones) for name, ones in groups(table).items()]
    lines += [_row("**all**", table.rollbacks), ""]
    phases = sorted({one.phase for one in table.rollbacks})
    machine = table.machine
    lines += [
        f"Turned back in {', '.join(phases)}. Where each figure comes from: [README](../README.md).",
        "",
        "![How long each took](rollback.png)",
        "",
        *[
            f"- **not in time**: {one.case}, {one.ended}, {one.seconds} s, {one.trouble}"
            for one in _late(table.rollbacks)
        ],
        *machine.lines(f"{table.load_average[0]:.1f}–{table.load_average[1]:.1f}", table.command),
        "",
    ]
    return "\n".join(lines)


def draw(table: RollbackTable, file: Path) -> None:
    """One point for each rollback, by edge and cause, against the budget."""
    mpl.use("Agg")
    named = groups(table)
    figure = Figure(figsize=(10, 1.6 + 0.55 * len(named)), layout="constrained")
    axes = figure.add_subplot()
    for row, ones in enumerate(named.values()):
        seconds = [one.seconds for one in ones if one.seconds is not None]
        axes.plot(seconds, [row] * len(seconds), "o", alpha=0.45, color="#1f4e79")
    axes.axvline(BUDGET_S, color="#b00020", linestyle="--", label=f"budget, {BUDGET_S:.0f} s")
    axes.set_yticks(range(len(named)), list(named))
    axes.set_ylim(len(named) - 0.5, -0.5)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set_xlabel("seconds from the sample that breached, or the signal, to A alone read back")
    axes.legend(loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)


def _late(ones: Sequence[Took]) -> list[Took]:
    return [o for o in ones if o.trouble or o.ended != "ROLLED_BACK" or o.seconds is None or o.seconds >= BUDGET_S]


def _row(name: str, ones: Sequence[Took]) -> str:
    seconds = [one.seconds for one in ones if one.seconds is not None]
    calls = [one.first_call_ms for one in ones if one.first_call_ms is not None]
    times = [f"{at_rank(seconds, share):.2f} s" for share in (0.5, 0.99, 1.0)] if seconds else ["–"] * 3
    firsts = [f"{at_rank(calls, share):.0f} ms" for share in (0.5, 1.0)] if calls else ["–"] * 2
    return f"| {' | '.join([name, str(len(ones)), str(len(_late(ones))), *times, *firsts])} |"
