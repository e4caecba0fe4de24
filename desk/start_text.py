"""What the Web UI shows of a rotation before it has done anything: summary and details of the plan, in markdown."""

from __future__ import annotations

from domain.plan import Plan, duration_text, limits_undercut


def summary(plan: Plan) -> str:
    """One line."""
    trunks = ", ".join(endpoint.fqdn for endpoint in plan.endpoints)
    return f"Replace {plan.certificate.common_name} on {trunks}"[:400]


def details(plan: Plan) -> str:
    """Plan, endpoints, thresholds, approvals and timings."""
    certificate, thresholds, timings = plan.certificate, plan.thresholds, plan.timings
    trunks = [
        f"| {e.name} | {e.platform} | {e.fqdn} | {e.role} | {e.topology} | {len(e.nodes)} |" for e in plan.endpoints
    ]
    lines = [
        f"**Plan** `{plan.name}`, SHA-256 `{plan.sha256[:12]}`",
        f"**B** {certificate.common_name}, {certificate.key_type}, {duration_text(certificate.lifetime)}, "
        f"signed by `{certificate.ca}`, key in `{certificate.custody}`",
        "\n".join(["| endpoint | platform | trunk | role | topology | nodes |", "|---|---|---|---|---|---|", *trunks]),
        "\n".join(
            [
                "| threshold | value |",
                "|---|---|",
                f"| a gate passes from | {thresholds.success:.2%} of at least {thresholds.minimum_sample} |",
                f"| the guard turns back below | {thresholds.breach:.2%} of at least {thresholds.guard_sample} |",
                f"| ADOPT ends at | {thresholds.adopt_share:.0%} of new calls on B |",
            ]
        ),
        "\n".join(
            [
                "| wait | time |",
                "|---|---|",
                f"| SOAK | {duration_text(timings.soak)} |",
                f"| OVERLAP, from the last bind | {duration_text(timings.overlap)} |",
                f"| HOLD | {duration_text(timings.hold)} |",
            ]
        ),
        f"**Approvals** {approvals_text(plan)}",
    ]
    undercut = limits_undercut(plan)
    if undercut:
        lines.append(f"**Lab limits** {'; '.join(undercut)}")
    return "\n\n".join(lines)


def approvals_text(plan: Plan) -> str:
    """Which steps wait for a person."""
    wanted = [gate for gate, asked in (("prefer", plan.approvals.prefer), ("remove", plan.approvals.remove)) if asked]
    return f"a person approves {' and '.join(f'`{gate}`' for gate in wanted)}" if wanted else "none"
