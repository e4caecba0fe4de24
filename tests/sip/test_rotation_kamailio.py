"""Whole rotations on a Kamailio edge under real calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sip.rotation_rig import EdgeWanted, completes, rotation_rig, traffic
from tests.sip.sipp import ALL_KINDS
from tests.sip.trunk_path import kamailio_path

pytestmark = pytest.mark.sip


async def test_a_rotation_loses_no_call_of_any_kind(temporal: str, tmp_path: Path) -> None:
    async with rotation_rig(temporal, tmp_path, [EdgeWanted("kamailio", kamailio_path)]) as rig:
        async with traffic(rig.path, rig.path.callers(rate=20, kinds=ALL_KINDS)) as load:
            sha256_b = await completes(await rig.stage.start())
            await load.lost_nothing()
            assert load.watch.leaves() == {rig.sha256_a, sha256_b}
            assert load.watch.last_leaf(rig.path.nodes[0]) == sha256_b
        final = await rig.settled()
        calls = final["external"]["kamailio"]["calls"]
        assert calls["placed"] == calls["completed"] > 0, final["external"]["kamailio"]["last_losses"]
