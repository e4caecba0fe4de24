"""The cloud's OPTIONS pings on a real edge: they see what is wrong with a certificate, a port, the trust."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from lab.byoc_pings import Pinger
from lab.byoc_trunk import ByocTrunk
from lab.edge import Edge
from lab.ledger import Ledger
from lab.ports import free_port
from tests.lab.one_trunk import FQDN
from tests.lab.small_ca import Authority

ROOT, FOREIGN = Authority("root"), Authority("foreign root")
SOURCE = "127.0.0.1"


class Stage:
    """One edge, and the cloud's end of its trunk."""

    def __init__(self, *, mutual: bool = False) -> None:
        self.peers = Authority("the cloud's own CA")
        self.edge = Edge("edge", FQDN, mutual=mutual, peer_trust_pem=self.peers.pem, ledger=Ledger())
        self.trust = ROOT.pem

    async def start(self) -> None:
        self.edge.serve([ROOT.issue(FQDN)])
        await self.edge.start()
        self.proxy = f"127.0.0.1:{self.edge.primary_port}"
        self.trunk = ByocTrunk("trunk-9", "SBC", [self.proxy])

    def pinger(self, *, shows: bool = False) -> Pinger:
        identity = self.peers.identity("cloud.example.com") if shows else None
        return Pinger(self.trunk, fqdn=FQDN, trust=lambda: self.trust, source=SOURCE, identity=identity)

    async def error(self, *, shows: bool = False) -> str | None:
        """Why a ping fails now; None when it is answered."""
        await self.pinger(shows=shows).ping_all()
        ping = self.trunk.pings[self.proxy]
        assert ping.answered == (ping.error is None) == self.trunk.connected[0]
        return ping.error


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    """An edge that is fine."""
    stage = Stage()
    await stage.start()
    yield stage
    await stage.edge.stop()


async def test_an_edge_that_is_fine_answers(stage: Stage) -> None:
    assert await stage.error() is None
    assert await stage.error() is None


async def test_a_root_that_is_not_in_the_trust_store_is_refused_and_accepted_once_it_is(stage: Stage) -> None:
    stage.trust = FOREIGN.pem
    assert await stage.error() == "tls unknown_ca"
    stage.trust = FOREIGN.pem + ROOT.pem
    assert await stage.error() is None


async def test_a_certificate_of_somebody_else_is_refused(stage: Stage) -> None:
    stage.edge.serve([ROOT.issue("another.example.com")])
    assert await stage.error() is not None


async def test_an_expired_certificate_is_refused(stage: Stage) -> None:
    now = datetime.now(UTC)
    expired = ROOT.issue(FQDN, not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))
    stage.edge.serve([expired])
    assert await stage.error() is not None


async def test_a_port_on_which_nobody_listens_is_refused(stage: Stage) -> None:
    stage.proxy = f"127.0.0.1:{free_port()}"
    stage.trunk = ByocTrunk("trunk-9", "SBC", [stage.proxy])
    assert await stage.error() == "tcp refused"


async def test_an_edge_that_demands_a_certificate_is_shown_one() -> None:
    stage = Stage(mutual=True)
    await stage.start()
    try:
        assert await stage.error(shows=True) is None
        assert await stage.error() is not None
    finally:
        await stage.edge.stop()
