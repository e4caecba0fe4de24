"""Rotations as a table, from search attributes alone: no worker is needed to read it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from desk.report import Row

_STYLES = {"RUNNING": "cyan", "COMPLETED": "green"}


def list_view(rows: Sequence[Row]) -> RenderableType:
    """One row a rotation, the newest first."""
    if not rows:
        return Text("no rotations")
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in ("rotation", "status", "phase", "verdict", "platforms", "trunks", "expires (UTC)"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            escape(row.id),
            Text(row.execution.lower(), style=_STYLES.get(row.execution, "bold red")),
            row.phase or "",
            row.verdict or "",
            escape("\n".join(row.platforms)),
            escape("\n".join(row.trunks)),
            f"{row.expiry:%Y-%m-%d %H:%M}" if row.expiry else "",
        )
    return table
