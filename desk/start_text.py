"""What the Web UI shows of a rotation before it has done anything: summary and details, in markdown.

Lists, because the Web UI draws tables without any space between their columns.
"""

from __future__ import annotations

from desk.times import span
from domain.handshakes import percent
from domain.plan import CertificateSpec, Plan, duration_text, limits_undercut


def summary(plan: Plan) -> str:
    """One line."""
    trunks = ", ".join(endpoint.fqdn for endpoint in plan.endpoints)
    return f"Replace {plan.certificate.common_name} on {trunks}"[:400]


def details(plan: Plan) -> str:
    """Plan, endpoints, thresholds, approvals and timings."""
    certificate, thresholds, timings = plan.certificate, plan.thresholds, plan.timings
    endpoints = [
        f"- **{e.name}**: {e.fqdn} on `{e.platform}`, {e.role}, {e.topology}, {len(e.nodes)} node"
        f"{'s' if len(e.nodes) > 1 else ''}, carrier `{e.carrier}`"
        + (f", observer `{e.observer.profile}`" if e.observer is not None else "")
        for e in plan.endpoints
    ]
    limits = [
        f"- a gate passes from {percent(thresholds.success)} of at least {thresholds.minimum_sample}",
        f"- the guard turns back below {percent(thresholds.breach)} of at least {thresholds.guard_sample}",
        f"- ADOPT ends at {percent(thresholds.adopt_share)} of new calls on B",
    ]
    waits = [
        f"- SOAK {duration_text(timings.soak)}",
        f"- OVERLAP {duration_text(timings.overlap)} from the last bind",
        f"- HOLD {duration_text(timings.hold)}",
    ]
    lines = [
        f"**Plan** `{plan.name}`, SHA-256 `{plan.sha256[:12]}`",
        f"**B** {certificate.common_name}, {certificate.key_type}, for {lifetime_text(certificate)}, "
        f"signed by `{certificate.ca}`, key in `{certificate.custody}`",
        "\n".join(["**Endpoints**", "", *endpoints]),
        "\n".join(["**Thresholds**", "", *limits]),
        "\n".join(["**Waits**", "", *waits]),
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


def lifetime_text(certificate: CertificateSpec) -> str:
    """The validity that is asked for, in words."""
    return span(certificate.lifetime) if certificate.lifetime is not None else "as long as the PKI role gives"
