"""loss.png: what each row lost, how long nobody could connect, and how handshakes went second by second."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.rows import Measured

MARKED = ("BIND", "PREFER", "VERIFY", "DRAIN", "REMOVE", "COMPLETED", "ROLLING_BACK", "restart", "up again")
"""Phases worth a line in the timelines; the others come within a second of them."""
_APART = 0.015
_ROTATION, _RESTART, _FAILED = "#2a7f62", "#c0562f", "#b00020"


def draw(rows: Sequence[Measured], file: Path) -> None:
    """Two bar charts above one timeline for each row."""
    mpl.use("Agg")
    figure = Figure(figsize=(12, 3.2 + 2.4 * len(rows)), layout="constrained")
    grid = figure.add_gridspec(1 + len(rows), 2, height_ratios=[1.5, *[1] * len(rows)])
    lost, gaps = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[0, 1])
    _bars(lost, rows, "calls lost", [float(row.total.lost) for row in rows])
    _bars(gaps, rows, "longest gap between good handshakes, ms", [row.handshakes.longest_gap.ms for row in rows])
    gaps.tick_params(labelleft=False)
    for number, row in enumerate(rows, 1):
        _timeline(figure.add_subplot(grid[number, :]), row)
    figure.savefig(file, dpi=110)


def marks(phases: Mapping[str, float], *, apart_s: float) -> list[tuple[float, str]]:
    """Where to mark which phases, in order; those that follow within `apart_s` seconds share the first one's mark."""
    placed: list[tuple[float, str]] = []
    for phase, at in sorted(phases.items(), key=lambda item: item[1]):
        if phase not in MARKED:
            continue
        if placed and at - placed[-1][0] < apart_s:
            placed[-1] = (placed[-1][0], f"{placed[-1][1]}, {phase}")
        else:
            placed.append((at, phase))
    return placed


def _bars(axes: Axes, rows: Sequence[Measured], title: str, values: Sequence[float]) -> None:
    colours = [_ROTATION if row.is_rotation else _RESTART for row in rows]
    bars = axes.barh([row.title for row in rows], values, color=colours)
    axes.bar_label(bars, labels=[f"{value:.0f}" for value in values], padding=3)
    axes.set_title(title)
    axes.set_xlim(0, max([1.0, *values]) * 1.15)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)


def _timeline(axes: Axes, row: Measured) -> None:
    """The median and the 99th percentile of every second, and seconds in which handshakes failed."""
    at = [second.at + 0.5 for second in row.timeline]
    # a second without a good handshake is a hole in the line
    axes.plot(at, [second.p99_ms or math.nan for second in row.timeline], color="#9aa5b1", linewidth=1, label="p99")
    axes.plot(at, [second.p50_ms or math.nan for second in row.timeline], color="#1f4e79", linewidth=1.4, label="p50")
    for second in row.timeline:
        if second.failed:
            axes.axvspan(second.at, second.at + 1, color=_FAILED, alpha=0.25)
    axes.set_yscale("log")
    axes.set_ylabel("handshake, ms")
    axes.set_xlabel("seconds of traffic")
    axes.set_xlim(0, row.seconds)
    axes.set_title(f"{row.title}: {row.handshakes.failed} of {row.handshakes.made} handshakes failed", loc="left")
    for at_s, label in marks(row.phases, apart_s=row.seconds * _APART):
        axes.axvline(at_s, color="black", linewidth=0.6, linestyle=":")
        axes.annotate(
            f" {label}", (at_s, 0.97), xycoords=("data", "axes fraction"), rotation=90, va="top", fontsize=6.5
        )
    axes.legend(loc="upper right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
