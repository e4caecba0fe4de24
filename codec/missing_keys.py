"""What a worker does about a payload whose key it does not have: it stops and says which, and nothing is lost.

A worker that went on would fail the tasks of that rotation again and again, unseen, and take them away from a worker
that has the key. Temporal keeps the tasks: a worker with the right keys goes on from there.

A signal alone stops no worker: anybody who reaches Temporal can name a key that does not exist, and the other rotations
need their guard. The rotation that got such a signal waits; the log says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError

from codec.encryption import KEY_ID, KeyMissing, is_encrypted

FROM_OUTSIDE = frozenset(
    {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ADMITTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
    }
)
"""Events whose payloads were not written by a worker or a starter of ours."""

ADVICE = "add it to [codec.keys] of this worker's settings and start it again; the rotation goes on where it stands"

logger = logging.getLogger("worker")


class MissingKeys:
    """Hears from the codec; `needed` ends with the error that stops the worker."""

    def __init__(self) -> None:
        self._heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._known: set[tuple[str, str]] = set()

    def hear(self, key_id: str, workflow_id: str | None) -> None:
        """Called by the codec, in the event loop, for every payload that it cannot decrypt."""
        if workflow_id is None:
            logger.error("a payload that belongs to no workflow is encrypted under the missing key %r", key_id[:64])
        elif (key_id, workflow_id) not in self._known:
            self._known.add((key_id, workflow_id))
            self._heard.put_nowait((key_id, workflow_id))

    async def needed(self, client: Client) -> KeyMissing:
        """Waits until a running workflow of this task queue cannot go on without a key; the error says which."""
        while True:
            key_id, workflow_id = await self._heard.get()
            where = f"workflow {workflow_id}"
            try:
                needed = await _needs(client, workflow_id, key_id)
            except RPCError as error:
                logger.warning("%s needs key %r; its history cannot be read: %s", where, key_id[:64], error.message)
                self._known.discard((key_id, workflow_id))  # the task is repeated, and so is this question
                continue
            if needed:
                return KeyMissing(
                    f"the encryption key {key_id[:64]!r} is not in the keyring", where=where, action=ADVICE
                )
            logger.error(
                "%s waits: a message to it is encrypted under the key %r, which is not in the keyring. "
                "Add it to [codec.keys] and start the worker again, or reset the workflow to before that message",
                where,
                key_id[:64],
            )


async def _needs(client: Client, workflow_id: str, key_id: str) -> bool:
    """True when a running workflow's own payloads – its input, what its activities returned – need the key."""
    handle = client.get_workflow_handle(workflow_id)
    if (await handle.describe()).status is not WorkflowExecutionStatus.RUNNING:
        return False
    events: AsyncIterator[HistoryEvent] = handle.fetch_history_events()
    async for event in events:
        if event.event_type in FROM_OUTSIDE:
            continue
        if any(p.metadata.get(KEY_ID) == key_id.encode() for p in payloads_in(event) if is_encrypted(p)):
            return True
    return False


def payloads_in(message: Message) -> Iterator[Payload]:
    """Every payload inside a message of Temporal's API, however deep."""
    if isinstance(message, Payload):
        yield message
        return
    for _, value in message.ListFields():
        for part in _parts(value):
            yield from payloads_in(part)


def _parts(value: Any) -> Iterator[Message]:
    if isinstance(value, Message):
        yield value
    elif hasattr(value, "values"):
        yield from (part for part in value.values() if isinstance(part, Message))
    elif not isinstance(value, str | bytes | int | float):
        yield from (part for part in value if isinstance(part, Message))
