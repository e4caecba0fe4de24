"""Rollbacks, one after the other: on which edge, for which cause, in which phase; and how long each took."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from temporalio.client import WorkflowFailureError

from lab.temporal_server import TemporalServer
from tests.durability.house import QUICK, House, running_house
from tests.durability.looking import a_look
from tests.e2e.stage import Rotation, Stage, running_lab, staged
from tests.sip.rotation_rig import EdgeWanted, rotation_rig
from tests.sip.trunk_path import LAB_CARRIER_ADDRESS, haproxy_path, kamailio_path
from workflows.messages import RotationStatus

PATIENCE_S = 180.0
LONG = {"OVERLAP": (('overlap = "8s"', 'overlap = "10m"'),), "HOLD": (('hold = "1s"', 'hold = "10m"'),)}
"""Waits in which there is time to do harm; the other phases go on meanwhile."""
_CALLS = ("--call-rate", "10")
_FIRST_CALL = "serve_a_alone"

Harm = Callable[[bool], Awaitable[None]]
"""Makes B be refused by the carrier, or accepted again."""


@dataclass(frozen=True, slots=True)
class Case:
    """One rollback that is wanted: by a `breach`, a `signal`, or a breach at which a worker is killed (`failover`)."""

    edge: str
    cause: str
    phase: str
    victim: str = ""


@dataclass(frozen=True, slots=True)
class Took:
    """How one went. `phase` is where it turned back.

    `seconds`: from the sample that breached, or the signal, to A alone read back on every endpoint; `first_call_ms`: to
    the moment at which the first call of the rollback was scheduled.
    """

    case: Case
    phase: str
    ended: str
    seconds: float | None
    first_call_ms: float | None
    trouble: str | None = None


_BREACHES, _SIGNALS = ("VERIFY", "ADOPT", "OVERLAP", "HOLD"), ("SOAK", "VERIFY", "OVERLAP", "HOLD")
_VICTIMS = ("runs the guard", "has the workflow")


def cases(rounds: int) -> list[Case]:
    """Every edge with every cause in its phases, so many times."""
    found = []
    for edge in ("lab", "haproxy", "kamailio"):
        once = [Case(edge, "breach", phase) for phase in _BREACHES] + [Case(edge, "signal", p) for p in _SIGNALS]
        found += once * rounds
    found += [Case("lab", "failover", "OVERLAP", victim) for victim in _VICTIMS] * rounds
    return found


async def measured(wanted: Sequence[Case], say: Callable[[str], None]) -> list[Took]:
    """All of them, in the order of the edges; each edge is set up once."""
    found = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for edge in ("lab", "haproxy", "kamailio"):
            mine = [case for case in wanted if case.edge == edge and case.cause != "failover"]
            if mine:
                async with _stage(Path(folder) / edge, edge) as (stage, harm):
                    for case in mine:
                        found.append(await _one(stage, harm, case))
                        say(_line(found[-1]))
        failovers = [case for case in wanted if case.cause == "failover"]
        if failovers:
            with running_house(Path(folder) / "house") as house:
                for case in failovers:
                    found.append(await _failover(house, case))
                    say(_line(found[-1]))
    return found


@asynccontextmanager
async def _stage(folder: Path, edge: str) -> AsyncIterator[tuple[Stage, Harm]]:
    (folder / "temporal").mkdir(parents=True)
    with TemporalServer(folder / "temporal") as temporal:
        if edge == "lab":
            with running_lab(folder / "lab", *_CALLS) as lab:
                async with staged(temporal.address, lab) as stage:

                    async def fault(on: bool) -> None:
                        await asyncio.to_thread(lab.fault, "carrier-distrusts-b", on)

                    yield stage, fault
            return
        wanted = EdgeWanted(edge, {"haproxy": haproxy_path, "kamailio": kamailio_path}[edge])
        rig_of = rotation_rig(
            temporal.address, folder, [wanted], peers=[LAB_CARRIER_ADDRESS], ramp=(), lab_arguments=_CALLS
        )
        async with rig_of as rig:

            async def distrust(on: bool) -> None:
                await rig.tell_carrier(edge, distrust_b=on)

            yield rig.stage, distrust


async def _one(stage: Stage, harm: Harm, case: Case) -> Took:
    rotation = await stage.start(stage.plan(*LONG.get(case.phase, ())))
    try:
        await rotation.reaches(case.phase)
        if case.cause == "breach":
            await harm(True)
        else:
            await rotation.handle.signal("rollback", {"by": "bench", "reason": case.phase})
        return await _ended(rotation, case)
    finally:
        await harm(False)


async def _failover(house: House, case: Case) -> Took:
    """The worker that makes the guard's look, or has the workflow, dies at the breach; another one is alive."""
    async with house.stage() as stage:
        house.dismiss()
        workers = [await house.worker(), await house.worker()]
        rotation = await stage.start(stage.plan(*QUICK, ('overlap = "1200ms"', 'overlap = "10m"')))
        await rotation.reaches(case.phase)
        look, guard, workflow = await a_look(house, rotation, apart=case.victim == "has the workflow")
        dying = guard if case.victim == "runs the guard" else workflow
        house.lab.fault("carrier-distrusts-b")
        try:
            next(one for one in workers if one.identity == dying).kill()
            await (look.drop() if dying == guard else look.deliver())
            return await _ended(rotation, case)
        finally:
            house.lab.calm()


async def _ended(rotation: Rotation, case: Case) -> Took:
    trouble = None
    try:
        async with asyncio.timeout(PATIENCE_S):
            await rotation.handle.result()
        trouble = "it completed"
    except WorkflowFailureError:
        pass
    except TimeoutError:
        trouble = f"no end within {PATIENCE_S:.0f} s"
    status = await rotation.status()
    entered = [one.phase.value for one in status.phases]
    before = [phase for phase in entered if phase not in ("ROLLING_BACK", "ROLLED_BACK")]
    return Took(
        case=case,
        phase=before[-1],
        ended=status.phase.value,
        seconds=status.rollback.a_alone_seconds if status.rollback else None,
        first_call_ms=await _first_call_ms(rotation, status),
        trouble=trouble,
    )


async def _first_call_ms(rotation: Rotation, status: RotationStatus) -> float | None:
    if status.rollback is None:
        return None
    for event in (await rotation.handle.fetch_history()).events:
        if event.activity_task_scheduled_event_attributes.activity_type.name == _FIRST_CALL:
            passed = event.event_time.ToNanoseconds() / 1e6 - status.rollback.turn_back.measured_at.timestamp() * 1000
            return max(0.0, passed)
    return None


def _line(took: Took) -> str:
    seconds = "never" if took.seconds is None else f"{took.seconds:.2f} s"
    victim = f", the worker killed that {took.case.victim}" if took.case.victim else ""
    return f"{took.case.edge}, {took.case.cause} in {took.phase}{victim}: A alone after {seconds}, {took.ended}"
