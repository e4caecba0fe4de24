"""The Genesys Cloud adapter on its certificate store: the guide's registration, once, and never a key in the open."""

from __future__ import annotations

import logging

import httpx
import pytest

from adapters.edges.genesys import GenesysEdge
from domain.errors import (
    NotAsWritten,
    RequestRefused,
    RotatorError,
    UnexpectedAnswer,
    Unreachable,
)
from tests.adapters.genesys_double import CERTIFICATES, EDGE, GenesysDouble
from tests.adapters.trunk_leaves import key_lines, trunk_leaf

A, B, FOREIGN = trunk_leaf("A"), trunk_leaf("B"), trunk_leaf("foreign")
ID = "edge-1/trunk-1"


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> GenesysDouble:
    """An organisation whose trunk presents A."""
    monkeypatch.setenv("TEST_GENESYS_SECRET", "s3cret")
    double = GenesysDouble()
    double.known = (A, B, FOREIGN)
    double.hold(A, "CERT-A", bound=True)
    return double


async def test_an_upload_is_exactly_the_guides_registration(cloud: GenesysDouble) -> None:
    stored = await cloud.edge().upload("SIP-TRUNK-CERT-B-2024", B.chain_pem, B.private_key)
    (put,) = cloud.requests("PUT")
    assert put.path == "/api/v2/platform/certificates"
    assert put.json == {
        "name": "SIP-TRUNK-CERT-B-2024",
        "type": "TLS_SERVER",
        "certificate": B.chain_pem,
        "privateKey": B.private_key.get_secret_value(),
        "passphrase": None,
    }
    assert put.headers["Content-Type"] == "application/json"
    assert put.headers["Authorization"] == "Bearer token-1"
    assert (stored.id, stored.name, stored.sha256, stored.valid) == (
        "id-of-SIP-TRUNK-CERT-B-2024",
        "SIP-TRUNK-CERT-B-2024",
        B.sha256,
        True,
    )
    assert cloud.sent[-1].path == f"{CERTIFICATES}/{stored.id}", "read back by id"


async def test_a_leaf_that_is_there_is_adopted_whatever_its_name(cloud: GenesysDouble) -> None:
    cloud.hold(B, "BY-HAND")
    stored = await cloud.edge().upload("rotation-b", B.chain_pem, B.private_key)
    assert stored.name == "BY-HAND"
    assert cloud.requests("PUT") == []


async def test_a_lost_answer_of_an_upload_leaves_one_certificate(cloud: GenesysDouble) -> None:
    cloud.lose.append(("PUT", CERTIFICATES))
    edge = cloud.edge()
    with pytest.raises(Unreachable):
        await edge.upload("rotation-b", B.chain_pem, B.private_key)
    stored = await edge.upload("rotation-b", B.chain_pem, B.private_key)
    assert stored.sha256 == B.sha256
    assert [one["name"] for one in cloud.certificates.values()] == ["CERT-A", "rotation-b"]
    assert len(cloud.requests("PUT")) == 1


async def test_a_name_that_another_leaf_has_is_refused_before_anything_is_sent(cloud: GenesysDouble) -> None:
    cloud.hold(FOREIGN, "rotation-b")
    with pytest.raises(RequestRefused, match="the name rotation-b is taken") as raised:
        await cloud.edge().upload("rotation-b", B.chain_pem, B.private_key)
    assert FOREIGN.sha256 in raised.value.seen
    assert cloud.requests("PUT") == []


@pytest.mark.parametrize("ours", [True, False])
async def test_a_name_that_is_taken_between_look_and_upload_is_looked_at_again(
    ours: bool, cloud: GenesysDouble
) -> None:
    leaf = B if ours else FOREIGN
    cloud.before["PUT", CERTIFICATES] = lambda: cloud.hold(leaf, "rotation-b") and None
    cloud.instead["PUT", CERTIFICATES] = [cloud.refuse(409, "certificate.name.conflict", "the name is taken")]
    upload = cloud.edge().upload("rotation-b", B.chain_pem, B.private_key)
    if ours:
        assert (await upload).sha256 == B.sha256
    else:
        with pytest.raises(RequestRefused, match="the name rotation-b is taken"):
            await upload


async def test_a_conflict_that_the_store_does_not_explain_is_refused(cloud: GenesysDouble) -> None:
    cloud.instead["PUT", CERTIFICATES] = [cloud.refuse(409, "certificate.name.conflict")]
    with pytest.raises(RequestRefused, match="does not show by what"):
        await cloud.edge().upload("rotation-b", B.chain_pem, B.private_key)


async def test_a_platform_that_shows_another_leaf_than_was_sent_is_not_believed(cloud: GenesysDouble) -> None:
    cloud.instead["PUT", CERTIFICATES] = [httpx.Response(200, json={"id": "id-of-CERT-A"})]
    with pytest.raises(NotAsWritten, match="another leaf"):
        await cloud.edge().upload("rotation-b", B.chain_pem, B.private_key)


async def test_a_chain_without_a_certificate_is_not_sent(cloud: GenesysDouble) -> None:
    with pytest.raises(RequestRefused, match="holds no certificate"):
        await cloud.edge().upload("rotation-b", "nothing", B.private_key)
    assert cloud.sent == []


async def test_a_certificate_that_the_platform_calls_invalid_is_returned_as_such(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B")
    cloud.certificates["id-of-CERT-B"] |= {"state": "INVALID", "stateReason": "chain incomplete"}
    stored = await cloud.edge().find_certificate(B.sha256)
    assert stored is not None
    assert (stored.valid, stored.reason) == (False, "chain incomplete")


async def test_the_leaf_is_read_from_the_pem_when_there_is_no_fingerprint(cloud: GenesysDouble) -> None:
    cloud.show_fingerprint = False
    edge = cloud.edge()
    stored = await edge.upload("rotation-b", B.chain_pem, B.private_key)
    assert stored.sha256 == B.sha256
    assert (await edge.read_trunk(ID)).pool == (A.sha256,)
    cloud.certificates["id-of-rotation-b"]["sha256Fingerprint"] = B.sha256.upper()
    cloud.show_fingerprint = True
    assert await edge.find_certificate(B.sha256) is not None


async def test_a_foreign_entry_without_a_readable_leaf_stands_in_nobodys_way(cloud: GenesysDouble) -> None:
    cloud.hold(FOREIGN, "ODD")
    cloud.certificates["id-of-ODD"] |= {"certificate": "not a PEM", "sha256Fingerprint": None}
    edge = cloud.edge()
    assert (await edge.read_trunk(ID)).pool == (A.sha256,)
    assert await edge.find_certificate(FOREIGN.sha256) is None


async def test_all_pages_of_the_store_are_read(cloud: GenesysDouble) -> None:
    cloud.page_size = 2
    for number in range(4):
        cloud.hold(FOREIGN, f"OTHER-{number}")
    cloud.hold(B, "CERT-B")
    assert await cloud.edge().find_certificate(B.sha256) is not None
    assert [one.query for one in cloud.requests("GET", CERTIFICATES)] == [
        {"pageSize": "100", "pageNumber": str(number)} for number in (1, 2, 3)
    ]


async def test_a_listing_with_missing_entries_proves_no_absence(cloud: GenesysDouble) -> None:
    short = {"entities": [], "pageSize": 100, "pageNumber": 1, "total": 3, "pageCount": 1}
    cloud.instead["GET", CERTIFICATES] = [httpx.Response(200, json=short)]
    with pytest.raises(UnexpectedAnswer, match="0 of 3"):
        await cloud.edge().find_certificate(B.sha256)


async def test_an_empty_store_is_an_answer(cloud: GenesysDouble) -> None:
    cloud.certificates.clear()
    assert await cloud.edge().find_certificate(B.sha256) is None


async def test_deleting_takes_every_upload_of_the_leaf_and_is_repeatable(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B")
    cloud.hold(B, "CERT-B-AGAIN")
    edge = cloud.edge()
    assert await edge.delete_certificate(B.sha256) is True
    assert await edge.delete_certificate(B.sha256) is False
    assert list(cloud.certificates) == ["id-of-CERT-A"]


async def test_a_certificate_in_use_is_not_deleted(cloud: GenesysDouble) -> None:
    with pytest.raises(RequestRefused, match=r"in use.*409 certificate\.in\.use: trunk-1 names it"):
        await cloud.edge().delete_certificate(A.sha256)
    assert "id-of-CERT-A" in cloud.certificates


async def test_a_lost_answer_of_a_delete_is_found_done(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B")
    cloud.lose.append(("DELETE", f"{CERTIFICATES}/id-of-CERT-B"))
    edge = cloud.edge()
    with pytest.raises(Unreachable):
        await edge.delete_certificate(B.sha256)
    assert await edge.delete_certificate(B.sha256) is False


async def test_a_certificate_that_somebody_else_deletes_first_is_no_failure(cloud: GenesysDouble) -> None:
    cloud.hold(B, "CERT-B")
    path = f"{CERTIFICATES}/id-of-CERT-B"
    cloud.before["DELETE", path] = lambda: cloud.certificates.pop("id-of-CERT-B") and None
    assert await cloud.edge().delete_certificate(B.sha256) is False


async def test_trunks_that_present_a_certificate_are_found_on_every_edge_that_was_read(cloud: GenesysDouble) -> None:
    edge = cloud.edge()
    assert await edge.trunks_presenting(A.sha256) == (), "no edge is known yet"
    await edge.read_trunk(ID)
    assert await edge.trunks_presenting(A.sha256) == (ID,)
    assert await edge.trunks_presenting(B.sha256) == ()


async def test_an_edge_that_does_not_exist_is_not_asked_later(cloud: GenesysDouble) -> None:
    edge = cloud.edge()
    with pytest.raises(RequestRefused):
        await edge.read_trunk("edge-9/trunk-1")
    await edge.read_trunk(ID)
    assert await edge.trunks_presenting(A.sha256) == (ID,)


async def test_an_incomplete_list_of_trunks_proves_nothing(cloud: GenesysDouble) -> None:
    edge = cloud.edge()
    await edge.read_trunk(ID)
    cloud.instead["GET", f"{EDGE}/siptrunks"] = [httpx.Response(200, json={"entities": [], "total": 2})]
    with pytest.raises(UnexpectedAnswer, match="0 of 2"):
        await edge.trunks_presenting(A.sha256)


async def test_no_key_leaves_the_upload_in_an_error_a_repr_or_a_log(
    cloud: GenesysDouble, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = B.private_key.get_secret_value()
    edge: GenesysEdge = cloud.edge()
    told = []
    for answer in (
        httpx.Response(400, json={"message": f"cannot read {key}", "code": "certificate.invalid"}),
        httpx.Response(500, text=key),
        httpx.Response(200, text=key),
        httpx.Response(200, json={"id": None, "name": key}),
    ):
        cloud.instead["PUT", CERTIFICATES] = [answer]
        with pytest.raises(RotatorError) as raised:
            await edge.upload("rotation-b", B.chain_pem, B.private_key)
        told += [str(raised.value), repr(raised.value), repr(raised.value.__context__), repr(vars(raised.value))]
    cloud.lose.append(("PUT", CERTIFICATES))
    with pytest.raises(Unreachable) as lost:
        await edge.upload("rotation-b", B.chain_pem, B.private_key)
    told += [str(lost.value), repr(lost.value.__context__), repr(edge), caplog.text]
    assert not [line for line in key_lines(B) for text in told if line in text]
    assert "token-1" not in "".join(told)
    assert "s3cret" not in "".join(told)
