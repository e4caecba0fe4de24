"""The guard: watches real traffic from BIND to the end of HOLD, through approval waits and the overlap."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.health import GuardLook, GuardRequest, HealthActivities
    from adapters.notify.base import Severity
    from domain.flapping import CHANGES, TIMES_BLIND, calm_until
    from domain.guard import GuardVerdict
    from domain.phases import GUARDED, HOT, Phase
    from domain.plan import duration_text
    from domain.rotation import Cause
    from workflows.messages import GuardStatus, Waiting

from workflows.conduct import Conduct, TurnedBack, failure_text
from workflows.pace import EVERY_SECOND, LOST_LOOK_TOLD

STILL_FAILING = timedelta(minutes=5)
"""Between two watchers when one fails in a way that Temporal does not repeat by itself: twelve an hour."""


class Guard:
    """One retried activity that looks once an attempt; it is replaced when the pace of the phase changes."""

    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self._state = conduct.state
        self._interval: timedelta | None = None
        self._task: asyncio.Task[None] | None = None
        self._changes: deque[datetime] = deque(maxlen=CHANGES + 1)
        self._blind: deque[datetime] = deque(maxlen=TIMES_BLIND + 1)
        self._calm_until: datetime | None = None
        self._patience: asyncio.Task[None] | None = None

    async def keep_pace(self, phase: Phase) -> None:
        """Watches at the pace of the phase, or not at all outside of BIND … HOLD."""
        if phase not in GUARDED:
            await self.stop()
            return
        timings = self._state.plan.timings
        interval = timings.guard_hot if phase in HOT else timings.guard_overlap
        if interval != self._interval:
            await self.stop()
            self._interval = interval
            self._task = asyncio.create_task(self._watch(interval))

    async def stop(self) -> None:
        """Ends the watch; a blind guard that is stopped freezes nothing any more."""
        self._end_patience()
        if self._task is not None:
            task, self._task = self._task, None
            task.cancel()
            await workflow.wait([task])
            error = None if task.cancelled() else task.exception()
            if error is not None and not is_cancelled_exception(error):
                raise error
        self._interval = None

    async def fresh_look(self) -> None:
        """One fresh look before a step out of a wait: on BREACH turns back, while BLIND stays where it is."""
        self._conduct.check()
        look = await self._look(timedelta(seconds=1), GuardVerdict.HEALTHY, one_look=True)
        while look.verdict is GuardVerdict.BLIND:
            self._conduct.check()
            self._conduct.wait_for(Waiting(what=f"the guard to see again: {look.text}"))
            look = await self._look(self._interval or timedelta(seconds=1), GuardVerdict.BLIND)
        self._conduct.check()
        if look.verdict is GuardVerdict.BREACH:
            self._breach(look)
            raise TurnedBack
        self._conduct.wait_for(None)

    async def _watch(self, interval: timedelta) -> None:
        said = self._state.guard.verdict if self._state.guard is not None else GuardVerdict.HEALTHY
        while True:
            look = await self._look(interval, said, calm=self._calm_until)
            if look.verdict is GuardVerdict.BREACH:
                self._breach(look)
                return
            if look.verdict is not said:
                self._changed(said, look)
                said = look.verdict

    async def _look(
        self, interval: timedelta, said: GuardVerdict, *, one_look: bool = False, calm: datetime | None = None
    ) -> GuardLook:
        """What the watcher has to say. A look that was lost – hung, or with its worker – is BLIND, and told at once.

        As long as BLIND was said already, Temporal repeats what is lost or fails, and nothing is added to the history.
        """
        state = self._state
        assert state.a is not None
        assert state.b is not None
        request = GuardRequest(
            run=state.run,
            sha256_a=state.a.sha256,
            sha256_b=state.b.sha256,
            interval=interval,
            said=said,
            one_look=one_look,
            calm_until=calm,
            setup_success={
                name: baseline.setup_success
                for name, baseline in state.baselines.items()
                if baseline.setup_success is not None
            },
        )
        summary = "fresh look before the next step" if one_look else f"guard, every {interval.total_seconds():g} s"
        known = said is GuardVerdict.BLIND
        try:
            return await self._conduct.watch(
                HealthActivities.guard, request, summary, retry=EVERY_SECOND if known else LOST_LOOK_TOLD
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            if known:
                await workflow.sleep(STILL_FAILING, summary="the guard itself still fails: look again")
            text = f"the guard itself failed: {failure_text(error)}"
            return GuardLook(verdict=GuardVerdict.BLIND, text=text, looked_at=workflow.now())

    def _breach(self, look: GuardLook) -> None:
        status = GuardStatus(verdict=look.verdict, text=look.text, at=look.looked_at)
        self._state.guarded(status)
        self._conduct.people.alert(
            "breach", Severity.CRITICAL, look.text, "nothing: the rotation turns back to A by itself"
        )
        self._conduct.turn(Cause.BREACH, look.text, look.looked_at)

    def _changed(self, said: GuardVerdict, look: GuardLook) -> None:
        now, text = workflow.now(), look.text
        self._changes.append(now)
        self._calm_until = calm_until(self._changes, CHANGES)
        if look.verdict is GuardVerdict.BLIND:
            self._blind.append(now)
            self._calm_until = calm_until(self._blind, TIMES_BLIND)
            if self._calm_until is not None:
                text += f" – too often within the hour: it is not believed before {self._calm_until:%H:%M:%S} UTC"
        self._state.guarded(GuardStatus(verdict=look.verdict, text=text, at=look.looked_at))
        self._end_patience()
        after = self._state.plan.timings.blind_rollback_after
        if look.verdict is GuardVerdict.BLIND and after is not None:
            self._patience = asyncio.create_task(self._turn_back_after(after))
        if look.verdict is GuardVerdict.BLIND:
            self._conduct.people.alert(
                "blind", Severity.CRITICAL, f"the guard cannot see: {text}", "restore the source; advance is frozen"
            )
        elif said is GuardVerdict.BLIND:
            self._conduct.people.alert("watching_again", Severity.INFO, f"the guard sees again: {text}")
        self._conduct.show()

    async def _turn_back_after(self, patience: timedelta) -> None:
        """A trunk that nobody has seen for so long is not trusted to B any longer, if the plan says so."""
        await workflow.sleep(patience, summary="blind for too long: turn back")
        seen = self._state.guard.text if self._state.guard is not None else ""
        self._conduct.turn(Cause.BLIND, f"the guard has seen nothing for {duration_text(patience)}: {seen}")

    def _end_patience(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
