"""The CXone adapter on its certificate store: the guide's upload, once, and never a key in the open."""

from __future__ import annotations

import logging

import httpx
import pytest

from domain.errors import NotAsWritten, RequestRefused, RotatorError, UnexpectedAnswer, Unreachable
from tests.adapters.cxone_double import CERTIFICATES, CxoneDouble
from tests.adapters.trunk_leaves import key_lines, trunk_leaf

A, B, FOREIGN = trunk_leaf("A"), trunk_leaf("B"), trunk_leaf("foreign")


@pytest.fixture
def tenant(monkeypatch: pytest.MonkeyPatch) -> CxoneDouble:
    """A tenant whose trunk presents A."""
    monkeypatch.setenv("TEST_CXONE_SECRET", "s3cret")
    double = CxoneDouble()
    double.known = (A, B, FOREIGN)
    double.hold(A, "CERT-A", place="primary")
    return double


async def test_an_upload_is_exactly_the_guides_request(tenant: CxoneDouble) -> None:
    stored = await tenant.edge().upload("SIP-TLS-CERT-B-PROD", B.chain_pem, B.private_key)
    (post,) = tenant.requests("POST", CERTIFICATES)
    assert post.path == "/restapi/v1.0/security/certificates"
    assert post.json == {
        "name": "SIP-TLS-CERT-B-PROD",
        "certificateData": B.chain_pem,
        "privateKeyData": B.private_key.get_secret_value(),
        "certificateType": "SIP_TLS",
    }
    assert post.headers["Content-Type"] == "application/json"
    assert (stored.id, stored.sha256, stored.valid) == ("id-of-SIP-TLS-CERT-B-PROD", B.sha256, True)
    assert tenant.sent[-1].path == f"{CERTIFICATES}/{stored.id}", "read back by id"


async def test_a_leaf_that_is_there_is_adopted_whatever_its_name(tenant: CxoneDouble) -> None:
    tenant.hold(B, "BY-HAND")
    assert (await tenant.edge().upload("rotation-b", B.chain_pem, B.private_key)).name == "BY-HAND"
    assert tenant.requests("POST", CERTIFICATES) == []


async def test_a_lost_answer_of_an_upload_leaves_one_certificate(tenant: CxoneDouble) -> None:
    tenant.lose.append(("POST", CERTIFICATES))
    edge = tenant.edge()
    with pytest.raises(Unreachable):
        await edge.upload("rotation-b", B.chain_pem, B.private_key)
    assert (await edge.upload("rotation-b", B.chain_pem, B.private_key)).sha256 == B.sha256
    assert [one["name"] for one in tenant.certificates.values()] == ["CERT-A", "rotation-b"]
    assert len(tenant.requests("POST", CERTIFICATES)) == 1


@pytest.mark.parametrize("ours", [True, False])
async def test_a_duplicate_name_is_looked_up_and_adopted_if_it_is_our_leaf(ours: bool, tenant: CxoneDouble) -> None:
    leaf = B if ours else FOREIGN
    tenant.before["POST", CERTIFICATES] = lambda: tenant.hold(leaf, "rotation-b") and None
    upload = tenant.edge().upload("rotation-b", B.chain_pem, B.private_key)
    if ours:
        stored = await upload
        assert (stored.name, stored.sha256) == ("rotation-b", B.sha256)
    else:
        with pytest.raises(RequestRefused, match="the name rotation-b is taken") as raised:
            await upload
        assert FOREIGN.sha256 in raised.value.seen
    assert len(tenant.certificates) == 2


async def test_a_name_that_another_leaf_has_is_refused_before_anything_is_sent(tenant: CxoneDouble) -> None:
    tenant.hold(FOREIGN, "rotation-b")
    with pytest.raises(RequestRefused, match="the name rotation-b is taken"):
        await tenant.edge().upload("rotation-b", B.chain_pem, B.private_key)
    assert tenant.requests("POST", CERTIFICATES) == []


async def test_a_platform_that_shows_another_leaf_than_was_sent_is_not_believed(tenant: CxoneDouble) -> None:
    tenant.instead["POST", CERTIFICATES] = [httpx.Response(201, json={"certificateId": "id-of-CERT-A"})]
    with pytest.raises(NotAsWritten, match="another leaf"):
        await tenant.edge().upload("rotation-b", B.chain_pem, B.private_key)


async def test_the_leaf_is_read_from_the_pem_when_there_is_no_fingerprint(tenant: CxoneDouble) -> None:
    tenant.show_fingerprint = False
    stored = await tenant.edge().upload("rotation-b", B.chain_pem, B.private_key)
    assert stored.sha256 == B.sha256


async def test_a_certificate_that_the_platform_calls_invalid_is_returned_as_such(tenant: CxoneDouble) -> None:
    tenant.certificates["id-of-CERT-A"] |= {"status": "Invalid", "statusReason": "expired"}
    stored = await tenant.edge().find_certificate(A.sha256)
    assert stored is not None
    assert (stored.valid, stored.reason) == (False, "expired")


async def test_a_valid_upload_of_a_leaf_is_found_before_an_invalid_one(tenant: CxoneDouble) -> None:
    tenant.certificates["id-of-CERT-A"] |= {"status": "Invalid"}
    tenant.hold(A, "CERT-A-AGAIN")
    stored = await tenant.edge().find_certificate(A.sha256)
    assert stored is not None
    assert stored.name == "CERT-A-AGAIN"


async def test_a_listing_with_missing_entries_proves_no_absence(tenant: CxoneDouble) -> None:
    tenant.instead["GET", CERTIFICATES] = [httpx.Response(200, json={"certificates": [], "totalRecords": 1})]
    with pytest.raises(UnexpectedAnswer, match="0 of 1"):
        await tenant.edge().find_certificate(B.sha256)


async def test_deleting_is_repeatable_and_refused_in_use(tenant: CxoneDouble) -> None:
    tenant.hold(B, "CERT-B")
    edge = tenant.edge()
    assert await edge.delete_certificate(B.sha256) is True
    assert await edge.delete_certificate(B.sha256) is False
    with pytest.raises(RequestRefused, match="409 InUse: trunk 4711 names it"):
        await edge.delete_certificate(A.sha256)
    assert list(tenant.certificates) == ["id-of-CERT-A"]


async def test_no_key_leaves_the_upload_in_an_error_a_repr_or_a_log(
    tenant: CxoneDouble, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key, edge = B.private_key.get_secret_value(), tenant.edge()
    told = []
    for answer in (
        httpx.Response(422, json={"error": "InvalidCertificate", "error_description": f"cannot read {key}"}),
        httpx.Response(500, text=key),
        httpx.Response(201, text=key),
    ):
        tenant.instead["POST", CERTIFICATES] = [answer]
        with pytest.raises(RotatorError) as raised:
            await edge.upload("rotation-b", B.chain_pem, B.private_key)
        told += [str(raised.value), repr(raised.value), repr(raised.value.__context__), repr(vars(raised.value))]
    tenant.lose.append(("POST", CERTIFICATES))
    with pytest.raises(Unreachable) as lost:
        await edge.upload("rotation-b", B.chain_pem, B.private_key)
    told += [str(lost.value), repr(lost.value.__context__), repr(edge), caplog.text]
    assert not [line for line in key_lines(B) for text in told if line in text]
    assert "token-1" not in "".join(told)
    assert "s3cret" not in "".join(told)
