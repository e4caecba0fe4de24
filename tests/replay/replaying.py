"""Replays histories as the worker would, and hears what the workflow of today asks for meanwhile.

`python -m tests.replay.replaying NAME …` says of each committed history whether the code of today takes that path;
exit code 1 when it does not.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from temporalio import workflow
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import (
    Interceptor,
    Replayer,
    StartActivityInput,
    StartChildWorkflowInput,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from tests.replay import histories
from worker import WORKFLOWS, workflow_runner

HEARD = "heard_by_the_replay"


@dataclass
class Asked:
    """What the code of today asked Temporal for while it replayed; a history has what it asked for in its time."""

    activities: list[StartActivityInput] = field(default_factory=list)
    children: list[StartChildWorkflowInput] = field(default_factory=list)

    def hear(self, request: StartActivityInput | StartChildWorkflowInput) -> None:
        """Keeps one request."""
        if isinstance(request, StartActivityInput):
            self.activities.append(request)
        else:
            self.children.append(request)


class _Outbound(WorkflowOutboundInterceptor):
    def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:
        workflow.extern_functions()[HEARD](input)
        return super().start_activity(input)

    async def start_child_workflow(self, input: StartChildWorkflowInput) -> workflow.ChildWorkflowHandle[Any, Any]:
        workflow.extern_functions()[HEARD](input)
        return await super().start_child_workflow(input)


class _Inbound(WorkflowInboundInterceptor):
    def init(self, outbound: WorkflowOutboundInterceptor) -> None:
        super().init(_Outbound(outbound))


class Listener(Interceptor):
    """Lets `asked` hear what replayed workflows ask for."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def workflow_interceptor_class(self, input: WorkflowInterceptorClassInput) -> type[WorkflowInboundInterceptor]:
        """Called for each workflow worker; the function that it leaves leads out of the sandbox."""
        input.unsafe_extern_functions[HEARD] = self._asked.hear
        return _Inbound


def replayer(asked: Asked | None = None) -> Replayer:
    """A replayer with the worker's workflows and sandbox, for plain payloads."""
    return Replayer(
        workflows=WORKFLOWS,
        workflow_runner=workflow_runner(),
        data_converter=pydantic_data_converter,
        interceptors=[Listener(asked)] if asked is not None else [],
    )


@dataclass
class Replay:
    """What came of the replay of one history by the code of today; `failure` is None when it fits."""

    failure: Exception | None
    asked: Asked


@functools.cache
def replayed(name: str) -> Replay:
    """Replays a committed history, once in this process. Not to be called while an event loop runs."""
    asked = Asked()
    history = histories.load(name)
    result = asyncio.run(replayer(asked).replay_workflow(history, raise_on_replay_failure=False))
    return Replay(result.replay_failure, asked)


def main(names: list[str]) -> int:
    """Replays the named histories, or all; returns the exit code."""
    failed = 0
    for name in names or histories.names():
        failure = replayed(name).failure
        failed += failure is not None
        print(f"{name}: {failure or 'fits'}")
    return 1 if failed else 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(code)  # the SDK's native runtime sometimes aborts at interpreter exit
