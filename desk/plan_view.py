"""A plan for people: what it will do and in which times, and what a dry run found."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from desk.figures import STYLES
from desk.phase_steps import Step, shortest, steps
from desk.report import DryRun
from desk.start_text import approvals_text, lifetime_text
from desk.times import clock, span
from domain.gates import Finding, Verdict
from domain.handshakes import Record, percent
from domain.plan import Plan, limits_undercut


class PlanAnswer(Record):
    """What `plan --json` prints; `dry_run` is missing with `--offline`."""

    plan: Plan
    sha256: str
    steps: tuple[Step, ...]
    lab_limits: tuple[str, ...]
    dry_run: DryRun | None = None


def answer(plan: Plan, dry_run: DryRun | None) -> PlanAnswer:
    """The plan with everything that follows from it."""
    return PlanAnswer(
        plan=plan,
        sha256=plan.sha256,
        steps=tuple(steps(plan)),
        lab_limits=tuple(limits_undercut(plan)),
        dry_run=dry_run,
    )


def plan_view(told: PlanAnswer) -> RenderableType:
    """The plan, its endpoints and its phases."""
    plan = told.plan
    certificate, thresholds = plan.certificate, plan.thresholds
    head = Text.assemble(("Plan ", "bold"), (plan.name, "bold cyan"), (f"  SHA-256 {told.sha256[:12]}", "dim"))
    facts = Text(
        f"B: {certificate.common_name}, {certificate.key_type}, for {lifetime_text(certificate)}\n"
        f"Gates pass from {percent(thresholds.success)}; the guard turns back below {percent(thresholds.breach)}\n"
        f"Approvals: {approvals_text(plan)}\n"
        f"Takes at least {span(shortest(plan))}, people and traffic not counted"
    )
    parts: list[RenderableType] = [head, facts, _endpoints(plan), _phases(told.steps)]
    if told.lab_limits:
        parts.append(Text("Allowed only where every platform profile says lab = true:", style="yellow"))
        parts.append(Text("\n".join(f"  {limit}" for limit in told.lab_limits)))
    return Group(*parts)


def dry_run_view(dry_run: DryRun) -> RenderableType:
    """Every check of PREFLIGHT with its verdict, and until when A is valid."""
    gate = dry_run.gate
    verdict = Text.assemble(("PREFLIGHT ", "bold"), (gate.verdict.value, STYLES[gate.verdict]))
    failed = sum(f.verdict not in (Verdict.PASS, Verdict.NOT_CHECKED, Verdict.WARN) for f in gate.findings)
    if failed:
        verdict.append(f"  {failed} finding{'s' if failed > 1 else ''}: the rotation would not start")
    parts: list[RenderableType] = [verdict, findings_table(gate.findings)]
    if dry_run.a is not None:
        left = span(dry_run.a.not_after - datetime.now(UTC))
        expires = f"A {dry_run.a.sha256[:12]}, serial {dry_run.a.serial}, expires {clock(dry_run.a.not_after)} UTC"
        parts.append(Text(f"{expires}, in {left}"))
    else:
        parts.append(Text("A could not be read", style="bold red"))
    return Group(*parts)


def findings_table(findings: Sequence[Finding]) -> Table:
    """Findings with their verdicts; what is not checked says so."""
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for column in ("verdict", "endpoint", "check", "seen", "expected"):
        table.add_column(column, no_wrap=column == "verdict", overflow="fold")
    for finding in findings:
        check = f"{finding.check} [synthetic]" if finding.synthetic else finding.check
        table.add_row(
            Text(finding.verdict.value.replace("_", " "), style=STYLES[finding.verdict]),
            escape(finding.endpoint or ""),
            escape(check),
            escape(finding.seen),
            escape(finding.expected),
        )
    return table


def _endpoints(plan: Plan) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold", title=None)
    for column in ("endpoint", "platform", "trunk", "role", "topology", "nodes", "carrier"):
        table.add_column(column, overflow="fold")
    for endpoint in plan.endpoints:
        nodes = "\n".join(f"{node.address}:{node.port}" for node in endpoint.nodes)
        cells = (endpoint.name, endpoint.platform, endpoint.fqdn, endpoint.role, endpoint.topology, nodes)
        sides = endpoint.carrier + (f"\nobserver {endpoint.observer.profile}" if endpoint.observer is not None else "")
        table.add_row(*(escape(str(cell)) for cell in (*cells, sides)))
    return table


def _phases(planned: Sequence[Step]) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    table.add_column("phase", no_wrap=True)
    table.add_column("does", overflow="fold")
    table.add_column("lasts", overflow="fold")
    for step in planned:
        table.add_row(step.phase.value, escape(step.what), escape(step.lasts))
    return table
