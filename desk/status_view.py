"""A rotation for people: where it stands, by which figures, and the command that answers what it waits for."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from desk.commands import approve_command, resume_command, rollback_command
from desk.figures import STYLES, Figure, bar, from_finding, share_text, spoken, worst_first
from desk.report import Look, Report
from desk.timeline import compact, timeline
from desk.times import clock, span
from domain.gates import GateResult
from domain.guard import GuardVerdict
from domain.phases import TRANSITIONS, Phase
from workflows.messages import RotationStatus

GATES = ("readiness", "soak", "verify", "adopt", "drain")
"""Watchers that are gates; `guard` is the other one."""

_GUARD_STYLES = {GuardVerdict.HEALTHY: "green", GuardVerdict.QUIET: "cyan", GuardVerdict.BLIND: "yellow"}
_SHOWN = 6


def status_view(report: Report, *, link: str | None = None, plain: bool = False) -> RenderableType:
    """Everything about one rotation. `plain` draws bars with ASCII only."""
    parts: list[RenderableType] = [_headline(report)]
    if link:
        parts.append(Text(link, style="dim"))
    if report.status is None:
        return Group(*parts, _unanswered(report))
    status = report.status
    parts += [*_state(report, status), timeline(status, until=report.row.closed_at), _certificates(status)]
    parts += [*_endpoints(status), *_gates(report, status, plain), *_guard(report, status)]
    parts += [*_retried(report), *_people(status), *_alerts(status)]
    if status.not_checked:
        parts.append(Text.assemble(("Not checked  ", "bold"), (", ".join(status.not_checked), "dim")))
    return Group(*parts)


def brief_view(
    report: Report, *, link: str | None = None, plain: bool = False, beside: RenderableType | None = None
) -> RenderableType:
    """What changes while one watches, the least important last: a terminal may cut it off at its lower edge."""
    parts: list[RenderableType] = [_headline(report)]
    if link:
        parts.append(Text(link, style="dim"))
    if report.status is None:
        return Group(*parts, _unanswered(report))
    status = report.status
    parts += [compact(status.phases, plain=plain), *_state(report, status)]
    parts += [beside] if beside is not None else []
    parts += [*_guard(report, status), *_retried(report), *_running_gates(report, plain, brief=True)]
    return Group(*parts)


def _headline(report: Report) -> Text:
    row, phase = report.row, report.phase
    style = {"RUNNING": "bold cyan", "COMPLETED": "bold green"}.get(row.execution, "bold red")
    line = Text.assemble((row.id, "bold"), "  ", (phase.value if phase else "?", style))
    line.append(f"  {row.execution.lower()}", style=style)
    line.append(f"  {report.history_events} events", style="dim")
    if row.closed_at is not None:
        line.append(f"  ended {clock(row.closed_at)} UTC after {span(row.closed_at - row.started_at)}", style="dim")
    else:
        line.append(f"  started {clock(row.started_at)} UTC", style="dim")
    return line


def _unanswered(report: Report) -> Text:
    text = Text()
    if report.failure:
        text.append(f"Failed: {report.failure}\n", style="bold red")
    text.append(f"No details: {report.unanswered}\n", style="yellow")
    text.append("Phase and verdict are those of the search attributes; start a worker to see the rest.")
    return text


def _state(report: Report, status: RotationStatus) -> list[RenderableType]:
    name, lines = status.plan, Text()
    failure = status.failure or report.failure
    if failure:
        lines.append(f"Failed: {failure}\n", style="bold red")
    elif status.rollback is not None:
        lines.append(f"Turning back: {status.rollback.turn_back.text()}\n", style="bold red")
    if status.rollback is not None and status.rollback.a_alone_seconds is not None:
        over = ", over the budget of 30 s" if status.rollback.over_budget else ""
        lines.append(f"A alone everywhere after {status.rollback.a_alone_seconds:.1f} s{over}\n")
    if status.frozen:
        lines.append(f"Advance is frozen: {status.frozen}\n", style="yellow")
    if status.paused is not None and not report.final:
        lines.append(f"{status.paused.text()}\n", style="yellow")
        lines.append(f"  to go on    {resume_command(name)}\n")
    if status.waiting is not None and not report.final:
        until = f", until {clock(status.waiting.until)} UTC" if status.waiting.until else ""
        lines.append(f"Waiting for {status.waiting.what}{until}\n", style="bold yellow")
        if status.waiting.gate:
            lines.append(f"  to answer   {approve_command(name, status.waiting.gate)}\n")
    if Phase.ROLLING_BACK in TRANSITIONS[status.phase] and not report.final:
        lines.append(f"  to go back  {rollback_command(name)}\n", style="dim")
    lines.rstrip()
    return [lines] if lines else []


def _certificates(status: RotationStatus) -> RenderableType:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in ("", "SHA-256", "serial", "expires (UTC)", ""):
        table.add_column(column, overflow="fold")
    for name, certificate in (("A", status.a), ("B", status.b)):
        if certificate is not None:
            note = "revoked" if name == "A" and status.a_revoked else ""
            expires = f"{certificate.not_after:%Y-%m-%d %H:%M}"
            table.add_row(name, certificate.sha256[:12], certificate.serial, expires, note)
    return table if table.row_count else Text("certificates are not read yet", style="dim")


def _endpoints(status: RotationStatus) -> list[RenderableType]:
    lines = Text()
    for endpoint in status.endpoints:
        lines.append(endpoint.name, style="bold")
        lines.append(f"  {endpoint.platform} {endpoint.trunk}, {endpoint.role}")
        lines.append(f"  {endpoint.last}\n" if endpoint.last else "\n", style="dim")
    lines.rstrip()
    return [lines] if lines else []


def _gates(report: Report, status: RotationStatus, plain: bool) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for gate in status.gates:
        parts += [_verdict(gate), *figure_table([from_finding(f) for f in gate.findings], plain)]
    return parts + _running_gates(report, plain)


def _running_gates(report: Report, plain: bool, *, brief: bool = False) -> list[RenderableType]:
    """The last look of every gate that is being watched, with its figures as bars."""
    parts: list[RenderableType] = []
    for name in GATES:
        look = report.look(name)
        if look is not None:
            said = look.said or ""
            parts.append(Text.assemble((f"{name} ", "bold"), (f"look {look.attempt}{_next(look)}", "cyan")))
            figures = worst_first(spoken(said)) if brief else spoken(said)
            parts += figure_table(figures, plain, one_line=brief) or [Text(f"  {said}", style="dim")]
    return parts


def _verdict(gate: GateResult) -> Text:
    line = Text.assemble((f"{gate.gate} ", "bold"), (gate.verdict.value, STYLES[gate.verdict]))
    if gate.overridden_by:
        line.append(f", overridden by {gate.overridden_by}", style="yellow")
    if gate.verdict.value != "PASS":
        line.append(f"  {gate.reason}")
    return line


def figure_table(figures: list[Figure], plain: bool, *, one_line: bool = False) -> list[RenderableType]:
    """Figures that have a share, as bars; nothing when there is none. `one_line` cuts what does not fit."""
    shares = [figure for figure in figures if figure.threshold is not None]
    if not shares:
        return []
    table = Table(box=None, show_header=False, pad_edge=True)
    for column in range(4):
        table.add_column(no_wrap=column < 2 or one_line)
    for figure in shares:
        table.add_row(
            bar(figure.value, figure.threshold, plain=plain),
            share_text(figure.value),
            escape(": ".join(part for part in (figure.endpoint, figure.check) if part)),
            Text(figure.seen if not figure.synthetic else f"{figure.seen} (synthetic)", style="dim"),
        )
    return [table]


def _guard(report: Report, status: RotationStatus) -> list[RenderableType]:
    look, said = report.look("guard"), status.guard
    if look is None and said is None:
        return []
    verdict = said.verdict if said is not None else GuardVerdict.HEALTHY
    line = Text.assemble(("guard ", "bold"), (verdict.value, _GUARD_STYLES.get(verdict, "bold red")))
    if said is not None:
        line.append(f"  since {clock(said.at, day=False)}: {said.text}")
    if look is not None:
        line.append(f"\n  look {look.attempt}{_next(look)}: {look.said}", style="dim")
    return [line]


def _retried(report: Report) -> list[RenderableType]:
    lines = [
        Text(f"{look.activity}, attempt {look.attempt}: {look.said}", style="yellow")
        for look in report.looks
        if look.said and look.activity not in (*GATES, "guard")
    ]
    return [Group(Text("Being retried", style="bold"), *lines)] if lines else []


def _people(status: RotationStatus) -> list[RenderableType]:
    lines = Text()
    for decision in status.decisions[-_SHOWN:]:
        what = f"{decision.message} {decision.gate or ''}".strip()
        lines.append(f"{clock(decision.at, day=False)}  {what} by {decision.by or '?'}: {decision.outcome}")
        lines.append(" UNENCRYPTED" if decision.plaintext else "", style="yellow")
        lines.append(f" ({decision.reason})\n" if decision.reason else "\n", style="dim")
    if status.decisions_dropped:
        lines.append(f"and {status.decisions_dropped} further messages without effect\n", style="dim")
    lines.rstrip()
    return [Text("People", style="bold"), lines] if lines else []


def _alerts(status: RotationStatus) -> list[RenderableType]:
    lines = Text()
    for alert in status.alerts[-_SHOWN:]:
        delivered = {True: "", False: "  NOT DELIVERED", None: "  being delivered"}[alert.delivered]
        lines.append(f"{clock(alert.at, day=False)}  to {alert.to}, {alert.kind}: {alert.summary}{delivered}\n")
    lines.rstrip()
    return [Text("Notices and alerts", style="bold"), lines] if lines else []


def _next(look: Look) -> str:
    if look.next_at is None:
        return ""
    left = (look.next_at - datetime.now(UTC)).total_seconds()
    return f", next in {left:.0f} s" if left >= 1 else ""
