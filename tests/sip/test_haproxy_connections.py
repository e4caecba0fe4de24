"""Connections that outlive a change: counted in every worker, and closed in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.edges.base import TrunkChange
from domain.errors import RequestRefused, UnexpectedAnswer
from tests.lab.waiting import until
from tests.sip.haproxy_rig import (
    PREFER,
    REMOVE,
    TRUNK,
    A,
    B,
    C,
    HaproxyRig,
    answers,
    ended_in_order,
    haproxy_rig,
)

pytestmark = pytest.mark.sip


@pytest_asyncio.fixture
async def rig(tmp_path: Path) -> AsyncIterator[HaproxyRig]:
    """One node that presents A, slot `two` empty."""
    async with haproxy_rig(tmp_path) as running:
        yield running


async def settled(rig: HaproxyRig, wanted: dict[str, int]) -> None:
    """Waits until the live connections are these."""

    async def counted() -> bool:
        return await rig.calls() == wanted

    await until(counted)


# -- counting ---------------------------------------------------------------------------------------------------------


async def test_connections_live_on_through_every_step_and_are_counted_by_their_certificate(rig: HaproxyRig) -> None:
    first = await rig.connect()
    await rig.bound()
    canary = await rig.connect(canary=True)
    assert await rig.calls() == {"A": 1, "B": 1}
    await rig.change(PREFER)
    second = await rig.connect()
    assert await rig.calls() == {"A": 1, "B": 2}
    await rig.change(REMOVE)
    for tls in (first, canary, second):
        assert await asyncio.to_thread(answers, tls)
    assert await rig.calls() == {"A": 1, "B": 2}
    first.close()
    await settled(rig, {"A": 0, "B": 2})


async def test_a_worker_from_before_a_reload_counts_for_as_long_as_it_has_a_connection(rig: HaproxyRig) -> None:
    await rig.bound()
    tls = await rig.connect()
    before = (await rig.edge.health(TRUNK)).counting_since
    await rig.change(PREFER)
    await rig.node.reload()
    assert len(await rig.node.workers()) == 2
    assert await rig.calls() == {"A": 1, "B": 0}
    after = (await rig.edge.health(TRUNK)).counting_since
    assert before is not None
    assert after is not None
    assert before <= after, "two zeros around a reload are not of the same processes"
    assert await asyncio.to_thread(answers, tls)
    tls.close()
    await settled(rig, {"A": 0, "B": 0})


async def test_a_restart_moves_the_beginning_of_the_count(rig: HaproxyRig) -> None:
    started = datetime.now(UTC)
    await rig.node.restart()
    since = (await rig.edge.health(TRUNK)).counting_since
    assert since is not None
    assert since >= started


async def test_connections_of_an_old_worker_on_a_certificate_that_is_gone_are_not_dropped(rig: HaproxyRig) -> None:
    await rig.bound()
    await rig.change(PREFER)
    await rig.change(REMOVE)
    await rig.connect()
    await rig.node.reload()  # the old worker has B in use, and A in memory
    await rig.edge.delete_certificate(A.sha256)
    await rig.edge.upload("next", C.chain_pem, C.private_key)
    await rig.change(TrunkChange(pool=(C.sha256,)))
    assert await rig.calls() == {"C": 0, "B": 1}
    await rig.edge.delete_certificate(B.sha256)
    with pytest.raises(UnexpectedAnswer, match="does not show"):
        await rig.calls()


async def test_connections_that_outlive_their_certificate_are_on_no_certificate_of_the_pool(rig: HaproxyRig) -> None:
    """A rollback with a persistent connection on B: B is deleted, the connection is nobody's."""
    await rig.bound()
    await rig.connect(canary=True)
    await rig.change(TrunkChange(pool=(A.sha256,), canary=""))
    await rig.edge.delete_certificate(B.sha256)
    calls = await rig.calls()
    assert calls.pop("A") == 0
    ((name, count),) = calls.items()
    assert (name.split(":")[0], count) == ("placeholder", 1)


# -- closing ----------------------------------------------------------------------------------------------------------


async def test_connections_on_a_are_closed_in_order_in_old_workers_too_and_those_on_b_stay(rig: HaproxyRig) -> None:
    await rig.bound()
    old = await rig.connect()
    await rig.node.reload()
    new = await rig.connect()
    await rig.change(PREFER)
    on_b = await rig.connect()
    assert await rig.calls() == {"A": 2, "B": 1}
    assert await rig.edge.close_connections(TRUNK, A.sha256) == 2
    assert await asyncio.to_thread(ended_in_order, old)
    assert await asyncio.to_thread(ended_in_order, new)
    assert await asyncio.to_thread(answers, on_b)
    await settled(rig, {"A": 0, "B": 1})
    assert await rig.edge.close_connections(TRUNK, A.sha256) == 0


async def test_a_connection_that_never_rests_is_closed_too(rig: HaproxyRig) -> None:
    await rig.bound()
    busy, idle = await rig.connect(), await rig.connect()

    def keeps_asking() -> None:
        with contextlib.suppress(OSError):
            while answers(busy):
                pass

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(keeps_asking))
        assert await rig.edge.close_connections(TRUNK, A.sha256) == 2
    assert await asyncio.to_thread(ended_in_order, idle)
    await settled(rig, {"A": 0, "B": 0})


async def test_connections_of_a_certificate_that_is_not_there_cannot_be_told_apart(rig: HaproxyRig) -> None:
    with pytest.raises(RequestRefused):
        await rig.edge.close_connections(TRUNK, C.sha256)
