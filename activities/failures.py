"""Turns every `RotatorError` of an adapter into the Temporal failure that says whether a retry can help."""

from __future__ import annotations

import traceback
from datetime import timedelta
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory, TemporalError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from adapters.fence import acting_within
from domain.errors import RotatorError, Throttled
from domain.texts import readable

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


def as_unexpected(error: Exception) -> ApplicationError:
    """The failure of an exception that nobody foresaw: a bug. Its text is cut and cleaned of keys, its causes left out.

    It can be retried: a worker with the bug mended goes on from here.
    """
    kind = type(error).__name__
    return ApplicationError(readable(f"unexpected {kind}: {error}", TEXT_LIMIT), type=kind)


def frames(error: Exception) -> str:
    """Where it happened, for the log: the lines of code without the texts of the exceptions, which may hold a key."""
    return "".join(traceback.format_tb(error.__traceback__)).rstrip()


class _Activity(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        allowed = activity.info().start_to_close_timeout
        try:
            with acting_within(allowed.total_seconds() if allowed else None):
                return await super().execute_activity(input)
        except RotatorError as error:
            info = activity.info()
            activity.logger.warning("%s, attempt %d: %s", info.activity_type, info.attempt, str(error)[:TEXT_LIMIT])
            raise as_failure(error, insisting=not info.schedule_to_close_timeout) from None
        except TemporalError:
            raise
        except Exception as error:
            info = activity.info()
            failure = as_unexpected(error)
            activity.logger.error("%s, attempt %d: %s\n%s", info.activity_type, info.attempt, failure, frames(error))
            raise failure from None


class FailureInterceptor(Interceptor):
    """Worker interceptor: adapters know nothing of Temporal, Temporal nothing of adapters."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wraps every activity."""
        return _Activity(super().intercept_activity(next))
