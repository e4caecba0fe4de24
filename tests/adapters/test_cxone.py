"""The CXone adapter on its trunks: primary and secondary, `If-Match`, read back; access and failures."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.edges.base import Canary, CanaryPath, TrunkChange, TrunkSettings
from domain.errors import (
    CapabilityMissing,
    ConcurrentEdit,
    CredentialsRefused,
    NotAsWritten,
    PermissionMissing,
    PlanInvalid,
    RequestRefused,
    RotatorError,
    ServerFailed,
    Throttled,
    UnexpectedAnswer,
    Unreachable,
)
from tests.adapters.cxone_double import PROFILE, CxoneDouble
from tests.adapters.trunk_leaves import trunk_leaf

A, B, FOREIGN = trunk_leaf("A"), trunk_leaf("B"), trunk_leaf("foreign")
WINDOW = TrunkSettings(
    retransmission_timeout_s=30,
    cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
)


@pytest.fixture
def tenant(monkeypatch: pytest.MonkeyPatch) -> CxoneDouble:
    """A tenant whose trunk presents A and who has B in store."""
    monkeypatch.setenv("TEST_CXONE_SECRET", "s3cret")
    double = CxoneDouble()
    double.hold(A, "CERT-A", place="primary")
    double.hold(B, "CERT-B")
    return double


async def test_a_trunk_with_one_certificate_has_no_canary(tenant: CxoneDouble) -> None:
    state = await tenant.edge().read_trunk("4711")
    assert state.pool == (A.sha256,)
    assert (state.canary, state.canary_path) == (None, None)
    assert (state.name, state.version, state.enabled, state.mutual_tls) == ("CARRIER-EU", 3, True, True)


async def test_the_secondary_certificate_is_the_canary_and_the_secondary_port_its_path(tenant: CxoneDouble) -> None:
    tenant.profile["secondaryCertificateId"] = "id-of-CERT-B"
    state = await tenant.edge().read_trunk("4711")
    assert state.pool == (A.sha256, B.sha256)
    assert (state.canary, state.canary_path) == (B.sha256, CanaryPath(port=5062))


async def test_binding_b_is_one_put_of_the_whole_profile_with_if_match(tenant: CxoneDouble) -> None:
    before = dict(tenant.profile)
    change = TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256, settings=WINDOW)
    state = await tenant.edge().update_trunk("4711", change)
    (put,) = tenant.requests("PUT")
    assert put.path == "/restapi/v1.0/sip/trunks/4711/profile"
    assert put.headers["If-Match"] == '"3"'
    assert put.headers["Authorization"] == "Bearer token-1"
    assert put.json == {
        **before,
        "secondaryCertificateId": "id-of-CERT-B",
        "retransmissionTimeoutSeconds": 30,
        "tlsCipherSuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
    }
    assert put.json["tags"] == ["eu", "sip"]
    assert put.json["listeners"]["comment"] == "kept too"
    assert (state.pool, state.version, state.canary) == ((A.sha256, B.sha256), 4, B.sha256)
    assert tenant.sent[-1].method == "GET", "read back after the write"


async def test_preferring_b_swaps_the_places_and_removing_a_frees_the_second(tenant: CxoneDouble) -> None:
    tenant.profile["secondaryCertificateId"] = "id-of-CERT-B"
    edge = tenant.edge()
    swapped = await edge.update_trunk("4711", TrunkChange(pool=(B.sha256, A.sha256)))
    assert (swapped.pool, swapped.canary) == ((B.sha256, A.sha256), A.sha256)
    alone = await edge.update_trunk("4711", TrunkChange(pool=(B.sha256,), canary=""))
    assert (alone.pool, alone.canary) == ((B.sha256,), None)
    assert tenant.profile["secondaryCertificateId"] is None
    assert len(tenant.requests("PUT")) == 2


async def test_nothing_is_written_when_nothing_differs(tenant: CxoneDouble) -> None:
    change = TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256, settings=WINDOW)
    edge = tenant.edge()
    first = await edge.update_trunk("4711", change)
    assert await edge.update_trunk("4711", change) == first
    assert await edge.update_trunk("4711", TrunkChange(canary="")) == first
    assert await edge.update_trunk("4711", TrunkChange(canary=B.sha256)) == first
    assert len(tenant.requests("PUT")) == 1


@pytest.mark.parametrize(
    "change",
    [
        TrunkChange(canary=B.sha256),
        TrunkChange(pool=(A.sha256,), canary=B.sha256),
        TrunkChange(pool=(B.sha256, A.sha256), canary=B.sha256),
    ],
)
async def test_the_secondary_port_serves_no_other_canary(change: TrunkChange, tenant: CxoneDouble) -> None:
    with pytest.raises(CapabilityMissing, match="second certificate and no other"):
        await tenant.edge().update_trunk("4711", change)
    assert tenant.requests("PUT") == []


async def test_a_pool_of_three_does_not_fit(tenant: CxoneDouble) -> None:
    tenant.hold(FOREIGN, "OTHER")
    with pytest.raises(CapabilityMissing, match=r"primary and a secondary.*3 certificates"):
        await tenant.edge().update_trunk("4711", TrunkChange(pool=(A.sha256, B.sha256, FOREIGN.sha256)))
    assert tenant.requests("PUT") == []


async def test_an_empty_pool_is_never_written_and_what_is_not_uploaded_is_not_bound(tenant: CxoneDouble) -> None:
    for pool, why in (((), "never written"), ((A.sha256, FOREIGN.sha256), "not uploaded")):
        with pytest.raises(RequestRefused, match=why):
            await tenant.edge().update_trunk("4711", TrunkChange(pool=pool))
    assert tenant.requests("PUT") == []


async def test_fields_that_the_answer_does_not_have_are_not_invented(tenant: CxoneDouble) -> None:
    del tenant.profile["retransmissionTimeoutSeconds"]
    await tenant.edge().update_trunk("4711", TrunkChange(pool=(B.sha256,)))
    assert set(tenant.requests("PUT")[0].json) == set(tenant.profile)


async def test_a_lost_answer_of_a_write_is_found_done_by_the_repetition(tenant: CxoneDouble) -> None:
    tenant.lose.append(("PUT", PROFILE))
    change, edge = TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256), tenant.edge()
    with pytest.raises(Unreachable):
        await edge.update_trunk("4711", change)
    assert (await edge.update_trunk("4711", change)).pool == (A.sha256, B.sha256)
    assert len(tenant.requests("PUT")) == 1


async def test_somebody_elses_write_in_between_is_a_concurrent_edit_and_is_not_overwritten(
    tenant: CxoneDouble,
) -> None:
    def rename() -> None:
        tenant.profile = {**tenant.profile, "name": "RENAMED", "version": 4}

    tenant.before["PUT", PROFILE] = rename
    change, edge = TrunkChange(pool=(A.sha256, B.sha256)), tenant.edge()
    with pytest.raises(ConcurrentEdit, match=rf"PUT https://api\.example\.com{PROFILE}.*409 VersionConflict"):
        await edge.update_trunk("4711", change)
    assert (await edge.update_trunk("4711", change)).name == "RENAMED"


async def test_a_write_that_does_not_show_when_read_back_is_not_as_written(tenant: CxoneDouble) -> None:
    tenant.ignore_fields = {"secondaryCertificateId"}
    with pytest.raises(NotAsWritten, match="secondaryCertificateId None, written id-of-CERT-B") as raised:
        await tenant.edge().update_trunk("4711", TrunkChange(pool=(A.sha256, B.sha256), settings=WINDOW))
    assert "tlsCipherSuites" not in raised.value.seen


async def test_a_profile_without_an_etag_is_not_written(tenant: CxoneDouble) -> None:
    tenant.etag = False
    with pytest.raises(UnexpectedAnswer, match="ETag"):
        await tenant.edge().update_trunk("4711", TrunkChange(pool=(B.sha256,)))
    assert tenant.requests("PUT") == []


async def test_trunks_that_present_a_certificate_at_either_place_are_found(tenant: CxoneDouble) -> None:
    tenant.profile["secondaryCertificateId"] = "id-of-CERT-B"
    edge = tenant.edge()
    assert await edge.trunks_presenting(A.sha256) == ("4711",)
    assert await edge.trunks_presenting(B.sha256) == ("4711",)
    assert await edge.trunks_presenting(FOREIGN.sha256) == ()


@pytest.mark.parametrize("trunk", ["", "47/11", "47 11"])
async def test_what_cannot_be_a_trunk_id_is_a_mistake_in_the_plan(trunk: str, tenant: CxoneDouble) -> None:
    with pytest.raises(PlanInvalid, match="trunkId"):
        await tenant.edge().read_trunk(trunk)
    assert tenant.sent == []


async def test_the_physical_trunk_does_not_depend_on_the_profiles_name(tenant: CxoneDouble) -> None:
    assert tenant.edge().physical_trunk("4711") == "api.example.com/4711"


async def test_missing_scopes_are_named(tenant: CxoneDouble) -> None:
    edge = tenant.edge()
    assert await edge.check_access() == ()
    tenant.scope = "telephony:trunk:edit platform:certificate:manage"
    assert await edge.check_access() == ("admin:api", "telephony:health:read")


async def test_a_wrong_secret_is_refused_and_not_shown(tenant: CxoneDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_CXONE_SECRET", "wr0ng-s3cret")
    with pytest.raises(CredentialsRefused, match="invalid_access_key: not known") as raised:
        await tenant.edge().check_access()
    assert "wr0ng" not in str(raised.value)


async def test_an_expired_token_is_renewed_once_within_the_same_call(tenant: CxoneDouble) -> None:
    edge = tenant.edge()
    await edge.read_trunk("4711")
    tenant.revoke_tokens()
    await edge.update_trunk("4711", TrunkChange(pool=(A.sha256, B.sha256)))
    assert tenant.logins == 2


@pytest.mark.parametrize(
    ("status", "code", "headers", "expected"),
    [
        (403, "InsufficientScope", {}, PermissionMissing),
        (429, "TooManyRequests", {"Retry-After": "3"}, Throttled),
        (500, "InternalError", {}, ServerFailed),
        (428, "PreconditionRequired", {}, RequestRefused),
    ],
)
async def test_a_refusal_carries_method_path_status_and_the_platforms_words(
    status: int, code: str, headers: dict[str, str], expected: type[RotatorError], tenant: CxoneDouble
) -> None:
    refusal = tenant.refuse(status, code, "no such luck")
    refusal.headers.update(headers)
    tenant.instead["GET", PROFILE] = [refusal]
    with pytest.raises(expected) as raised:
        await tenant.edge().read_trunk("4711")
    assert f"[platforms.us] GET https://api.example.com{PROFILE}" in str(raised.value)
    assert f"{status} {code}: no such luck (trace trace-1)" in str(raised.value)


async def test_a_profile_without_its_fields_is_an_unexpected_answer(tenant: CxoneDouble) -> None:
    wrong: dict[str, Any] = {"listeners": {"primaryPort": 5061}, "version": "3"}
    tenant.profile |= wrong
    with pytest.raises(UnexpectedAnswer, match=r"version: .*listeners\.secondaryPort: Field required"):
        await tenant.edge().read_trunk("4711")


async def test_tickets_are_flushed_with_an_empty_object(tenant: CxoneDouble) -> None:
    await tenant.edge().flush_tickets("4711")
    assert tenant.flushes == 1
    assert tenant.requests("POST", "/restapi/v1.0/sip/trunks/4711/tls-session-cache/flush")[0].content == b"{}"


async def test_capabilities_and_closing(tenant: CxoneDouble) -> None:
    edge = tenant.edge()
    assert (edge.profile, edge.capabilities.canary) == ("us", Canary.PORT)
    assert edge.capabilities.active_calls
    await edge.close()
