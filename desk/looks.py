"""The last words of watchers and of what is being retried: they are at the pending activities, not in the history."""

from __future__ import annotations

from datetime import UTC, datetime

from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import WorkflowExecutionDescription
from temporalio.converter import DataConverter

from desk.failures import innermost
from desk.report import Look


async def looks_of(description: WorkflowExecutionDescription, converter: DataConverter) -> tuple[Look, ...]:
    """Every pending activity with its attempt and, decrypted, what it said last."""
    return tuple([await _look(pending, converter) for pending in description.raw_description.pending_activities])


async def _look(pending: PendingActivityInfo, converter: DataConverter) -> Look:
    said = None
    if pending.HasField("last_failure"):
        said = innermost(await converter.decode_failure(pending.last_failure))
    next_at: datetime | None = None
    if pending.HasField("next_attempt_schedule_time"):
        next_at = pending.next_attempt_schedule_time.ToDatetime(tzinfo=UTC)
    return Look(activity=pending.activity_type.name, attempt=pending.attempt, said=said, next_at=next_at)
