"""Rotations as a client sees them: start, look, list, answer. No call hangs; each says who cannot be reached."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionDescription,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import SearchAttributeKey, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import TimeoutError as TemporalTimeout
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from connection import TASK_QUEUE, polled, register_search_attributes
from desk.failures import Refused, innermost, no_namespace
from desk.looks import looks_of
from desk.report import DryRun, Report, Row
from desk.start_text import details, summary
from domain.errors import Unreachable
from domain.phases import Phase
from domain.plan import Plan
from domain.rotation import rotation_id
from workflows import attributes
from workflows.messages import (
    Approval,
    Decision,
    ExtendRequest,
    LeftoverChoice,
    Message,
    PauseRequest,
    RollbackRequest,
    RotationRequest,
    RotationStatus,
    parse_message,
)

WORKFLOW = "CertificateRotation"
DRY_RUN = "RotationDryRun"

TASK_TIMEOUT = timedelta(seconds=5)
"""How long a workflow task of a worker that died is held (DESIGN.md, "Watching and acting")."""

ANSWER_WITHIN = timedelta(seconds=10)
"""For queries and updates, which a worker answers."""

DRY_RUN_WITHIN = timedelta(minutes=2)
"""After this a dry run that nobody works on ends by itself."""

T = TypeVar("T")


class Rotations:
    """The rotations of one namespace."""

    def __init__(self, client: Client) -> None:
        self._client = client

    # -- starting ------------------------------------------------------------------------------------------------

    async def require_worker(self) -> None:
        """Raises `Unreachable` when no worker polls the task queue: nothing would happen."""
        if not await polled(self._client):
            raise Unreachable(
                "no worker polls the task queue",
                where=f"{TASK_QUEUE}, namespace {self._client.namespace}",
                action="start one with `python worker.py`, against the same TEMPORAL_ADDRESS",
            )

    async def start(
        self, plan: Plan, started_by: str, leftovers: LeftoverChoice = LeftoverChoice.REFUSE
    ) -> WorkflowHandle[object, object]:
        """Starts the plan's rotation. Raises `Refused` naming the one that is running already."""
        await register_search_attributes(self._client, attributes.ALL)
        rotation = rotation_id(plan.name)
        try:
            return await self._client.start_workflow(
                WORKFLOW,
                RotationRequest(plan=plan, started_by=started_by, leftovers=leftovers),
                id=rotation,
                task_queue=TASK_QUEUE,
                task_timeout=TASK_TIMEOUT,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                search_attributes=attributes.initial(plan),
                static_summary=summary(plan),
                static_details=details(plan),
            )
        except WorkflowAlreadyStartedError:
            running = await self._client.get_workflow_handle(rotation).describe()
            row = row_of(running)
            raise Refused(
                "this plan's rotation is running already",
                where=rotation,
                seen=f"in {row.phase or 'an unknown phase'}, started {row.started_at:%Y-%m-%d %H:%M:%S} UTC",
                action=f"look at it with `status {plan.name}`",
            ) from None

    async def dry_run(self, plan: Plan, started_by: str) -> DryRun:
        """The checks of PREFLIGHT, made by a worker, who alone knows the profiles."""
        await self.require_worker()
        handle: WorkflowHandle[object, DryRun] = await self._client.start_workflow(
            DRY_RUN,
            RotationRequest(plan=plan, started_by=started_by),
            id=f"dry-run-{plan.name}-{secrets.token_hex(3)}",
            task_queue=TASK_QUEUE,
            execution_timeout=DRY_RUN_WITHIN,
            static_summary=f"dry run of plan {plan.name}: the checks of PREFLIGHT",
            result_type=DryRun,
        )
        try:
            return await handle.result()
        except WorkflowFailureError as error:
            if not isinstance(error.cause, TemporalTimeout):
                raise
            raise Unreachable(
                "the dry run did not end",
                where=handle.id,
                seen=f"{DRY_RUN_WITHIN.total_seconds():.0f} s have passed",
                action="see that a worker runs, and what its log says",
            ) from None

    # -- looking -------------------------------------------------------------------------------------------------

    async def find(self, name: str) -> WorkflowExecutionDescription:
        """The rotation of a plan name or a workflow id. Raises `Refused` when there is none."""
        for candidate in dict.fromkeys((rotation_id(name), name)):
            try:
                found = await self._client.get_workflow_handle(candidate).describe()
            except RPCError as error:
                if error.status is not RPCStatusCode.NOT_FOUND or no_namespace(error):
                    raise
            else:
                if found.workflow_type == WORKFLOW:
                    return found
        raise Refused(
            "no such rotation",
            where=name,
            seen=f"neither {rotation_id(name)} nor {name} in namespace {self._client.namespace}",
            action="`list` shows what there is",
        )

    async def report(self, name: str, *, within: timedelta = ANSWER_WITHIN) -> Report:
        """Everything about one rotation; without a worker what Temporal itself knows."""
        found = await self.find(name)
        handle = self._client.get_workflow_handle(found.id, run_id=found.run_id)
        status, unanswered = await self._status(handle, within)
        ended = found.close_time is not None
        return Report(
            row=row_of(found),
            history_events=found.history_length,
            looks=() if ended else await looks_of(found, self._client.data_converter),
            status=status,
            unanswered=unanswered,
            failure=await self._failure(handle) if ended else None,
        )

    async def rows(self, *, phase: Phase | None = None, platform: str | None = None, limit: int = 100) -> list[Row]:
        """Rotations from search attributes, the newest first."""
        query = f"WorkflowType = '{WORKFLOW}'"
        if phase is not None:
            query += f" AND {attributes.PHASE.name} = '{phase.value}'"
        if platform is not None:
            query += f" AND {attributes.PLATFORM.name} = '{_quoted(platform)}'"
        rows = []
        async for execution in self._client.list_workflows(query, limit=limit):
            rows.append(row_of(execution))
        return sorted(rows, key=lambda row: row.started_at, reverse=True)

    # -- answering -----------------------------------------------------------------------------------------------

    async def approve(self, name: str, gate: str, by: str, reason: str) -> Decision:
        """Approves a waiting gate. Raises `Refused` with the workflow's reason."""
        return await self._update(name, "approve_gate", _message(Approval, gate=gate, by=by, reason=reason))

    async def roll_back(self, name: str, by: str, reason: str) -> Decision:
        """Turns a rotation back. Raises `Refused` when there is no way back."""
        return await self._update(name, "request_rollback", _message(RollbackRequest, by=by, reason=reason))

    async def pause(self, name: str, by: str, reason: str) -> Decision:
        """Stops a rotation before its next phase. Raises `Refused` with the workflow's reason."""
        return await self._update(name, "request_pause", _message(PauseRequest, by=by, reason=reason))

    async def resume(self, name: str, by: str, reason: str) -> Decision:
        """Lets a paused rotation go on. Raises `Refused` when it is not paused."""
        return await self._update(name, "request_resume", _message(PauseRequest, by=by, reason=reason))

    async def extend(self, name: str, hours: float, by: str, reason: str) -> Decision:
        """Lets the overlap end so many hours later. Raises `Refused` with the workflow's reason."""
        message = _message(ExtendRequest, hours=hours, by=by, reason=reason)
        return await self._update(name, "request_extension", message)

    async def _update(self, name: str, update: str, message: Any) -> Decision:
        found = await self.find(name)
        if found.close_time is not None:
            row = row_of(found)
            raise Refused("the rotation has ended", where=found.id, seen=row.phase or row.execution)
        handle = self._client.get_workflow_handle(found.id, run_id=found.run_id)
        try:
            return await _answered(handle.execute_update(update, message, result_type=Decision), found.id)
        except WorkflowUpdateFailedError as error:
            raise Refused(innermost(error), where=found.id) from None

    async def _status(
        self, handle: WorkflowHandle[object, object], within: timedelta
    ) -> tuple[RotationStatus | None, str | None]:
        try:
            return await handle.query("status", result_type=RotationStatus, rpc_timeout=within), None
        except WorkflowQueryFailedError as error:
            return None, f"the worker could not answer: {error}"
        except RPCError as error:
            if error.status is RPCStatusCode.UNAVAILABLE:
                raise
            return None, f"no worker answers on task queue {TASK_QUEUE}: {error.message}"

    async def _failure(self, handle: WorkflowHandle[object, object]) -> str | None:
        try:
            await handle.result(rpc_timeout=ANSWER_WITHIN)
        except WorkflowFailureError as error:
            return innermost(error)
        return None


def row_of(execution: WorkflowExecution) -> Row:
    """An execution by its search attributes, which are readable without a key."""
    found = execution.typed_search_attributes

    def get(key: SearchAttributeKey[Any]) -> Any:
        return found.get(key)

    return Row(
        id=execution.id,
        run_id=execution.run_id,
        execution=execution.status.name if execution.status is not None else "UNKNOWN",
        phase=get(attributes.PHASE),
        verdict=get(attributes.VERDICT),
        platforms=tuple(get(attributes.PLATFORM) or ()),
        trunks=tuple(get(attributes.TRUNK) or ()),
        expiry=get(attributes.EXPIRY),
        started_at=execution.start_time,
        closed_at=execution.close_time,
    )


def _message(model: type[Message], **fields: str | float) -> Message:
    try:
        return parse_message(model, fields)
    except ValueError as error:
        raise Refused(str(error).partition(" – ")[0], where="the message") from None


async def _answered(answer: Awaitable[T], rotation: str) -> T:
    try:
        async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
            return await answer
    except TimeoutError:
        raise Unreachable(
            "no worker answered",
            where=rotation,
            seen=f"{ANSWER_WITHIN.total_seconds():.0f} s of silence",
            action="see that a worker runs; a signal (`temporal workflow signal`) waits for it",
        ) from None


def _quoted(text: str) -> str:
    """Text inside quotes of a visibility query."""
    return text.replace("\\", "\\\\").replace("'", "\\'")
