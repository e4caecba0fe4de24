"""Two HAProxy nodes behind one name: one is away, comes back with what it had, and is made like the other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.edges.base import TrunkChange
from domain.errors import RequestRefused, Unreachable
from tests.sip.haproxy_rig import (
    A_ALONE,
    BIND,
    NAME,
    PREFER,
    REMOVE,
    TRUNK,
    A,
    B,
    C,
    HaproxyRig,
    haproxy_rig,
    ramp,
)

pytestmark = pytest.mark.sip


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[HaproxyRig]:
    """Two nodes that present A."""
    async with haproxy_rig(tmp_path, nodes=2) as running:
        yield running


async def both(rig: HaproxyRig, *, times: int = 10) -> tuple[dict[str, int], dict[str, int]]:
    """What each node serves."""
    return dict(await rig.served(0, times=times)), dict(await rig.served(1, times=times))


async def test_a_rotation_changes_both_nodes_step_by_step(rig: HaproxyRig) -> None:
    await rig.bound()
    assert [rig.held(0), rig.held(1)] == [{"one": "A", "two": "B"}] * 2
    assert await both(rig) == ({"A": 10}, {"A": 10})
    await rig.change(ramp(50))
    assert await both(rig) == ({"A": 5, "B": 5}, {"A": 5, "B": 5})
    await rig.change(PREFER)
    await rig.change(REMOVE)
    await rig.edge.delete_certificate(A.sha256)
    assert [rig.held(0), rig.held(1)] == [{"one": "-", "two": "B"}] * 2
    assert await both(rig) == ({"B": 10}, {"B": 10})


async def test_an_unreachable_node_keeps_nobody_from_writing_the_other_and_is_told(rig: HaproxyRig) -> None:
    await rig.bound()
    await rig.taps[1].close()
    with pytest.raises(Unreachable, match="node1"):
        await rig.change(PREFER)
    assert await both(rig) == ({"B": 10}, {"A": 10})
    for look in (rig.state(), rig.edge.health(TRUNK), rig.edge.certificates(), rig.edge.find_certificate(B.sha256)):
        with pytest.raises(Unreachable):
            await look
    await rig.taps[1].open()
    mixed = await rig.state()
    assert (set(mixed.pool), mixed.shares) == ({A.sha256, B.sha256}, (50, 50))
    assert (await rig.change(PREFER)).shares == (100, 0)
    assert await both(rig) == ({"B": 10}, {"B": 10})


async def test_a_rollback_goes_on_with_the_nodes_that_are_there(rig: HaproxyRig) -> None:
    await rig.bound()
    await rig.change(PREFER)
    await rig.taps[1].close()
    seen = await rig.edge.read_trunk(TRUNK, reachable_only=True)
    assert (seen.pool, seen.unread) == ((B.sha256, A.sha256), ("node1",))
    back = await rig.change(A_ALONE.model_copy(update={"reachable_only": True}))
    assert (back.pool, back.unread) == ((A.sha256,), ("node1",))
    assert await both(rig) == ({"A": 10}, {"B": 10})
    await rig.taps[0].close()
    with pytest.raises(Unreachable):
        await rig.change(A_ALONE.model_copy(update={"reachable_only": True}))
    for tap in rig.taps:
        await tap.open()

    both_held = await rig.state()
    assert set(both_held.pool) == {A.sha256, B.sha256}, "the node that comes back has what it had"
    repaired = await rig.change(A_ALONE)
    assert (repaired.pool, repaired.unread) == ((A.sha256,), ())
    assert await both(rig) == ({"A": 10}, {"A": 10})
    assert await rig.edge.delete_certificate(B.sha256) is True
    assert [rig.held(0), rig.held(1)] == [{"one": "A", "two": "-"}] * 2


async def test_a_node_that_was_down_comes_up_with_the_old_pool_and_is_repaired(rig: HaproxyRig) -> None:
    await rig.bound()
    await rig.nodes[1].kill()
    with pytest.raises(Unreachable):
        await rig.change(PREFER)
    await rig.nodes[1].start()
    assert await both(rig) == ({"B": 10}, {"A": 10})
    wanted = await rig.change(PREFER)
    assert wanted.version == max(version(rig, 0), version(rig, 1))
    assert await both(rig) == ({"B": 10}, {"B": 10})
    await rig.nodes[1].restart()
    assert await rig.state() == wanted


def version(rig: HaproxyRig, number: int) -> int:
    """As it stands in the node's file."""
    return int(rig.nodes[number].pool_file.read_text().split()[3])


async def test_what_only_one_node_has_is_not_uploaded_and_not_gone_either(rig: HaproxyRig) -> None:
    await rig.taps[1].close()
    with pytest.raises(Unreachable):
        await rig.upload_b()
    await rig.taps[1].open()
    assert [rig.held(0), rig.held(1)] == [{"one": "A", "two": "B"}, {"one": "A", "two": "-"}]
    assert await rig.edge.find_certificate(B.sha256) is None
    assert {one.sha256 for one in await rig.edge.certificates()} == {A.sha256, B.sha256}
    with pytest.raises(RequestRefused, match="not uploaded"):
        await rig.change(BIND)
    assert [rig.taps[number].done[2:] for number in (0, 1)] == [[], []], "nothing was bound anywhere"
    await rig.upload_b()
    assert rig.held(1) == {"one": "A", "two": "B"}
    assert (await rig.change(BIND)).canary == B.sha256


async def test_a_certificate_in_the_pool_of_one_node_alone_is_in_use(rig: HaproxyRig) -> None:
    await rig.bound()
    await rig.taps[1].close()
    with pytest.raises(Unreachable):
        await rig.change(REMOVE)
    await rig.taps[1].open()
    assert await rig.edge.trunks_presenting(A.sha256) == (TRUNK,)
    with pytest.raises(RequestRefused, match="in use"):
        await rig.edge.delete_certificate(A.sha256)
    assert rig.held(0) == rig.held(1) == {"one": "A", "two": "B"}


async def test_live_calls_of_both_nodes_count(rig: HaproxyRig) -> None:
    await rig.bound()
    for number in (0, 1, 1):
        await rig.connect(number)
    assert await rig.calls() == {"A": 3, "B": 0}
    await rig.nodes[1].kill()
    with pytest.raises(Unreachable):
        await rig.calls()


async def test_nodes_with_other_slots_still_take_a_change_by_the_leaf(rig: HaproxyRig) -> None:
    """Node 1 was set up the other way round: what counts is the certificate, not the slot."""
    node = rig.nodes[1]
    kept = {slot: node.slot(slot).read_bytes() for slot in ("one", "two")}
    text = node.pool_file.read_text()
    swapped = (
        text.replace("first one", "first two").replace("server one", "server X").replace("server two", "server one")
    )
    swapped = swapped.replace("server X", "server two").replace("-try-one", "-Y").replace("-try-two", "-try-one")
    node.pool_file.write_text(swapped.replace("-Y", "-try-two"))
    node.slot("one").write_bytes(kept["two"])
    node.slot("two").write_bytes(kept["one"])
    await node.restart()
    await rig.bound()
    assert [rig.held(0), rig.held(1)] == [{"one": "A", "two": "B"}, {"one": "B", "two": "A"}]
    await rig.change(ramp(20))
    for served in await both(rig, times=20):
        assert served["B"] in (3, 4, 5), "20 %, give or take where the round begins"
    await rig.edge.upload(NAME, B.chain_pem, B.private_key)
    with pytest.raises(RequestRefused, match="no third"):
        await rig.edge.upload("third", C.chain_pem, C.private_key)
    assert (await rig.change(TrunkChange(pool=(B.sha256,), canary=""))).pool == (B.sha256,)
    assert await both(rig) == ({"B": 10}, {"B": 10})
