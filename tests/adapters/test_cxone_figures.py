"""The CXone adapter reading health and figures: what is not said is never taken for zero."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.errors import RequestRefused, UnexpectedAnswer
from domain.handshakes import Reporter, Tally
from domain.plan import Direction
from tests.adapters.cxone_double import CxoneDouble
from tests.adapters.endpoints import endpoint
from tests.adapters.trunk_leaves import trunk_leaf

A, B = trunk_leaf("A"), trunk_leaf("B")
SINCE = datetime(2026, 11, 23, 18, 30, 0, 123456, tzinfo=UTC)
UNTIL = datetime(2026, 11, 23, 18, 40, tzinfo=UTC)
ENDPOINT = endpoint(name="us-1", platform="us", trunk="4711")


@pytest.fixture
def tenant(monkeypatch: pytest.MonkeyPatch) -> CxoneDouble:
    """A tenant whose trunk presents A and B."""
    monkeypatch.setenv("TEST_CXONE_SECRET", "s3cret")
    double = CxoneDouble()
    double.hold(A, "CERT-A", place="primary")
    double.hold(B, "CERT-B", place="secondary")
    return double


def health(**changes: Any) -> dict[str, Any]:
    """The system health of trunk 4711."""
    return {
        "trunkId": "4711",
        "timestamp": "2026-11-23T18:40:00.000Z",
        "tlsConnectivity": "UP",
        "certificateValidation": [
            {"certificateId": "id-of-CERT-A", "status": "Valid", "reason": None},
            {"certificateId": "id-of-CERT-B", "status": "Invalid", "reason": "not yet valid"},
        ],
        "activeCalls": [{"certificateId": "id-of-CERT-A", "count": 2}],
        **changes,
    }


def series(certificate: str, remote: str | None, *, failed: int = 0, direction: str = "INBOUND") -> dict[str, Any]:
    """One series: ten handshakes and four calls, of which `failed` handshakes failed."""
    return {
        "certificateId": certificate,
        "direction": direction,
        "remoteAddress": remote,
        "handshakes": {"total": 10, "ok": 10 - failed, "failed": {"unknown_ca": failed, "timeout": 0}},
        "invites": {"total": 4, "ok": 3, "failed": {"403": 1}},
    }


def metrics(*entries: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The metrics answer."""
    return {
        "trunkId": "4711",
        "timestamp": "2026-11-23T18:40:00.250Z",
        "countersSince": "2026-11-01T00:00:00.000Z",
        "series": list(entries),
        **changes,
    }


async def test_health_names_validation_and_calls_by_leaf(tenant: CxoneDouble) -> None:
    tenant.health = health()
    seen = await tenant.edge().health("4711")
    assert seen.listener_up is True
    assert [(c.sha256, c.valid, c.reason) for c in seen.certificates] == [
        (A.sha256, True, None),
        (B.sha256, False, "not yet valid"),
    ]
    assert seen.active_calls == {A.sha256: 2}
    assert seen.clock == datetime(2026, 11, 23, 18, 40, tzinfo=UTC)


async def test_a_trunk_without_tls_connectivity_is_down(tenant: CxoneDouble) -> None:
    tenant.health = health(tlsConnectivity="DOWN")
    assert (await tenant.edge().health("4711")).listener_up is False


async def test_calls_on_a_certificate_that_is_gone_are_never_dropped(tenant: CxoneDouble) -> None:
    tenant.health = health(activeCalls=[{"certificateId": "id-of-gone", "count": 1}])
    with pytest.raises(UnexpectedAnswer, match="1 on id-of-gone"):
        await tenant.edge().health("4711")


async def test_figures_become_samples_per_certificate_direction_and_peer(tenant: CxoneDouble) -> None:
    tenant.metrics = metrics(
        series("id-of-CERT-A", "192.0.2.10"),
        series("id-of-CERT-B", "198.51.100.7", failed=2),
        series("id-of-CERT-B", "192.0.2.10", direction="OUTBOUND"),
        series("id-of-gone", "192.0.2.10"),
    )
    reading = await tenant.edge().reading(ENDPOINT, SINCE, UNTIL)
    (query,) = tenant.requests("GET", "/restapi/v1.0/system/metrics/sip-trunks/4711/tls")
    assert query.query == {"startDate": "2026-11-23T18:30:00.123Z", "endDate": "2026-11-23T18:40:00.000Z"}
    a, probe, outbound, gone = reading.samples
    assert (a.sha256, a.direction, a.peer, a.synthetic) == (A.sha256, Direction.INBOUND, "192.0.2.10", False)
    assert a.handshakes == Tally(attempts=10, successes=10, failures={})
    assert a.call_setups == Tally(attempts=4, successes=3, failures={"403": 1})
    assert (probe.sha256, probe.synthetic, probe.handshakes.failures) == (B.sha256, True, {"unknown_ca": 2})
    assert outbound.direction is Direction.OUTBOUND
    assert gone.sha256 is None
    assert (reading.endpoint, reading.reporter) == ("us-1", Reporter.PLATFORM)
    assert reading.read_at == datetime(2026, 11, 23, 18, 40, 0, 250_000, tzinfo=UTC)
    assert reading.counters_since == datetime(2026, 11, 1, tzinfo=UTC)


async def test_nothing_to_say_gives_no_samples(tenant: CxoneDouble) -> None:
    tenant.metrics = metrics()
    assert (await tenant.edge().reading(ENDPOINT, SINCE, UNTIL)).samples == ()


@pytest.mark.parametrize(
    "changes",
    [{"trunkId": "4712"}, {"startDate": "2026-11-23T17:30:00.123Z"}, {"endDate": "2026-11-23T18:39:00.000Z"}],
)
async def test_figures_that_were_not_asked_for_are_not_used(changes: dict[str, Any], tenant: CxoneDouble) -> None:
    tenant.metrics = metrics(**changes)
    with pytest.raises(UnexpectedAnswer, match="not those that were asked for"):
        await tenant.edge().reading(ENDPOINT, SINCE, UNTIL)


async def test_figures_that_do_not_add_up_are_not_used(tenant: CxoneDouble) -> None:
    wrong = {**series("id-of-CERT-A", None), "invites": {"total": 4, "ok": 4, "failed": {"403": 1}}}
    tenant.metrics = metrics(wrong)
    with pytest.raises(UnexpectedAnswer, match="do not add up"):
        await tenant.edge().reading(ENDPOINT, SINCE, UNTIL)


async def test_connections_are_closed_by_the_certificate_that_they_were_set_up_with(tenant: CxoneDouble) -> None:
    assert tenant.edge().capabilities.close_connections
    assert await tenant.edge().close_connections("4711", A.sha256) == 3
    (sent,) = tenant.requests("POST", "/restapi/v1.0/sip/trunks/4711/tls-connections/close")
    assert json.loads(sent.content) == {"certificateId": "id-of-CERT-A"}


async def test_connections_of_a_certificate_that_is_not_held_are_not_closed(tenant: CxoneDouble) -> None:
    with pytest.raises(RequestRefused, match="cannot be told apart"):
        await tenant.edge().close_connections("4711", trunk_leaf("foreign").sha256)
