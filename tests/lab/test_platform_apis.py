"""Both platform stand-ins refuse whatever docs/platform-contract.md does not allow, each in its own words."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from lab.carrier_ca import CarrierCa
from lab.tokens import CERTIFICATE_SCOPE, HEALTH_SCOPE, SCOPES, TRUNK_SCOPE, ApiClient
from lab.vault_setup import IssuedCertificate
from tests.lab.lab_pki import LabPki
from tests.lab.platform_kit import FULL, Cxone, Genesys, PlatformUnderTest

END = "-----END CERTIFICATE-----\n"


# Logging in


async def test_genesys_gives_a_token_with_the_guides_four_scopes_for_client_credentials(genesys: Genesys) -> None:
    answer = await genesys.log_in(FULL)
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "scope"}
    assert body["token_type"] == "bearer"
    assert body["scope"] == ("telephony:trunk:edit platform:certificate:manage admin:api telephony:health:read")
    assert (await genesys.send("GET", genesys.trunk_path, token=body["access_token"])).status_code == 200


async def test_cxone_gives_a_token_for_an_access_key(cxone: Cxone) -> None:
    body = (await cxone.log_in(FULL)).json()
    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
    assert body["scope"].split() == list(SCOPES)
    assert (await cxone.send("GET", cxone.trunk_path, token=body["access_token"])).status_code == 200


async def test_wrong_secrets_get_no_token(genesys: Genesys, cxone: Cxone) -> None:
    answer = await genesys.log_in(ApiClient("rotator", "wrong"))
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    cxone.assert_refused(await cxone.log_in(ApiClient("rotator", "wrong")), "login")


@pytest.mark.parametrize(
    ("authorization", "form"),
    [
        ("", "grant_type=client_credentials"),
        ("Basic not-base64", "grant_type=client_credentials"),
        ("Basic {good}", "grant_type=password"),
        ("Basic {good}", "grant_type=client_credentials&scope=admin"),
        ("Basic {good}", ""),
    ],
)
async def test_genesys_refuses_a_malformed_token_request(genesys: Genesys, authorization: str, form: str) -> None:
    good = base64.b64encode(f"{FULL.id}:{FULL.secret}".encode()).decode()
    headers = {"Authorization": authorization.format(good=good)}
    answer = await genesys.http.post("/oauth/token", content=form, headers=headers)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_client")


async def test_a_token_expires_after_its_lifetime_and_when_all_are_expired(platform: PlatformUnderTest) -> None:
    platform.tokens.lifetime_s = 0
    spent = platform.tokens.issue(FULL)
    platform.assert_refused(await platform.send("GET", platform.trunk_path, token=spent), "token")
    assert (await platform.send("GET", platform.trunk_path)).status_code == 200
    platform.tokens.expire_all()
    platform.assert_refused(await platform.send("GET", platform.trunk_path), "token")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic abc"}, {"Authorization": "Bearer nonsense"}])
async def test_without_a_good_bearer_token_nothing_is_answered(
    platform: PlatformUnderTest, headers: dict[str, str]
) -> None:
    platform.assert_refused(await platform.http.get(platform.certificates, headers=headers), "token")


async def test_every_request_needs_its_scope_and_the_refusal_names_it(platform: PlatformUnderTest) -> None:
    needed = {
        platform.certificates: CERTIFICATE_SCOPE,
        platform.certificates + "/x": CERTIFICATE_SCOPE,
        platform.trunk_path: TRUNK_SCOPE,
        platform.health_path: HEALTH_SCOPE,
        platform.metrics_path: HEALTH_SCOPE,
    }
    for path, scope in needed.items():
        others = platform.token_with(*(one for one in SCOPES if one != scope))
        answer = await platform.send("GET", path, token=others)
        platform.assert_refused(answer, "scope")
        assert scope in answer.text


# Strictness


async def test_unknown_query_parameters_bodies_and_paths_are_refused(platform: PlatformUnderTest) -> None:
    for path in (platform.certificates, platform.trunk_path, platform.health_path, platform.metrics_path):
        platform.assert_refused(await platform.send("GET", f"{path}?verbose=1"), "bad request")
        platform.assert_refused(await platform.send("GET", path, {}), "bad request")
    platform.assert_refused(await platform.send("GET", f"{platform.certificates}?name=a&name=b"), "bad request")
    platform.assert_refused(await platform.send("GET", "/api/v2/users"), "not found")
    assert (await platform.send("PATCH", platform.trunk_path, {})).status_code == 405


async def test_a_body_that_is_not_one_json_object_is_refused(platform: PlatformUnderTest) -> None:
    headers = {"Authorization": f"Bearer {platform.token}", "Content-Type": "application/json"}
    for content in ("", "nonsense", "[]", '{"name": "a", "name": "b"}'):
        answer = await platform.http.request(
            platform.upload_method, platform.certificates, content=content, headers=headers
        )
        platform.assert_refused(answer, "bad request")
    plain = {**headers, "Content-Type": "text/plain"}
    answer = await platform.http.post(platform.flush_path, content="{}", headers=plain)
    platform.assert_refused(answer, "bad request")


async def test_flush_takes_an_empty_object_and_nothing_else(platform: PlatformUnderTest) -> None:
    flushed = await platform.send("POST", platform.flush_path, {})
    assert flushed.status_code == 200
    assert set(flushed.json()) == {"flushedAt"}
    platform.assert_refused(await platform.send("POST", platform.flush_path, {"all": True}), "bad request")
    platform.assert_refused(await platform.send("POST", platform.flush_path), "bad request")


@pytest.mark.parametrize("size", ["0", "101", "-1", "ten", "1.5", ""])
async def test_genesys_pages_have_a_size_from_1_to_100(genesys: Genesys, size: str) -> None:
    genesys.assert_refused(await genesys.send("GET", f"{genesys.certificates}?pageSize={size}"), "bad request")


async def test_genesys_lists_certificates_page_by_page(genesys: Genesys, pki: LabPki) -> None:
    certificate = pki.issue()
    for number in range(3):
        await genesys.uploaded(certificate, f"CERT-{number}")
    first = (await genesys.send("GET", f"{genesys.certificates}?pageSize=3&pageNumber=1")).json()
    last = (await genesys.send("GET", f"{genesys.certificates}?pageSize=3&pageNumber=2")).json()
    assert (first["total"], first["pageCount"], len(first["entities"]), len(last["entities"])) == (4, 2, 3, 1)
    one = (await genesys.send("GET", f"{genesys.certificates}?name=CERT-1")).json()
    assert [entity["name"] for entity in one["entities"]] == ["CERT-1"]


# Uploads


async def test_an_uploaded_certificate_is_shown_without_its_key(platform: PlatformUnderTest, pki: LabPki) -> None:
    certificate = pki.issue()
    answer = await platform.upload(platform.upload_body(certificate))
    shown = answer.json()
    assert answer.status_code == (200 if isinstance(platform, Genesys) else 201)
    assert shown[platform.chain_field] == certificate.chain_pem
    assert shown.get("state", shown.get("status")) in ("VALID", "Active")
    fetched = await platform.send("GET", f"{platform.certificates}/{shown[platform.id_field]}")
    assert fetched.json() == shown
    listed = await platform.send("GET", f"{platform.certificates}?name=CERT-B")
    assert shown in listed.json().get("entities", listed.json().get("certificates"))
    for text in (answer.text, fetched.text, listed.text):
        assert "PRIVATE" not in text
        assert certificate.key_pem.splitlines()[1] not in text


def _without_intermediate(body: dict[str, Any], platform: PlatformUnderTest) -> None:
    body[platform.chain_field] = body[platform.chain_field].split(END)[0] + END


def _reversed(body: dict[str, Any], platform: PlatformUnderTest) -> None:
    leaf, intermediate, _ = body[platform.chain_field].split(END)
    body[platform.chain_field] = intermediate + END + leaf + END


def _key(change: Callable[[str], str]) -> Callable[[dict[str, Any], PlatformUnderTest], None]:
    def apply(body: dict[str, Any], platform: PlatformUnderTest) -> None:
        body[platform.key_field] = change(body[platform.key_field])

    return apply


def _chain(change: Callable[[str], str]) -> Callable[[dict[str, Any], PlatformUnderTest], None]:
    def apply(body: dict[str, Any], platform: PlatformUnderTest) -> None:
        body[platform.chain_field] = change(body[platform.chain_field])

    return apply


def _encrypted(key_pem: str) -> str:
    key = load_pem_private_key(key_pem.encode(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")).decode()


def _pkcs1(key_pem: str) -> str:
    key = load_pem_private_key(key_pem.encode(), None)
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


REFUSED_UPLOADS: dict[str, tuple[Callable[[dict[str, Any], PlatformUnderTest], None], str]] = {
    "the leaf alone": (_without_intermediate, "chain"),
    "the intermediate before the leaf": (_reversed, "chain"),
    "no certificate at all": (_chain(lambda chain: "nonsense"), "invalid"),
    "text between the certificates": (_chain(lambda chain: chain.replace(END, END + "hello\n")), "invalid"),
    "a broken certificate": (_chain(lambda chain: chain.replace("MII", "AAA")), "invalid"),
    "the leaf twice": (_chain(lambda chain: chain.split(END)[0] + END + chain), "invalid"),
    "an encrypted key": (_key(_encrypted), "invalid"),
    "a key that is not PKCS#8": (_key(_pkcs1), "invalid"),
    "two keys": (_key(lambda key: key + key), "invalid"),
    "a key with a certificate": (_key(lambda key: key + "-----BEGIN CERTIFICATE-----\nAAAA\n" + END), "invalid"),
    "an empty key": (_key(lambda key: " "), "invalid"),
}


@pytest.mark.parametrize("what", REFUSED_UPLOADS)
async def test_a_bad_upload_is_refused_and_leaves_nothing(platform: PlatformUnderTest, pki: LabPki, what: str) -> None:
    change, refusal = REFUSED_UPLOADS[what]
    body = platform.upload_body(pki.issue())
    key_line = body[platform.key_field].splitlines()[1]
    change(body, platform)
    answer = await platform.upload(body)
    platform.assert_refused(answer, refusal)
    assert key_line not in answer.text
    listed = (await platform.send("GET", f"{platform.certificates}?name=CERT-B")).json()
    assert listed.get("total", listed.get("totalRecords")) == 0


async def test_an_upload_with_a_root_or_with_another_leafs_key_is_refused(
    platform: PlatformUnderTest, pki: LabPki
) -> None:
    body = platform.upload_body(pki.issue())
    with_root = {**body, platform.chain_field: body[platform.chain_field] + pki.lab.root_pem}
    platform.assert_refused(await platform.upload(with_root), "invalid")
    other_key = {**body, platform.key_field: pki.issue().key_pem}
    platform.assert_refused(await platform.upload(other_key), "key")


async def test_a_chain_that_leads_to_another_root_is_refused(platform: PlatformUnderTest) -> None:
    stranger = CarrierCa().issue("trunk.genesys.lab.example")
    answer = await platform.upload(platform.upload_body(IssuedCertificate(stranger.certificate_pem, stranger.key_pem)))
    platform.assert_refused(answer, "chain")


async def test_an_upload_with_unknown_missing_or_wrong_fields_is_refused(
    platform: PlatformUnderTest, pki: LabPki
) -> None:
    body = platform.upload_body(pki.issue())
    wrong: list[dict[str, Any]] = [{**body, "comment": "x"}, {**body, "name": 1}, {**body, "name": ""}]
    wrong += [{field: value for field, value in body.items() if field != name} for name in body if name != "passphrase"]
    wrong += [{**body, "type": "TLS_CLIENT"}] if isinstance(platform, Genesys) else [{**body, "certificateType": "TLS"}]
    wrong += [{**body, "passphrase": "secret"}]
    for one in wrong:
        platform.assert_refused(await platform.upload(one), "bad request")


async def test_genesys_answers_the_same_upload_with_the_same_object(genesys: Genesys, pki: LabPki) -> None:
    body = genesys.upload_body(pki.issue())
    first, again = await genesys.upload(body), await genesys.upload(body)
    assert (again.status_code, again.json()) == (200, first.json())
    genesys.assert_refused(await genesys.upload(genesys.upload_body(pki.issue())), "name")


async def test_cxone_refuses_a_name_that_exists_whatever_its_content(cxone: Cxone, pki: LabPki) -> None:
    body = cxone.upload_body(pki.issue())
    assert (await cxone.upload(body)).status_code == 201
    cxone.assert_refused(await cxone.upload(body), "name")


async def test_an_expired_certificate_is_kept_and_called_invalid(platform: PlatformUnderTest, pki: LabPki) -> None:
    expired = pki.issue(in_use_since=timedelta(days=1), remains=timedelta(seconds=1))
    certificate_id = await platform.uploaded(expired)

    async def reason() -> str | None:
        shown = (await platform.send("GET", f"{platform.certificates}/{certificate_id}")).json()
        problem: str | None = shown.get("stateReason") or shown.get("statusReason")
        return problem

    while (seen := await reason()) is None:
        pass
    assert seen == "expired"


async def test_a_certificate_is_deleted_once_and_never_while_a_trunk_names_it(
    platform: PlatformUnderTest, pki: LabPki
) -> None:
    certificate_id = await platform.uploaded(pki.issue())
    a = platform.trunk.pool[0].id
    assert (await platform.send("DELETE", f"{platform.certificates}/{certificate_id}")).status_code == 204
    platform.assert_refused(await platform.send("DELETE", f"{platform.certificates}/{certificate_id}"), "not found")
    platform.assert_refused(await platform.send("GET", f"{platform.certificates}/{certificate_id}"), "not found")
    platform.assert_refused(await platform.send("DELETE", f"{platform.certificates}/{a}"), "in use")


async def test_the_request_log_holds_methods_paths_and_answers_and_no_bodies(
    platform: PlatformUnderTest, pki: LabPki
) -> None:
    body = platform.upload_body(pki.issue())
    await platform.upload(body)
    await platform.send("GET", platform.trunk_path, token="wrong")
    seen = [(one.method, one.path, one.status) for one in platform.log.entries]
    assert seen[0][:2] == (platform.upload_method, platform.certificates)
    assert seen[1] == ("GET", platform.trunk_path, 401)
    assert json.dumps(body[platform.key_field])[1:40] not in repr(list(platform.log.entries))
