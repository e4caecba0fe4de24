"""The demo as it runs: a live picture on a terminal, a line per change and a line of figures now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from desk.changes import Changes
from desk.figures import spoken, worst_first
from desk.report import Report
from desk.status_view import GATES, brief_view
from desk.times import clock
from desk.traffic import Traffic, traffic_line, traffic_table
from domain.plan import Plan

FIGURES_EVERY_S = 10.0
NOTES_SHOWN = 3


class DemoView:
    """Use as a context manager; `update` with every look, `note` for what the demo itself does."""

    def __init__(self, console: Console, *, web_ui: str, plan: Plan, plain: bool) -> None:
        self._console, self._web_ui = console, web_ui
        self._adopt_share, self._plain = plan.thresholds.adopt_share, plain
        self._changes = Changes()
        self._notes: list[str] = []
        self._figures_at = time.monotonic()
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def note(self, text: str) -> None:
        """Something that the demo does."""
        self._notes.append(text)
        if self._live is None:
            self._line(f"          {text}")

    def update(self, report: Report, traffic: Mapping[str, Traffic]) -> None:
        """A new look at the rotation and at the calls."""
        if self._live is not None:
            self._live.update(self._picture(report, traffic), refresh=True)
            return
        for line in self._changes.lines(report):
            self._line(line)
        if time.monotonic() - self._figures_at >= FIGURES_EVERY_S:
            self._figures_at = time.monotonic()
            self._line(f"          {traffic_line(traffic)}")
            for text in _looks(report):
                self._line(f"          {text}")

    def _picture(self, report: Report, traffic: Mapping[str, Traffic]) -> RenderableType:
        parts: list[RenderableType] = [
            brief_view(report, link=f"Web UI  {self._web_ui}", plain=self._plain, beside=self._table(traffic)),
            *(Text(note, style="bold yellow") for note in self._notes[-NOTES_SHOWN:]),
        ]
        return Group(*parts)

    def _table(self, traffic: Mapping[str, Traffic]) -> RenderableType:
        return traffic_table(traffic, adopt_share=self._adopt_share, plain=self._plain)

    def _line(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True, highlight=False)

    def __enter__(self) -> DemoView:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()


def _looks(report: Report) -> list[str]:
    """The running gate's worst figure, the guard's last words, and the error of what is being retried."""
    watchers = (*GATES, "guard")
    lines = [
        f"{one.activity}, attempt {one.attempt}: {one.said}" for one in report.looks if one.activity not in watchers
    ]
    for name in GATES:
        look = report.look(name)
        if look is not None and look.said:
            figures = worst_first(figure for figure in spoken(look.said) if figure.threshold is not None)
            worst = f"{figures[0].endpoint}: {figures[0].check}: {figures[0].seen}" if figures else look.said
            lines.append(f"gate {name}, look {look.attempt}: {worst}")
    guard = report.look("guard")
    if guard is not None:
        lines.append(f"guard, look {guard.attempt}: {guard.said}")
    return lines


def heading(web_ui: str, link: str, directory: str) -> str:
    """Where to look meanwhile."""
    return f"Web UI  {web_ui}\nthis rotation  {link}\nlogs  {directory}"


def ended(report: Report) -> str:
    """One line: how it ended and when."""
    at = f" at {clock(report.row.closed_at, day=False)} UTC" if report.row.closed_at else ""
    return f"{report.row.id} ended in {report.phase or report.row.execution}{at}"
