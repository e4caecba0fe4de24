"""The Genesys Cloud adapter on its trunks: look, act on the difference, read back; access and failures."""

from __future__ import annotations

import pytest

from adapters.edges.base import Canary, CanaryPath, TrunkChange, TrunkSettings
from adapters.edges.genesys_wire import Trunk
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
    SettingsInvalid,
    Throttled,
    UnexpectedAnswer,
    Unreachable,
)
from tests.adapters.genesys_double import TRUNK, GenesysDouble
from tests.adapters.trunk_leaves import trunk_leaf

A, B, FOREIGN = trunk_leaf("A"), trunk_leaf("B"), trunk_leaf("foreign")
ID = "edge-1/trunk-1"
WINDOW = TrunkSettings(
    retransmission_timeout_s=30,
    cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> GenesysDouble:
    """An organisation whose trunk presents A."""
    monkeypatch.setenv("TEST_GENESYS_SECRET", "s3cret")
    double = GenesysDouble()
    double.known = (A, B, FOREIGN)
    double.hold(A, "CERT-A", bound=True)
    return double


async def test_a_trunk_is_read_with_its_pool_as_leaf_fingerprints(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B", bound=True)
    cloud.trunk["tlsCanary"] = {"serverName": "canary.trunk.example.com", "certificateId": "id-of-CERT-B"}
    state = await cloud.edge().read_trunk(ID)
    assert state.pool == (A.sha256, B.sha256)
    assert (state.name, state.version, state.enabled) == ("PROD-CARRIER-TRUNK-A", 7, True)
    assert state.canary == B.sha256
    assert state.canary_path == CanaryPath(server_name="canary.trunk.example.com")
    assert state.settings.retransmission_timeout_s is None
    assert state.mutual_tls is False


async def test_binding_b_is_one_put_of_the_whole_trunk_with_unknown_fields_kept(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B")
    before = dict(cloud.trunk)
    change = TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256, settings=WINDOW)
    state = await cloud.edge().update_trunk(ID, change)
    (put,) = cloud.requests("PUT", TRUNK)
    assert put.json == {
        **before,
        "certificateIds": ["id-of-CERT-A", "id-of-CERT-B"],
        "retransmissionTimeoutSeconds": 30,
        "tlsCipherSuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
        "tlsCanary": {"serverName": "canary.trunk.example.com", "certificateId": "id-of-CERT-B"},
    }
    assert put.headers["Content-Type"] == "application/json"
    assert put.headers["Authorization"] == "Bearer token-1"
    assert (state.pool, state.version) == ((A.sha256, B.sha256), 8)
    assert cloud.trunk["inboundSite"] == "frankfurt"
    assert cloud.sent[-1].method == "GET", "read back after the write"


async def test_fields_that_the_answer_does_not_have_are_not_invented(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B")
    for name in ("tlsCanary", "retransmissionTimeoutSeconds"):
        del cloud.trunk[name]
    await cloud.edge().update_trunk(ID, TrunkChange(pool=(B.sha256, A.sha256), canary=""))
    assert set(cloud.requests("PUT", TRUNK)[0].json) == set(cloud.trunk)


async def test_nothing_is_written_when_nothing_differs(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B")
    change = TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256, settings=WINDOW)
    edge = cloud.edge()
    first = await edge.update_trunk(ID, change)
    assert await edge.update_trunk(ID, change) == first
    assert await edge.update_trunk(ID, TrunkChange()) == first
    assert len(cloud.requests("PUT")) == 1


async def test_a_lost_answer_of_a_write_is_found_done_by_the_repetition(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B")
    cloud.lose.append(("PUT", TRUNK))
    change, edge = TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256), cloud.edge()
    with pytest.raises(Unreachable):
        await edge.update_trunk(ID, change)
    state = await edge.update_trunk(ID, change)
    assert state.pool == (A.sha256, B.sha256)
    assert len(cloud.requests("PUT")) == 1


async def test_somebody_elses_write_in_between_is_a_concurrent_edit_and_is_not_overwritten(
    cloud: GenesysDouble,
) -> None:
    cloud.hold(B, "CERT-B")

    def rename() -> None:
        cloud.trunk = {**cloud.trunk, "name": "RENAMED", "version": 8}

    cloud.before["PUT", TRUNK] = rename
    change, edge = TrunkChange(pool=(A.sha256, B.sha256)), cloud.edge()
    with pytest.raises(ConcurrentEdit, match=rf"PUT https://api\.example\.com{TRUNK}.*409 general\.conflict"):
        await edge.update_trunk(ID, change)
    assert (await edge.update_trunk(ID, change)).name == "RENAMED"


async def test_a_write_that_does_not_show_when_read_back_is_not_as_written(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B")
    cloud.ignore_fields = {"certificateIds", "tlsCanary"}
    with pytest.raises(NotAsWritten) as raised:
        await cloud.edge().update_trunk(ID, TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256, settings=WINDOW))
    assert "certificateIds ('id-of-CERT-A',), written ('id-of-CERT-A', 'id-of-CERT-B')" in raised.value.seen
    assert "tlsCanary None, written id-of-CERT-B for canary.trunk.example.com" in raised.value.seen
    assert "tlsCipherSuites" not in raised.value.seen


async def test_a_field_that_the_platform_adds_to_the_canary_does_not_matter(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B", bound=True)
    cloud.trunk["tlsCanary"] = {
        "serverName": "canary.trunk.example.com",
        "certificateId": "id-of-CERT-B",
        "weight": 3,
    }
    edge = cloud.edge()
    await edge.update_trunk(ID, TrunkChange(canary=B.sha256))
    assert cloud.requests("PUT") == []
    await edge.update_trunk(ID, TrunkChange(canary=A.sha256))
    assert cloud.trunk["tlsCanary"]["weight"] == 3


async def test_an_empty_canary_takes_the_canary_path_away(cloud: GenesysDouble) -> None:
    cloud.trunk["tlsCanary"] = {"serverName": "canary.trunk.example.com", "certificateId": "id-of-gone"}
    edge = cloud.edge()
    assert (await edge.read_trunk(ID)).canary is None, "a canary whose certificate is gone serves nothing"
    state = await edge.update_trunk(ID, TrunkChange(canary=""))
    assert (state.canary, state.canary_path, cloud.trunk["tlsCanary"]) == (None, None, None)


async def test_a_certificate_that_is_not_uploaded_is_not_bound(cloud: GenesysDouble) -> None:
    with pytest.raises(RequestRefused, match=f"not uploaded.*{B.sha256}"):
        await cloud.edge().update_trunk(ID, TrunkChange(pool=(A.sha256, B.sha256)))
    with pytest.raises(RequestRefused, match="not uploaded"):
        await cloud.edge().update_trunk(ID, TrunkChange(canary=B.sha256))
    assert cloud.requests("PUT") == []


async def test_an_empty_pool_is_never_written(cloud: GenesysDouble) -> None:
    with pytest.raises(RequestRefused, match="never written"):
        await cloud.edge().update_trunk(ID, TrunkChange(pool=()))
    assert cloud.requests("PUT") == []


async def test_of_two_uploads_of_one_leaf_the_bound_one_stays_bound(cloud: GenesysDouble) -> None:
    cloud.certificates.clear()
    cloud.hold(A, "CERT-A-FIRST")
    cloud.hold(A, "CERT-A")
    cloud.hold(B, "CERT-B")
    edge = cloud.edge()
    assert (await edge.read_trunk(ID)).pool == (A.sha256,)
    await edge.update_trunk(ID, TrunkChange(pool=(B.sha256, A.sha256)))
    assert cloud.trunk["certificateIds"] == ["id-of-CERT-B", "id-of-CERT-A"]


async def test_a_pool_that_names_an_unknown_certificate_cannot_be_told(cloud: GenesysDouble) -> None:
    cloud.trunk["certificateIds"].append("id-of-nothing")
    with pytest.raises(UnexpectedAnswer, match="id-of-nothing"):
        await cloud.edge().read_trunk(ID)


@pytest.mark.parametrize(
    ("sips_uri", "canary"),
    [
        ("sip:trunk.example.com:5061", "canary.trunk.example.com"),
        ("sips:trunk.example.com", "canary.trunk.example.com"),
        ("sip:gw@trunk.example.com:5061;transport=tls", "canary.trunk.example.com"),
        ("sip:192.0.2.1:5061", None),
        ("sip:[2001:db8::1]:5061", None),
        ("sip:[2001:db8::1]", None),
    ],
)
async def test_the_canary_name_is_made_from_the_host_of_the_sips_uri(
    sips_uri: str, canary: str | None, cloud: GenesysDouble
) -> None:
    assert Trunk.model_validate({**cloud.trunk, "sipsUri": sips_uri}).canary_name() == canary


async def test_a_trunk_on_an_address_has_no_canary_by_sni(cloud: GenesysDouble) -> None:
    cloud.trunk["sipsUri"] = "sip:192.0.2.1:5061"
    with pytest.raises(CapabilityMissing, match="needs a host name"):
        await cloud.edge().update_trunk(ID, TrunkChange(canary=A.sha256))


@pytest.mark.parametrize("trunk", ["trunk-1", "edge-1/", "/trunk-1", "edge-1/trunk-1/x", "edge 1/trunk-1", ""])
async def test_another_notation_of_a_trunk_is_a_mistake_in_the_plan(trunk: str, cloud: GenesysDouble) -> None:
    edge = cloud.edge()
    with pytest.raises(PlanInvalid, match="<edgeId>/<sipTrunkId>"):
        await edge.read_trunk(trunk)
    with pytest.raises(PlanInvalid):
        edge.physical_trunk(trunk)
    assert cloud.sent == []


async def test_the_physical_trunk_does_not_depend_on_the_profiles_name(cloud: GenesysDouble) -> None:
    assert cloud.edge().physical_trunk(ID) == "api.example.com/edge-1/trunk-1"


async def test_a_trunk_without_its_fields_is_an_unexpected_answer(cloud: GenesysDouble) -> None:
    del cloud.trunk["certificateIds"]
    with pytest.raises(UnexpectedAnswer, match="certificateIds: Field required"):
        await cloud.edge().read_trunk(ID)


async def test_paths_are_settings(cloud: GenesysDouble) -> None:
    edge = cloud.edge(trunk="/api/v3/edges/{edge_id}/trunks/{trunk_id}")
    with pytest.raises(RequestRefused, match=r"/api/v3/edges/edge-1/trunks/trunk-1.*paths of"):
        await edge.read_trunk(ID)
    with pytest.raises(SettingsInvalid, match="use only"):
        await cloud.edge(trunk="/edges/{edge}").read_trunk(ID)


async def test_missing_scopes_are_named(cloud: GenesysDouble) -> None:
    edge = cloud.edge()
    assert await edge.check_access() == ()
    cloud.scope = "admin:api telephony:health:read"
    assert await edge.check_access() == ("telephony:trunk:edit", "platform:certificate:manage")
    assert cloud.logins == 2, "each check logs in: a scope may have been granted since"


async def test_a_wrong_secret_is_refused_and_not_shown(cloud: GenesysDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_GENESYS_SECRET", "wr0ng-s3cret")
    with pytest.raises(CredentialsRefused, match=r"invalid_client: client not known") as raised:
        await cloud.edge().check_access()
    assert "wr0ng" not in str(raised.value)
    monkeypatch.delenv("TEST_GENESYS_SECRET")
    with pytest.raises(SettingsInvalid, match=r"platforms\.eu\.client_secret"):
        await cloud.edge().check_access()


async def test_an_expired_token_is_renewed_once_within_the_same_call(cloud: GenesysDouble) -> None:
    edge = cloud.edge()
    await edge.read_trunk(ID)
    cloud.revoke_tokens()
    await edge.read_trunk(ID)
    assert cloud.logins == 2


@pytest.mark.parametrize(
    ("status", "code", "headers", "expected"),
    [
        (403, "missing.any.permissions", {}, PermissionMissing),
        (429, "too.many.requests.retry.after", {"Retry-After": "3"}, Throttled),
        (503, "service.unavailable", {"Retry-After": "3"}, Throttled),
        (500, "internal.error", {}, ServerFailed),
        (400, "bad.request", {}, RequestRefused),
    ],
)
async def test_a_refusal_carries_method_path_status_and_the_platforms_words(
    status: int, code: str, headers: dict[str, str], expected: type[RotatorError], cloud: GenesysDouble
) -> None:
    refusal = cloud.refuse(status, code, "telephony:trunk:edit is needed")
    refusal.headers.update(headers)
    cloud.instead["GET", TRUNK] = [refusal]
    with pytest.raises(expected) as raised:
        await cloud.edge().read_trunk(ID)
    text = str(raised.value)
    assert f"[platforms.eu] GET https://api.example.com{TRUNK}" in text
    assert f"{status} {code}: telephony:trunk:edit is needed (trace context-1)" in text
    if isinstance(raised.value, Throttled):
        assert raised.value.retry_after_s == 3.0


async def test_capabilities_and_closing(cloud: GenesysDouble) -> None:
    edge = cloud.edge()
    assert (edge.profile, edge.capabilities.canary) == ("eu", Canary.SNI)
    assert edge.capabilities.pool
    assert edge.capabilities.prefer
    assert edge.capabilities.ticket_flush
    await edge.close()
