"""Trunks whose edge somebody else starts: the lab's carrier calls it once it knows where, and reports on it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from lab.edge import Edge
from lab.external_trunks import ExternalTrunk
from lab.ledger import Ledger
from lab.served_certificate import ServedCertificate
from lab.wire_time import now, time_text
from lab.world import WorldOptions
from tests.lab.lab_client import LabClient, lab_client
from tests.lab.waiting import until

NAME = "sbc"


@pytest.fixture
async def lab(tmp_path: Path) -> AsyncIterator[LabClient]:
    options = WorldOptions(
        tmp_path / "a lab", speed="test", call_rate=20.0, external=(ExternalTrunk(NAME, mutual=True),)
    )
    async with lab_client(options) as client:
        yield client


@pytest.fixture
async def edges(lab: LabClient) -> AsyncIterator[list[Edge]]:
    """Two nodes that serve what the lab wrote for them."""
    a = ServedCertificate.from_pem(lab.secret("certificate-a.pem"), lab.secret("certificate-a.key"))
    fqdn, started = lab.facts["external"][NAME]["fqdn"], []
    for _ in range(2):
        edge = Edge(NAME, fqdn, mutual=True, peer_trust_pem=lab.secret("carrier-ca.pem"), ledger=Ledger())
        edge.serve([a])
        await edge.start()
        started.append(edge)
    yield started
    for edge in started:
        await edge.stop()


async def external(lab: LabClient) -> dict[str, Any]:
    found: dict[str, Any] = (await lab.state())["external"][NAME]
    return found


async def health(lab: LabClient) -> dict[str, Any]:
    """What the carrier says of the trunk's last minute."""
    answer = await lab.http.get(
        f"{lab.facts['carrier']}/v1/trunks/{NAME}/tls-health",
        params={"since": time_text(now() - timedelta(minutes=1)), "until": time_text(now() + timedelta(seconds=1))},
        headers={"Authorization": f"Bearer {lab.secret('carrier.token')}"},
    )
    found: dict[str, Any] = answer.json()
    return found


async def test_its_carrier_is_silent_until_it_knows_where_to_call(lab: LabClient, edges: list[Edge]) -> None:
    async def others_are_called() -> bool:
        return (await lab.state())["trunks"]["genesys"]["calls"]["placed"] > 20

    await until(others_are_called)
    assert (await external(lab))["calls"]["placed"] == 0
    assert (await health(lab))["status"] == "DOWN"

    await lab.control("/lab/external", {"trunk": NAME, "targets": [f"127.0.0.1:{one.primary_port}" for one in edges]})

    async def both_are_called() -> bool:
        return (await external(lab))["calls"]["completed"] > 20 and all(sum(e.active_calls().values()) for e in edges)

    await until(both_are_called)
    said = await health(lab)
    assert said["status"] == "UP"
    [figures] = [one for one in said["certificates"] if one["direction"] == "INBOUND"]
    assert figures["sha256"] == lab.facts["certificate_a"]
    assert figures["handshakes"]["attempts"] == figures["handshakes"]["successes"] > 0

    final = await lab.control("/lab/settle")
    assert final["settled"]
    calls = final["external"][NAME]["calls"]
    assert calls["placed"] == calls["completed"] > 20, final["external"][NAME]["last_losses"]


async def test_an_edge_calls_the_carrier_with_its_certificate(lab: LabClient, edges: list[Edge]) -> None:
    facts = lab.facts["external"][NAME]
    result = await edges[0].place_call(
        *facts["carrier"],
        server_name=facts["carrier_name"],
        hold_s=0.1,
        reinvite=True,
        bye_from="caller",
        new_connection=True,
    )
    assert result.completed, result
    [figures] = [one for one in (await health(lab))["certificates"] if one["direction"] == "OUTBOUND"]
    assert (figures["sha256"], figures["handshakes"]["successes"]) == (lab.facts["certificate_a"], 1)


async def test_on_one_trunk_alone_the_carrier_can_trust_the_issuer_of_a_alone(
    lab: LabClient, edges: list[Edge]
) -> None:
    """Nothing is refused while A is served, which is what such a carrier trusts."""
    await lab.control("/lab/external", {"trunk": NAME, "distrust_b": True})
    await lab.control("/lab/external", {"trunk": NAME, "targets": [f"127.0.0.1:{edges[0].primary_port}"]})

    async def called() -> bool:
        return (await external(lab))["calls"]["completed"] > 5

    await until(called)
    assert (await external(lab))["calls"]["lost"] == 0


async def test_a_target_is_an_address_with_a_port(lab: LabClient) -> None:
    answer = await lab.http.post(
        f"{lab.facts['control']}/lab/external", json={"trunk": NAME, "targets": ["trunk.example.com"]}
    )
    assert answer.status_code == 400
    assert "IPv4" in answer.json()["error"]


@pytest.mark.parametrize("text", ["", "sbc:client", "a b"])
def test_a_trunk_is_named_by_name_and_role(text: str) -> None:
    with pytest.raises(ValueError, match="neither"):
        ExternalTrunk.parsed(text)
