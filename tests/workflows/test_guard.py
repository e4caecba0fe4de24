"""The workflow's side of the guard, on a real server: what a failing watcher comes to, and what it costs in history."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from temporalio import activity, workflow
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from activities.health import GuardLook, GuardRequest
from activities.looks import nothing_new
from domain.certificates import CertificateFacts
from domain.guard import GuardVerdict
from domain.phases import Phase
from domain.plan import Plan
from lab.temporal_server import TemporalServer
from tests.domain.certificate_cases import A as FACTS
from tests.domain.plans import plan
from tests.e2e.stage import until
from workflows.conduct import Conduct
from workflows.guard import Guard
from workflows.messages import RotationStatus
from workflows.state import RotationState

OFTEN = timedelta(milliseconds=50)
QUICK = plan(('overlap = "72h"', 'guard_hot = "50ms"\nguard_overlap = "50ms"'))


@workflow.defn(name="GuardAlone", sandboxed=False)
class GuardAlone:
    """The guard of a rotation that waits for an approval, or one fresh look."""

    @workflow.init
    def __init__(self, given: Plan, certificate: CertificateFacts, fresh: bool) -> None:
        self._state = RotationState(given, "rotation-test", "key", "test")
        self._state.phase = Phase.APPROVE_PREFER
        self._state.a = self._state.b = certificate
        self._conduct = Conduct(self._state)
        self._enough = False

    @workflow.run
    async def run(self, given: Plan, certificate: CertificateFacts, fresh: bool) -> None:
        guard = Guard(self._conduct)
        if fresh:
            await guard.fresh_look()
            return
        await guard.keep_pace(Phase.APPROVE_PREFER)
        await workflow.wait_condition(lambda: self._enough)
        await guard.stop()

    @workflow.signal
    def enough(self) -> None:
        """Ends the watch."""
        self._enough = True

    @workflow.query
    def status(self) -> RotationStatus:
        """As a rotation's."""
        return self._state.status()


Behaviour = Callable[[GuardRequest], GuardLook]


class Watcher:
    """Stands for `HealthActivities.guard`: does what the test wants next, and counts its looks."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.looks = 0

    @activity.defn(name="guard")
    async def guard(self, request: GuardRequest) -> GuardLook:
        self.looks += 1
        return self.behaviour(request)


@activity.defn(name="notify")
async def notify(request: object) -> None:
    """The notice has arrived."""


def says(verdict: GuardVerdict) -> Behaviour:
    """The watcher's own rule: returned when it is news, or for a fresh look; otherwise benign."""

    def look(request: GuardRequest) -> GuardLook:
        if request.one_look or verdict is not request.said:
            return GuardLook(verdict=verdict, text=f"it is {verdict}", looked_at=datetime.now(UTC))
        raise nothing_new(f"still {verdict}", OFTEN)

    return look


def unreadable(request: GuardRequest) -> GuardLook:
    """As the SDK fails where a worker cannot read the request of a newer one: an error without a type."""
    raise ApplicationError("Failed decoding arguments", next_retry_delay=OFTEN)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with TemporalServer(tmp_path_factory.mktemp("temporal")) as server:
        yield server.address


@contextlib.asynccontextmanager
async def watching(
    address: str, watcher: Watcher | None, *, fresh: bool = False
) -> AsyncIterator[WorkflowHandle[GuardAlone, None]]:
    """The workflow with its worker; without a watcher the worker does not know the activity."""
    client = await Client.connect(address, data_converter=pydantic_data_converter)
    queue = uuid.uuid4().hex
    known = [notify] if watcher is None else [notify, watcher.guard]
    async with Worker(client, task_queue=queue, workflows=[GuardAlone], activities=known):
        handle = await client.start_workflow(GuardAlone.run, args=[QUICK, FACTS, fresh], id=queue, task_queue=queue)
        try:
            yield handle
        finally:
            with contextlib.suppress(Exception):
                await handle.terminate("end of the test")


async def shown(handle: WorkflowHandle[GuardAlone, None], verdict: GuardVerdict) -> RotationStatus:
    async def said() -> RotationStatus | None:
        status = await handle.query(GuardAlone.status)
        return status if status.guard is not None and status.guard.verdict is verdict else None

    status = await until(said, f"the guard to say {verdict}")
    assert isinstance(status, RotationStatus)
    return status


async def more_looks(watcher: Watcher, count: int) -> None:
    first = watcher.looks

    async def enough() -> bool:
        return watcher.looks >= first + count

    await until(enough, f"{count} more looks")


async def events(handle: WorkflowHandle[GuardAlone, None]) -> Counter[str]:
    history = await handle.fetch_history()
    return Counter(EventType.Name(event.event_type) for event in history.events)


async def test_a_watcher_whose_worker_cannot_read_the_request_is_blind_and_costs_no_history_while_it_lasts(
    address: str,
) -> None:
    watcher = Watcher(unreadable)
    async with watching(address, watcher) as handle:
        status = await shown(handle, GuardVerdict.BLIND)
        assert status.frozen is not None
        assert "the guard itself failed" in status.frozen
        assert "Failed decoding arguments" in status.frozen
        await more_looks(watcher, 2)
        before = await events(handle)
        await more_looks(watcher, 4)
        assert await events(handle) == before
        watcher.behaviour = says(GuardVerdict.HEALTHY)
        status = await shown(handle, GuardVerdict.HEALTHY)
        assert status.frozen is None
        assert [alert.kind for alert in status.alerts] == ["blind", "watching_again"]
        await handle.signal(GuardAlone.enough)
        await handle.result()


async def test_a_watcher_that_its_worker_does_not_know_is_blind(address: str) -> None:
    async with watching(address, None) as handle:
        status = await shown(handle, GuardVerdict.BLIND)
        assert status.frozen is not None
        assert "NotFoundError" in status.frozen


async def test_a_fresh_look_that_is_blind_waits_in_one_watcher_until_it_sees(address: str) -> None:
    watcher = Watcher(says(GuardVerdict.BLIND))
    async with watching(address, watcher, fresh=True) as handle:
        await more_looks(watcher, 30)
        status = await handle.query(GuardAlone.status)
        assert status.waiting is not None
        assert "the guard to see again: it is BLIND" in status.waiting.what
        watcher.behaviour = says(GuardVerdict.HEALTHY)
        await handle.result()
        assert (await events(handle))["EVENT_TYPE_ACTIVITY_TASK_SCHEDULED"] == 2


async def test_an_outage_of_many_looks_is_a_handful_of_events_and_one_alert(address: str) -> None:
    watcher = Watcher(says(GuardVerdict.HEALTHY))
    async with watching(address, watcher) as handle:
        await more_looks(watcher, 5)
        before = (await events(handle)).total()
        watcher.behaviour = says(GuardVerdict.BLIND)
        await shown(handle, GuardVerdict.BLIND)
        await more_looks(watcher, 60)
        watcher.behaviour = says(GuardVerdict.HEALTHY)
        status = await shown(handle, GuardVerdict.HEALTHY)
        assert [alert.kind for alert in status.alerts] == ["blind", "watching_again"]
        assert (await events(handle)).total() - before <= 24
