"""Leases: one rotation at a time on a trunk and on a certificate A (DESIGN.md, promise 7).

A lease is a child workflow that waits for ever and ends with its parent, so that a holder that is terminated frees it
at once. Its id says what is held: the server itself refuses a second one.
"""

from __future__ import annotations

from temporalio import workflow
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.leases import LeaseActivities, LeaseQuestion
    from domain.gates import Finding, Verdict
    from domain.handshakes import Record
    from domain.rotation import lease_id

from workflows.conduct import Conduct

HOLDERS_ASKED = 5
"""How often a holder that vanished while it was asked is asked again."""


class LeaseTerms(Record):
    """The input of `EndpointLease`: what is held, and by which rotation's run."""

    what: str
    rotation: str
    run: str


@workflow.defn(name="EndpointLease")
class EndpointLease:
    """Held as long as it runs."""

    @workflow.run
    async def run(self, terms: LeaseTerms) -> None:
        """Waits for ever; the end of its parent terminates it (parent close policy TERMINATE, the default)."""
        await workflow.wait_condition(lambda: False)


class Leases:
    """The leases of one rotation. None is given back: they end with the rotation."""

    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self._held: set[str] = set()

    def holds(self, what: str) -> bool:
        """True when this rotation has taken the lease."""
        return what in self._held

    async def take(self, what: str, *, called: str, endpoint: str | None = None) -> Finding:
        """Takes the lease on `what` (a physical trunk, or the SHA-256 of A); refused, the finding names the holder."""
        if what in self._held:
            return self._finding(called, Verdict.FAIL, "taken by this rotation already", endpoint)
        state, holder = self._conduct.state, ""
        for _ in range(HOLDERS_ASKED):
            try:
                await workflow.start_child_workflow(
                    EndpointLease.run,
                    LeaseTerms(what=what, rotation=state.run.rotation, run=state.run.key),
                    id=lease_id(what),
                    static_summary=f"{called}, held by {state.run.rotation}",
                )
            except WorkflowAlreadyStartedError:
                question = LeaseQuestion(what=what, rotation=state.run.rotation)
                answer = await self._conduct.forward(LeaseActivities.lease_holder, question, f"who holds the {called}")
                if answer.holder is not None:
                    return self._finding(called, Verdict.FAIL, f"held by {answer.text()}", endpoint)
                holder = answer.text()
            else:
                self._held.add(what)
                return self._finding(called, Verdict.PASS, lease_id(what), endpoint)
        return self._finding(called, Verdict.FAIL, f"cannot be taken: {holder}", endpoint)

    def _finding(self, called: str, verdict: Verdict, seen: str, endpoint: str | None) -> Finding:
        expected = "free: one rotation at a time on a trunk and on a certificate"
        return Finding(check=called, verdict=verdict, seen=seen, expected=expected, endpoint=endpoint)
