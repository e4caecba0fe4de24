"""Calls towards the carrier whose connection is closed below them, at any moment and without a look."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.e2e.stage import running_lab
from tests.sip.haproxy_counts import counted
from tests.sip.programs import until
from tests.sip.rotation_rig import EdgeWanted, parties_of
from tests.sip.trunk_path import haproxy_path

pytestmark = pytest.mark.sip

EDGE = EdgeWanted("haproxy", haproxy_path, mutual=True)
CUTS, APART_S = 10, 0.4
"""All within the five seconds after which Kamailio sends once more what nobody answered: nothing is cut off twice."""


async def test_a_call_whose_connection_closes_below_it_goes_on_over_another(tmp_path: Path) -> None:
    """Not asked for yet, ringing, being changed, ending: HAProxy does not know, and need not."""
    with running_lab(tmp_path / "lab", "--external=haproxy:mutual") as lab:
        async with haproxy_path(tmp_path / "haproxy", parties_of(lab, EDGE)) as path:
            [node] = path.haproxies
            core = path.core_callers(rate=40, calls=300)
            await core.start()

            async def calling() -> bool:
                return core.totals().successful > 20

            await until(calling, "calls towards the carrier")
            for _ in range(CUTS):
                await node.command(f"@1 shutdown sessions server {node.listener}-carrier-one/carrier")
                await asyncio.sleep(APART_S)
            totals = await core.ends(60)
            assert totals.all_successful, (totals, core.last_errors())
            [connections] = (await counted(node, "outbound")).values()
            assert sum(connections) >= CUTS, "each cut ended a connection, and another was opened"
