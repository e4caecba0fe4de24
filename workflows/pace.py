"""How long one attempt may take, and what comes after it."""

from __future__ import annotations

from datetime import timedelta

from temporalio.common import RetryPolicy

EVERY_SECOND = RetryPolicy(initial_interval=timedelta(seconds=1), backoff_coefficient=1.0)
LOST_LOOK_TOLD = RetryPolicy(
    initial_interval=timedelta(seconds=1),
    backoff_coefficient=1.0,
    non_retryable_error_types=["TemporalTimeout:StartToClose", "", "NotFoundError"],
)
"""As `EVERY_SECOND`, but a look that timed out, whose request could not be read ("") or whose worker does not know it
is told to the workflow instead of being repeated unseen."""
ACT_TIMEOUT = timedelta(seconds=8)
LOOK_TIMEOUT = timedelta(seconds=4)
