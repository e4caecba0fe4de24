"""The phases of a rotation with their times: done, current, still to come."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.columns import Columns
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from desk.times import clock, span
from domain.phases import FINAL, FORWARD, Phase
from workflows.messages import PhaseTime, RotationStatus

_LOST = frozenset({Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.ABORTED})


def timeline(status: RotationStatus, *, until: datetime | None = None) -> RenderableType:
    """One row a phase: when it began and how long it took; then what is still to come."""
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("phase", no_wrap=True)
    table.add_column("since (UTC)", no_wrap=True)
    table.add_column("took", no_wrap=True, justify="right")
    for at, entered in enumerate(status.phases):
        table.add_row(
            Text(entered.phase.value, style=_style(entered.phase, current=at == len(status.phases) - 1)),
            clock(entered.entered_at),
            took(status.phases, at, until),
        )
    coming = to_come(status.phase)
    if coming:
        table.add_row(Text(f"then {coming[0].value}", style="dim"), Text(f"… {len(coming)} to come", style="dim"), "")
    return table


def compact(phases: Sequence[PhaseTime], *, plain: bool = False) -> RenderableType:
    """The phases in a few lines, for a live view."""
    done, now, lost = ("+", ">", "x") if plain else ("✔", "▶", "✘")
    cells = []
    for at, entered in enumerate(phases):
        current = at == len(phases) - 1
        mark = lost if entered.phase in _LOST else now if current and entered.phase not in FINAL else done
        style = _style(entered.phase, current=current)
        time = "" if entered.phase in FINAL else took(phases, at, None)
        cells.append(Text(f"{mark} {entered.phase.value} {time}".rstrip(), style=style))
    coming = to_come(phases[-1].phase) if phases else list(FORWARD)
    cells += [Text(f"· {phase.value}", style="dim") for phase in coming]
    return Columns(cells, padding=(0, 2), equal=True)


def took(phases: Sequence[PhaseTime], at: int, until: datetime | None) -> str:
    """How long a phase lasted, or lasts; nothing for a final one."""
    if phases[at].phase in FINAL:
        return ""
    end = phases[at + 1].entered_at if at + 1 < len(phases) else until or datetime.now(UTC)
    return span(end - phases[at].entered_at)


def to_come(phase: Phase) -> list[Phase]:
    """The phases after this one on the way to COMPLETED; none when the rotation turns back."""
    return list(FORWARD[FORWARD.index(phase) + 1 :]) if phase in FORWARD else []


def _style(phase: Phase, *, current: bool) -> str:
    if phase in _LOST:
        return "bold red"
    if phase is Phase.COMPLETED:
        return "bold green"
    return "bold cyan" if current else "green"
