"""The carrier and webhook adapters against the lab's strict carrier service, over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from adapters.carriers.http_health import HttpHealthCarrier
from adapters.notify.base import Notice, Severity
from adapters.notify.webhook import WebhookNotifier
from domain.errors import CredentialsRefused, RequestRefused, ServerFailed
from domain.plan import Direction
from lab.api_guard import RequestLog
from lab.carrier_api import CarrierApi
from lab.http_service import HttpService
from lab.ledger import Ledger
from settings import CarrierProfile, WebhookProfile
from tests.adapters.endpoints import endpoint

LEAF = "ab" * 32
ENDPOINT = endpoint(carrier_trunk="acme-eu")


@dataclass
class CarrierLab:
    """The carrier's service and what decides its answers."""

    url: str = ""
    ledger: Ledger = field(default_factory=Ledger)
    up: bool = True
    down: bool = False
    api: CarrierApi | None = None

    def carrier(self) -> HttpHealthCarrier:
        profile = {"kind": "http-health", "base_url": self.url, "lab": True, "token": {"env": "TEST_CARRIER_TOKEN"}}
        return HttpHealthCarrier("acme", CarrierProfile.model_validate(profile))

    def webhook(self, path: str, variable: str) -> WebhookNotifier:
        profile = {"kind": "webhook", "base_url": f"{self.url}{path}", "lab": True, "token": {"env": variable}}
        return WebhookNotifier("ops", WebhookProfile.model_validate(profile))


@pytest_asyncio.fixture
async def lab(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CarrierLab]:
    """A carrier with the trunk acme-eu, in both directions."""
    monkeypatch.setenv("TEST_CARRIER_TOKEN", "carrier-t0ken")
    monkeypatch.setenv("TEST_OPERATIONS_TOKEN", "operations-t0ken")
    running = CarrierLab()
    running.api = CarrierApi(
        {"acme-eu": (running.ledger, ("INBOUND", "OUTBOUND"))},
        carrier_token="carrier-t0ken",
        operations_token="operations-t0ken",
        log=RequestLog(),
        trunk_up=lambda trunk: running.up,
        health_down=lambda: running.down,
    )
    service = HttpService(running.api.application)
    running.url = service.url
    await service.start()
    yield running
    await service.stop()


def notice(kind: str) -> Notice:
    return Notice(
        id=f"rotation-eu/{kind}/1",
        severity=Severity.WARNING,
        kind=kind,
        rotation="rotation-eu",
        phase="PREFER",
        trunks=("eu-1",),
        summary="please flush OCSP caches – and pause resumption for 30 minutes",
        details={"fqdn": "trunk.example.com"},
        action="flush",
        sent_at=datetime.now(UTC),
    )


async def test_the_carriers_counts_arrive_per_certificate_and_direction(lab: CarrierLab) -> None:
    lab.ledger.handshake("INBOUND", LEAF, "192.0.2.1")
    lab.ledger.handshake("INBOUND", LEAF, "192.0.2.2", "unknown_ca")
    lab.ledger.handshake("INBOUND", None, "192.0.2.1", "timeout")
    lab.ledger.call_setup("OUTBOUND", LEAF, "192.0.2.1", 403)
    carrier, now = lab.carrier(), datetime.now(UTC)
    reading = await carrier.reading(ENDPOINT, now - timedelta(minutes=1), now + timedelta(seconds=1))
    await carrier.close()
    found = {(sample.sha256, sample.direction): sample for sample in reading.samples}
    assert found[LEAF, Direction.INBOUND].handshakes.failures == {"unknown_ca": 1}
    assert found[LEAF, Direction.INBOUND].handshakes.attempts == 2
    assert found[None, Direction.INBOUND].handshakes.failures == {"timeout": 1}
    assert found[LEAF, Direction.OUTBOUND].call_setups.failures == {"403": 1}
    assert abs(reading.age(now)) < timedelta(seconds=10)


async def test_the_access_check_tells_trunk_state_and_token(lab: CarrierLab, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier = lab.carrier()
    assert await carrier.check_access(ENDPOINT) == ()
    lab.up = False
    assert await carrier.check_access(ENDPOINT) == ("the carrier reports trunk acme-eu as DOWN",)
    (unknown,) = await carrier.check_access(endpoint(carrier_trunk="nobody"))
    assert "404 there is no such trunk" in unknown
    lab.down = True
    with pytest.raises(ServerFailed, match="503 the health service is down"):
        await carrier.check_access(ENDPOINT)
    monkeypatch.setenv("TEST_CARRIER_TOKEN", "wr0ng")
    (refused,) = await carrier.check_access(ENDPOINT)
    assert "401" in refused
    assert "wr0ng" not in refused
    await carrier.close()


async def test_a_notice_that_is_sent_twice_is_delivered_once(lab: CarrierLab) -> None:
    assert lab.api is not None
    carrier = lab.webhook("/v1/notices", "TEST_CARRIER_TOKEN")
    for _ in range(2):
        await carrier.send(notice("flush_ocsp_and_pause_resumption"))
    operations = lab.webhook("/v1/alerts", "TEST_OPERATIONS_TOKEN")
    await operations.send(notice("breach"))
    assert [one.key for one in lab.api.notices.messages] == ["rotation-eu/flush_ocsp_and_pause_resumption/1"]
    assert [one.body["kind"] for one in lab.api.alerts.messages] == ["breach"]
    await carrier.close()
    await operations.close()


async def test_a_notice_that_the_receiver_does_not_take_is_refused(lab: CarrierLab) -> None:
    hook = lab.webhook("/v1/alerts", "TEST_OPERATIONS_TOKEN")
    with pytest.raises(RequestRefused, match="400 field 'kind' must be"):
        await hook.send(notice("small talk"))
    await hook.close()
    stranger = lab.webhook("/v1/alerts", "TEST_CARRIER_TOKEN")
    with pytest.raises(CredentialsRefused):
        await stranger.send(notice("breach"))
    await stranger.close()
