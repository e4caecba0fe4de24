"""What a rotation must do on every real edge; the test modules say on which."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from domain.plan import Plan
from tests.sip.programs import until
from tests.sip.rotation_rig import EdgeWanted, Rig, completes, reaches, rotation_rig, traffic
from tests.sip.sipp import ON_ONE_CONNECTION, PLAIN, Callers, CallKind, RenewedCallers
from tests.sip.trunk_path import LAB_CARRIER_ADDRESS, TrunkPath

RATE = 15.0
FEW_HANDSHAKES = ("minimum_sample = 8", "minimum_sample = 1")
"""Connections that last give a gate one handshake each; where more are demanded, a person decides."""

UNDECIDED_SOON = ('overlap = "8s"', 'overlap = "8s"\nsoak_grace = "1s"')


async def loses_no_call(temporal: str, folder: Path, edge: EdgeWanted, kinds: Sequence[CallKind]) -> None:
    """A whole rotation under calls of these kinds: nobody loses one."""
    async with rotation_rig(temporal, folder, [edge]) as rig:
        await _goes_through(rig, rig.path.callers(rate=RATE, kinds=kinds))


async def loses_no_call_in_either_direction(
    temporal: str, folder: Path, edge: EdgeWanted, kinds: Sequence[CallKind], *, overrides: Sequence[str] = ()
) -> None:
    """Mutual TLS, and calls of the SIP server too, over one connection that lives until the plan has it closed."""
    async with rotation_rig(temporal, folder, [edge]) as rig:
        callers = [rig.path.callers(rate=RATE, kinds=kinds), rig.path.core_callers(rate=3)]
        await _goes_through(rig, *callers, plan=rig.stage.plan(FEW_HANDSHAKES, UNDECIDED_SOON), overrides=overrides)


async def loses_no_call_on_connections_that_are_renewed(temporal: str, folder: Path, edge: EdgeWanted) -> None:
    """All of SIPp's calls share one connection, which the carrier renews now and then; nobody closes one."""
    async with rotation_rig(temporal, folder, [edge], close_after=None) as rig:

        def on_one_connection(name: str) -> Callers:
            return rig.path.callers(name, rate=RATE, kinds=ON_ONE_CONNECTION, persistent=True, calls=round(RATE * 6))

        renewed = RenewedCallers("renewed", on_one_connection)
        await _goes_through(rig, renewed, plan=rig.stage.plan(FEW_HANDSHAKES))
        assert renewed.connections > 2


async def loses_no_call_on_a_connection_that_is_closed(
    temporal: str, folder: Path, edge: EdgeWanted, *, overrides: Sequence[str] = ()
) -> None:
    """All calls of the lab's carrier share one connection that lives for ever: the plan has it closed in order."""
    async with rotation_rig(temporal, folder, [edge]) as rig:
        await rig.tell_carrier(edge.name, persistent=True)
        plan = rig.stage.plan(FEW_HANDSHAKES, UNDECIDED_SOON)
        await _goes_through(rig, rig.path.callers(rate=RATE), plan=plan, overrides=overrides)


async def _goes_through(
    rig: Rig, *callers: Callers | RenewedCallers, plan: Plan | None = None, overrides: Sequence[str] = ()
) -> None:
    """A person decides the gates of `overrides`, which cannot be decided on this trunk."""
    async with traffic(rig.path, *callers) as load:
        rotation = await rig.stage.start(plan)
        for gate in overrides:
            await rotation.shows(lambda s, gate=gate: s.waiting and s.waiting.gate == gate, f"{gate} undecided")
            await rotation.handle.signal("approve", {"gate": gate, "by": "ann", "reason": "a persistent connection"})
        sha256_b = await completes(rotation)
        await load.lost_nothing()
        assert load.watch.leaves() == {rig.sha256_a, sha256_b}
        for node in rig.path.nodes:
            assert load.watch.last_leaf(node) == sha256_b
    await carrier_lost_nothing(rig)


async def turns_back(temporal: str, folder: Path, edge: EdgeWanted, kinds: Sequence[CallKind]) -> None:
    """One of two peers refuses B: the other loses no call on the way there and back, and A is as it was."""
    async with rotation_rig(temporal, folder, [edge]) as rig:
        path = rig.path
        await rig.tell_carrier(edge.name, distrust_b=True)
        async with traffic(path, path.callers(rate=RATE, kinds=kinds)) as load:
            rotation = await rig.stage.start()
            error = await rotation.fails()
            assert error.type == "RolledBack", error
            status = await rotation.status()
            assert status.b is not None
            assert not status.a_revoked
            await load.lost_nothing()
            assert load.watch.leaves() <= {rig.sha256_a, status.b.sha256}
            for node in path.nodes:
                assert load.watch.last_leaf(node) == rig.sha256_a
        edge_adapter = rig.stage.adapters.edge(edge.name)
        assert await edge_adapter.find_certificate(status.b.sha256) is None
        [endpoint] = rig.stage.plan().endpoints
        assert (await edge_adapter.read_trunk(endpoint.trunk)).pool == (rig.sha256_a,)
        assert keys_on(path) == 1


async def survives_kills(temporal: str, folder: Path, edge: EdgeWanted, phases: Sequence[str]) -> None:
    """The edge dies without a word in these phases and comes up again: in the end it is what the workflow wanted."""
    async with rotation_rig(temporal, folder, [edge], peers=[LAB_CARRIER_ADDRESS]) as rig:
        path = rig.path
        rotation = await rig.stage.start()
        for phase in phases:
            await reaches(rotation, phase)
            await killed_and_restarted(path)
        sha256_b = await completes(rotation)
        await killed_and_restarted(path)  # what is served now comes from files
        async with traffic(path, path.callers(rate=RATE, kinds=[PLAIN])) as load:

            async def called() -> bool:
                return load.callers[0].totals().successful >= 20

            await until(called, "20 calls after the rotation")
            await load.lost_nothing()
            assert load.watch.leaves() == {sha256_b}
        assert keys_on(path) == 1


async def carrier_lost_nothing(rig: Rig) -> None:
    """Every call of the lab's carrier, on every external trunk, ended as it should."""
    final = await rig.settled()
    for name, trunk in final["external"].items():
        assert trunk["calls"]["placed"] == trunk["calls"]["completed"] > 0, (name, trunk["last_losses"])


async def killed_and_restarted(path: TrunkPath) -> None:
    """Every node at once: kill -9, and up again with the files as they are."""
    for haproxy in path.haproxies:
        await haproxy.restart(killed=True)
    for kamailio in path.kamailios:
        await asyncio.to_thread(kamailio.restart, killed=True)


def keys_on(path: TrunkPath) -> int:
    """How many keys of real certificates lie on the first node: what was rotated out, or back, has left none."""
    if path.haproxies:
        slots = [path.haproxies[0].slot(name).read_text() for name in ("one", "two")]
        return sum("-----BEGIN PRIVATE KEY-----" in text and text.count("BEGIN CERTIFICATE") > 1 for text in slots)
    return len(list(path.kamailios[0].tls_directory.glob("*.key")))
