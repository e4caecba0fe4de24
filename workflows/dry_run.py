"""`RotationDryRun`: the checks of PREFLIGHT alone, made by the worker, because only the worker knows the profiles."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.leases import LeaseActivities, LeaseQuestion
    from activities.leftovers import LeftoverActivities
    from activities.preflight import EndpointLook, PreflightActivities
    from domain.certificates import CertificateFacts
    from domain.gates import Finding, GateResult, Verdict, combine
    from domain.handshakes import Record
    from domain.rotation import Run, run_key
    from workflows.messages import RotationRequest

from workflows.conduct import settle
from workflows.leftovers import reported
from workflows.pace import ACT_TIMEOUT, EVERY_SECOND


class DryRunReport(Record):
    """What PREFLIGHT would say now, and A as it is served."""

    gate: GateResult
    a: CertificateFacts | None


@workflow.defn(name="RotationDryRun")
class RotationDryRun:
    """Reads the world and changes nothing."""

    @workflow.run
    async def run(self, request: RotationRequest) -> DryRunReport:
        """All findings of PREFLIGHT at once."""
        info, plan = workflow.info(), request.plan
        run = Run(plan=plan, rotation=info.workflow_id, key=run_key(plan.name, info.workflow_id, info.run_id))
        worker = await _ask(PreflightActivities.examine_worker, run, "PKI, custody, limits")
        left, *examined = await settle(
            _ask(LeftoverActivities.find_leftovers, run, "look for leftovers"),
            *(
                _ask(
                    PreflightActivities.examine_endpoint,
                    EndpointLook(run=run, endpoint=endpoint.name),
                    f"examine {endpoint.name}",
                )
                for endpoint in plan.endpoints
            ),
        )
        a = next((one.a for one in examined if one.a is not None), None)
        held = [(f"lease on {name}", what) for name, what in worker.physical.items()]
        held += [("lease on A", a.sha256)] if a is not None else []
        findings = [*worker.findings, *reported(left), *(finding for one in examined for finding in one.findings)]
        findings += await settle(*(self._lease(called, what) for called, what in held))
        return DryRunReport(gate=combine("preflight", findings, workflow.now()), a=a)

    async def _lease(self, called: str, what: str) -> Finding:
        question = LeaseQuestion(what=what, rotation=workflow.info().workflow_id)
        holder = await _ask(LeaseActivities.lease_looked_at, question, called)
        verdict = Verdict.PASS if holder.holder is None else Verdict.FAIL
        seen = "free" if holder.holder is None else f"held by {holder.text()}"
        return Finding(check=called, verdict=verdict, seen=seen, expected="free")


async def _ask(activity: Callable[..., Awaitable[Any]], request: object, summary: str) -> Any:
    return await workflow.execute_activity_method(
        activity, request, start_to_close_timeout=ACT_TIMEOUT, retry_policy=EVERY_SECOND, summary=summary
    )
