"""Turns every `RotatorError` of an adapter into the Temporal failure that says whether a retry can help."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from domain.errors import RotatorError, Throttled

TEXT_LIMIT = 2000
"""Characters of an error text that may enter the workflow's history."""


def as_failure(error: RotatorError, *, insisting: bool = False) -> ApplicationError:
    """The failure of the error's own type; `Retry-After` becomes the delay of the next attempt.

    An activity that the workflow gave no deadline is one that has to be done (the way back, and what follows HOLD):
    nothing that it meets ends it, so every failure of it can be retried.
    """
    delay = timedelta(seconds=error.retry_after_s) if isinstance(error, Throttled) else None
    return ApplicationError(
        str(error)[:TEXT_LIMIT],
        type=type(error).__name__,
        non_retryable=not (error.retryable or insisting),
        next_retry_delay=delay,
        category=ApplicationErrorCategory.BENIGN if error.retryable else ApplicationErrorCategory.UNSPECIFIED,
    )


class _Activity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except RotatorError as error:
            info = activity.info()
            activity.logger.warning("%s, attempt %d: %s", info.activity_type, info.attempt, str(error)[:TEXT_LIMIT])
            raise as_failure(error, insisting=not info.schedule_to_close_timeout) from None


class FailureInterceptor(Interceptor):
    """Worker interceptor: adapters know nothing of Temporal, Temporal nothing of adapters."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wraps every activity."""
        return _Activity(super().intercept_activity(next))
