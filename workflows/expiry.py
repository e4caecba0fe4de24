"""A's expiry comes near while a rotation is paused or waits: people are told, at the levels that the plan names."""

from __future__ import annotations

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from adapters.notify.base import Severity
    from domain.plan import duration_text

from workflows.conduct import Conduct


class ExpiryWatch:
    """From PREFLIGHT to the end of HOLD, and on the way back: as long as A is needed."""

    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct
        self._state = conduct.state
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Levels that lie behind already are PREFLIGHT's to judge."""
        self._task = asyncio.create_task(self._watch())

    def end(self) -> None:
        """A is out of use."""
        if self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        a = self._state.a
        assert a is not None
        levels = sorted(self._state.plan.timings.expiry_alerts, reverse=True)
        for level in levels:
            remaining = a.not_after - level - workflow.now()
            if remaining.total_seconds() <= 0:
                continue
            left = duration_text(level)
            await workflow.sleep(remaining, summary=f"A expires in {left}: tell, if it is still needed")
            waiting = self._state.waiting
            what = f"waits for {waiting.what}" if waiting is not None else f"is in {self._state.phase}"
            text = f"A expires in {left}, at {a.not_after:%Y-%m-%d %H:%M} UTC, and the rotation {what}"
            action = "answer or resume it: when A expires, there is no way back, and where A is preferred calls fail"
            if level == levels[-1]:
                self._conduct.people.alert("expiry_imminent", Severity.CRITICAL, text, action)
            else:
                self._conduct.people.alert("expiry_near", Severity.WARNING, text, action)
