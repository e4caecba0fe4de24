"""The Vault PKI adapter against a real OpenBao: signing, orphans, who issued what, revocation, access."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from adapters.keys import key_material
from adapters.pki import vault as vault_module
from adapters.pki.base import RevocationReason
from adapters.pki.vault import VaultAuthority
from domain.certificates import facts, parse_chain
from domain.errors import (
    CertificateRefused,
    PermissionMissing,
    RequestRefused,
    SettingsInvalid,
)
from domain.plan import KeyType
from lab import vault_setup
from tests.adapters.real_bao import NAME, RealBao
from tests.domain.chains import pem
from tests.lab.small_ca import Authority

SUPERSEDED = RevocationReason.SUPERSEDED
_numbers = itertools.count(1)


def fresh_name() -> str:
    """A name that no other test of this server asks a certificate for."""
    return f"trunk-{next(_numbers)}.{vault_setup.DOMAIN}"


def request_for(name: str, *more: str) -> tuple[str, str]:
    """A CSR over a fresh key, and the SHA-256 of its public key."""
    key = key_material.new_key(KeyType.EC_P256)
    csr = key_material.signing_request(key, common_name=name, dns_names=[name, *more], ip_addresses=["127.0.0.1"])
    return csr, key_material.spki_of(key)


async def sign(authority: VaultAuthority, csr: str, name: str, dns_names: Sequence[str] = ()) -> str:
    return await authority.sign(
        csr,
        common_name=name,
        dns_names=dns_names or [name],
        ip_addresses=["127.0.0.1"],
        lifetime=timedelta(days=90),
    )


async def signed(authority: VaultAuthority) -> str:
    """A fresh certificate's chain."""
    name = fresh_name()
    return await sign(authority, request_for(name)[0], name)


async def test_signs_leaf_and_intermediate_without_the_root_back_dated_by_the_role(vault: RealBao) -> None:
    name = fresh_name()
    csr, spki = request_for(name, f"b.{name}")
    chain = parse_chain(await sign(vault.authority(), csr, name, [name, f"b.{name}"]))
    leaf, now = facts(pem(*chain)), datetime.now(UTC)
    assert len(chain) == 2
    assert chain[1] == parse_chain(vault.lab.intermediate_b_pem)[0]
    assert (leaf.common_name, leaf.spki_sha256, leaf.key_type) == (name, spki, "ec-p256")
    assert (leaf.dns_names, leaf.ip_addresses) == (tuple(sorted([name, f"b.{name}"])), ("127.0.0.1",))
    assert now - timedelta(hours=24, minutes=11) < leaf.not_before < now - timedelta(hours=24, minutes=9)
    assert now + timedelta(days=89) < leaf.not_after < now + timedelta(days=91)


async def test_tells_how_far_the_role_back_dates(vault: RealBao) -> None:
    assert await vault.authority().back_dated_by() == timedelta(hours=24, minutes=10)


async def test_does_not_tell_the_back_dating_when_the_policy_hides_the_role(vault: RealBao) -> None:
    token = vault.token_for(f'path "{vault_setup.SIGNING_MOUNT}/sign/*" {{ capabilities = ["update"] }}')
    assert await vault.authority(vault.with_token(token)).back_dated_by() is None


async def test_the_back_dating_of_a_role_that_does_not_exist_is_refused(vault: RealBao) -> None:
    with pytest.raises(RequestRefused, match="no such role"):
        await vault.authority(vault.root, role="nobody").back_dated_by()


async def test_gives_the_trust_anchors_of_the_file(vault: RealBao) -> None:
    assert await vault.authority().trust_anchors() == vault.lab.root_pem


@pytest.mark.parametrize("content", [None, "", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
async def test_a_trust_anchor_file_that_cannot_be_used_is_named(vault: RealBao, content: str | None) -> None:
    path = vault.directory / "no-anchors.pem"
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsInvalid, match=r"\[pki.enterprise\] trust_anchor_file.*no-anchors\.pem"):
        await vault.authority(trust_anchor_file=path).trust_anchors()


async def test_an_orphan_is_found_by_name_and_public_key_with_its_chain(vault: RealBao) -> None:
    authority, name = vault.authority(), fresh_name()
    csr, spki = request_for(name)
    orphan = await sign(authority, csr, name)
    await sign(authority, request_for(name)[0], name)
    assert await authority.find_issued(common_name=name.upper(), spki_sha256=spki) == (orphan,)
    assert await authority.find_issued(common_name=fresh_name(), spki_sha256=spki) == ()


async def test_a_revoked_certificate_is_no_orphan(vault: RealBao) -> None:
    authority, name = vault.authority(), fresh_name()
    csr, spki = request_for(name)
    await authority.revoke(await sign(authority, csr, name), SUPERSEDED)
    assert await authority.find_issued(common_name=name, spki_sha256=spki) == ()


async def test_an_orphan_is_found_where_the_server_lists_serial_numbers_alone(vault: RealBao) -> None:
    """HashiCorp Vault has no `certs/detailed`; a policy without it gives the same view."""
    mount = vault_setup.SIGNING_MOUNT
    token = vault.token_for(
        f'path "{mount}/certs" {{ capabilities = ["list"] }}\npath "{mount}/cert/*" {{ capabilities = ["read"] }}'
    )
    name = fresh_name()
    csr, spki = request_for(name)
    orphan = await sign(vault.authority(), csr, name)
    assert await vault.authority(vault.with_token(token)).find_issued(common_name=name, spki_sha256=spki) == (orphan,)


async def test_a_listing_of_several_pages_is_read_to_its_end(vault: RealBao, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vault_module, "PAGE", 2)
    authority = vault.authority()
    wanted = [fresh_name() for _ in range(5)]
    requests = {name: request_for(name) for name in wanted}
    for name, (csr, _) in requests.items():
        await sign(authority, csr, name)
    for name, (_, spki) in requests.items():
        assert len(await authority.find_issued(common_name=name, spki_sha256=spki)) == 1


async def test_serials_that_begin_alike_are_not_lost_between_two_pages(
    vault: RealBao, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed with colons, stored with hyphens, which sort before colons: `after` has to be given as it is stored."""
    monkeypatch.setattr(vault_module, "PAGE", 1)
    authority, name = vault.authority(), fresh_name()
    csr, spki = request_for(name)
    chains = {await sign(authority, csr, name) for _ in range(48)}
    assert set(await authority.find_issued(common_name=name, spki_sha256=spki)) == chains


async def test_concurrent_signers_each_get_a_certificate_and_all_are_found(vault: RealBao) -> None:
    authority, name = vault.authority(), fresh_name()
    csr, spki = request_for(name)
    chains = await asyncio.gather(*(sign(authority, csr, name) for _ in range(8)))
    assert len(set(chains)) == 8
    assert set(await authority.find_issued(common_name=name, spki_sha256=spki)) == set(chains)


async def test_of_concurrent_signers_one_chain_is_kept_and_the_losers_revoke_their_own(vault: RealBao) -> None:
    authority, custodian, name, run = vault.authority(), vault.custodian(), fresh_name(), f"run-{fresh_name()}"

    async def work() -> str:
        csr = await custodian.csr(
            run, key_type=KeyType.EC_P256, common_name=name, dns_names=[name], ip_addresses=["127.0.0.1"]
        )
        ours = await sign(authority, csr, name)
        kept = await custodian.keep_chain(run, ours)
        if kept != ours:
            await authority.revoke(ours, RevocationReason.CESSATION_OF_OPERATION)
        return kept

    kept = set(await asyncio.gather(*(work() for _ in range(6))))
    spki = await custodian.public_key_sha256(run)
    assert spki is not None
    assert len(kept) == 1
    assert set(await authority.find_issued(common_name=name, spki_sha256=spki)) == kept


async def test_what_it_issued_its_own_mounts_decide_by_signature(vault: RealBao) -> None:
    authority = vault.authority()
    assert await authority.issued(await signed(authority))
    assert await authority.issued(vault.lab.certificate_a.chain_pem)
    assert not await vault.authority(issuing_mounts=()).issued(vault.lab.certificate_a.chain_pem)


async def test_a_stranger_of_the_same_name_issued_nothing_of_ours(vault: RealBao) -> None:
    impostor = Authority("Lab SIP CA B")
    assert impostor.certificate.subject == parse_chain(vault.lab.intermediate_b_pem)[0].subject
    assert not await vault.authority().issued(impostor.issue(NAME).chain_pem)


async def test_an_issuer_without_its_key_in_the_mount_counts_as_not_ours(vault: RealBao) -> None:
    """The lab's mounts hold the root too, keyless: what the root signed, they cannot revoke."""
    assert not await vault.authority().issued(vault.lab.intermediate_a_pem)


async def test_before_revocation_ocsp_and_crl_say_good(vault: RealBao) -> None:
    authority = vault.authority()
    status = await authority.status(await signed(authority))
    assert (status.ocsp_revoked, status.crl_revoked, status.revoked_at) == (False, False, None)


async def test_a_revocation_shows_in_ocsp_and_crl_and_a_second_one_changes_nothing(vault: RealBao) -> None:
    authority = vault.authority()
    chain = await signed(authority)
    await authority.revoke(chain, SUPERSEDED)
    first = await authority.status(chain)
    await authority.revoke(chain, RevocationReason.KEY_COMPROMISE)
    assert (first.ocsp_revoked, first.crl_revoked) == (True, True)
    assert first.revoked_at is not None
    assert abs(datetime.now(UTC) - first.revoked_at) < timedelta(minutes=1)
    assert (await authority.status(chain)).revoked_at == first.revoked_at


async def test_a_is_revoked_on_the_mount_that_issued_it(vault: RealBao) -> None:
    a = fresh_a(vault)
    authority = vault.authority()
    await authority.revoke(a, SUPERSEDED)
    serial = ":".join(f"{byte:02x}" for byte in bytes.fromhex(facts(a).serial))
    stored = vault.request("get", f"{vault_setup.RETIRING_MOUNT}/cert/{serial}")["data"]
    assert stored["revocation_time"] > 0
    status = await authority.status(a)
    assert (status.ocsp_revoked, status.crl_revoked) == (True, True)


async def test_a_status_without_the_right_to_rotate_reads_the_crl_that_is_there(vault: RealBao) -> None:
    authority = vault.authority()
    chain = await signed(authority)
    await authority.revoke(chain, SUPERSEDED)
    status = await vault.authority(vault.with_token(vault.token_for(""))).status(chain)
    assert status.ocsp_revoked is True
    assert status.crl_revoked is True
    assert (
        f"not rotated: [pki.enterprise] at {vault.address}, GET {vault_setup.SIGNING_MOUNT}/crl/rotate" in status.detail
    )


async def test_a_responder_that_does_not_answer_is_named_and_the_mounts_own_asked(vault: RealBao) -> None:
    vault.request("post", f"{vault_setup.SIGNING_MOUNT}/config/urls", {"ocsp_servers": "http://127.0.0.1:1/ocsp"})
    try:
        authority = vault.authority()
        status = await authority.status(await signed(authority))
    finally:
        own = f"{vault.address}/v1/{vault_setup.SIGNING_MOUNT}/ocsp"
        vault.request("post", f"{vault_setup.SIGNING_MOUNT}/config/urls", {"ocsp_servers": own})
    assert status.ocsp_revoked is False
    assert "http://127.0.0.1:1/ocsp: no connection; seen: Connection refused" in status.detail


async def test_what_another_ca_issued_is_neither_revoked_nor_judged(vault: RealBao) -> None:
    foreign, authority = Authority("Carrier CA").issue(NAME).chain_pem, vault.authority()
    with pytest.raises(RequestRefused, match=r"another CA issued this certificate.*CN=Carrier CA"):
        await authority.revoke(foreign, SUPERSEDED)
    status = await authority.status(foreign)
    assert (status.ocsp_revoked, status.crl_revoked) == (None, None)
    assert "CN=Carrier CA" in status.detail


async def test_a_text_that_is_no_certificate_is_refused(vault: RealBao) -> None:
    with pytest.raises(CertificateRefused):
        await vault.authority().issued("nothing")
    with pytest.raises(RequestRefused, match="CSR cannot be read"):
        await sign(vault.authority(), "nothing", NAME)


async def test_a_name_that_the_role_does_not_allow_is_refused_with_the_servers_words(vault: RealBao) -> None:
    csr, _ = request_for("trunk.elsewhere.example")
    with pytest.raises(RequestRefused, match=r"400 .*trunk\.elsewhere\.example.* not allowed"):
        await sign(vault.authority(), csr, "trunk.elsewhere.example")


async def test_an_unknown_role_is_refused_with_its_name(vault: RealBao) -> None:
    csr, _ = request_for(NAME)
    with pytest.raises(RequestRefused, match="unknown role: nobody"):
        await sign(vault.authority(vault.root, role="nobody"), csr, NAME)


async def test_a_wrong_mount_is_told_as_what_it_is(vault: RealBao) -> None:
    csr, _ = request_for(NAME)
    with pytest.raises(RequestRefused, match=r"POST nowhere/sign/sip-trunk: nothing answers.*check the mount"):
        await sign(vault.authority(vault.root, mount="nowhere"), csr, NAME)


async def test_a_missing_capability_names_path_and_capability(vault: RealBao) -> None:
    csr, _ = request_for(NAME)
    with pytest.raises(PermissionMissing, match='grant capability "update" on "pki_root/sign/sip-trunk"') as raised:
        await sign(vault.authority(mount="pki_root"), csr, NAME)
    assert vault.address in str(raised.value)


async def test_the_delivered_policy_is_all_that_access_needs(vault: RealBao) -> None:
    assert await vault.authority().check_access() == ()


async def test_an_access_check_names_everything_that_is_missing_at_once(vault: RealBao) -> None:
    token = vault.token_for(f'path "{vault_setup.SIGNING_MOUNT}/certs" {{ capabilities = ["list"] }}')
    authority = vault.authority(vault.with_token(token), trust_anchor_file=vault.directory / "absent.pem")
    problems = await authority.check_access()
    for expected in ("absent.pem", '"pki_int_b/sign/sip-trunk"', '"pki_int_b/revoke"', '"pki_int_a/revoke"'):
        assert len([problem for problem in problems if expected in problem]) == 1
    assert len(problems) == 4


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"mount": "nowhere"}, "nowhere/sign/sip-trunk: nothing answers under this path"),
        ({"role": "nobody"}, "unknown role: nobody"),
        ({"mount": vault_setup.KV_MOUNT}, "the mount has no CA certificate with its key"),
        ({"issuing_mounts": ("nowhere",)}, "nowhere/issuers: nothing answers under this path"),
    ],
)
async def test_an_access_check_finds_wrong_names(vault: RealBao, changes: dict[str, object], expected: str) -> None:
    problems = await vault.authority(vault.root, **changes).check_access()
    assert any(expected in problem for problem in problems), problems


async def test_an_access_check_signs_and_revokes_nothing(vault: RealBao) -> None:
    path = f"{vault_setup.SIGNING_MOUNT}/certs"
    before = vault.request("list", path)
    await vault.authority().check_access()
    after = vault.request("list", path)
    assert (after or {}).get("data") == (before or {}).get("data")


async def test_a_pki_that_signs_another_key_is_not_believed(vault: RealBao, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = vault.authority()
    other = await signed(authority)

    async def swapped(*_: object, **__: object) -> vault_module.SignedCertificate:
        return vault_module.SignedCertificate(certificate=other)

    monkeypatch.setattr(authority._session, "write", swapped)
    with pytest.raises(vault_module.UnexpectedAnswer, match="for another public key"):
        await sign(authority, request_for(NAME)[0], NAME)


def fresh_a(vault: RealBao) -> str:
    """A fresh A, from the mount that the plan's PKI profile does not sign with."""
    name = fresh_name()
    answer = vault.request(
        "post", f"{vault_setup.RETIRING_MOUNT}/sign/{vault_setup.PKI_ROLE}", {"csr": request_for(name)[0]}
    )
    leaf = str(answer["data"]["certificate"])
    issuer = x509.load_pem_x509_certificate(leaf.encode()).issuer
    assert issuer.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "Lab SIP CA A"
    return leaf
