"""The paths on which rotations are tested carry every kind of call, and what is lost on them is seen as lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.sip.programs import until
from tests.sip.scraping import Prometheus
from tests.sip.sipp import ALL_KINDS, ON_ONE_CONNECTION
from tests.sip.trunk_path import Parties, TrunkPath, haproxy_path, kamailio_path

pytestmark = pytest.mark.sip

PathOf = Callable[..., AbstractAsyncContextManager[TrunkPath]]
EDGES = pytest.mark.parametrize("path_of", [haproxy_path, kamailio_path])
CALLS = 60


@EDGES
@pytest.mark.parametrize("mutual", [False, True], ids=["server", "mutual"])
async def test_every_kind_of_call_goes_through_an_edge(
    tmp_path: Path, parties: Parties, path_of: PathOf, mutual: bool
) -> None:
    async with path_of(tmp_path, replace(parties, mutual=mutual)) as path:
        watch = path.watch()
        await watch.start()
        callers = path.callers(rate=20, kinds=ALL_KINDS, calls=CALLS)
        await callers.start()
        totals = await callers.ends(60)
        await watch.stop()
        assert totals.all_successful, (totals, callers.last_errors())
        assert (totals.created, totals.retransmissions) == (CALLS, 0)
        counters = await path.carrier.counters()
        reopened = sum(kind.reopen for kind in ALL_KINDS) * CALLS // len(ALL_KINDS)
        assert (counters.sessions, counters.connection_errors) == (CALLS + reopened, 0)
        assert watch.seen
        assert watch.failures == []
        assert watch.leaves() == {parties.leaf.sha256}
    answered = path.answerers.totals()
    assert (answered.created, answered.failed, answered.retransmissions) == (CALLS, 0, 0), answered


@EDGES
async def test_one_connection_carries_all_calls_of_a_persistent_trunk(
    tmp_path: Path, parties: Parties, path_of: PathOf
) -> None:
    async with path_of(tmp_path, parties) as path:
        callers = path.callers(rate=20, kinds=ON_ONE_CONNECTION, persistent=True, calls=CALLS)
        await callers.start()
        totals = await callers.ends(60)
        assert totals.all_successful, (totals, callers.last_errors())
        assert (await path.carrier.counters()).sessions == 1


@EDGES
async def test_prometheus_counts_every_call_by_its_caller(tmp_path: Path, parties: Parties, path_of: PathOf) -> None:
    async with path_of(tmp_path, parties, nodes=2) as path:
        prometheus = Prometheus(tmp_path / "prometheus", path.exporters)
        await prometheus.start()
        try:
            # a dialog belongs to one of two Kamailios, and HAProxy as the carrier reads no Route header
            callers = path.callers(rate=20, kinds=ON_ONE_CONNECTION, calls=CALLS)
            await callers.start()
            totals = await callers.ends(60)
            assert totals.all_successful, (totals, callers.last_errors())
            selector = 'sip_edge_calls_total{direction="inbound",result="ok",peer=~".*127.0.0.4"}'
            await prometheus.reaches(selector, CALLS)
            assert await prometheus.sum(selector) == CALLS
            handshakes = (await path.carrier.counters()).sessions
            await prometheus.reaches('sip_edge_handshakes_total{direction="inbound",result="ok"}', handshakes)
        finally:
            await prometheus.stop()


@EDGES
async def test_calls_to_an_edge_with_a_strangers_certificate_are_lost_and_seen_as_lost(
    tmp_path: Path, parties: Parties, path_of: PathOf
) -> None:
    (tmp_path / "other-root.pem").write_text(parties.carrier_roots_pem)
    async with path_of(tmp_path, replace(parties, root=tmp_path / "other-root.pem")) as path:
        watch = path.watch()
        await watch.start()
        callers = path.callers(rate=20, calls=10)
        await callers.start()
        totals = await callers.ends(60)
        await watch.stop()
        assert not totals.all_successful
        assert (totals.successful, totals.lost) == (0, 10)
        assert (await path.carrier.counters()).connection_errors == 10
        assert watch.failures == watch.seen


async def test_a_restarted_edge_loses_the_calls_that_were_on_it(tmp_path: Path, parties: Parties) -> None:
    async with haproxy_path(tmp_path, parties) as path:
        callers = path.callers(rate=20, pause_ms=1000)
        await callers.start()

        async def talking() -> bool:
            return callers.totals().current > 5

        await until(talking, "calls on the edge")
        await path.haproxies[0].restart(killed=True)
        totals = await callers.finish()
        assert not totals.all_successful
        assert totals.lost > 0
