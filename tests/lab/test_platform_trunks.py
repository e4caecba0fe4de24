"""A trunk's settings drive its edge: versions, full replacement, pool, canary, health, metrics, and faults on them."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from lab.faults import FAULTS
from lab.tls_stream import TlsFailure
from lab.wire_time import now, time_text
from tests.lab.lab_pki import LabPki
from tests.lab.platform_kit import Cxone, Genesys, PlatformUnderTest
from tests.lab.waiting import until


def _last_minute() -> tuple[str, str]:
    return time_text(now() - timedelta(minutes=1)), time_text(now() + timedelta(seconds=1))


async def _counted(platform: PlatformUnderTest) -> None:
    """Returns once the edge has counted something."""

    async def look() -> bool:
        return bool(platform.trunk.ledger.counts(now() - timedelta(minutes=1), now()))

    await until(look)


# Versions and full replacement


async def test_a_put_of_what_was_read_changes_the_version_and_nothing_else(platform: PlatformUnderTest) -> None:
    before = await platform.read_trunk()
    answer = await platform.put_trunk(before)
    assert answer.status_code == 200
    assert answer.json() == {**before, "version": before["version"] + 1} == await platform.read_trunk()


async def test_a_stale_version_is_refused_and_changes_nothing(platform: PlatformUnderTest, pki: LabPki) -> None:
    b = await platform.uploaded(pki.issue())
    before = await platform.read_trunk()
    a = platform.trunk.pool[0].id
    assert (await platform.put_trunk(before)).status_code == 200
    platform.assert_refused(await platform.put_trunk(platform.with_pool(before, a, b)), "version")
    assert [one.id for one in platform.trunk.pool] == [a]


async def test_only_one_of_two_writers_with_the_same_version_wins(platform: PlatformUnderTest) -> None:
    before = await platform.read_trunk()
    answers = await asyncio.gather(*(platform.put_trunk(before) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7


async def test_a_field_that_is_left_out_is_lost(platform: PlatformUnderTest) -> None:
    settings = await platform.read_trunk()
    for name in ("inboundSite", "maxConcurrentCalls", "routingProfile", "tags", "retransmissionTimeoutSeconds"):
        settings.pop(name, None)
    after = (await platform.put_trunk(settings)).json()
    assert not {"inboundSite", "maxConcurrentCalls", "routingProfile", "tags"} & set(after)
    assert after["retransmissionTimeoutSeconds"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"colour": "blue"},
        {"version": "7"},
        {"version": True},
        {"enabled": "true"},
        {"transport": "TCP"},
        {"retransmissionTimeoutSeconds": "30"},
        {"retransmissionTimeoutSeconds": 30.0},
        {"tlsCipherSuites": []},
        {"tlsCipherSuites": ["ECDHE-RSA-AES128-GCM-SHA256"]},
        {"tlsSessionTicketLifetimeSeconds": None},
        {"mutualTls": None},
    ],
)
async def test_a_trunk_field_of_the_wrong_kind_is_refused(platform: PlatformUnderTest, change: dict[str, Any]) -> None:
    settings = await platform.read_trunk()
    platform.assert_refused(await platform.put_trunk({**settings, **change}), "bad request")
    assert await platform.read_trunk() == settings


async def test_what_cannot_be_changed_is_refused(genesys: Genesys, cxone: Cxone) -> None:
    settings = await genesys.read_trunk()
    for change in ({"id": "trunk-9"}, {"mutualTls": False}):
        genesys.assert_refused(await genesys.put_trunk({**settings, **change}), "bad request")
    profile = await cxone.read_trunk()
    for other in ({"trunkId": "x"}, {"mutualTls": True}, {"listeners": {"primaryPort": 1, "secondaryPort": 2}}):
        cxone.assert_refused(await cxone.put_trunk({**profile, **other}), "bad request")


async def test_cxone_demands_the_version_as_a_precondition_in_quotes(cxone: Cxone) -> None:
    answer = await cxone.send("GET", cxone.trunk_path)
    profile = answer.json()
    assert answer.headers["etag"] == f'"{profile["version"]}"'
    cxone.assert_refused(await cxone.send("PUT", cxone.trunk_path, profile), "precondition")
    for tag in (str(profile["version"]), "*", f'W/"{profile["version"]}"', '"x"', '"99"'):
        refused = await cxone.send("PUT", cxone.trunk_path, profile, headers={"If-Match": tag})
        cxone.assert_refused(refused, "bad request")
    changed = await cxone.put_trunk(profile)
    assert changed.headers["etag"] == f'"{profile["version"] + 1}"'


async def test_unknown_edges_and_trunks_are_not_found(genesys: Genesys, cxone: Cxone) -> None:
    for path in (genesys.trunk_path, genesys.health_path):
        genesys.assert_refused(await genesys.send("GET", path.replace("edge-1", "edge-9")), "not found")
    genesys.assert_refused(await genesys.send("GET", genesys.trunk_path.replace("trunk-1", "x")), "not found")
    for path in (cxone.trunk_path, cxone.health_path):
        cxone.assert_refused(await cxone.send("GET", path.replace("trunk-2", "trunk-9")), "not found")


async def test_trunks_are_listed(genesys: Genesys, cxone: Cxone) -> None:
    listed = (await genesys.send("GET", genesys.trunk_path.rsplit("/", 1)[0])).json()
    assert (listed["total"], listed["entities"]) == (1, [await genesys.read_trunk()])
    listed = (await cxone.send("GET", "/restapi/v1.0/sip/trunks")).json()
    assert (listed["totalRecords"], listed["trunks"]) == (1, [await cxone.read_trunk()])


# The pool


async def test_a_pool_must_name_certificates_that_exist_each_once(platform: PlatformUnderTest) -> None:
    settings, a = await platform.read_trunk(), platform.trunk.pool[0].id
    for pool in ((a, "unknown"), ("unknown",), (a, a)):
        platform.assert_refused(await platform.put_trunk(platform.with_pool(settings, *pool)), "bad request")
    if isinstance(platform, Genesys):
        platform.assert_refused(await platform.put_trunk(platform.with_pool(settings)), "bad request")


async def test_genesys_serves_the_first_of_the_pool_and_the_canary_by_sni(genesys: Genesys, pki: LabPki) -> None:
    a, b = genesys.trunk.pool[0], await genesys.uploaded(pki.issue())
    settings = genesys.with_pool(await genesys.read_trunk(), a.id, b)
    canary = {"serverName": "canary.trunk.genesys.lab.example", "certificateId": b}
    assert (await genesys.put_trunk({**settings, "tlsCanary": canary})).status_code == 200
    sha256_b = genesys.trunk.pool[1].sha256
    port = genesys.trunk.edge.primary_port
    assert await genesys.served(port) == a.sha256
    assert await genesys.served(port, canary["serverName"]) == sha256_b
    settings = genesys.with_pool(await genesys.read_trunk(), b, a.id)
    assert (await genesys.put_trunk({**settings, "tlsCanary": None})).status_code == 200
    assert await genesys.served(port) == sha256_b


async def test_a_canary_outside_the_pool_is_refused(genesys: Genesys, pki: LabPki) -> None:
    b = await genesys.uploaded(pki.issue())
    settings = await genesys.read_trunk()
    for canary in (
        {"serverName": "canary.example", "certificateId": b},
        {"serverName": "canary.example", "certificateId": "unknown"},
        {"serverName": "canary.example"},
    ):
        refused = await genesys.put_trunk({**settings, "tlsCanary": canary})
        genesys.assert_refused(refused, "bad request")


async def test_cxone_serves_the_primary_on_one_port_and_the_secondary_on_the_other(cxone: Cxone, pki: LabPki) -> None:
    edge, a = cxone.trunk.edge, cxone.trunk.pool[0]
    assert edge.secondary_port is not None
    assert await cxone.served(edge.primary_port) == await cxone.served(edge.secondary_port) == a.sha256
    b = await cxone.uploaded(pki.issue())
    assert (await cxone.put_trunk(cxone.with_pool(await cxone.read_trunk(), a.id, b))).status_code == 200
    sha256_b = cxone.trunk.pool[1].sha256
    assert await cxone.served(edge.primary_port) == a.sha256
    assert await cxone.served(edge.secondary_port) == sha256_b
    assert (await cxone.put_trunk(cxone.with_pool(await cxone.read_trunk(), b))).status_code == 200
    assert await cxone.served(edge.primary_port) == await cxone.served(edge.secondary_port) == sha256_b


async def test_a_disabled_trunk_takes_no_connections_until_it_is_enabled(platform: PlatformUnderTest) -> None:
    port = platform.trunk.edge.primary_port
    await platform.put_trunk({**await platform.read_trunk(), "enabled": False})
    with pytest.raises((ConnectionRefusedError, TlsFailure)):
        await platform.served(port)
    await platform.put_trunk({**await platform.read_trunk(), "enabled": True})
    assert await platform.served(port) == platform.trunk.pool[0].sha256


# Health and metrics


async def test_health_tells_listener_validity_and_calls_of_every_bound_certificate(
    genesys: Genesys, cxone: Cxone
) -> None:
    a = genesys.trunk.pool[0].id
    health = (await genesys.send("GET", genesys.health_path)).json()
    assert set(health) == {
        "edgeId",
        "status",
        "timestamp",
        "tlsListener",
        "tlsCertificateValidation",
        "activeSessions",
    }
    assert (health["status"], health["tlsListener"]["status"]) == ("ACTIVE", "UP")
    expected = {"sipTrunkId": "trunk-1", "certificateId": a, "valid": True, "reason": None}
    assert health["tlsCertificateValidation"] == [expected]
    assert health["activeSessions"] == [{"sipTrunkId": "trunk-1", "certificateId": a, "count": 0}]
    a = cxone.trunk.pool[0].id
    health = (await cxone.send("GET", cxone.health_path)).json()
    assert health["tlsConnectivity"] == "UP"
    assert health["certificateValidation"] == [{"certificateId": a, "status": "Valid", "reason": None}]
    assert health["activeCalls"] == [{"certificateId": a, "count": 0}]


async def test_metrics_without_traffic_are_one_zero_for_each_direction(genesys: Genesys, cxone: Cxone) -> None:
    since, until = _last_minute()
    body = (await genesys.metrics(since, until)).json()
    assert body["interval"] == f"{since}/{until}"
    assert [entity["direction"] for entity in body["entities"]] == ["INBOUND", "OUTBOUND"]
    for entity in body["entities"]:
        assert entity["peerAddress"] is None
        assert entity["tlsHandshakes"] == {"attempts": 0, "successes": 0, "failures": []}
    body = (await cxone.metrics(since, until)).json()
    (series,) = body["series"]
    assert (series["direction"], series["remoteAddress"]) == ("INBOUND", None)
    assert series["invites"] == {"total": 0, "ok": 0, "failed": {}}


async def test_metrics_name_certificate_direction_and_peer_of_real_handshakes(genesys: Genesys, cxone: Cxone) -> None:
    await genesys.served(genesys.trunk.edge.primary_port)
    await cxone.served(cxone.trunk.edge.primary_port)
    await _counted(genesys)
    inbound = (await genesys.metrics(*_last_minute())).json()["entities"][0]
    assert (inbound["certificateId"], inbound["peerAddress"]) == (genesys.trunk.pool[0].id, "127.0.0.1")
    assert inbound["tlsHandshakes"]["attempts"] == 1
    await _counted(cxone)
    (series,) = (await cxone.metrics(*_last_minute())).json()["series"]
    assert series["handshakes"]["total"] == 1
    earlier = time_text(now() - timedelta(hours=2)), time_text(now() - timedelta(hours=1))
    (quiet,) = (await cxone.metrics(*earlier)).json()["series"]
    assert quiet["remoteAddress"] is None


@pytest.mark.parametrize(
    ("since", "until"),
    [
        ("2026-11-23T18:40:00.000Z", "2026-11-23T18:40:00.000Z"),
        ("2026-11-23T18:40:01.000Z", "2026-11-23T18:40:00.000Z"),
        ("2026-11-23T18:40:00Z", "2026-11-23T18:41:00Z"),
        ("2026-11-23T18:40:00.000", "2026-11-23T18:41:00.000"),
        ("", ""),
    ],
)
async def test_a_period_that_is_no_period_is_refused(platform: PlatformUnderTest, since: str, until: str) -> None:
    platform.assert_refused(await platform.metrics(since, until), "bad request")


# Faults


async def _bind(platform: PlatformUnderTest, pki: LabPki) -> tuple[str, str]:
    a, b = platform.trunk.pool[0].id, await platform.uploaded(pki.issue())
    answer = await platform.put_trunk(platform.with_pool(await platform.read_trunk(), a, b))
    assert answer.status_code == 200
    return a, b


async def test_no_fault_shows_before_a_second_certificate_is_bound(platform: PlatformUnderTest, pki: LabPki) -> None:
    for name in FAULTS:
        platform.faults.switch(name, on=True)
    assert not any(platform.faults.armed.values())
    for path in (platform.trunk_path, platform.health_path, platform.certificates):
        assert (await platform.send("GET", path)).status_code == 200
    await _bind(platform, pki)
    assert all(platform.faults.armed.values())
    platform.assert_refused(await platform.send("GET", platform.trunk_path), "internal")


async def test_throttling_refuses_three_of_four_requests_and_says_when_to_come_back(
    platform: PlatformUnderTest, pki: LabPki
) -> None:
    await _bind(platform, pki)
    platform.faults.switch("api-429", on=True)
    answers = [await platform.send("GET", platform.trunk_path) for _ in range(8)]
    assert [answer.status_code for answer in answers] == [429, 429, 429, 200] * 2
    platform.assert_refused(answers[0], "too many")
    assert answers[0].headers["retry-after"] == "1"
    platform.faults.switch("api-429", on=False)
    assert (await platform.send("GET", platform.trunk_path)).status_code == 200


async def test_health_can_call_b_invalid_and_metrics_can_say_nothing(platform: PlatformUnderTest, pki: LabPki) -> None:
    a, b = await _bind(platform, pki)
    platform.faults.switch("health-invalid", on=True)
    platform.faults.switch("metrics-empty", on=True)
    health = (await platform.send("GET", platform.health_path)).json()
    listed = health.get("tlsCertificateValidation") or health["certificateValidation"]
    said = {one["certificateId"]: one.get("valid", one.get("status")) for one in listed}
    assert said == ({a: True, b: False} if isinstance(platform, Genesys) else {a: "Valid", b: "Invalid"})
    metrics = (await platform.metrics(*_last_minute())).json()
    assert metrics.get("entities", metrics.get("series")) == []


async def test_a_refused_removal_keeps_both_and_leaves_the_way_back_to_a_open(
    platform: PlatformUnderTest, pki: LabPki
) -> None:
    a, b = await _bind(platform, pki)
    platform.faults.switch("refuse-removal", on=True)
    settings = await platform.read_trunk()
    platform.assert_refused(await platform.put_trunk(platform.with_pool(settings, b)), "internal")
    assert [one.id for one in platform.trunk.pool] == [a, b]
    assert await platform.read_trunk() == settings
    assert (await platform.put_trunk(platform.with_pool(settings, a))).status_code == 200
