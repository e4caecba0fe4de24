"""What a plan will do, phase by phase, how long each takes by its timings, and who is asked."""

from __future__ import annotations

from datetime import timedelta

from domain.handshakes import Record, percent
from domain.phases import FORWARD, Phase
from domain.plan import Plan, Topology, duration_text


class Step(Record):
    """One phase of a plan. `lasts` is for people."""

    phase: Phase
    what: str
    lasts: str


def steps(plan: Plan) -> list[Step]:
    """Every phase on the way to COMPLETED that the plan does not skip."""
    skipped = {
        phase
        for phase, asked in (
            (Phase.APPROVE_PREFER, plan.approvals.prefer),
            (Phase.APPROVE_REMOVE, plan.approvals.remove),
        )
        if not asked
    }
    what, lasts = _what(plan), _lasts(plan)
    return [
        Step(phase=phase, what=what[phase], lasts=lasts.get(phase, "seconds"))
        for phase in FORWARD
        if phase not in skipped and phase is not Phase.COMPLETED
    ]


def shortest(plan: Plan) -> timedelta:
    """How long the rotation takes at least, people and traffic not counted."""
    timings = plan.timings
    return max(timings.overlap, timings.soak) + timings.drain_spacing + timings.hold


def _what(plan: Plan) -> dict[Phase, str]:
    certificate, thresholds, count = plan.certificate, plan.thresholds, len(plan.endpoints)
    everywhere = f"{count} endpoint{'s' if count > 1 else ''}"
    srv = [e.name for e in plan.endpoints if e.topology is Topology.SEPARATE_SRV_TARGETS]
    pool = [e.name for e in plan.endpoints if e.topology is not Topology.SEPARATE_SRV_TARGETS]
    prefer = [f"the SRV record of {', '.join(srv)}"] if srv else []
    prefer += [f"the pool order of {', '.join(pool)}"] if pool else []
    success = percent(thresholds.success)
    return {
        Phase.PREFLIGHT: "look at A, trunks, PKI, custody, DNS and carrier; change nothing",
        Phase.ISSUE: f"key and CSR in [keys.{certificate.custody}], B signed by [pki.{certificate.ca}]",
        Phase.UPLOAD: f"B's chain and key to the platforms of {everywhere}",
        Phase.BIND: f"B beside A on {everywhere}, A preferred",
        Phase.READINESS: "listener up, both certificates valid, canary handshakes served B",
        Phase.SOAK: f"handshakes and call setups ≥ {success} of at least {thresholds.minimum_sample}",
        Phase.APPROVE_PREFER: "a person approves the gate `prefer`",
        Phase.PREFER: f"prefer B, endpoint by endpoint: {'; '.join(prefer)}",
        Phase.VERIFY: f"platform and carrier > {success} on B, both directions",
        Phase.ADOPT: f"≥ {percent(thresholds.adopt_share)} of new calls on B",
        Phase.OVERLAP: "A and B both served",
        Phase.DRAIN: "no call on A, counted twice",
        Phase.APPROVE_REMOVE: "a person approves the gate `remove`",
        Phase.REMOVE: f"A leaves the pools of {everywhere}",
        Phase.HOLD: "A is out of use and still valid: the last way back",
        Phase.RESTORE: "trunk settings as they were",
        Phase.REVOKE: "A revoked in the PKI and deleted from the platforms",
    }


def _lasts(plan: Plan) -> dict[Phase, str]:
    timings = plan.timings
    return {
        Phase.READINESS: f"seconds, at most {duration_text(timings.readiness_deadline)}",
        Phase.SOAK: f"{duration_text(timings.soak)}, at most {duration_text(timings.soak + timings.soak_grace)}",
        Phase.APPROVE_PREFER: "until a person answers",
        Phase.VERIFY: f"until the sample is there, at most {duration_text(timings.verify_deadline)}",
        Phase.ADOPT: f"until traffic moved, at most {duration_text(timings.adopt_deadline)}",
        Phase.OVERLAP: f"until {duration_text(timings.overlap)} after BIND",
        Phase.DRAIN: f"from {duration_text(timings.drain_spacing)}, at most {duration_text(timings.drain_deadline)}",
        Phase.APPROVE_REMOVE: "until a person answers",
        Phase.HOLD: duration_text(timings.hold),
    }
