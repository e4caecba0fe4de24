"""The lab's PKI is what the guide asks for, and the delivered policy allows the worker's work and nothing beside it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import hvac
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID
from hvac.exceptions import Forbidden

from lab.bao import Bao
from lab.certificate_check import check_complete, check_key, parse_chain
from lab.lab_names import CERTIFICATE_DNS_NAMES, GENESYS_FQDN
from lab.vault_setup import (
    KV_MOUNT,
    PKI_ROLE,
    RETIRING_MOUNT,
    SIGNING_MOUNT,
    TRANSIT_KEY,
    VaultNotFresh,
    set_up,
)
from tests.lab.lab_pki import LabPki

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)


def _signing_request() -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    names = [x509.DNSName(name) for name in CERTIFICATE_DNS_NAMES]
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, GENESYS_FQDN)]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
        .decode()
    )


def _sign(client: hvac.Client, mount: str = SIGNING_MOUNT, verb: str = "sign", **fields: Any) -> dict[str, Any]:
    body = {"csr": _signing_request(), "common_name": GENESYS_FQDN, **fields}
    answer = client.adapter.post(f"/v1/{mount}/{verb}/{PKI_ROLE}", json=body)
    data: dict[str, Any] = answer["data"]
    return data


# The certificates


def test_certificate_a_is_an_rsa_leaf_for_both_uses_in_the_middle_of_its_life(pki: LabPki) -> None:
    leaf = parse_chain(pki.lab.certificate_a.chain_pem).leaf
    now = datetime.now(UTC)
    assert leaf.not_valid_before_utc < now - 59 * DAY
    assert now + 29 * DAY < leaf.not_valid_after_utc < now + 31 * DAY
    key = leaf.public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 2048
    uses = set(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert uses == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == set(CERTIFICATE_DNS_NAMES)
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]


def test_as_chain_is_leaf_and_intermediate_without_the_root_and_the_key_is_as(pki: LabPki) -> None:
    chain = parse_chain(pki.lab.certificate_a.chain_pem)
    assert len(chain.intermediates) == 1
    check_complete(chain, x509.load_pem_x509_certificates(pki.lab.root_pem.encode()))
    check_key(chain, pki.lab.certificate_a.key_pem)
    assert isinstance(load_pem_private_key(pki.lab.certificate_a.key_pem.encode(), None), rsa.RSAPrivateKey)


def test_issuers_are_valid_long_before_any_leaf(pki: LabPki) -> None:
    root, first, second = (
        x509.load_pem_x509_certificate(pem.encode())
        for pem in (pki.lab.root_pem, pki.lab.intermediate_a_pem, pki.lab.intermediate_b_pem)
    )
    leaf = parse_chain(pki.lab.certificate_a.chain_pem).leaf
    for intermediate in (first, second):
        assert root.not_valid_before_utc < intermediate.not_valid_before_utc
        assert intermediate.not_valid_before_utc < leaf.not_valid_before_utc - 30 * DAY
        assert leaf.not_valid_after_utc < intermediate.not_valid_after_utc < root.not_valid_after_utc
    assert first.subject != second.subject


def test_a_signed_request_is_back_dated_and_buffered_by_the_role(pki: LabPki) -> None:
    with pki.rotator() as client:
        data = _sign(client)
    leaf = x509.load_pem_x509_certificate(data["certificate"].encode())
    now = datetime.now(UTC)
    assert abs(leaf.not_valid_before_utc - (now - DAY - 10 * MINUTE)) < MINUTE
    assert abs(leaf.not_valid_after_utc - (now + 90 * DAY + 10 * MINUTE)) < MINUTE


def test_leaves_name_responder_crl_and_issuer(pki: LabPki) -> None:
    leaf = parse_chain(pki.lab.certificate_a.chain_pem).leaf
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    assert {place.access_location.value for place in access} == {
        f"{pki.address}/v1/{RETIRING_MOUNT}/ocsp",
        f"{pki.address}/v1/{RETIRING_MOUNT}/ca",
    }
    assert [name.value for point in points for name in point.full_name or ()] == [
        f"{pki.address}/v1/{RETIRING_MOUNT}/crl"
    ]


def test_a_server_that_is_not_fresh_is_refused(pki: LabPki) -> None:
    with pytest.raises(VaultNotFresh, match="pki_root"):
        set_up(pki.address, pki.root_token, common_name="x", dns_names=["x"], ip_addresses=[])


# The policy


ALLOWED: dict[str, Callable[[hvac.Client], object]] = {
    "read the signing role": lambda c: c.adapter.get(f"/v1/{SIGNING_MOUNT}/roles/{PKI_ROLE}"),
    "sign on the new mount": lambda c: _sign(c),
    "list certificates": lambda c: c.adapter.list(f"/v1/{SIGNING_MOUNT}/certs"),
    "list certificates of the old mount": lambda c: c.adapter.list(f"/v1/{RETIRING_MOUNT}/certs"),
    "list issuers": lambda c: c.adapter.list(f"/v1/{RETIRING_MOUNT}/issuers"),
    "read an issuer": lambda c: c.adapter.get(f"/v1/{RETIRING_MOUNT}/issuer/default"),
    "read an issuer as JSON": lambda c: c.adapter.get(f"/v1/{SIGNING_MOUNT}/issuer/default/json"),
    "read a certificate": lambda c: c.adapter.get(f"/v1/{RETIRING_MOUNT}/cert/ca"),
    "rotate the CRL": lambda c: c.adapter.get(f"/v1/{RETIRING_MOUNT}/crl/rotate"),
    "list custody": lambda c: c.adapter.list(f"/v1/{KV_MOUNT}/metadata/rot"),
    "look itself up": lambda c: c.adapter.get("/v1/auth/token/lookup-self"),
    "renew itself": lambda c: c.adapter.post("/v1/auth/token/renew-self", json={}),
}

DENIED: dict[str, Callable[[hvac.Client], object]] = {
    "sign on the old mount": lambda c: _sign(c, RETIRING_MOUNT),
    "have a key made": lambda c: _sign(c, verb="issue"),
    "sign without a role": lambda c: _sign(c, verb="sign-verbatim"),
    "use another role": lambda c: c.adapter.post(f"/v1/{SIGNING_MOUNT}/sign/other", json={}),
    "write a role": lambda c: c.adapter.post(f"/v1/{SIGNING_MOUNT}/roles/{PKI_ROLE}", json={}),
    "delete a role": lambda c: c.adapter.delete(f"/v1/{SIGNING_MOUNT}/roles/{PKI_ROLE}"),
    "configure the mount": lambda c: c.adapter.post(f"/v1/{SIGNING_MOUNT}/config/urls", json={}),
    "change an issuer": lambda c: c.adapter.post(f"/v1/{SIGNING_MOUNT}/issuer/default", json={}),
    "make a root": lambda c: c.adapter.post("/v1/pki_root/root/generate/internal", json={}),
    "sign an intermediate": lambda c: c.adapter.post("/v1/pki_root/root/sign-intermediate", json={}),
    "read other secrets": lambda c: c.adapter.get(f"/v1/{KV_MOUNT}/data/other"),
    "delete a version": lambda c: c.adapter.delete(f"/v1/{KV_MOUNT}/data/rot/run/key"),
    "export the transit key": lambda c: c.adapter.get(f"/v1/transit/export/encryption-key/{TRANSIT_KEY}"),
    "read the transit key": lambda c: c.adapter.get(f"/v1/transit/keys/{TRANSIT_KEY}"),
    "use another transit key": lambda c: c.adapter.post("/v1/transit/encrypt/other", json={"plaintext": ""}),
    "make a token": lambda c: c.adapter.post("/v1/auth/token/create", json={}),
    "read policies": lambda c: c.adapter.get("/v1/sys/policies/acl/sip-rotator"),
    "list mounts": lambda c: c.adapter.get("/v1/sys/mounts"),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_the_worker_may(pki: LabPki, what: str) -> None:
    if what == "list custody":
        with pki.rotator() as client:
            client.adapter.post(f"/v1/{KV_MOUNT}/data/rot/some/key", json={"data": {"k": "v"}})
    with pki.rotator() as client:
        ALLOWED[what](client)


@pytest.mark.parametrize("what", DENIED)
def test_the_worker_may_not(pki: LabPki, what: str) -> None:
    with pki.rotator() as client, pytest.raises(Forbidden):
        DENIED[what](client)


def test_the_worker_keeps_a_key_in_custody_and_destroys_it(pki: LabPki) -> None:
    with pki.rotator() as client:
        sealed = client.adapter.post(f"/v1/transit/encrypt/{TRANSIT_KEY}", json={"plaintext": "a2V5"})
        path = f"/v1/{KV_MOUNT}/data/rot/custody-test/key"
        entry = {"data": {"key": sealed["data"]["ciphertext"]}, "options": {"cas": 0}}
        client.adapter.post(path, json=entry)
        with pytest.raises(hvac.exceptions.InvalidRequest, match="check-and-set"):
            client.adapter.post(path, json=entry)
        kept = client.adapter.get(path)["data"]["data"]["key"]
        opened = client.adapter.post(f"/v1/transit/decrypt/{TRANSIT_KEY}", json={"ciphertext": kept})
        assert opened["data"]["plaintext"] == "a2V5"
        client.adapter.delete(f"/v1/{KV_MOUNT}/metadata/rot/custody-test/key")
        with pytest.raises(hvac.exceptions.InvalidPath):
            client.adapter.get(path)


@pytest.mark.parametrize("mount", [RETIRING_MOUNT, SIGNING_MOUNT])
def test_the_worker_revokes_on_both_mounts_and_the_crl_shows_it(pki: LabPki, mount: str) -> None:
    chain = parse_chain(pki.issue(mount).chain_pem)
    serial = f"{chain.leaf.serial_number:040x}"
    colons = ":".join(serial[index : index + 2] for index in range(0, 40, 2))
    with pki.rotator() as client:
        client.adapter.post(f"/v1/{mount}/revoke", json={"serial_number": colons})
        client.adapter.get(f"/v1/{mount}/crl/rotate")
        crl_pem = client.session.get(f"{pki.address}/v1/{mount}/crl/pem").content
    crl = x509.load_pem_x509_crl(crl_pem)
    assert crl.get_revoked_certificate_by_serial_number(chain.leaf.serial_number) is not None


# The server


def test_bao_is_gone_after_stop_and_leaves_no_token_behind(tmp_path: Path) -> None:
    with Bao(tmp_path) as bao:
        pid = bao.pid
        assert pid is not None
        assert bao.root_token not in repr(bao)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    written = {path.name: path.read_text() for path in tmp_path.rglob("*") if path.is_file()}
    assert set(written) == {"bao.log"}
    assert bao.root_token not in written["bao.log"]


def test_bao_that_was_killed_is_no_trouble_at_stop(tmp_path: Path) -> None:
    with Bao(tmp_path) as bao:
        assert bao.pid is not None
        os.kill(bao.pid, signal.SIGKILL)
    assert bao.pid is None


def test_nothing_that_is_printed_shows_a_key(pki: LabPki) -> None:
    shown = repr(pki) + repr(pki.lab) + repr(pki.lab.certificate_a)
    assert "PRIVATE" not in shown
    assert pki.lab.secret_id not in shown
    assert pki.root_token not in shown
