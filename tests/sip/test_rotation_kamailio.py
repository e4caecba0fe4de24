"""Whole rotations on a Kamailio edge under real calls."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sip import rotation_cases as cases
from tests.sip.rotation_rig import EdgeWanted
from tests.sip.sipp import ALL_KINDS, ON_ONE_CONNECTION
from tests.sip.trunk_path import kamailio_path

pytestmark = pytest.mark.sip

EDGE = EdgeWanted("kamailio", kamailio_path)
MUTUAL = EdgeWanted("kamailio", kamailio_path, mutual=True)
TWO_NODES = EdgeWanted("kamailio", kamailio_path, nodes=2)


async def test_no_call_of_any_kind_is_lost(temporal: str, tmp_path: Path) -> None:
    await cases.loses_no_call(temporal, tmp_path, EDGE, ALL_KINDS)


async def test_no_call_is_lost_on_a_trunk_whose_carrier_renews_its_one_connection(
    temporal: str, tmp_path: Path
) -> None:
    await cases.loses_no_call_on_connections_that_are_renewed(temporal, tmp_path, EDGE)


async def test_no_call_is_lost_where_the_one_connection_of_a_trunk_is_closed_by_plan(
    temporal: str, tmp_path: Path
) -> None:
    """SOAK asks the carrier for handshakes, and on a connection that lasts he makes none: a person decides."""
    await cases.loses_no_call_on_a_connection_that_is_closed(temporal, tmp_path, EDGE, overrides=["soak"])


async def test_no_call_is_lost_in_either_direction_where_both_sides_show_certificates(
    temporal: str, tmp_path: Path
) -> None:
    """Its outbound connection lasts: while SOAK looks no handshake is made on it, and a person decides."""
    await cases.loses_no_call_in_either_direction(temporal, tmp_path, MUTUAL, ALL_KINDS, overrides=["soak"])


async def test_no_call_is_lost_with_two_nodes_behind_one_name(temporal: str, tmp_path: Path) -> None:
    await cases.loses_no_call(temporal, tmp_path, TWO_NODES, ON_ONE_CONNECTION)


async def test_on_the_way_back_the_peer_that_trusts_b_loses_no_call(temporal: str, tmp_path: Path) -> None:
    await cases.turns_back(temporal, tmp_path, EDGE, ALL_KINDS)


async def test_an_edge_that_is_killed_again_and_again_ends_as_the_workflow_wants_it(
    temporal: str, tmp_path: Path
) -> None:
    await cases.survives_kills(temporal, tmp_path, EDGE, ["SOAK", "ADOPT", "HOLD"])
