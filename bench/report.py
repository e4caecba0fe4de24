"""The table of losses as files: loss.json with everything, loss.md to read, loss.png to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.figures import CallFigures, Latency
from bench.loss import LossTable
from bench.plot import draw
from bench.rows import Measured

_HEAD = (
    "",
    "Calls placed",
    "**Calls lost**",
    "Retransmissions",
    "Peer that dials again: placed, lost",
    "Handshakes",
    "**Failed handshakes**",
    "**Longest gap**",
    "On A: p50 / p99",
    "On B: p50 / p99",
    "Drain",
    "Ended",
)


def write(table: LossTable, directory: Path) -> None:
    """Writes the three files, over older ones."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "loss.json").write_text(json.dumps(as_json(table), indent=1) + "\n")
    (directory / "loss.md").write_text(markdown(table))
    draw(table.rows, directory / "loss.png")


def as_json(table: LossTable) -> dict[str, object]:
    """Everything that was measured; times in the units that the names say."""
    rows = []
    for row in table.rows:
        kinds = {kind: {**asdict(one), "lost": one.lost} for kind, one in row.calls.items()}
        timeline = {"columns": ["second", "made", "failed", "p50_ms", "p99_ms"]}
        values = [[one.at, one.made, one.failed, one.p50_ms, one.p99_ms] for one in row.timeline]
        other = {"placed": row.other_peer.placed, "lost": row.other_peer.lost}
        rows.append({**asdict(row), "calls": kinds, "other_peer": other, "timeline": {**timeline, "rows": values}})
    return {
        "command": table.command,
        "machine": asdict(table.machine),
        "row_size": {**asdict(table.size), "seconds": table.size.seconds},
        "rows": rows,
    }


def markdown(table: LossTable) -> str:
    """The table and what it was measured on."""
    lines = ["# What a change of certificate loses", "", _line(_HEAD), _line(["---"] * len(_HEAD))]
    lines += [_line(cells(row)) for row in table.rows]
    calls = sum(row.total.placed for row in table.rows)
    made = sum(row.handshakes.made for row in table.rows)
    lines += [
        "",
        f"{calls} calls and {made} handshakes in all. Where each figure comes from: [README](../README.md).",
        "",
    ]
    lines += ["![Calls lost, gaps, and handshake times](loss.png)", ""]
    lines += ["## Row by row", ""]
    for row in table.rows:
        lines += [*_details(row), ""]
    return "\n".join([*lines, *_measured_on(table), ""])


def cells(row: Measured) -> list[str]:
    """One line of the table."""
    calls, made = row.total, row.handshakes
    return [
        row.title,
        str(calls.placed),
        f"**{calls.lost}**",
        str(calls.retransmissions),
        f"{row.other_peer.placed}, **{row.other_peer.lost}**",
        str(made.made),
        f"**{made.failed}**",
        f"**{made.longest_gap.ms:.0f} ms**",
        latency_text(made.a),
        latency_text(made.b),
        "n/a" if row.drain_s is None else f"{row.drain_s:.1f} s",
        row.ended,
    ]


def latency_text(latency: Latency) -> str:
    """`1.9 / 7.4 ms`, or a dash when nothing was served."""
    if latency.p50_ms is None or latency.p99_ms is None:
        return "–"
    return f"{latency.p50_ms:.1f} / {latency.p99_ms:.1f} ms"


def _details(row: Measured) -> list[str]:
    made = row.handshakes
    lines = [f"**{row.title}** – {row.seconds:.0f} s of traffic.", ""]
    lines += [f"- {kind}: {_calls(figures)}" for kind, figures in row.calls.items()]
    lines.append(f"- handshakes: {made.a.handshakes} on A, {made.b.handshakes} on B, {made.other} on anything else")
    gap = made.longest_gap
    lines.append(f"- longest gap: {gap.ms:.0f} ms, from {gap.since - row.begun:.1f} s on")
    if row.trouble:
        lines.append(f"- ended: {row.ended}; {row.trouble}")
    if made.causes:
        lines.append(f"- failed: {_counted(made.causes)}")
    if row.phases:
        lines.append("- " + ", ".join(f"{phase} at {at:.1f} s" for phase, at in row.phases.items()))
    return lines


def _calls(figures: CallFigures) -> str:
    causes = f" ({', '.join(figures.causes)})" if figures.causes else ""
    code = "killed, its calls did not end" if figures.exit_code is None else f"SIPp's exit code {figures.exit_code}"
    return f"{figures.placed} placed, {figures.lost} lost{causes}, {code}"


def _measured_on(table: LossTable) -> list[str]:
    loads = ", ".join(f"{before:.1f}–{after:.1f}" for before, after in (row.load_average for row in table.rows))
    return table.machine.lines(f"before and after each row: {loads}", table.command)


def _counted(causes: Mapping[str, int]) -> str:
    return ", ".join(f"{cause} ({count})" for cause, count in causes.items())


def _line(values: Sequence[str]) -> str:
    return f"| {' | '.join(values)} |"
