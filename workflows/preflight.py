"""PREFLIGHT: leases first, then a look at everything; all problems are reported at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.baseline import EndpointExamined
    from activities.preflight import EndpointLook, PreflightActivities
    from adapters.notify.base import Severity
    from domain.gates import Finding, GateResult, Verdict, combine
    from domain.rotation import Cause, short
    from workflows.messages import LeftoverChoice

from workflows.conduct import Conduct, TurnedBack, settle
from workflows.lease import Leases
from workflows.leftovers import Leftovers

GATE = "preflight"


class Preflight:
    """Changes nothing on an endpoint, but for what an earlier run left and the operator wants cleaned."""

    def __init__(self, conduct: Conduct, choice: LeftoverChoice) -> None:
        self._conduct = conduct
        self._state = conduct.state
        self._leases = Leases(conduct)
        self._leftovers = Leftovers(conduct, self._leases, choice)

    async def gate(self) -> GateResult:
        """The gate `preflight`; when it passes, A and every endpoint's baseline are in the state.

        A lease that is refused ends it at once: what another rotation is changing is not looked at.
        """
        worker = await self._conduct.forward(
            PreflightActivities.examine_worker, self._state.run, "PKI, custody, limits"
        )
        findings = [*worker.findings, *await self._lease_trunks(worker.physical)]
        if not _all_leased(findings):
            return self._result(findings)
        if len(worker.physical) == len(self._state.plan.endpoints):
            findings += await self._leftovers.settle()
            if any(finding.verdict is Verdict.FAIL for finding in findings):
                return self._result(findings)
        examined = await self._examine()
        findings += [finding for one in examined for finding in one.findings]
        findings += await self._lease_a(examined)
        return self._result(findings, examined)

    async def _lease_trunks(self, physical: Mapping[str, str]) -> list[Finding]:
        """In one order for everybody, so that of two concurrent starts one wins."""
        return [
            await self._leases.take(what, called="lease on the trunk", endpoint=endpoint)
            for endpoint, what in sorted(physical.items(), key=lambda item: item[1])
        ]

    async def _examine(self) -> list[EndpointExamined]:
        adopted = self._leftovers.adopted
        baselines = {b.physical: b for b in adopted.baselines} if adopted is not None else {}
        return await settle(
            *(
                self._conduct.forward(
                    PreflightActivities.examine_endpoint,
                    EndpointLook(
                        run=self._state.run,
                        endpoint=endpoint.name,
                        adopted_a=adopted.a_pem if adopted is not None else None,
                        adopted_b=adopted.b.sha256 if adopted is not None and adopted.b is not None else None,
                        baselines=tuple(baselines.values()),
                    ),
                    f"examine {endpoint.name}",
                )
                for endpoint in self._state.plan.endpoints
            )
        )

    async def _lease_a(self, examined: Sequence[EndpointExamined]) -> list[Finding]:
        leaves = {one.a.sha256 for one in examined if one.a is not None}
        if len(leaves) > 1:
            seen = ", ".join(
                f"{one.baseline.endpoint} {short(one.a.sha256)}" for one in examined if one.a and one.baseline
            )
            return [Finding(check="A", verdict=Verdict.FAIL, seen=seen, expected="one A on all endpoints")]
        return [await self._leases.take(leaf, called="lease on A") for leaf in leaves]

    def _result(self, findings: Sequence[Finding], examined: Sequence[EndpointExamined] = ()) -> GateResult:
        result = combine(GATE, findings, workflow.now())
        if result.verdict is Verdict.PASS:
            for one in examined:
                if one.baseline is None or one.a is None:
                    self._conduct.turn(Cause.GATE_FAILED, "an endpoint could not be read")
                    raise TurnedBack
                self._state.baselines[one.baseline.endpoint] = one.baseline
                self._state.a, self._state.a_pem = one.a, one.a_pem
            self._warn(result)
        return result

    def _warn(self, result: GateResult) -> None:
        """Not in a history from before there were warnings: its findings have none, so that it replays."""
        if result.warnings:
            self._conduct.people.alert(
                "preflight_warning",
                Severity.WARNING,
                "; ".join(result.warnings),
                "mend what the text names",
            )


def _all_leased(findings: Sequence[Finding]) -> bool:
    return not any(f.check == "lease on the trunk" and f.verdict is Verdict.FAIL for f in findings)
