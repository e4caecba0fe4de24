"""Key custody in a real OpenBao: one key per run, one chain per run, nothing readable, nothing left behind."""

from __future__ import annotations

import asyncio
import itertools
import logging
import traceback
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr

from adapters.keys import key_material
from adapters.keys.vault_kv import VaultKvCustodian
from domain.certificates import public_key_sha256
from domain.errors import PermissionMissing, RequestRefused, RotatorError, UnexpectedAnswer
from domain.plan import KeyType
from lab import vault_setup
from tests.adapters.real_bao import NAME, RealBao

_numbers = itertools.count(1)


def fresh_run() -> str:
    return f"rotation-kv/{next(_numbers):012x}"


async def csr(custodian: VaultKvCustodian, run: str, key_type: KeyType = KeyType.EC_P256, name: str = NAME) -> str:
    return await custodian.csr(
        run,
        key_type=key_type,
        common_name=name,
        dns_names=[name, f"b.{NAME}"],
        ip_addresses=["192.0.2.7", "2001:db8::7"],
    )


def spki(csr_pem: str) -> str:
    return public_key_sha256(x509.load_pem_x509_csr(csr_pem.encode()).public_key())


def raw_entry(vault: RealBao, run: str, name: str) -> dict[str, Any]:
    found = vault.request("get", f"{vault_setup.KV_MOUNT}/data/rot/{run}/{name}")
    return dict(found["data"]["data"])


async def test_the_runs_that_have_a_key_are_listed(vault: RealBao) -> None:
    custodian = vault.custodian()
    for run in ("plan-000000000001", "plan-000000000002"):
        await csr(custodian, run)
    assert {"plan-000000000001", "plan-000000000002"} <= set(await custodian.runs())
    await custodian.destroy("plan-000000000001")
    assert "plan-000000000001" not in await custodian.runs()


@pytest.mark.parametrize("key_type", list(KeyType))
async def test_a_csr_is_over_a_key_of_the_type_asked_for_with_every_name(vault: RealBao, key_type: KeyType) -> None:
    custodian, run = vault.custodian(), fresh_run()
    request = x509.load_pem_x509_csr((await csr(custodian, run, key_type)).encode())
    key = await custodian.private_key(run)
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert request.is_signature_valid
    assert request.subject.rfc4514_string() == f"CN={NAME}"
    assert names.get_values_for_type(x509.DNSName) == [NAME, f"b.{NAME}"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7", "2001:db8::7"]
    assert key_material.type_of(key) is key_type
    assert key_material.spki_of(key) == public_key_sha256(request.public_key())


async def test_the_key_leaves_custody_as_unencrypted_pkcs8_in_a_secret(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    await csr(custodian, run)
    key = await custodian.private_key(run)
    assert key.get_secret_value().startswith("-----BEGIN PRIVATE KEY-----\n")
    assert load_pem_private_key(key.get_secret_value().encode(), None) is not None
    assert "PRIVATE" not in repr(key)


async def test_of_sixteen_concurrent_makers_one_key_wins(vault: RealBao) -> None:
    custodians, run = [vault.custodian() for _ in range(4)], fresh_run()
    requests = await asyncio.gather(*(csr(custodian, run) for custodian in custodians * 4))
    assert {spki(request) for request in requests} == {await custodians[0].public_key_sha256(run)}


async def test_a_second_csr_of_a_run_is_over_the_same_key_and_another_runs_is_not(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    assert spki(await csr(custodian, run)) == spki(await csr(custodian, run))
    assert spki(await csr(custodian, run)) != spki(await csr(custodian, fresh_run()))


async def test_of_concurrent_writers_the_first_chain_is_kept_and_all_are_told(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    kept = await asyncio.gather(*(custodian.keep_chain(run, f"chain {number}") for number in range(12)))
    assert len(set(kept)) == 1
    assert await custodian.chain(run) == kept[0]
    assert await custodian.keep_chain(run, "a late one") == kept[0]


async def test_a_run_without_key_and_chain_has_none(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    assert await custodian.chain(run) is None
    assert await custodian.public_key_sha256(run) is None
    with pytest.raises(RequestRefused, match=f"no key for this run|{run}"):
        await custodian.private_key(run)


async def test_what_is_stored_is_ciphertext(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    await csr(custodian, run)
    entry = raw_entry(vault, run, "key")
    assert set(entry) == {"ciphertext", "spki_sha256"}
    assert entry["ciphertext"].startswith("vault:v1:")
    assert entry["spki_sha256"] == await custodian.public_key_sha256(run)


async def test_a_key_is_readable_after_the_transit_key_was_rotated_and_the_entry_rewrapped(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    before = spki(await csr(custodian, run))
    vault.request("post", f"transit/keys/{vault_setup.TRANSIT_KEY}/rotate", {})
    entry = raw_entry(vault, run, "key")
    rewrapped = vault.request("post", f"transit/rewrap/{vault_setup.TRANSIT_KEY}", {"ciphertext": entry["ciphertext"]})[
        "data"
    ]["ciphertext"]
    assert not rewrapped.startswith("vault:v1:")
    path = f"{vault_setup.KV_MOUNT}/data/rot/{run}/key"
    vault.request("post", path, {"data": {**entry, "ciphertext": rewrapped}})
    assert key_material.spki_of(await custodian.private_key(run)) == before


async def test_destroyed_means_key_chain_and_every_version_are_gone(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    await csr(custodian, run)
    await custodian.keep_chain(run, "chain")
    assert await custodian.destroy(run) is True
    for name in ("key", "cert"):
        assert vault.request("get", f"{vault_setup.KV_MOUNT}/metadata/rot/{run}/{name}") is None
    assert await custodian.destroy(run) is False
    assert await custodian.chain(run) is None


async def test_a_half_destroyed_run_is_destroyed_by_the_next_call(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    await custodian.keep_chain(run, "chain")
    assert await custodian.destroy(run) is True
    assert await custodian.chain(run) is None


async def test_a_key_of_another_type_is_refused(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    await csr(custodian, run)
    with pytest.raises(RequestRefused, match="ec-p256, asked for rsa-2048"):
        await csr(custodian, run, KeyType.RSA_2048)


async def test_an_entry_that_was_deleted_but_not_destroyed_is_told(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    await csr(custodian, run)
    vault.request("delete", f"{vault_setup.KV_MOUNT}/data/rot/{run}/key")
    with pytest.raises(RequestRefused, match="deleted but not destroyed"):
        await csr(custodian, run)


async def test_a_key_that_was_exchanged_is_not_believed(vault: RealBao) -> None:
    custodian, run, other = vault.custodian(), fresh_run(), fresh_run()
    await csr(custodian, run)
    await csr(custodian, other)
    swapped = {**raw_entry(vault, run, "key"), "ciphertext": raw_entry(vault, other, "key")["ciphertext"]}
    vault.request("post", f"{vault_setup.KV_MOUNT}/data/rot/{run}/key", {"data": swapped})
    with pytest.raises(UnexpectedAnswer, match="another key than the one that was kept"):
        await custodian.private_key(run)


@pytest.mark.parametrize("plaintext", ["bm90IGEga2V5", "/v8="])
async def test_a_ciphertext_of_something_else_is_told_without_showing_it(vault: RealBao, plaintext: str) -> None:
    custodian, run = vault.custodian(), fresh_run()
    encrypted = vault.request("post", f"transit/encrypt/{vault_setup.TRANSIT_KEY}", {"plaintext": plaintext})
    entry = {"ciphertext": encrypted["data"]["ciphertext"], "spki_sha256": "0" * 64}
    vault.request("post", f"{vault_setup.KV_MOUNT}/data/rot/{run}/key", {"data": entry})
    with pytest.raises(UnexpectedAnswer) as raised:
        await custodian.private_key(run)
    assert "not a key" not in str(raised.value)
    assert raised.value.__context__ is None


async def test_somebody_elses_entry_is_told_by_its_fields_alone(vault: RealBao) -> None:
    custodian, run = vault.custodian(), fresh_run()
    vault.request("post", f"{vault_setup.KV_MOUNT}/data/rot/{run}/key", {"data": {"password": "hush"}})
    with pytest.raises(UnexpectedAnswer, match="fields password") as raised:
        await custodian.private_key(run)
    assert "hush" not in str(raised.value)


@pytest.mark.parametrize("run", ["", "../x", "a/../b", "a//b", "a b", "/a", "a/", "ä"])
async def test_a_run_that_could_leave_its_folder_is_refused(vault: RealBao, run: str) -> None:
    with pytest.raises(RequestRefused, match="cannot be a path"):
        await vault.custodian().private_key(run)


@pytest.mark.parametrize("name", ["a" * 60 + ".lab.example", "bücher.lab.example"])
async def test_a_name_that_cannot_stand_in_a_certificate_is_refused(vault: RealBao, name: str) -> None:
    with pytest.raises(RequestRefused):
        await csr(vault.custodian(), fresh_run(), name=name)


async def test_the_delivered_policy_is_all_that_custody_needs(vault: RealBao) -> None:
    assert await vault.custodian().check_access() == ()
    assert not vault.request("list", f"{vault_setup.KV_MOUNT}/metadata/rot/access-check")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"kv_mount": "nowhere"}, "nowhere/data/rot/access-check"),
        ({"kv_mount": vault_setup.SIGNING_MOUNT}, "nothing answers under this path"),
        ({"transit_mount": "nowhere"}, "nowhere/encrypt/sip-keys: nothing answers"),
    ],
)
async def test_an_access_check_finds_wrong_mounts(vault: RealBao, changes: dict[str, str], expected: str) -> None:
    problems = await vault.custodian(vault.root, **changes).check_access()
    assert [problem for problem in problems if expected in problem], problems


async def test_an_access_check_tells_a_kv_engine_of_version_1(vault: RealBao) -> None:
    vault.request("post", "sys/mounts/kv1", {"type": "kv", "options": {"version": "1"}})
    (problem,) = await vault.custodian(vault.root, kv_mount="kv1").check_access()
    assert "of the right kind and version" in problem
    with pytest.raises(UnexpectedAnswer):
        await vault.custodian(vault.root, kv_mount="kv1").keep_chain(fresh_run(), "chain")


async def test_an_access_check_names_the_missing_capabilities(vault: RealBao) -> None:
    token = vault.token_for('path "transit/encrypt/sip-keys" { capabilities = ["update"] }')
    problems = await vault.custodian(vault.with_token(token)).check_access()
    assert len(problems) == 2
    assert 'capability "update" on "transit/decrypt/sip-keys"' in problems[0]
    assert 'capability "create" on "siptls/data/rot/access-check/' in problems[1]


async def test_an_access_check_with_a_wrong_login_says_so_once(vault: RealBao) -> None:
    (problem,) = await vault.custodian(vault.with_token("s.wrong")).check_access()
    assert "the token is refused" in problem


async def test_no_key_reaches_log_exception_or_repr(vault: RealBao, caplog: pytest.LogCaptureFixture) -> None:
    """Every failure along the way of a key, with everything logged; made keys are watched by their content."""
    made: list[SecretStr] = []
    real = key_material.new_key

    def watched(key_type: KeyType) -> SecretStr:
        made.append(real(key_type))
        return made[-1]

    kv_only = vault.token_for(f'path "{vault_setup.KV_MOUNT}/*" {{ capabilities = ["create", "read"] }}')
    transit_only = vault.token_for('path "transit/*" { capabilities = ["update"] }')
    shown = ""
    with caplog.at_level(logging.DEBUG), pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_material, "new_key", watched)
        await csr(vault.custodian(), fresh_run())
        for token in (kv_only, transit_only):
            custodian = vault.custodian(vault.with_token(token))
            with pytest.raises(PermissionMissing) as raised:
                await csr(custodian, fresh_run())
            shown += _everything(raised.value) + repr(custodian) + repr(vars(custodian))
        with pytest.raises(RotatorError) as failed:
            await csr(vault.custodian(vault.root, transit_mount="nowhere"), fresh_run())
        shown += _everything(failed.value)
    shown += caplog.text
    assert len(made) >= 2
    assert "PRIVATE KEY" not in shown
    for key in made:
        assert not [line for line in key.get_secret_value().splitlines()[1:-1] if line in shown]


def _everything(error: BaseException) -> str:
    chain: list[str] = []
    current: BaseException | None = error
    while current is not None:
        chain += [repr(current), repr(current.args), repr(vars(current)), *traceback.format_exception(current)]
        current = current.__cause__ or current.__context__
    return "".join(chain)
