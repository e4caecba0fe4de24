"""Keeps the time-skipping server skipping.

The Java test server forgets to give its clock free again when an activity is cancelled while one of its attempts runs,
which the guard is whenever its pace changes at the instant of a look. From then on the time passes as on the wall. Here
that is noticed – nothing is being worked on, and still nothing is skipped – and made good by one more unlock.

An unlock too many is worse than one too few: the server then skips while somebody works, as far as the end of the
workflow's time. A task that is between server and worker cannot be told from none, so the standstill has to last.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from temporalio.api.testservice.v1 import UnlockTimeSkippingRequest
from temporalio.client import Interceptor as ClientInterceptor
from temporalio.client import WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput
from temporalio.worker import Interceptor as WorkerInterceptor

LOOKED_AT_EVERY_S = 0.3

LOOKS_AT_A_STANDSTILL = 6
"""In a row, before the server is believed to have forgotten. A busy machine may keep a task on its way for a second."""


class Attempts(ClientInterceptor, WorkerInterceptor):
    """Counts attempts of activities: a worker takes its interceptors from its client as well."""

    def __init__(self) -> None:
        self.begun = 0
        self.running = 0

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wraps every activity."""
        return _Counted(next, self)


class _Counted(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, attempts: Attempts) -> None:
        super().__init__(next)
        self._attempts = attempts

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        self._attempts.begun += 1
        self._attempts.running += 1
        try:
            return await super().execute_activity(input)
        except ApplicationError as error:
            raise error.with_traceback(None) from None  # of thousands of looks nobody reads the stack trace
        finally:
            self._attempts.running -= 1


@contextlib.asynccontextmanager
async def kept_skipping(
    env: WorkflowEnvironment, attempts: Attempts, handle: WorkflowHandle[Any, Any]
) -> AsyncIterator[None]:
    """While the body lets the time pass, it is skipped through."""
    watching = asyncio.create_task(_watch(env, attempts, handle))
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _watch(env: WorkflowEnvironment, attempts: Attempts, handle: WorkflowHandle[Any, Any]) -> None:
    still = 0
    while True:
        begun, wall, server = attempts.begun, time.monotonic(), await env.get_current_time()
        await asyncio.sleep(LOOKED_AT_EVERY_S)
        passed = await env.get_current_time() - server
        skipped = passed > 2 * timedelta(seconds=time.monotonic() - wall)
        if skipped or attempts.running or attempts.begun != begun or await _has_a_task(handle):
            still = 0
            continue
        still += 1
        if still >= LOOKS_AT_A_STANDSTILL:
            await env.client.test_service.unlock_time_skipping(UnlockTimeSkippingRequest())
            still = 0


async def _has_a_task(handle: WorkflowHandle[Any, Any]) -> bool:
    """Whether the workflow has a task to do, or nothing to do any more."""
    description = await handle.describe()
    return description.close_time is not None or description.raw_description.HasField("pending_workflow_task")
