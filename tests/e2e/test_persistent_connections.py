"""Connections and calls that never end: what keeps A, what a person or the plan does about it, and no call lost."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from domain.gates import Verdict
from domain.phases import Phase
from tests.e2e.stage import Rotation, Stage, running_lab, staged

pytestmark = pytest.mark.durability

SHORT = (
    'overlap = "8s"',
    'overlap = "8s"\nsoak_grace = "1s"\nverify_deadline = "3s"\nadopt_deadline = "3s"\ndrain_deadline = "3s"',
)


@contextlib.asynccontextmanager
async def stage_with(temporal: str, directory: Path, *arguments: str) -> AsyncIterator[Stage]:
    """A stage on a lab that runs with these arguments."""
    with running_lab(directory / "a lab", *arguments) as lab:
        async with staged(temporal, lab) as stage:
            yield stage


async def overrides(rotation: Rotation, gate: str) -> None:
    """A person overrides a gate that cannot be decided, once it asks for that."""
    await rotation.shows(lambda s: s.waiting and s.waiting.gate == gate, f"the gate {gate} undecided")
    await rotation.handle.signal("approve", {"gate": gate, "by": "ann", "reason": "a persistent trunk"})


def lost_nothing(stage: Stage) -> dict[str, Any]:
    """The lab's final state, after every call has ended as it should."""
    final: dict[str, Any] = stage.lab.post("/lab/settle")
    assert final["settled"]
    assert final["violations"] == []
    for trunk in final["trunks"].values():
        assert trunk["calls"]["placed"] == trunk["calls"]["completed"] > 0, trunk["last_losses"]
    return final


async def test_a_persistent_trunk_keeps_a_until_a_person_closes_its_connections(temporal: str, tmp_path: Path) -> None:
    async with stage_with(temporal, tmp_path, "--persistent", "genesys") as stage:
        sha256_a = stage.lab.facts["certificate_a"]
        rotation = await stage.start(stage.plan(SHORT))
        for gate in ("soak", "verify"):
            await overrides(rotation, gate)
        status = await rotation.shows(lambda s: s.waiting and s.waiting.gate == "adopt", "ADOPT undecided")
        assert status.phase is Phase.ADOPT
        result = next(gate for gate in status.gates if gate.gate == "adopt")
        assert result.verdict is Verdict.INCONCLUSIVE
        assert "genesys: share of new calls on B" in result.reason
        assert any(alert.kind == "inconclusive" and "gate adopt" in alert.summary for alert in status.alerts)
        await overrides(rotation, "adopt")

        # nobody overrides DRAIN: the connection lives, and its calls are on A
        status = await rotation.shows(
            lambda s: s.phase is Phase.DRAIN and s.waiting and "nobody can override" in s.waiting.what,
            "DRAIN undecided",
        )
        assert status.waiting is not None
        assert "genesys: active calls on A" in status.waiting.what
        assert "peers seen on B: not yet" in status.waiting.what
        trunk = stage.lab.get("/lab/state")["trunks"]["genesys"]
        assert trunk["active_calls"].get(sha256_a, 0) > 0

        edge = stage.adapters.edge("genesys-lab")
        assert await edge.close_connections(stage.plan().endpoint("genesys").trunk, sha256_a) >= 2
        await rotation.completes()
        status = await rotation.status()
        overridden = {gate.gate: gate for gate in status.gates if gate.overridden_by}
        assert set(overridden) == {"soak", "verify", "adopt"}
        assert all(gate.verdict is Verdict.INCONCLUSIVE for gate in overridden.values())
        lost_nothing(stage)


async def test_where_the_plan_says_so_connections_on_a_are_closed_and_adopt_passes(
    temporal: str, tmp_path: Path
) -> None:
    async with stage_with(temporal, tmp_path, "--persistent", "genesys") as stage:
        rotation = await stage.start(
            stage.plan(SHORT, ('adopt_deadline = "3s"', 'adopt_deadline = "1m"\nclose_connections_after = "1s"'))
        )
        for gate in ("soak", "verify"):
            await overrides(rotation, gate)
        await rotation.completes()
        status = await rotation.status()
        adopt = next(gate for gate in status.gates if gate.gate == "adopt")
        assert (adopt.verdict, adopt.overridden_by) == (Verdict.PASS, None)
        closed = [effect for effect in status.effects if effect.action == "close connections on A"]
        assert {effect.where for effect in closed} == {"genesys", "cxone"}
        lost_nothing(stage)


async def test_a_call_that_never_ends_is_moved_to_b_in_drain_where_the_plan_says_so(
    temporal: str, tmp_path: Path
) -> None:
    """Its dialog outlives the connection: the BYE, long after A was revoked, goes over a new one with B."""
    async with stage_with(temporal, tmp_path, "--long-call", "900") as stage:
        rotation = await stage.start(stage.plan(('overlap = "8s"', 'overlap = "8s"\nclose_connections_after = "4s"')))
        await rotation.reaches("DRAIN")
        trunks = stage.lab.get("/lab/state")["trunks"]
        sha256_a = stage.lab.facts["certificate_a"]
        assert all(trunk["active_calls"].get(sha256_a, 0) >= 1 for trunk in trunks.values())
        await rotation.completes()
        status = await rotation.status()
        assert status.a_revoked
        final = lost_nothing(stage)
        assert all(trunk["waiting_calls"] == 0 for trunk in final["trunks"].values())
