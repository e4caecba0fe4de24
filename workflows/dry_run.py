"""`RotationDryRun`: the checks of PREFLIGHT alone, made by the worker, because only the worker knows the profiles."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.preflight import EndpointLook, PreflightActivities
    from domain.certificates import CertificateFacts
    from domain.gates import GateResult, combine
    from domain.handshakes import Record
    from domain.rotation import Run, run_key
    from workflows.messages import RotationRequest

from workflows.conduct import ACT_TIMEOUT, EVERY_SECOND, settle


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
        run = Run(plan=plan, rotation=info.workflow_id, key=run_key(info.workflow_id, info.run_id))
        worker = await workflow.execute_activity_method(
            PreflightActivities.examine_worker,
            run,
            start_to_close_timeout=ACT_TIMEOUT,
            retry_policy=EVERY_SECOND,
            summary="PKI, custody, limits",
        )
        examined = await settle(
            *(
                workflow.execute_activity_method(
                    PreflightActivities.examine_endpoint,
                    EndpointLook(run=run, endpoint=endpoint.name),
                    start_to_close_timeout=ACT_TIMEOUT,
                    retry_policy=EVERY_SECOND,
                    summary=f"examine {endpoint.name}",
                )
                for endpoint in plan.endpoints
            )
        )
        findings = [*worker.findings, *(finding for one in examined for finding in one.findings)]
        a = next((one.a for one in examined if one.a is not None), None)
        return DryRunReport(gate=combine("preflight", findings, workflow.now()), a=a)
