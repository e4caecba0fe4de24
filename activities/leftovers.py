"""What an earlier run left when it was terminated or reset: found in the world, told by its history.

Everything that a run makes bears its key: the name of its uploads, its path in custody. So traces are found on the
platforms and in custody; which run made them, and what it had recorded of the endpoints, its history says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError

from activities.baseline import EndpointBaseline, EndpointExamined
from activities.certificate import Issued
from adapters.registry import Adapters
from domain.certificates import CertificateFacts, facts
from domain.errors import RotatorError
from domain.handshakes import Record
from domain.phases import Phase
from domain.plan import Endpoint
from domain.rotation import Run, plan_of, rotation_id, run_key, short

ADOPTED_MEMO = "adopted"
"""Memo of a run that goes on with the key of an earlier one: that key."""

TRIES = 3
"""How often a look that failed for a passing reason is repeated before PREFLIGHT reports it."""

T = TypeVar("T")


class DeadRun(Record):
    """A run that has ended without an end: what its history tells. `run.key` is the key of everything it made."""

    run: Run
    run_id: str
    ended: str
    phase: Phase
    a: CertificateFacts | None = None
    a_pem: str | None = None
    b: CertificateFacts | None = None
    baselines: tuple[EndpointBaseline, ...] = ()


class Leftover(Record):
    """Traces of one key. Without `dead` nobody knows any more what run that was; `own` are ours, of before a reset."""

    key: str
    traces: tuple[str, ...]
    own: bool = False
    dead: DeadRun | None = None
    untold: str = ""

    def text(self) -> str:
        """For people, one line."""
        told = f"run {self.dead.run_id} ({self.dead.ended} in {self.dead.phase})" if self.dead else self.untold
        return f"{self.key}, of {told}: {', '.join(self.traces)}"


class LeftoversFound(Record):
    """All leftovers; those that somebody can tell of come last. `problem` says why nobody could look."""

    leftovers: tuple[Leftover, ...] = ()
    problem: str | None = None


@dataclass
class _Traces:
    texts: list[str] = field(default_factory=list)
    leaves: set[str] = field(default_factory=set)


class LeftoverActivities:
    """Looks only; what becomes of leftovers, the operator chooses."""

    def __init__(self, adapters: Adapters) -> None:
        self._adapters = adapters

    @activity.defn
    async def find_leftovers(self, run: Run) -> LeftoversFound:
        """Traces of earlier runs of this plan, and of any other plan's run in a pool of our endpoints.

        What a completed run made is in use and no leftover.
        """
        try:
            traces, served_alone = await self._traces(run)
        except RotatorError as error:
            if error.retryable and activity.info().attempt < TRIES:
                raise
            return LeftoversFound(problem=str(error))
        found = []
        for key in sorted(traces):
            seen = traces[key]
            ended, completed, told = await self._told(run, key)
            in_use = completed or (ended is None and seen.leaves & served_alone)
            if not in_use and told != _RUNNING:
                found.append(Leftover(key=key, traces=tuple(seen.texts), own=key == run.key, dead=ended, untold=told))
        found.sort(key=lambda one: one.dead is not None)
        return LeftoversFound(leftovers=tuple(found))

    async def _traces(self, run: Run) -> tuple[dict[str, _Traces], set[str]]:
        """What bears a run's key, and the leaves that some trunk of ours serves alone."""
        plan, traces, served_alone = run.plan, dict[str, _Traces](), set[str]()
        for profile in sorted({endpoint.platform for endpoint in plan.endpoints}):
            edge = self._adapters.edge(profile)
            pools = {e.name: (await edge.read_trunk(e.trunk)).pool for e in _on(profile, plan.endpoints)}
            served_alone |= {pool[0] for pool in pools.values() if len(pool) == 1}
            for stored in await edge.certificates():
                bound = [name for name, pool in pools.items() if stored.sha256 in pool]
                owner = plan_of(stored.name)
                if owner is None or (owner != plan.name and not bound):
                    continue
                trace = traces.setdefault(stored.name, _Traces())
                pool_of = f", in the pool of {', '.join(bound)}" if bound else ""
                trace.texts.append(f"certificate {short(stored.sha256)} on [platforms.{profile}]{pool_of}")
                trace.leaves.add(stored.sha256)
        custodian = self._adapters.custodian(plan.certificate.custody)
        for key in await custodian.runs():
            if plan_of(key) == plan.name:
                trace = traces.setdefault(key, _Traces())
                trace.texts.append(f"key in [keys.{plan.certificate.custody}]")
                chain = await custodian.chain(key)
                trace.leaves |= {facts(chain).sha256} if chain else set()
        return traces, served_alone

    async def _told(self, run: Run, key: str) -> tuple[DeadRun | None, bool, str]:
        """The ended run that had this key last, whether one completed with it, and why nothing is told if so."""
        client, owner = activity.client(), plan_of(key)
        assert owner is not None
        try:
            last = None
            async for execution in _runs(client, rotation_id(owner)):
                if execution.run_id != activity.info().workflow_run_id and await _key_of(execution, owner) == key:
                    last = execution
                    break
            if last is None:
                return None, False, "a run that Temporal does not know (any more)"
            if last.close_time is None:
                return None, False, _RUNNING
            if _phase(last) is Phase.COMPLETED:
                return None, True, ""
            return await _dead_run(client, last, key), False, ""
        except RPCError as error:
            return None, False, f"a run that Temporal cannot tell of ({error.message})"
        except ValueError as error:
            return None, False, f"a run whose history this version cannot read ({type(error).__name__})"


_RUNNING = "a rotation that is running"


def _on(profile: str, endpoints: Iterable[Endpoint]) -> list[Endpoint]:
    return [endpoint for endpoint in endpoints if endpoint.platform == profile]


async def _runs(client: Client, rotation: str) -> AsyncIterator[WorkflowExecutionDescription]:
    """All runs of a workflow id, the newest first, each as it is now: a listing lags behind."""
    runs = [execution async for execution in client.list_workflows(f"WorkflowId = '{rotation}'")]
    for execution in sorted(runs, key=lambda one: one.start_time, reverse=True):
        yield await client.get_workflow_handle(execution.id, run_id=execution.run_id).describe()


async def _key_of(execution: WorkflowExecutionDescription, plan_name: str) -> str:
    """The key with which a run worked: its own, or the one that it adopted."""
    adopted = (await execution.memo()).get(ADOPTED_MEMO)
    first = execution.raw_info.first_run_id or execution.run_id
    return str(adopted) if adopted else run_key(plan_name, execution.id, first)


def _phase(execution: WorkflowExecutionDescription) -> Phase:
    found = next((p.value for p in execution.typed_search_attributes if p.key.name == "RotationPhase"), None)
    return Phase(str(found))


async def _dead_run(client: Client, execution: WorkflowExecutionDescription, key: str) -> DeadRun:
    """Reads the run's history: its plan, A, B and baselines. Raises `ValueError` when they cannot be read."""
    handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
    names: dict[int, str] = {}
    run: Run | None = None
    issued: Issued | None = None
    examined: dict[str, EndpointExamined] = {}

    async def decoded(payloads: Any, model: type[T]) -> T:
        values: list[T] = await client.data_converter.decode(payloads.payloads, [model])
        return values[0]

    async for event in handle.fetch_history_events():
        if event.HasField("activity_task_scheduled_event_attributes"):
            scheduled = event.activity_task_scheduled_event_attributes
            names[event.event_id] = scheduled.activity_type.name
            if scheduled.activity_type.name == "examine_worker":
                run = await decoded(scheduled.input, Run)
        elif event.HasField("activity_task_completed_event_attributes"):
            completed = event.activity_task_completed_event_attributes
            match names.get(completed.scheduled_event_id):
                case "examine_endpoint":
                    one = await decoded(completed.result, EndpointExamined)
                    if one.baseline is not None:
                        examined[one.baseline.endpoint] = one
                case "issue":
                    issued = await decoded(completed.result, Issued)
    if run is None:
        raise ValueError("the history names no plan")
    a = next(iter(examined.values()), None)
    return DeadRun(
        run=Run(plan=run.plan, rotation=execution.id, key=key),
        run_id=execution.run_id,
        ended=execution.status.name if execution.status is not None else "ended",
        phase=_phase(execution),
        a=a.a if a else None,
        a_pem=a.a_pem if a else None,
        b=issued.b if issued else None,
        baselines=tuple(one.baseline for one in examined.values() if one.baseline is not None),
    )
