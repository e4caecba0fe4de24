"""Turning back (DESIGN.md): A alone first, everything else after it; and the end of a run that touched no trunk."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.baseline import EndpointRequest
    from activities.certificate import CertificateActivities, DiscardRequest
    from activities.edge import EdgeActivities, Reverted
    from adapters.notify.base import Severity
    from domain.phases import Phase
    from domain.rotation import SideEffect
    from workflows.messages import RollbackStatus, Waiting

from workflows.conduct import Conduct, failure_text, settle

BUDGET = timedelta(seconds=30)
"""Guide section 4: the rollback completes in under 30 seconds."""

ABORT_DEADLINE = timedelta(minutes=10)
"""How long an aborted run tries to clean up what it made in PKI and custody."""


class TurningBack:
    """The way back. Every activity is repeated until it succeeds; no cancellation reaches it."""

    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self._state = conduct.state

    async def roll_back(self) -> ApplicationError:
        """A alone everywhere, then DNS and settings, then everything read back, then B's end."""
        state, plan = self._state, self._state.plan
        assert state.turn_back is not None
        self._conduct.move(Phase.ROLLING_BACK)
        state.rollback = RollbackStatus(turn_back=state.turn_back, started_at=workflow.now())
        self._conduct.people.alert(
            "turning_back", Severity.CRITICAL, state.turn_back.text(), "nothing: A comes back by itself"
        )
        await self._within_budget()
        self._conduct.people.tell_carrier(
            "rotation_turned_back", "our trunks present the old certificate again", "keep trusting the old certificate"
        )
        await self._everywhere(EdgeActivities.settings_back, "settings and DNS back on")
        self._conduct.wait_for(Waiting(what="late requests to land"))
        await workflow.sleep(
            plan.timings.late_request, summary="the longest time in which a lost request could still land"
        )
        await self._a_alone("read A alone back again on")
        await self._everywhere(EdgeActivities.settings_back, "read settings and DNS back again on")
        await self._everywhere(EdgeActivities.delete_b, "delete B from")
        await self._discard(deadline=None)
        self._conduct.move(Phase.ROLLED_BACK)
        seconds = state.rollback.a_alone_seconds
        state.failure = f"rolled back to A in {seconds:.1f} s – {state.turn_back.text()}"
        self._conduct.people.alert("rolled_back", Severity.WARNING, state.failure, "find the cause, then start again")
        return ApplicationError(state.failure, type="RolledBack", non_retryable=True)

    async def abort(self) -> ApplicationError:
        """Nothing was changed on an endpoint: key and B are cleaned up, and the rotation ends."""
        state = self._state
        assert state.turn_back is not None
        left = ""
        if state.adopted:
            left = "; what was adopted of an earlier run stays as it was"
        elif state.phase is not Phase.PREFLIGHT:
            try:
                await self._discard(deadline=ABORT_DEADLINE)
            except ActivityError as error:
                left = f"; left behind: the run's key and B ({failure_text(error)})"
        self._conduct.move(Phase.ABORTED)
        state.failure = f"aborted before anything was changed on an endpoint – {state.turn_back.text()}{left}"
        self._conduct.people.alert("aborted", Severity.WARNING, state.failure, "correct what failed, then start again")
        return ApplicationError(state.failure, type="Aborted", non_retryable=True)

    async def _within_budget(self) -> None:
        """Stops the clock when A alone is read back from every endpoint; over 30 s it alerts and goes on.

        A node that is away serves nobody: it does not hold up DNS and settings, and is read before B is deleted. The
        sample that breached bears a worker's clock; one that runs ahead must not make the time negative.
        """
        rollback = self._state.rollback
        assert rollback is not None
        started = min(rollback.turn_back.measured_at, workflow.now())
        alarm = asyncio.create_task(self._over_budget((started + BUDGET) - workflow.now()))
        await self._a_alone("A alone on", every_node=False)
        alarm.cancel()
        now = workflow.now()
        self._state.rollback = self._state.rollback.model_copy(  # type: ignore[union-attr]
            update={"a_alone_at": now, "a_alone_seconds": round((now - started).total_seconds(), 3)}
        )
        self._state.record("A alone", {"seconds": f"{(now - started).total_seconds():.3f}"})
        self._conduct.show()

    async def _over_budget(self, remaining: timedelta) -> None:
        await workflow.sleep(max(remaining, timedelta(0)), summary="the 30 s budget of the rollback")
        assert self._state.rollback is not None
        self._state.rollback = self._state.rollback.model_copy(update={"over_budget": True})
        self._conduct.people.alert(
            "rollback_over_budget",
            Severity.CRITICAL,
            "A is not back on every endpoint after 30 s",
            "help: see the Web UI",
        )

    async def _a_alone(self, summary: str, *, every_node: bool = True) -> None:
        """A alone on every endpoint. Where A can serve no more, B stays, people are paged, `rollback` tries again."""
        while True:
            outcomes: list[Reverted] = await self._each(
                EdgeActivities.serve_a_alone, summary, {"every_node": every_node}
            )
            self._state.done(*(outcome.effect for outcome in outcomes))
            self._unread(outcomes)
            kept = tuple(f"{o.effect.where}: {o.kept_b}" for o in outcomes if o.kept_b is not None)
            if not kept:
                return
            assert self._state.rollback is not None
            self._state.rollback = self._state.rollback.model_copy(update={"kept_b": kept})
            asked = self._state.rollbacks_asked
            self._conduct.wait_for(
                Waiting(what=f"a person: B stays, because {'; '.join(kept)}. `rollback` tries again")
            )
            self._conduct.people.alert(
                "cannot_roll_back", Severity.CRITICAL, "; ".join(kept), "A cannot serve; send `rollback` to try again"
            )
            await workflow.wait_condition(partial(self._asked_again, asked))
            self._state.rollback = self._state.rollback.model_copy(update={"kept_b": ()})
            self._conduct.wait_for(None)

    def _unread(self, outcomes: Sequence[Reverted]) -> None:
        assert self._state.rollback is not None
        unread = tuple(f"{o.effect.where} {node}" for o in outcomes for node in o.unread)
        if unread and not self._state.rollback.unread:
            text = f"A stands alone, and {', '.join(unread)} could not be reached to show it"
            self._conduct.people.alert(
                "nodes_unread", Severity.CRITICAL, text, "bring the nodes back; B is kept until then"
            )
        self._state.rollback = self._state.rollback.model_copy(update={"unread": unread})

    def _asked_again(self, before: int) -> bool:
        return self._state.rollbacks_asked > before

    async def _everywhere(self, activity: Callable[..., Awaitable[SideEffect]], summary: str) -> None:
        self._state.done(*(await self._each(activity, summary)))
        self._conduct.show()

    async def _each(
        self, activity: Callable[..., Awaitable[Any]], summary: str, options: Mapping[str, bool] | None = None
    ) -> list[Any]:
        return await settle(
            *(
                self._conduct.insist(
                    activity,
                    EndpointRequest(
                        run=self._state.run,
                        endpoint=endpoint.name,
                        sha256_a=self._state.a.sha256 if self._state.a else "",
                        sha256_b=self._state.b.sha256 if self._state.b else "",
                        baseline=self._state.baselines[endpoint.name],
                        **(options or {}),
                    ),
                    f"{summary} {endpoint.name}",
                )
                for endpoint in self._state.plan.endpoints
            )
        )

    async def _discard(self, *, deadline: timedelta | None) -> None:
        effect = await self._conduct.insist(
            CertificateActivities.discard,
            DiscardRequest(run=self._state.run),
            "revoke B, destroy its key",
            deadline=deadline,
        )
        self._state.done(effect)
