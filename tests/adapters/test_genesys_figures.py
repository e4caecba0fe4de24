"""The Genesys Cloud adapter reading health and figures: what is not said is never taken for zero."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from domain.errors import RequestRefused, UnexpectedAnswer
from domain.handshakes import Reporter, Tally
from domain.plan import Direction
from tests.adapters.endpoints import endpoint
from tests.adapters.genesys_double import TRUNK, GenesysDouble
from tests.adapters.trunk_leaves import trunk_leaf

A, B, FOREIGN = trunk_leaf("A"), trunk_leaf("B"), trunk_leaf("foreign")
ID = "edge-1/trunk-1"
SINCE = datetime(2026, 11, 23, 18, 30, 0, 123456, tzinfo=UTC)
UNTIL = datetime(2026, 11, 23, 18, 40, tzinfo=UTC)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> GenesysDouble:
    """An organisation whose trunk presents A."""
    monkeypatch.setenv("TEST_GENESYS_SECRET", "s3cret")
    double = GenesysDouble()
    double.known = (A, B, FOREIGN)
    double.hold(A, "CERT-A", bound=True)
    return double


def health(**changes: Any) -> dict[str, Any]:
    """The guide's health answer with A and B on trunk-1, and another trunk beside it."""
    return {
        "edgeId": "edge-1",
        "status": "ACTIVE",
        "timestamp": "2026-11-23T18:40:00.000Z",
        "tlsListener": {"status": "UP", "port": 5061},
        "tlsCertificateValidation": [
            {"sipTrunkId": "trunk-1", "certificateId": "id-of-CERT-A", "valid": True, "reason": None},
            {"sipTrunkId": "trunk-1", "certificateId": "id-of-CERT-B", "valid": False, "reason": "expired"},
            {"sipTrunkId": "trunk-2", "certificateId": "id-of-CERT-B", "valid": True, "reason": None},
        ],
        "activeSessions": [
            {"sipTrunkId": "trunk-1", "certificateId": "id-of-CERT-A", "count": 3},
            {"sipTrunkId": "trunk-2", "certificateId": "id-of-CERT-A", "count": 40},
        ],
        **changes,
    }


async def test_health_is_the_guides_query_and_speaks_of_this_trunk_alone(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B", bound=True)
    cloud.health = health()
    seen = await cloud.edge().health(ID)
    (query,) = cloud.requests("GET", "/api/v2/telephony/providers/edge/edge/edge-1/health")
    assert query.headers["Accept"] == "application/json"
    assert seen.listener_up is True
    assert [(c.sha256, c.valid, c.reason) for c in seen.certificates] == [
        (A.sha256, True, None),
        (B.sha256, False, "expired"),
    ]
    assert seen.active_calls == {A.sha256: 3}
    assert seen.clock == datetime(2026, 11, 23, 18, 40, tzinfo=UTC)


@pytest.mark.parametrize("changes", [{"status": "INACTIVE"}, {"tlsListener": {"status": "DOWN", "port": 5061}}])
async def test_a_listener_is_up_only_on_an_active_edge(changes: dict[str, Any], cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B", bound=True)
    cloud.health = health(**changes)
    assert (await cloud.edge().health(ID)).listener_up is False


async def test_calls_on_a_certificate_that_is_gone_are_never_dropped(cloud: GenesysDouble) -> None:
    gone = {"sipTrunkId": "trunk-1", "certificateId": "id-of-gone"}
    cloud.health = health(activeSessions=[{**gone, "count": 0}])
    assert (await cloud.edge().health(ID)).active_calls == {}
    cloud.health = health(activeSessions=[{**gone, "count": 2}])
    with pytest.raises(UnexpectedAnswer, match="2 on id-of-gone"):
        await cloud.edge().health(ID)


async def test_a_health_answer_without_validation_is_no_answer(cloud: GenesysDouble) -> None:
    cloud.health = health()
    del cloud.health["tlsCertificateValidation"]
    with pytest.raises(UnexpectedAnswer, match="tlsCertificateValidation: Field required"):
        await cloud.edge().health(ID)


def counted(certificate: str, peer: str | None, *, failures: int = 0, direction: str = "INBOUND") -> dict[str, Any]:
    """One entry of the metrics: ten handshakes and four calls, of which `failures` handshakes failed."""
    return {
        "certificateId": certificate,
        "direction": direction,
        "peerAddress": peer,
        "tlsHandshakes": {
            "attempts": 10,
            "successes": 10 - failures,
            "failures": [{"code": "unknown_ca", "count": failures}, {"code": "timeout", "count": 0}],
        },
        "callSetups": {"attempts": 4, "successes": 3, "failures": [{"sipStatus": 403, "count": 1}]},
    }


def metrics(*entities: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The metrics answer."""
    return {
        "sipTrunkId": "trunk-1",
        "timestamp": "2026-11-23T18:40:00.250Z",
        "countersSince": "2026-11-01T00:00:00.000Z",
        "entities": list(entities),
        **changes,
    }


async def test_figures_become_samples_per_certificate_direction_and_peer(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B", bound=True)
    cloud.metrics = metrics(
        counted("id-of-CERT-A", "192.0.2.10"),
        counted("id-of-CERT-B", "198.51.100.7", failures=2),
        counted("id-of-CERT-B", "192.0.2.10", direction="OUTBOUND"),
        counted("id-of-gone", "192.0.2.10"),
    )
    reading = await cloud.edge().reading(endpoint(), SINCE, UNTIL)
    (query,) = cloud.requests("GET", f"{TRUNK}/tlsmetrics")
    assert query.query == {"interval": "2026-11-23T18:30:00.123Z/2026-11-23T18:40:00.000Z"}
    a, probe, outbound, gone = reading.samples
    assert (a.sha256, a.direction, a.peer, a.synthetic) == (A.sha256, Direction.INBOUND, "192.0.2.10", False)
    assert a.handshakes == Tally(attempts=10, successes=10, failures={})
    assert a.call_setups == Tally(attempts=4, successes=3, failures={"403": 1})
    assert (probe.sha256, probe.synthetic) == (B.sha256, True)
    assert probe.handshakes.failures == {"unknown_ca": 2}
    assert outbound.direction is Direction.OUTBOUND
    assert gone.sha256 is None
    assert reading.reporter is Reporter.PLATFORM
    assert (reading.since, reading.until) == (SINCE, UNTIL)
    assert reading.read_at == datetime(2026, 11, 23, 18, 40, 0, 250_000, tzinfo=UTC)
    assert reading.counters_since == datetime(2026, 11, 1, tzinfo=UTC)


async def test_no_traffic_is_a_statement_and_nothing_to_say_is_none(cloud: GenesysDouble) -> None:
    zero = {"attempts": 0, "successes": 0, "failures": []}
    entity = {**counted("id-of-CERT-A", None), "tlsHandshakes": zero, "callSetups": zero}
    cloud.metrics = metrics(entity)
    (sample,) = (await cloud.edge().reading(endpoint(), SINCE, UNTIL)).samples
    assert (sample.handshakes, sample.peer, sample.synthetic) == (Tally(), None, False)
    cloud.metrics = metrics()
    assert (await cloud.edge().reading(endpoint(), SINCE, UNTIL)).samples == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"sipTrunkId": "trunk-2"},
        {"interval": "2026-11-23T17:30:00.123Z/2026-11-23T17:40:00.000Z"},
        {"interval": "today"},
    ],
)
async def test_figures_that_were_not_asked_for_are_not_used(changes: dict[str, Any], cloud: GenesysDouble) -> None:
    cloud.metrics = metrics(**changes)
    with pytest.raises(UnexpectedAnswer, match="not those that were asked for"):
        await cloud.edge().reading(endpoint(), SINCE, UNTIL)


@pytest.mark.parametrize(
    "handshakes",
    [
        {"attempts": 10, "successes": 9, "failures": []},
        {"attempts": 1, "successes": 2, "failures": [{"code": "other", "count": -1}]},
    ],
)
async def test_figures_that_do_not_add_up_are_not_used(handshakes: dict[str, Any], cloud: GenesysDouble) -> None:
    cloud.metrics = metrics({**counted("id-of-CERT-A", None), "tlsHandshakes": handshakes})
    with pytest.raises(UnexpectedAnswer, match="do not add up"):
        await cloud.edge().reading(endpoint(), SINCE, UNTIL)


@pytest.mark.parametrize("missing", ["timestamp", "countersSince", "entities"])
async def test_figures_without_their_time_are_not_used(missing: str, cloud: GenesysDouble) -> None:
    cloud.metrics = metrics()
    del cloud.metrics[missing]
    with pytest.raises(UnexpectedAnswer, match=f"{missing}: Field required"):
        await cloud.edge().reading(endpoint(), SINCE, UNTIL)


async def test_tickets_are_flushed_with_an_empty_object(cloud: GenesysDouble) -> None:
    await cloud.edge().flush_tickets(ID)
    assert cloud.flushes == 1
    assert cloud.requests("POST", f"{TRUNK}/tlsticketcache/flush")[0].content == b"{}"


async def test_connections_are_closed_under_every_id_of_the_certificate(cloud: GenesysDouble) -> None:
    assert cloud.edge().capabilities.close_connections
    cloud.hold(A, "CERT-A-AGAIN")
    assert await cloud.edge().close_connections(ID, A.sha256) == 6
    sent = [json.loads(request.content) for request in cloud.requests("POST", f"{TRUNK}/tlsconnections/close")]
    assert sent == [{"certificateId": "id-of-CERT-A"}, {"certificateId": "id-of-CERT-A-AGAIN"}]


async def test_connections_of_a_certificate_that_the_platform_does_not_hold_are_not_closed(
    cloud: GenesysDouble,
) -> None:
    with pytest.raises(RequestRefused, match="cannot be told apart"):
        await cloud.edge().close_connections(ID, FOREIGN.sha256)
    assert cloud.requests("POST", f"{TRUNK}/tlsconnections/close") == []


async def test_a_close_that_does_not_say_how_many_is_no_answer(cloud: GenesysDouble) -> None:
    cloud.instead["POST", f"{TRUNK}/tlsconnections/close"] = [httpx.Response(200, json={"closedAt": "now"})]
    with pytest.raises(UnexpectedAnswer, match="closedConnections"):
        await cloud.edge().close_connections(ID, A.sha256)
