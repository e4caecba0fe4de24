"""The end of a demo: what was proven, in figures that the lab counted and in handshakes that were made just now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from desk.exit_codes import ExitCode
from desk.lab_client import Settled
from desk.report import Report
from desk.served import Served
from desk.timeline import took
from desk.times import clock, span
from domain.certificates import CertificateFacts
from domain.handshakes import Record
from domain.phases import Phase


class Outcome(Record):
    """Everything that the summary rests on. `lost_before_a` is the count when A was back alone, after a rollback."""

    report: Report
    settled: Settled
    served: tuple[Served, ...]
    a_revoked_at: datetime | None = None
    b_revoked_at: datetime | None = None
    lost_before_a: int | None = None

    @property
    def expected(self) -> CertificateFacts | None:
        """The certificate that every listener must serve now."""
        status = self.report.status
        if status is None:
            return None
        return status.b if self.report.phase is Phase.COMPLETED else status.a

    @property
    def problems(self) -> list[str]:
        """What contradicts the promises; empty when the demo shows what it should."""
        found = [f"promise 1 was broken: {v.endpoint}, {v.reason}" for v in self.settled.violations]
        if not (self.settled.settled and self.settled.adds_up):
            found.append("the lab's calls did not come to an end")
        wanted = self.expected.sha256 if self.expected else None
        for one in self.served:
            if wanted is None or one.sha256 != wanted:
                found.append(f"{one.endpoint} {one.address} serves {one.sha256 or one.problem}, not {wanted}")
        if self.report.phase is Phase.COMPLETED:
            if self.settled.lost:
                found.append(f"{self.settled.lost} calls were lost")
            if self.a_revoked_at is None:
                found.append("the PKI has not revoked A")
        return found

    @property
    def exit_code(self) -> ExitCode:
        """3 after a rollback and 4 after an abort, whatever else was seen; 0 when nothing contradicts a completion."""
        if self.report.exit_code is not ExitCode.FINE:
            return self.report.exit_code
        return ExitCode.UNEXPECTED if self.problems else ExitCode.FINE


def summary_view(outcome: Outcome) -> RenderableType:
    """The whole summary."""
    report = outcome.report
    style = "bold green" if outcome.exit_code is ExitCode.FINE else "bold red"
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("Result", Text(report.phase or report.row.execution, style=style))
    if report.failure:
        facts.add_row("Cause", escape(_cause(report)))
    rollback = report.status.rollback if report.status else None
    if rollback is not None and rollback.a_alone_seconds is not None:
        facts.add_row("Rollback", f"A alone on every endpoint after {rollback.a_alone_seconds:.1f} s (budget 30 s)")
    if report.status is not None:
        facts.add_row("Phases", _phases(report))
    facts.add_row("Calls", _calls(outcome))
    facts.add_row("Handshakes", _handshakes(outcome))
    for name in ("A", "B"):
        facts.add_row(name, _certificate(outcome, name))
    facts.add_row("Served", _served(outcome.served, outcome.expected))
    facts.add_row("History", f"{report.history_events} events")
    if outcome.problems:
        facts.add_row("Problems", Text("\n".join(outcome.problems), style="bold red"))
    else:
        held = "promise 1 held all the time: no endpoint was without a working certificate"
        facts.add_row("Lab", Text(held, style="green"))
    return Group(Text(""), facts)


def _cause(report: Report) -> str:
    rollback = report.status.rollback if report.status else None
    return rollback.turn_back.text() if rollback is not None else report.failure or ""


def _phases(report: Report) -> str:
    assert report.status is not None
    phases = report.status.phases
    start = phases[0].entered_at
    shown = []
    for at, entered in enumerate(phases):
        lasted = took(phases, at, report.row.closed_at)
        shown.append(f"{entered.phase} at {span(entered.entered_at - start)}" + (f" ({lasted})" if lasted else ""))
    return ", ".join(shown)


def _calls(outcome: Outcome) -> Text:
    trunks, placed, lost = outcome.settled.trunks, outcome.settled.placed, outcome.settled.lost
    each = ", ".join(f"{name} {trunk.calls.placed}/{trunk.calls.lost}" for name, trunk in trunks.items())
    text = Text.assemble(f"{placed} placed, ", (f"{lost} lost", "bold red" if lost else "green"))
    text.append(f"  (placed/lost: {each})")
    if lost and outcome.lost_before_a is not None:
        text.append(f"; {lost - outcome.lost_before_a} of them after A was back alone")
    causes = sorted({loss.cause for trunk in trunks.values() for loss in trunk.last_losses})
    if causes:
        text.append(f"\nlast losses by: {', '.join(causes)}")
    return text


def _handshakes(outcome: Outcome) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("trunk", "certificate", "handshakes", "failed", "by cause"):
        table.add_column(column, justify="right" if column in ("handshakes", "failed") else "left")
    for name, trunk in outcome.settled.trunks.items():
        for sha256, counted in sorted(trunk.handshakes.carrier.items(), key=lambda item: _name(outcome, item[0])):
            failed = sum(counted.failures.values())
            causes = ", ".join(f"{count} × {cause}" for cause, count in counted.failures.items() if count)
            table.add_row(name, _name(outcome, sha256), str(counted.attempts), str(failed), causes)
    return table


def _certificate(outcome: Outcome, name: str) -> str:
    status = outcome.report.status
    certificate, revoked_at = {
        "A": (status.a if status else None, outcome.a_revoked_at),
        "B": (status.b if status else None, outcome.b_revoked_at),
    }[name]
    if certificate is None:
        return "there was none"
    told = f"revoked at {clock(revoked_at, day=False)} UTC by the PKI's own record" if revoked_at else "not revoked"
    return f"serial {certificate.serial}, SHA-256 {certificate.sha256[:12]}, {told}"


def _served(served: Sequence[Served], expected: CertificateFacts | None) -> str:
    wanted = expected.sha256 if expected else ""
    each = [f"{s.endpoint} {s.address} {(s.sha256 or s.problem or '')[:12]}" for s in served]
    good = sum(one.sha256 == wanted for one in served)
    return f"{good} of {len(served)} listeners serve the status's certificate ({'; '.join(each)})"


def _name(outcome: Outcome, sha256: str) -> str:
    status = outcome.report.status
    for name, certificate in (("A", status.a), ("B", status.b)) if status else ():
        if certificate is not None and certificate.sha256 == sha256:
            return name
    return "none shown" if sha256 == "none" else sha256[:12]
