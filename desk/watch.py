"""Watches a rotation until it has ended: a live picture on a terminal, a line per change elsewhere."""

from __future__ import annotations

import asyncio
import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text
from temporalio.service import RPCError

from desk.changes import Changes
from desk.commands import rollback_command
from desk.report import Report
from desk.rotations import Rotations
from desk.status_view import brief_view
from domain.errors import Unreachable

EVERY_S = 1.0
SILENCE_S = 60.0
"""How long Temporal may be silent before the watch gives up."""


async def watch(console: Console, rotations: Rotations, name: str, *, link: str | None, plain: bool) -> Report:
    """The report at the end. Raises `Unreachable` when Temporal, or every worker, stays silent for a minute."""
    if not console.is_terminal:
        return await _lines(console, rotations, name)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        heard = time.monotonic()
        while True:
            report = await _report(rotations, name, heard)
            if report is not None:
                heard = time.monotonic() if report.status is not None else heard
                live.update(_picture(report, link, plain), refresh=True)
                if report.final:
                    return report
            await asyncio.sleep(EVERY_S)


async def _lines(console: Console, rotations: Rotations, name: str) -> Report:
    changes, heard = Changes(), time.monotonic()
    while True:
        report = await _report(rotations, name, heard)
        if report is not None:
            heard = time.monotonic() if report.status is not None else heard
            for line in changes.lines(report):
                console.print(escape(line), soft_wrap=True, highlight=False)
            if report.final:
                return report
        await asyncio.sleep(EVERY_S)


async def _report(rotations: Rotations, name: str, heard: float) -> Report | None:
    """One look; None while it cannot be made, for at most a minute."""
    silent = time.monotonic() - heard
    try:
        report = await rotations.report(name)
    except RPCError as error:
        if silent < SILENCE_S:
            return None
        raise Unreachable("Temporal does not answer", seen=error.message) from None
    if report.status is None and not report.final and silent >= SILENCE_S:
        raise Unreachable(
            "no worker answers",
            where=report.row.id,
            seen=report.unanswered or "",
            action="start one with `python worker.py`; the rotation goes on as soon as it runs",
        )
    return report


def _picture(report: Report, link: str | None, plain: bool) -> RenderableType:
    hint = Text("Ctrl-C leaves the rotation running", style="dim")
    if report.status is not None:
        hint.append(f"; to go back: {rollback_command(report.status.plan)}")
    return Group(brief_view(report, link=link, plain=plain), hint)
