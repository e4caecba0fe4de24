"""What happens to the lab beside faults: nodes, persistent connections, clocks, an operator, a peer that sleeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import hvac
import pytest

from adapters.probe.ntp import NtpServers
from domain.errors import Unreachable
from domain.plan import parse_plan
from lab import vault_setup
from lab.bao import Bao
from lab.lab_names import CERTIFICATE_ADDRESSES, CERTIFICATE_DNS_NAMES, DORMANT_ADDRESS, GENESYS_FQDN
from lab.tls_contexts import Identity, client_context
from lab.tls_stream import TlsStream
from lab.vault_setup import SIGNING_MOUNT, IssuedCertificate
from lab.wire_time import now, parse_time, time_text
from lab.world import WorldOptions
from settings import NtpSettings
from tests.lab.lab_client import LabClient, lab_client
from tests.lab.waiting import until

TRUNK = "/api/v2/telephony/providers/edge/edge/edge-1/siptrunks/trunk-1"
HEALTH = "/api/v2/telephony/providers/edge/edge/edge-1/health"
PROFILE = "/restapi/v1.0/sip/trunks/trunk-2/profile"


@pytest.fixture(scope="module")
def bao_for_b(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Vault that a world is given, so that the test can sign B."""
    with Bao(tmp_path_factory.mktemp("bao")) as bao:
        yield bao


@pytest.fixture
def vault(bao_for_b: Bao) -> tuple[str, str]:
    """Address and token of a server without the lab's mounts."""
    client = hvac.Client(url=bao_for_b.address, token=bao_for_b.root_token)
    for mount in ("mounts/pki_root", "mounts/pki_int_a", "mounts/pki_int_b", "mounts/siptls", "mounts/transit"):
        client.adapter.delete(f"/v1/sys/{mount}")
    client.adapter.delete("/v1/sys/auth/approle")
    client.adapter.close()
    return bao_for_b.address, bao_for_b.root_token


@pytest.fixture
async def lab(tmp_path: Path, vault: tuple[str, str]) -> AsyncIterator[LabClient]:
    """A quick lab with two nodes on the Genesys trunk and a second carrier that sleeps."""
    options = WorldOptions(tmp_path / "a lab", vault=vault, speed="test", call_rate=10.0, nodes=2, dormant_peer=True)
    async with lab_client(options) as client:
        yield client


@pytest.fixture
async def b(vault: tuple[str, str], lab: LabClient) -> IssuedCertificate:
    """B, signed by the other intermediate; in a thread, because the lab's calls go on in this loop meanwhile."""
    client = hvac.Client(url=vault[0], token=vault[1])
    try:
        return await asyncio.to_thread(
            vault_setup.issue,
            client,
            SIGNING_MOUNT,
            common_name=GENESYS_FQDN,
            dns_names=CERTIFICATE_DNS_NAMES,
            ip_addresses=CERTIFICATE_ADDRESSES,
        )
    finally:
        client.adapter.close()


async def trunk_state(lab: LabClient, name: str = "genesys") -> dict[str, Any]:
    found: dict[str, Any] = (await lab.state())["trunks"][name]
    return found


async def sees(lab: LabClient, condition: Any, name: str = "genesys") -> dict[str, Any]:
    """The trunk's state once it fulfils a condition."""

    async def look() -> dict[str, Any] | None:
        state = await trunk_state(lab, name)
        return state if condition(state) else None

    return await until(look)


async def served_by_nodes(lab: LabClient) -> list[str]:
    """What a fresh handshake with each node of the Genesys trunk is served."""
    identity = Identity(lab.secret("prober.pem"), lab.secret("prober.key"))
    context = client_context(lab.secret("root.pem"), identity=identity)
    leaves = []
    for port in lab.facts["trunks"]["genesys"]["node_ports"]:
        stream = await TlsStream.connect(
            *await asyncio.open_connection("127.0.0.1", port), context, server_name=GENESYS_FQDN
        )
        await stream.close()
        leaves.append(stream.peer_leaf or "")
    return leaves


# Nodes


async def test_both_nodes_are_in_the_plan_take_calls_and_follow_the_trunk(lab: LabClient, b: IssuedCertificate) -> None:
    ports = lab.facts["trunks"]["genesys"]["node_ports"]
    plan = parse_plan(lab.secret("plan.toml"))
    assert [node.port for node in plan.endpoint("genesys").nodes] == ports
    assert sorted(record["port"] for record in (await trunk_state(lab))["srv"]) == sorted(ports)

    def both_busy() -> bool:
        return all(node.edge.active_calls() for node in lab.world.trunks["genesys"].nodes)

    async def look() -> bool:
        return both_busy()

    await until(look)
    a = lab.facts["certificate_a"]
    assert await served_by_nodes(lab) == [a, a]
    id_b, _ = await lab.upload(b)
    id_a, _ = await lab.a_ids()
    assert (await lab.bind_genesys(id_b, id_a)).status_code == 200
    leaves = await served_by_nodes(lab)
    assert len(set(leaves)) == 1
    assert leaves[0] != a


async def test_a_node_that_was_away_comes_back_with_what_it_had_and_follows_when_it_has_resynchronised(
    lab: LabClient, b: IssuedCertificate
) -> None:
    a = lab.facts["certificate_a"]
    id_b, _ = await lab.upload(b)
    id_a, _ = await lab.a_ids()
    await sees(lab, lambda state: state["calls"]["completed"] >= 5)
    gone = await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-2", "up": False})
    assert (gone["up"], gone["stale"]) == (False, True)
    with pytest.raises(ConnectionRefusedError):
        await served_by_nodes(lab)
    state = await trunk_state(lab)
    assert state["listening"] is True
    assert (await lab.send("genesys", "GET", HEALTH)).json()["tlsListener"]["status"] == "UP"
    # calls go on over the other node
    before = state["calls"]["completed"]
    await sees(lab, lambda state: state["calls"]["completed"] >= before + 10)

    await lab.bind_genesys(id_b, id_a)
    back = await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-2", "up": True, "resync_after_s": 60})
    assert (back["up"], back["stale"], back["pool"]) == (True, True, [a])
    one, two = await served_by_nodes(lab)
    assert two == a
    assert one != a
    await lab.bind_genesys(id_a, id_b)  # a change passes a stale node by
    assert (await trunk_state(lab))["nodes"][1]["pool"] == [a]
    resynchronised = await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-2", "resync": True})
    assert (resynchronised["stale"], len(resynchronised["pool"])) == (False, 2)
    await lab.bind_genesys(id_b, id_a)
    assert set(await served_by_nodes(lab)) == {one}

    await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-1", "up": False})
    await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-1", "up": True, "resync_after_s": 0.1})
    await sees(lab, lambda state: not state["nodes"][0]["stale"])
    final = await lab.control("/lab/settle")
    assert (final["settled"], final["adds_up"], final["violations"]) == (True, True, [])


async def test_calls_are_summed_over_the_nodes_that_are_up(lab: LabClient) -> None:
    a, trunk = lab.facts["certificate_a"], lab.world.trunks["genesys"]
    await lab.control("/lab/quiet", {"trunk": "genesys", "on": True})
    await sees(lab, lambda state: state["calls"]["active"] == 0)
    await lab.control("/lab/quiet", {"trunk": "genesys", "on": False})
    await sees(lab, lambda state: state["active_calls"].get(a, 0) >= 3)
    assert trunk.live_calls()[a] == sum(node.edge.active_calls().get(a, 0) for node in trunk.nodes)
    await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-2", "up": False})
    assert trunk.live_calls() == trunk.nodes[0].edge.active_calls()


async def test_the_promise_covers_a_node_that_serves_an_old_pool(lab: LabClient, b: IssuedCertificate) -> None:
    """B alone, away, A alone: when the carrier distrusts B, the node that is back with B alone breaks the promise."""
    id_b, _ = await lab.upload(b)
    id_a, _ = await lab.a_ids()
    await lab.bind_genesys(id_b)
    await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-2", "up": False})
    await lab.bind_genesys(id_a)
    await lab.bind_genesys(id_a, id_b)
    await lab.control("/lab/faults", {"name": "carrier-distrusts-b", "on": True})
    assert (await lab.state())["violations"] == []
    await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-2", "up": True, "resync_after_s": None})
    (violation,) = (await lab.state())["violations"]
    assert violation["endpoint"] == "genesys-2"
    await lab.control("/lab/node", {"trunk": "genesys", "node": "genesys-2", "resync": True})
    assert len((await lab.state())["violations"]) == 1


# Persistent connections


async def test_a_persistent_trunk_makes_no_new_handshake_until_its_connections_are_closed(lab: LabClient) -> None:
    a = lab.facts["certificate_a"]
    await lab.control("/lab/persistent", {"trunk": "cxone", "on": True})
    await sees(lab, lambda state: state["active_calls"].get(a, 0) >= 2, "cxone")
    carrier = lab.world.carrier
    await sees(lab, lambda state: state["calls"]["completed"] >= 20, "cxone")

    def attempts(state: dict[str, Any]) -> int:
        return int(state["handshakes"]["carrier"][a]["attempts"])

    start = await trunk_state(lab, "cxone")
    later = await sees(lab, lambda state: state["calls"]["completed"] >= start["calls"]["completed"] + 15, "cxone")
    assert attempts(later) == attempts(start)
    profile = (await lab.send("cxone", "GET", PROFILE)).json()
    answer = await lab.send(
        "cxone",
        "POST",
        "/restapi/v1.0/sip/trunks/trunk-2/tls-connections/close",
        {"certificateId": profile["primaryCertificateId"]},
    )
    assert set(answer.json()) == {"closedConnections", "closedAt"}
    assert answer.json()["closedConnections"] >= 1
    await sees(lab, lambda state: attempts(state) > attempts(start), "cxone")
    assert carrier.stats()["cxone"].lost == 0


async def test_an_orderly_close_names_a_certificate_and_nothing_else(lab: LabClient) -> None:
    for platform, path in (
        ("genesys", f"{TRUNK}/tlsconnections/close"),
        ("cxone", "/restapi/v1.0/sip/trunks/trunk-2/tls-connections/close"),
    ):
        assert (await lab.send(platform, "POST", path, {"certificateId": "no-such-id"})).status_code == 404
        for body in ({}, {"certificateId": 7}, {"certificateId": "x", "now": True}, {"sha256": "x"}):
            assert (await lab.send(platform, "POST", path, body)).status_code == 400
        assert (await lab.send(platform, "POST", f"{path}?all=1", {"certificateId": "x"})).status_code == 400


# Clocks


async def test_a_clock_that_is_off_stamps_answers_and_counters(lab: LabClient) -> None:
    await sees(lab, lambda state: state["calls"]["completed"] >= 5)

    async def figures(since: timedelta, until: timedelta) -> dict[str, Any]:
        interval = f"{time_text(now() + since)}/{time_text(now() + until)}"
        found: dict[str, Any] = (await lab.send("genesys", "GET", f"{TRUNK}/tlsmetrics?interval={interval}")).json()
        return found

    def attempts(metrics: dict[str, Any]) -> int:
        return sum(one["tlsHandshakes"]["attempts"] for one in metrics["entities"])

    minute, ahead = timedelta(minutes=1), timedelta(minutes=10)
    true = await figures(-minute, minute)
    assert attempts(true) > 0
    await lab.control("/lab/clock", {"service": "genesys", "ahead_s": 600})
    off = await figures(-minute, minute)
    assert attempts(off) == 0
    assert attempts(await figures(ahead - minute, ahead + minute)) > 0
    for field in ("timestamp", "countersSince"):
        assert parse_time(off[field]) - parse_time(true[field]) >= ahead
    health = (await lab.send("genesys", "GET", HEALTH)).json()
    assert abs(parse_time(health["timestamp"]) - now() - ahead) < minute
    await lab.control("/lab/clock", {"service": "genesys", "ahead_s": 0})
    await lab.control("/lab/clock", {"service": "carrier", "ahead_s": -600})
    assert abs(parse_time((await figures(-minute, minute))["timestamp"]) - now()) < minute
    assert abs(now() - lab.world.carrier.ledger("genesys").now() - ahead) < minute


async def test_the_ntp_server_is_told_how_to_answer(lab: LabClient) -> None:
    where = lab.facts["ntp"]
    assert f'servers = ["{where["address"]}:{where["port"]}"]' in (lab.directory / "settings.toml").read_text()
    settings = NtpSettings(servers=(f"{where['address']}:{where['port']}",))
    assert abs((await NtpServers(settings).time()).ahead_s or 99) < 1
    said = await lab.control("/lab/ntp", {"ahead_s": -100, "stratum": 2})
    assert said == {"ahead_s": -100, "stratum": 2, "leap": 0, "answers": True}
    found = await NtpServers(settings).time()
    assert found.ahead_s == pytest.approx(100, abs=1)
    assert [one.stratum for one in found.answered] == [2]
    assert (await lab.control("/lab/ntp", {"leap": 3}))["ahead_s"] == -100
    with pytest.raises(Unreachable, match="not synchronised"):
        await NtpServers(settings).time()


# An operator


async def test_an_operator_edits_now_or_between_a_read_and_its_write(lab: LabClient) -> None:
    before = (await lab.send("genesys", "GET", TRUNK)).json()
    edit = {"trunk": "genesys", "changes": {"maxConcurrentCalls": 333}}
    assert await lab.control("/lab/operator-edit", edit) == {"version": before["version"] + 1}
    read = (await lab.send("genesys", "GET", TRUNK)).json()
    assert read == {**before, "maxConcurrentCalls": 333, "version": before["version"] + 1}

    await lab.control(
        "/lab/operator-edit", {"trunk": "genesys", "changes": {"inboundSite": "site-2"}, "before_next_put": True}
    )
    assert (await lab.send("genesys", "GET", TRUNK)).json() == read
    assert (await lab.send("genesys", "PUT", TRUNK, read)).status_code == 409
    edited = (await lab.send("genesys", "GET", TRUNK)).json()
    assert edited == {**read, "inboundSite": "site-2", "version": read["version"] + 1}
    assert (await lab.send("genesys", "PUT", TRUNK, edited)).status_code == 200

    await lab.control("/lab/operator-edit", {"trunk": "cxone", "changes": {"tags": ["late"]}, "before_next_put": True})
    profile = (await lab.send("cxone", "GET", PROFILE)).json()
    match = {"If-Match": f'"{profile["version"]}"'}
    assert (await lab.send("cxone", "PUT", PROFILE, profile, match)).status_code == 409
    assert (await lab.send("cxone", "GET", PROFILE)).json()["tags"] == ["late"]


async def test_what_cannot_happen_is_refused(lab: LabClient) -> None:
    refused: list[tuple[str, dict[str, Any]]] = [
        ("/lab/operator-edit", {"trunk": "genesys", "changes": {"certificateIds": ["x"]}}),
        ("/lab/operator-edit", {"trunk": "genesys", "changes": {"maxConcurrentCalls": "many"}}),
        ("/lab/operator-edit", {"trunk": "genesys", "changes": []}),
        ("/lab/node", {"trunk": "genesys", "node": "genesys-9", "up": False}),
        ("/lab/node", {"trunk": "genesys", "node": "genesys-1", "up": True, "resync_after_s": "soon"}),
        ("/lab/clock", {"service": "dns", "ahead_s": 5}),
        ("/lab/clock", {"service": "carrier", "ahead_s": 0.5}),
        ("/lab/ntp", {"stratum": 17}),
        ("/lab/ntp", {"offset": 1}),
        ("/lab/persistent", {"trunk": "genesys"}),
        ("/lab/dormant", {}),
    ]
    for path, body in refused:
        answer = await lab.http.post(f"{lab.facts['control']}{path}", json=body)
        assert (answer.status_code, set(answer.json())) == (400, {"error"}), path


# A peer that sleeps


async def test_the_dormant_peer_is_known_calls_when_told_and_refuses_b(lab: LabClient, b: IssuedCertificate) -> None:
    plan = parse_plan(lab.secret("plan.toml"))
    assert plan.endpoint("genesys").peers == (lab.facts["peer_address"], DORMANT_ADDRESS)
    assert plan.endpoint("cxone").peers == (lab.facts["peer_address"],)
    trunk = lab.world.trunks["genesys"]

    def from_dormant() -> dict[str | None, tuple[int, dict[str, int]]]:
        counted = trunk.ledger.counts(now() - timedelta(minutes=1), now() + timedelta(seconds=1))
        return {
            group.sha256: (counts.handshakes.successes, counts.handshakes.failures)
            for group, counts in counted.items()
            if group.peer == DORMANT_ADDRESS
        }

    await sees(lab, lambda state: state["calls"]["completed"] >= 10)
    assert from_dormant() == {}
    await lab.control("/lab/dormant", {"on": True})

    async def on_a() -> bool:
        return from_dormant().get(lab.facts["certificate_a"], (0, {}))[0] >= 3

    await until(on_a)
    id_b, _ = await lab.upload(b)
    id_a, _ = await lab.a_ids()
    await lab.bind_genesys(id_b, id_a)
    sha256_b = trunk.pool[0].sha256

    async def refused() -> bool:
        return from_dormant().get(sha256_b, (0, {}))[1].get("unknown_ca", 0) >= 3

    await until(refused)
    assert from_dormant()[sha256_b][0] == 0
    await lab.control("/lab/dormant", {"on": False})
