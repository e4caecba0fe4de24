"""How a rotation acts, waits and watches in Temporal's terms (DESIGN.md, "Watching and acting").

What acts is never abandoned: WAIT_CANCELLATION_COMPLETED, no heartbeat, at most 8 s an attempt, a retry every second.
What watches is abandoned at once: TRY_CANCEL, one look an attempt.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.health import GateLook, GateRequest
    from activities.looks import Sight
    from adapters.notify.base import Severity
    from domain.flapping import TIMES_BLIND, calm_until
    from domain.gates import Finding, GateResult, Verdict
    from domain.phases import Phase
    from domain.rotation import Cause, TurnBack
    from workflows.messages import Decision, Waiting

from workflows.attributes import attributes
from workflows.details import details
from workflows.pace import ACT_TIMEOUT, EVERY_SECOND, LOOK_TIMEOUT
from workflows.people import People
from workflows.state import RotationState

T = TypeVar("T")

ALARM_AFTER = timedelta(minutes=1)
ALARM_AGAIN = timedelta(hours=1)

HISTORY_EVENTS, HISTORY_BYTES = 5_000, 15_000_000
"""An ordinary rotation has some hundred events; from here on people are told."""


class TurnedBack(Exception):
    """Leaves the way forward; the reason is in the state."""


def failure_text(error: ActivityError) -> str:
    """What failed, for people: the innermost message that an activity gave."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    kind = cause.type if isinstance(cause, ApplicationError) and cause.type else type(cause).__name__
    text = cause.message if isinstance(cause, ApplicationError) else str(cause)
    return f"{kind}: {text}"


async def settle(*coroutines: Coroutine[Any, Any, T]) -> list[T]:
    """Runs side by side; all are settled before anything else starts, also when one fails or all are cancelled.

    Raises the first failure, after the last has ended.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        await workflow.wait(tasks)
    except asyncio.CancelledError:
        await _end(tasks)
        raise
    failed = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if failed:
        raise failed[0]
    return [task.result() for task in tasks]


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancels what is left and waits until all have ended; what they ended with does not matter any more."""
    for task in tasks:
        task.cancel()
    await workflow.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.exception()


class Conduct:
    """Acts, waits and asks gates on behalf of one rotation; `people` are told."""

    def __init__(self, state: RotationState) -> None:
        self.state = state
        self.people = People(state)
        self._look_due = False
        self._warned = False

    # -- phases --------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Leaves the way forward when turning back was asked for: rollback beats everything else."""
        if self.state.turn_back is not None:
            raise TurnedBack

    async def held_back(self) -> bool:
        """Waits while the guard is blind or a person paused the rotation. True when it had to wait; then look afresh.

        Never gets past a request to turn back.
        """
        self.check()
        waited = False
        while (why := self.state.held_back) is not None:
            self.wait_for(Waiting(what=f"the advance to be free again: {why}"))
            await workflow.wait_condition(partial(self._changed, why))
            self.check()
            waited = True
        return waited

    def _changed(self, why: str) -> bool:
        return self.state.held_back != why or self.state.turn_back is not None

    def move(self, phase: Phase) -> None:
        """Enters a phase, visibly."""
        self.state.move(phase)
        workflow.upsert_search_attributes(attributes(self.state))
        self.show()

    def show(self) -> None:
        """Brings the Web UI's details up to date."""
        workflow.set_current_details(details(self.state))

    def heard(self, decision: Decision) -> None:
        """A message came. One that is only counted is not shown: ten thousand of them would take their time."""
        if decision is not self.state.last_dropped:
            self.show()
        self._warn_of_history()

    def _warn_of_history(self) -> None:
        """Temporal ends a workflow whose history is full; whoever fills it has to be found before."""
        info = workflow.info()
        events, size = info.get_current_history_length(), info.get_current_history_size()
        if self._warned or (events < HISTORY_EVENTS and size < HISTORY_BYTES):
            return
        self._warned = True
        text = f"the history of this rotation has {events} events and {size // 1_000_000} MB"
        limits = "Temporal ends a workflow at 51 200 events or 50 MB, and refuses signals after 10 000"
        self.people.alert(
            "history_filling", Severity.CRITICAL, f"{text}: {limits}", "find out who sends it signals; roll back"
        )

    def wait_for(self, waiting: Waiting | None) -> None:
        """Says what the rotation waits for."""
        self.state.waiting = waiting
        self.show()

    # -- acting --------------------------------------------------------------------------------------------------

    async def act(
        self, activity: Callable[..., Awaitable[T]], request: Any, summary: str, *, deadline: timedelta | None
    ) -> T:
        """A side effect, repeated every second until it succeeds or its deadline (going forward) has passed."""
        return await workflow.execute_activity_method(
            activity,
            request,
            start_to_close_timeout=ACT_TIMEOUT,
            schedule_to_close_timeout=deadline,
            retry_policy=EVERY_SECOND,
            cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=summary,
        )

    async def insist(
        self, activity: Callable[..., Awaitable[T]], request: Any, summary: str, *, deadline: timedelta | None = None
    ) -> T:
        """A side effect that has to be done: repeated every second whatever it says, with alerts while it is not."""
        alarm = asyncio.create_task(self._alarm(summary))
        try:
            return await self.act(activity, request, summary, deadline=deadline)
        finally:
            alarm.cancel()

    async def _alarm(self, summary: str) -> None:
        wait = ALARM_AFTER
        while True:
            await workflow.sleep(wait, summary=f"alert when not done: {summary}")
            text = f"still not done: {summary}; it is repeated every second until it is"
            self.people.alert(
                "action_failing", Severity.CRITICAL, text, "see the pending activity in the Web UI for the cause"
            )
            wait = ALARM_AGAIN

    def overridden(self) -> bool:
        """True once after a person overrode a gate: look afresh before the next phase."""
        due, self._look_due = self._look_due, False
        return due

    async def forward(self, activity: Callable[..., Awaitable[T]], request: Any, summary: str) -> T:
        """A side effect on the way forward: when it cannot be done in its time, the rotation turns back."""
        try:
            done = await self.act(activity, request, summary, deadline=self.state.plan.timings.action_deadline)
        except ActivityError as error:
            self.check()
            self.turn(Cause.ACTION_FAILED, f"{summary}: {failure_text(error)}")
            raise TurnedBack from None
        self.check()
        return done

    def turn(self, cause: Cause, reason: str, measured_at: datetime | None = None) -> None:
        """Asks to turn back; heard by the rotation's main loop at once."""
        self.state.turn(TurnBack(cause=cause, reason=reason, measured_at=measured_at or workflow.now()))
        self.show()

    async def until(self, moment: datetime, what: str, *, unless: Callable[[], bool] = lambda: False) -> None:
        """A durable timer to an absolute instant; over before it where `unless` comes true."""
        self.wait_for(Waiting(what=what, until=moment))
        remaining = moment - workflow.now()
        if remaining > timedelta(0):
            with contextlib.suppress(TimeoutError):
                await workflow.wait_condition(
                    unless, timeout=remaining, timeout_summary=f"{what}, until {moment:%Y-%m-%d %H:%M:%S} UTC"
                )
        self.check()
        self.wait_for(None)

    # -- gates ---------------------------------------------------------------------------------------------------

    async def gate(
        self,
        activity: Callable[[Any, GateRequest], Awaitable[GateLook]],
        request: GateRequest,
        summary: str,
        *,
        deadline: timedelta,
        overridable: bool,
    ) -> GateResult:
        """Watches until the gate is decided. FAIL turns back; undecided in its time it waits for a person as well."""
        name = activity.__name__
        due, overdue = workflow.now() + deadline, False
        blind: list[datetime] = []
        while True:
            override = name if overdue and overridable else None
            remaining = None if overdue else max(due - workflow.now(), timedelta(seconds=1))
            look = await self._look(activity, request, summary, remaining, override)
            if isinstance(look, GateLook) and look.sight is Sight.BLIND:
                self.people.alert(
                    "blind", Severity.CRITICAL, f"gate {name} cannot see: {look.text}", "restore the source"
                )
                if not overdue:
                    self.wait_for(Waiting(what=f"the gate {name} to see again: {look.text}"))
                blind = [*blind[-TIMES_BLIND:], workflow.now()]
                request = request.model_copy(update={"last": Sight.BLIND, "calm_until": calm_until(blind, TIMES_BLIND)})
            elif isinstance(look, GateLook) and look.result is not None:
                return self._decided(look.result)
            elif isinstance(look, GateLook):
                self.people.alert("watching_again", Severity.INFO, f"gate {name} sees again: {look.text}")
                if not overdue:
                    self.wait_for(None)
                request = request.model_copy(update={"last": Sight.SEEING})
            elif look is None:
                return self._overridden(name)
            else:
                result = GateResult(
                    gate=name,
                    verdict=Verdict.INCONCLUSIVE,
                    findings=(Finding(check="decided in time", verdict=Verdict.INCONCLUSIVE, seen=look),),
                    decided_at=workflow.now(),
                )
                self._inconclusive(result, overdue=overdue, overridable=overridable)
                overdue = True

    async def one_look(
        self, activity: Callable[[Any, GateRequest], Awaitable[GateLook]], request: GateRequest, summary: str
    ) -> GateLook:
        """One fresh look of a gate."""
        look = await self.watch(activity, request.model_copy(update={"one_look": True}), summary)
        self.check()
        return look

    async def watch(
        self,
        activity: Callable[[Any, Any], Awaitable[T]],
        request: Any,
        summary: str,
        deadline: timedelta | None = None,
        retry: RetryPolicy = EVERY_SECOND,
    ) -> T:
        """A watcher: a stateless activity that Temporal repeats while it raises its benign error."""
        return await workflow.execute_activity_method(
            activity,
            request,
            start_to_close_timeout=LOOK_TIMEOUT,
            schedule_to_close_timeout=deadline,
            retry_policy=retry,
            cancellation_type=workflow.ActivityCancellationType.TRY_CANCEL,
            summary=summary,
        )

    async def _look(
        self,
        activity: Callable[[Any, GateRequest], Awaitable[GateLook]],
        request: GateRequest,
        summary: str,
        deadline: timedelta | None,
        override: str | None,
    ) -> GateLook | str | None:
        """The watcher's answer; its last words when the deadline passed; None when a person overrode the gate."""
        watching = asyncio.create_task(self.watch(activity, request, summary, deadline))
        tasks: list[asyncio.Task[Any]] = [watching]
        if override is not None:
            tasks.append(asyncio.create_task(workflow.wait_condition(lambda: override in self.state.approved)))
        try:
            await workflow.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await _end(tasks)
            raise
        await _end(tasks)
        self.check()
        if override is not None and override in self.state.approved:
            return None
        error = watching.exception()
        if error is None:
            return watching.result()
        if isinstance(error, ActivityError):
            return failure_text(error).removeprefix("NothingNew: ")
        raise error

    def _decided(self, result: GateResult) -> GateResult:
        self.state.decided(result)
        self.wait_for(None)
        if result.verdict is not Verdict.PASS:
            self.turn(Cause.GATE_FAILED, f"gate {result.gate}: {result.reason}", result.decided_at)
            raise TurnedBack
        return result

    def _overridden(self, name: str) -> GateResult:
        approval = self.state.approved[name]
        self._look_due = True
        result = self.state.gates[name].model_copy(update={"overridden_by": approval.by})
        self.state.decided(result)
        self.wait_for(None)
        return result

    def _inconclusive(self, result: GateResult, *, overdue: bool, overridable: bool) -> None:
        self.state.decided(result)
        if overridable:
            self.wait_for(waiting_for_gate(result.gate, f"the gate {result.gate}, or a person: {result.reason}"))
        else:
            self.wait_for(Waiting(what=f"the gate {result.gate}, which nobody can override: {result.reason}"))
        if not overdue:
            action = (
                "look at the figures; approve the gate to override, or roll back"
                if overridable
                else "roll back, or wait"
            )
            self.people.alert(
                "inconclusive", Severity.WARNING, f"gate {result.gate} undecided: {result.reason}", action
            )


def waiting_for_gate(gate: str, what: str) -> Waiting:
    """Waiting that a person can end, with the JSON that does."""
    return Waiting(what=what, gate=gate, answer=f'{{"gate": "{gate}", "by": "your name", "reason": "why"}}')
