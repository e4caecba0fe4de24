"""The end of a demo: what was proven, in figures that the lab counted and in handshakes that were made just now."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from desk.exit_codes import ExitCode
from desk.lab_client import LabState, Settled
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
    state: LabState
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
    verdict = Text.assemble(("Result  ", "bold"), ((report.phase or report.row.execution), style))
    parts: list[RenderableType] = [Text(""), verdict]
    if report.status is not None:
        rollback = report.status.rollback
        if rollback is not None:
            parts.append(Text(f"Cause   {rollback.turn_back.text()}"))
        if rollback is not None and rollback.a_alone_seconds is not None:
            parts.append(Text(f"A alone on every endpoint after {rollback.a_alone_seconds:.1f} s (budget 30 s)"))
        elif report.failure and rollback is None:
            parts.append(Text(f"Cause   {report.failure}"))
        parts.append(Text(_phases(report)))
    parts += [Text(""), _calls(outcome), _handshakes(outcome), Text(""), _certificates(outcome)]
    parts.append(Text(f"History {report.history_events} events"))
    if outcome.problems:
        parts.append(Text("\n".join(outcome.problems), style="bold red"))
    else:
        parts.append(Text("Promise 1 held all the time: no endpoint was without a working certificate", style="green"))
    return Group(*parts)


def _phases(report: Report) -> str:
    assert report.status is not None
    phases = report.status.phases
    start = phases[0].entered_at
    shown = []
    for at, entered in enumerate(phases):
        lasted = took(phases, at, report.row.closed_at)
        shown.append(f"{entered.phase} at {span(entered.entered_at - start)}" + (f" ({lasted})" if lasted else ""))
    return "Phases  " + ", ".join(shown)


def _calls(outcome: Outcome) -> Text:
    trunks = outcome.settled.trunks
    placed, lost = sum(calls.placed for calls in trunks.values()), outcome.settled.lost
    each = ", ".join(f"{name} {calls.placed}/{calls.lost}" for name, calls in trunks.items())
    text = Text.assemble(("Calls   ", ""), f"{placed} placed, ", (f"{lost} lost", "bold red" if lost else "green"))
    text.append(f"  (placed/lost: {each})")
    if outcome.lost_before_a is not None:
        text.append(f"; {lost - outcome.lost_before_a} of them after A was back alone")
    causes = sorted({loss.cause for trunk in outcome.state.trunks.values() for loss in trunk.last_losses})
    if causes:
        text.append(f"\n        last losses by: {', '.join(causes)}")
    return text


def _handshakes(outcome: Outcome) -> RenderableType:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in ("trunk", "certificate", "handshakes", "failed", "by cause"):
        table.add_column(column, justify="right" if column in ("handshakes", "failed") else "left")
    for name, trunk in outcome.state.trunks.items():
        for sha256, counted in sorted(trunk.handshakes.carrier.items(), key=lambda item: _name(outcome, item[0])):
            failed = sum(counted.failures.values())
            causes = ", ".join(f"{count} × {cause}" for cause, count in counted.failures.items() if count)
            table.add_row(name, _name(outcome, sha256), str(counted.attempts), str(failed), causes)
    return table


def _certificates(outcome: Outcome) -> RenderableType:
    status = outcome.report.status
    lines = Text()
    revoked = {"A": outcome.a_revoked_at, "B": outcome.b_revoked_at}
    for name, certificate in (("A", status.a), ("B", status.b)) if status else ():
        if certificate is not None:
            at = revoked[name]
            told = f"revoked at {clock(at, day=False)} UTC (PKI's own record)" if at else "not revoked"
            lines.append(f"{name}       serial {certificate.serial}, SHA-256 {certificate.sha256[:12]}, {told}\n")
    lines.append("Served  " + _served(outcome.served, outcome.expected))
    return lines


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
