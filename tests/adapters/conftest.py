"""One OpenBao for the adapter tests of each test process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab import vault_setup
from lab.bao import Bao
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
