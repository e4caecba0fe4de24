"""The committed histories: how they are kept, and what a history says about itself.

They hold plain payloads. An encrypted history would need its key beside it to be replayed, so that it would be as
readable as a plain one to everyone who has the repository, and unreadable to the test that no secret is in it; what
encryption does to payloads does not concern the order of a workflow's commands.

`python -m tests.replay.histories NAME` prints one, an event a line.
"""

from __future__ import annotations

import base64
import functools
import gzip
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory

from domain.plan import Plan
from domain.rotation import Cause

DIRECTORY = Path(__file__).with_name("histories")

PHASE = "RotationPhase"
"""The search attribute that a rotation sets in every phase."""


def names() -> list[str]:
    """The names of all committed histories; each is a path that a workflow can take."""
    return sorted(path.name.removesuffix(".json.gz") for path in DIRECTORY.glob("*.json.gz"))


@functools.cache
def load(name: str) -> WorkflowHistory:
    """One committed history. Not to be changed: it is read once in a process."""
    kept = json.loads(gzip.decompress((DIRECTORY / f"{name}.json.gz").read_bytes()))
    return WorkflowHistory.from_json(kept["workflowId"], kept["history"])


def dump(history: WorkflowHistory) -> bytes:
    """A history as it is committed. The same history gives the same bytes."""
    kept = {"workflowId": history.workflow_id, "history": history.to_json_dict()}
    return gzip.compress(json.dumps(kept, ensure_ascii=False, sort_keys=True).encode(), mtime=0)


def scrubbed(history: WorkflowHistory) -> WorkflowHistory:
    """The history without stack traces, which name files of the machine that recorded it."""
    events = [HistoryEvent.FromString(event.SerializeToString()) for event in history.events]
    for event in events:
        for message in _messages(event):
            if isinstance(message, Failure):
                message.stack_trace = ""
    return WorkflowHistory(history.workflow_id, events)


def text(history: WorkflowHistory) -> str:
    """Everything that the history says, payloads decoded, one event a line."""
    return "\n".join(json.dumps(_readable(MessageToDict(event)), ensure_ascii=False) for event in history.events)


def workflow_type(history: WorkflowHistory) -> str:
    """The type of the workflow."""
    return _first(history).workflow_type.name


def phases(history: WorkflowHistory) -> set[str]:
    """Every phase that the rotation entered, as its search attributes tell."""
    found = set()
    for event in history.events:
        for message in _messages(event):
            fields = getattr(message, "indexed_fields", {})
            if PHASE in fields:
                found.add(json.loads(fields[PHASE].data))
    return found


def failure_type(history: WorkflowHistory) -> str | None:
    """The type with which the workflow failed: RolledBack or Aborted; None for one that did not fail."""
    failed = _failed(history)
    return failed.application_failure_info.type if failed is not None else None


def cause(history: WorkflowHistory) -> Cause | None:
    """Why the rotation turned back or aborted; None for one that did not fail."""
    failed = _failed(history)
    if failed is None:
        return None
    said = re.search(rf" – ({'|'.join(map(re.escape, Cause))})(:| by )", failed.message)
    if said is None:
        raise ValueError(f"no cause in {failed.message!r}")
    return Cause(said[1])


def children(history: WorkflowHistory) -> list[str]:
    """The workflow ids of the children that were started."""
    return [
        event.child_workflow_execution_started_event_attributes.workflow_execution.workflow_id
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED
    ]


def messages(history: WorkflowHistory) -> set[str]:
    """Names of the signals and updates that reached the workflow."""
    found = set()
    for event in history.events:
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            found.add(event.workflow_execution_signaled_event_attributes.signal_name)
        elif event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            accepted = event.workflow_execution_update_accepted_event_attributes
            found.add(accepted.accepted_request.input.name)
    return found


def plan(history: WorkflowHistory) -> Plan:
    """The plan of the rotation or dry run, as its input has it."""
    return Plan.model_validate(json.loads(_first(history).input.payloads[0].data)["plan"])


def _failed(history: WorkflowHistory) -> Failure | None:
    last = history.events[-1]
    if last.event_type != EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
        return None
    return last.workflow_execution_failed_event_attributes.failure


def _first(history: WorkflowHistory) -> Any:
    return history.events[0].workflow_execution_started_event_attributes


def _messages(message: Message) -> Iterator[Message]:
    """The message and every message inside it; payloads are not opened."""
    yield message
    if isinstance(message, Payload):
        return
    for descriptor, value in message.ListFields():
        if descriptor.message_type is None:
            continue
        if descriptor.message_type.GetOptions().map_entry:
            inner = [one for one in value.values() if isinstance(one, Message)]
        else:
            inner = [value] if isinstance(value, Message) else list(value)
        for one in inner:
            yield from _messages(one)


def _readable(part: Any) -> Any:
    """The event with the data of its payloads decoded where it stands."""
    if isinstance(part, dict):
        if "metadata" in part and set(part) <= {"metadata", "data", "externalPayloads"}:
            raw = base64.b64decode(part.get("data", ""))
            return json.loads(raw) if raw else None
        return {key: _readable(value) for key, value in part.items()}
    if isinstance(part, list):
        return [_readable(value) for value in part]
    return part


if __name__ == "__main__":
    print(text(load(sys.argv[1])))
