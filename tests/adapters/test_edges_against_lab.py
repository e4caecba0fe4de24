"""The cloud adapters against the lab's strict servers, over real HTTP: what goes beyond the edges' conformance kit.

The servers were written from docs/platform-contract.md without the adapters' code, and drive real TLS listeners: what
the adapter says is compared with what a handshake is served.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from adapters.edges.base import Canary, TrunkChange, TrunkSettings
from domain.errors import (
    PermissionMissing,
    RequestRefused,
    RotatorError,
    ServerFailed,
    Throttled,
    Unreachable,
)
from domain.handshakes import Sample, handshakes
from lab.tokens import HEALTH_SCOPE, SCOPES
from tests.adapters.platform_lab import SUITES, PlatformLab, platform_lab
from tests.adapters.trunk_leaves import key_lines, root, trunk_leaf

A, B, FOREIGN = trunk_leaf("A"), trunk_leaf("B"), trunk_leaf("foreign")
PLATFORMS = [pytest.param(Canary.SNI, id="genesys"), pytest.param(Canary.PORT, id="cxone")]
WINDOW = TrunkSettings(
    retransmission_timeout_s=30,
    cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
)
BIND = TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256, settings=WINDOW)


@pytest_asyncio.fixture(params=PLATFORMS)
async def lab(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[PlatformLab]:
    """A platform whose trunk presents A."""
    monkeypatch.setenv("TEST_LAB_SECRET", "s3cret")
    async with platform_lab(request.param, A, tmp_path) as running:
        yield running


async def bound(lab: PlatformLab) -> None:
    """B uploaded and bound beside A."""
    await lab.edge.upload("rotation-b", B.chain_pem, B.private_key)
    await lab.edge.update_trunk(lab.name, BIND)


async def samples(lab: PlatformLab) -> tuple[Sample, ...]:
    """What the platform counted in the last minute and until a second from now."""
    now = datetime.now(UTC)
    return (await lab.edge.reading(lab.endpoint, now - timedelta(minutes=1), now + timedelta(seconds=1))).samples


# -- what a rotation does --------------------------------------------------------------------------------------------


async def test_a_rotation_is_served_step_by_step_as_the_trunk_says(lab: PlatformLab) -> None:
    edge, settings = lab.edge, dict(lab.trunk.settings)
    before = await edge.read_trunk(lab.name)
    assert (before.pool, before.canary) == ((A.sha256,), None)
    assert (await lab.probe()).leaf_sha256 == A.sha256

    stored = await edge.upload("rotation-b", B.chain_pem, B.private_key)
    assert (stored.sha256, stored.valid, stored.name) == (B.sha256, True, "rotation-b")

    both = await edge.update_trunk(lab.name, BIND)
    assert (both.pool, both.canary, both.settings) == ((A.sha256, B.sha256), B.sha256, WINDOW)
    usual, canary = await lab.probe(), await lab.probe(canary=True)
    assert (usual.leaf_sha256, canary.leaf_sha256) == (A.sha256, B.sha256)
    assert canary.good, canary.text()

    await edge.update_trunk(lab.name, TrunkChange(pool=(B.sha256, A.sha256)))
    assert (await lab.probe()).leaf_sha256 == B.sha256

    alone = await edge.update_trunk(lab.name, TrunkChange(pool=(B.sha256,), canary=""))
    assert (alone.pool, alone.canary, alone.canary_path) == ((B.sha256,), None, None)
    await edge.flush_tickets(lab.name)
    await edge.update_trunk(lab.name, TrunkChange(settings=before.settings))
    assert await edge.delete_certificate(A.sha256) is True
    assert await edge.find_certificate(A.sha256) is None
    assert (await lab.probe()).leaf_sha256 == B.sha256

    changed = {name for name, value in lab.trunk.settings.items() if settings[name] != value}
    assert changed <= {"version", "certificateIds", "primaryCertificateId"}, "everything else is as it was"
    assert lab.trunk.settings["version"] == settings["version"] + 4, "one write per step"


async def test_the_physical_trunk_is_the_apis_host_and_the_platforms_ids(lab: PlatformLab) -> None:
    assert lab.edge.physical_trunk(lab.name).endswith(f"/{lab.name}")
    assert lab.edge.physical_trunk(lab.name).startswith("127.0.0.1:")


# -- repeated, lost and concurrent requests --------------------------------------------------------------------------


async def test_every_side_effect_may_be_repeated(lab: PlatformLab) -> None:
    for _ in range(3):
        await bound(lab)
    assert len(lab.platform.certificates) == 2
    assert len(lab.writes()) == 2, lab.writes()


async def test_every_uploaded_certificate_is_listed_by_name_and_leaf(lab: PlatformLab) -> None:
    await lab.edge.upload("rotation-b", B.chain_pem, B.private_key)
    listed = {one.name: one.sha256 for one in await lab.edge.certificates()}
    assert listed["rotation-b"] == B.sha256
    assert set(listed.values()) == {A.sha256, B.sha256}


async def test_a_lost_answer_of_a_delete_is_found_done(lab: PlatformLab) -> None:
    await lab.edge.upload("rotation-b", B.chain_pem, B.private_key)
    lab.transport.lose = ["DELETE"]
    with pytest.raises(Unreachable):
        await lab.edge.delete_certificate(B.sha256)
    assert await lab.edge.delete_certificate(B.sha256) is False


# -- the store -------------------------------------------------------------------------------------------------------


async def test_a_large_store_is_seen_whole(lab: PlatformLab) -> None:
    for number in range(120):
        lab.platform.register(f"OTHER-{number}", FOREIGN.chain_pem, FOREIGN.private_key.get_secret_value())
    lab.platform.register("LAST", B.chain_pem, B.private_key.get_secret_value())
    found = await lab.edge.find_certificate(B.sha256)
    assert found is not None
    assert found.name == "LAST"
    assert (await lab.edge.upload("rotation-b", B.chain_pem, B.private_key)).name == "LAST"


async def test_a_name_that_another_leaf_has_is_refused(lab: PlatformLab) -> None:
    lab.platform.register("rotation-b", FOREIGN.chain_pem, FOREIGN.private_key.get_secret_value())
    with pytest.raises(RequestRefused, match="the name rotation-b is taken"):
        await lab.edge.upload("rotation-b", B.chain_pem, B.private_key)


@pytest.mark.parametrize(("chain", "code"), [("leaf only", "hain"), ("with root", "ertificate"), ("other key", "ey")])
async def test_what_the_platform_refuses_to_store_is_told_in_its_words_and_without_the_key(
    chain: str, code: str, lab: PlatformLab
) -> None:
    leaf_only = B.chain_pem[: B.chain_pem.index("-----END CERTIFICATE-----") + 26]
    chains = {
        "leaf only": (leaf_only, B),
        "with root": (B.chain_pem + root().pem, B),
        "other key": (B.chain_pem, FOREIGN),
    }
    sent, owner = chains[chain]
    with pytest.raises(RequestRefused) as raised:
        await lab.edge.upload("rotation-b", sent, owner.private_key)
    assert code in raised.value.seen
    assert not any(line in str(raised.value) for line in key_lines(owner))
    assert len(lab.platform.certificates) == 1


async def test_a_certificate_in_use_is_not_deleted(lab: PlatformLab) -> None:
    with pytest.raises(RequestRefused, match=r"in use.*409"):
        await lab.edge.delete_certificate(A.sha256)
    assert (await lab.edge.read_trunk(lab.name)).pool == (A.sha256,)


# -- health and figures ----------------------------------------------------------------------------------------------


async def test_health_speaks_of_both_certificates(lab: PlatformLab) -> None:
    await bound(lab)
    health = await lab.edge.health(lab.name)
    assert health.listener_up is True
    assert [(one.sha256, one.valid) for one in health.certificates] == [(A.sha256, True), (B.sha256, True)]
    assert health.active_calls == {A.sha256: 0, B.sha256: 0}
    assert health.clock is not None
    assert abs(health.clock - health.read_at) < timedelta(seconds=10)
    lab.faults.invalid = {B.sha256}
    invalid = (await lab.edge.health(lab.name)).certificates[1]
    assert (invalid.valid, bool(invalid.reason)) == (False, True)
    await lab.trunk.edge.set_listening(False)
    assert (await lab.edge.health(lab.name)).listener_up is False


async def test_failures_are_counted_by_cause(lab: PlatformLab) -> None:
    ledger = lab.trunk.ledger
    ledger.handshake("INBOUND", A.sha256, "192.0.2.10")
    ledger.handshake("INBOUND", A.sha256, "192.0.2.10", "unknown_ca")
    for status in (200, 486, 403):
        ledger.call_setup("INBOUND", A.sha256, "192.0.2.10", status)
    (sample,) = await samples(lab)
    assert (sample.synthetic, sample.peer) == (False, "192.0.2.10")
    assert sample.handshakes.failures == {"unknown_ca": 1}
    assert (sample.call_setups.attempts, sample.call_setups.successes) == (3, 2)
    assert sample.call_setups.failures == {"403": 1}


async def test_no_traffic_is_a_zero_and_silence_is_nothing(lab: PlatformLab) -> None:
    await bound(lab)
    zeros = await samples(lab)
    assert {sample.sha256 for sample in zeros} == {A.sha256, B.sha256}
    assert handshakes(zeros).attempts == 0
    assert all(sample.peer is None and not sample.synthetic for sample in zeros)
    lab.faults.silent = True
    assert await samples(lab) == ()


async def test_a_reading_says_when_the_counters_were_read_and_reset(lab: PlatformLab) -> None:
    lab.trunk.ledger.reset()
    now = datetime.now(UTC)
    reading = await lab.edge.reading(lab.endpoint, now - timedelta(minutes=1), now)
    assert reading.reset_within()
    assert abs(reading.age(now)) < timedelta(seconds=10)


# -- access ----------------------------------------------------------------------------------------------------------


async def test_an_expired_token_is_renewed_within_the_same_call(lab: PlatformLab) -> None:
    await lab.edge.read_trunk(lab.name)
    lab.tokens.expire_all()
    await lab.edge.upload("rotation-b", B.chain_pem, B.private_key)
    lab.tokens.expire_all()
    assert (await lab.edge.update_trunk(lab.name, BIND)).pool == (A.sha256, B.sha256)


@pytest.mark.parametrize(("status", "expected"), [(429, Throttled), (500, ServerFailed)])
async def test_a_platform_that_refuses_is_typed(status: int, expected: type[RotatorError], lab: PlatformLab) -> None:
    lab.faults.status = status
    with pytest.raises(expected) as raised:
        await lab.edge.read_trunk(lab.name)
    assert raised.value.retryable
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after_s == 1.0
    lab.faults.status = None
    assert (await lab.edge.read_trunk(lab.name)).settings.cipher_suites == tuple(SUITES)


@pytest.mark.parametrize("kind", PLATFORMS)
async def test_a_missing_scope_is_named_and_its_requests_are_refused(
    kind: Canary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_LAB_SECRET", "s3cret")
    scopes = tuple(scope for scope in SCOPES if scope != HEALTH_SCOPE)
    async with platform_lab(kind, A, tmp_path, scopes=scopes) as lab:
        assert await lab.edge.check_access() == (HEALTH_SCOPE,)
        with pytest.raises(PermissionMissing, match=HEALTH_SCOPE):
            await lab.edge.health(lab.name)
