"""One plan for three platforms: a cloud trunk, an HAProxy edge and a Kamailio edge change together, or not at all."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.sip.rotation_cases import carrier_lost_nothing, keys_on
from tests.sip.rotation_rig import EdgeWanted, Rig, Traffic, completes, rotation_rig, traffic
from tests.sip.sipp import ALL_KINDS, CALLER_KINDS
from tests.sip.trunk_path import haproxy_path, kamailio_path

pytestmark = pytest.mark.sip

EDGES = [EdgeWanted("haproxy", haproxy_path), EdgeWanted("kamailio", kamailio_path)]
KINDS = {"haproxy": CALLER_KINDS, "kamailio": ALL_KINDS}
CLOUD = "genesys"
RATE = 8.0


async def calls_on_both(rig: Rig, stack: AsyncExitStack) -> dict[str, Traffic]:
    """Callers and a witness on each of the real edges."""
    return {
        name: await stack.enter_async_context(traffic(path, path.callers(rate=RATE, kinds=KINDS[name])))
        for name, path in rig.paths.items()
    }


async def pools(rig: Rig) -> dict[str, tuple[str, ...]]:
    """Endpoint → the leaves in its pool, as its own adapter reads them."""
    return {
        endpoint.name: (await rig.stage.adapters.edge(endpoint.platform).read_trunk(endpoint.trunk)).pool
        for endpoint in rig.stage.plan().endpoints
    }


async def test_three_platforms_change_together_and_no_call_is_lost_on_any(temporal: str, tmp_path: Path) -> None:
    async with rotation_rig(temporal, tmp_path, EDGES, with_lab=[CLOUD]) as rig, AsyncExitStack() as stack:
        loads = await calls_on_both(rig, stack)
        sha256_b = await completes(await rig.stage.start())
        for load in loads.values():
            await load.lost_nothing()
            assert load.watch.leaves() == {rig.sha256_a, sha256_b}
        assert await pools(rig) == dict.fromkeys([CLOUD, *rig.paths], (sha256_b,))
        await carrier_lost_nothing(rig)


async def test_when_one_of_three_breaks_all_turn_back(temporal: str, tmp_path: Path) -> None:
    """The carrier refuses B on the Kamailio trunk alone."""
    async with rotation_rig(temporal, tmp_path, EDGES, with_lab=[CLOUD]) as rig, AsyncExitStack() as stack:
        await rig.tell_carrier("kamailio", distrust_b=True)
        loads = await calls_on_both(rig, stack)
        rotation = await rig.stage.start()
        error = await rotation.fails()
        assert error.type == "RolledBack", error
        assert "kamailio" in str(error)
        status = await rotation.status()
        assert status.b is not None
        assert not status.a_revoked
        for load in loads.values():
            await load.lost_nothing()
            assert load.watch.last_leaf(load.path.nodes[0]) == rig.sha256_a
        assert await pools(rig) == dict.fromkeys([CLOUD, *rig.paths], (rig.sha256_a,))
        for endpoint in rig.stage.plan().endpoints:
            assert await rig.stage.adapters.edge(endpoint.platform).find_certificate(status.b.sha256) is None
        assert all(keys_on(path) == 1 for path in rig.paths.values())
