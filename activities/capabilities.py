"""What a plan needs of an endpoint's platform, and what the platform can do or the plan names a substitute for."""

from __future__ import annotations

from adapters.edges.base import Canary, Capabilities
from domain.gates import Finding, Verdict
from domain.plan import Endpoint, Plan


def capability_findings(plan: Plan, endpoint: Endpoint, can: Capabilities) -> list[Finding]:
    """PREFLIGHT: FAIL for what is missing, and for a substitute that is not needed (DESIGN.md, "Rooms")."""
    instead = endpoint.substitutes
    replaceable = (
        ("pool", can.pool, instead.pool),
        ("canary", can.canary is not Canary.NONE, instead.canary),
        ("handshakes per certificate", can.per_certificate_handshakes, instead.handshakes),
        ("call setups per certificate", can.call_setups, instead.call_setups),
    )
    needed = (
        ("prefer", can.prefer or endpoint.srv is not None),
        ("a second listener for the SRV target of B", endpoint.srv is None or can.canary is Canary.PORT),
        ("active calls per certificate", can.active_calls),
        ("weights for the ramp", not endpoint.ramp or can.weights),
        ("an orderly close of connections", plan.timings.close_connections_after is None or can.close_connections),
        *((name, there or substitute is not None) for name, there, substitute in replaceable),
    )

    def finding(check: str, verdict: Verdict, seen: str, expected: str = "") -> Finding:
        return Finding(check=check, verdict=verdict, seen=seen, expected=expected, endpoint=endpoint.name)

    findings = []
    lacking = [name for name, there in needed if not there]
    if lacking:
        seen = f"missing: {', '.join(lacking)}"
        expected = "what the plan needs, or a substitute in [endpoints.substitutes]"
        findings.append(finding("capabilities", Verdict.FAIL, seen, expected))
    idle = [f"{name} = {substitute!r}" for name, there, substitute in replaceable if there and substitute is not None]
    if idle:
        expected = "none: the platform can do it, and its own figures count"
        findings.append(finding("substitutes", Verdict.FAIL, ", ".join(idle), expected))
    if findings:
        return findings
    stand_ins = [f"{name}: {substitute}" for name, _, substitute in replaceable if substitute is not None]
    seen = "pool, prefer, canary, counters" + (f"; instead – {', '.join(stand_ins)}" if stand_ins else "")
    return [finding("capabilities", Verdict.PASS, seen)]
