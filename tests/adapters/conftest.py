"""One OpenBao for the adapter tests of each test process; a prober and the lab's SIP edge for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from adapters.probe.sip_tls import SipTlsProber
from lab import vault_setup
from lab.bao import Bao
from lab.edge import Edge
from lab.ledger import Ledger
from tests.adapters.probing import FQDN, LEAF, ROOT, patient
from tests.adapters.real_bao import NAME, RealBao


@pytest.fixture(scope="session")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealBao]:
    """A real server with the lab's PKI; tests keep apart by run and by name."""
    directory = tmp_path_factory.mktemp("bao")
    with Bao(directory) as bao:
        lab = vault_setup.set_up(
            bao.address, bao.root_token, common_name=NAME, dns_names=[NAME], ip_addresses=["127.0.0.1"]
        )
        real = RealBao(bao.address, bao.root_token, lab, directory)
        yield real
        real.close()


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    """The file with the roots that the prober trusts."""
    path = tmp_path / "anchors.pem"
    path.write_text(ROOT.pem)
    return path


@pytest.fixture
def prober(anchors: Path) -> SipTlsProber:
    """A prober that waits longer than a busy machine needs."""
    return patient(anchors, "20s")


@pytest.fixture
async def sip_edge() -> AsyncIterator[Edge]:
    """The lab's own edge, which knows nothing of the prober."""
    edge = Edge("edge", FQDN, mutual=False, peer_trust_pem=ROOT.pem, ledger=Ledger())
    edge.serve([LEAF])
    await edge.start()
    yield edge
    await edge.stop()
