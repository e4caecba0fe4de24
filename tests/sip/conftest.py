"""A Temporal server for whole rotations; and who is who on a trunk, where no lab says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.carrier_ca import CarrierCa
from lab.temporal_server import TemporalServer
from tests.adapters.trunk_leaves import root, trunk_leaf
from tests.sip.trunk_path import Parties


@pytest.fixture
def parties(tmp_path: Path) -> Parties:
    """A trunk for trunk.example.com, its edge's root, and a carrier with a CA of its own."""
    ca, a = CarrierCa(), trunk_leaf("A")
    callers, prober = ca.issue("sbc.callers.example"), ca.issue("prober.carrier.example")
    (tmp_path / "root.pem").write_text(root().pem)
    for name, text in {"prober.pem": prober.certificate_pem, "prober.key": prober.key_pem}.items():
        (tmp_path / name).touch(0o600)
        (tmp_path / name).write_text(text)
    return Parties(
        fqdn="trunk.example.com",
        chain_pem=a.chain_pem,
        key=a.private_key,
        root=tmp_path / "root.pem",
        callers_name="sbc.callers.example",
        callers_pem=callers.certificate_pem + callers.key_pem,
        carrier_roots_pem=ca.certificate_pem,
        prober=(tmp_path / "prober.pem", tmp_path / "prober.key"),
    )


@pytest.fixture(scope="session")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Temporal server."""
    with TemporalServer(tmp_path_factory.mktemp("temporal")) as server:
        yield server.address
