"""The rules for the chain: complete, in order, signed by CAs that may sign; held against OpenSSL."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from hypothesis import given
from hypothesis import strategies as st

from domain.certificates import facts
from tests.domain.certificate_cases import ISSUING, POLICY, ROOT, SECOND, WAITS, case, violated
from tests.domain.chains import NOW, Issuer, authority, key, leaf, pem, resigned

# -- the chain ---------------------------------------------------------------------------------------------------------


def test_a_leaf_sent_without_its_intermediates_names_the_missing_issuer() -> None:
    seen = violated(case(above=()))
    assert seen == {
        "chain reaches a trust anchor": "CN=trunk.example.com was issued by CN=Issuing CA, "
        "which is neither sent nor trusted"
    }


@cache
def ladder(height: int) -> tuple[Issuer, tuple[Issuer, ...]]:
    """A root and `height` intermediates under it, the lowest first."""
    root = authority("Ladder root")
    steps: list[Issuer] = []
    for number in range(height):
        steps.insert(0, authority(f"Step {number}", steps[0] if steps else root))
    return root, tuple(steps)


@given(st.integers(1, 6).flatmap(lambda height: st.tuples(st.just(height), st.integers(0, height - 1))))
def test_dropping_any_intermediate_is_always_found(height_and_dropped: tuple[int, int]) -> None:
    height, dropped = height_and_dropped
    root, steps = ladder(height)
    certificate = leaf(steps[0])
    assert violated(case(certificate, steps, (root,))) == {}
    rest = steps[:dropped] + steps[dropped + 1 :]
    assert "chain reaches a trust anchor" in violated(case(certificate, rest, (root,)))


@given(st.permutations(range(4)).filter(lambda order: list(order) != [0, 1, 2, 3]))
def test_any_other_order_of_the_intermediates_is_found(order: Sequence[int]) -> None:
    root, steps = ladder(4)
    shuffled = tuple(steps[position] for position in order)
    assert set(violated(case(leaf(steps[0]), shuffled, (root,)))) == {"chain is sent in order"}


def test_a_root_on_the_wire_is_superfluous_but_not_refused() -> None:
    assert violated(case(above=(ISSUING, POLICY, ROOT))) == {}


@pytest.mark.parametrize("stranger", [authority("Stranger"), authority("Other CA", ROOT)], ids=["root", "intermediate"])
def test_a_certificate_that_does_not_belong_to_the_chain_is_found(stranger: Issuer) -> None:
    assert set(violated(case(above=(ISSUING, POLICY, stranger)))) == {"chain is sent in order"}


def test_a_root_of_the_same_name_with_another_key_is_no_anchor() -> None:
    impostor = authority("Root", label="another key")
    assert set(violated(case(roots=(impostor,)))) == {"chain reaches a trust anchor"}


def test_intermediates_in_the_trust_anchor_file_do_not_hide_that_they_are_not_sent() -> None:
    assert "chain reaches a trust anchor" in violated(case(above=(), roots=(ISSUING, POLICY, ROOT)))


def test_a_carrier_that_trusts_an_intermediate_only_has_it_as_anchor() -> None:
    assert violated(case(above=(ISSUING,), roots=(POLICY,))) == {}
    assert violated(case(above=(ISSUING, POLICY), roots=(POLICY,))) == {}


def test_of_two_roots_of_one_name_and_key_the_valid_one_is_the_anchor() -> None:
    expired = authority("Root", not_after=NOW - timedelta(days=1))
    assert violated(case(roots=(expired, ROOT))) == {}
    assert violated(case(roots=(ROOT, expired))) == {}


def test_a_cross_signed_intermediate_is_followed_to_the_root_that_is_trusted() -> None:
    old, new = authority("Old root"), authority("New root")
    cross = authority("New root", old, label="New root")
    issuing = authority("Cross CA", new)
    certificate = leaf(issuing)
    assert violated(case(certificate, (issuing, cross), (old,))) == {}
    assert violated(case(certificate, (issuing, cross), (new,))) == {}


def test_certificates_that_sign_each_other_in_a_circle_end_without_an_anchor() -> None:
    one = authority("One")
    two = authority("Two", one)
    one_again = authority("One", two, label="One")
    seen = violated(case(leaf(two), (two, one_again), (ROOT,)))
    assert "chain reaches a trust anchor" in seen


@pytest.mark.parametrize(
    ("ca", "seen"),
    [
        (authority("CA1", ROOT, ca=False), "is not a CA"),
        (authority("CA2", ROOT, ca=None), "has no basicConstraints"),
        (authority("CA3", ROOT, cert_sign=False), "lacks key usage keyCertSign"),
    ],
    ids=["not a CA", "no basicConstraints", "no keyCertSign"],
)
def test_an_intermediate_that_may_not_sign_is_found(ca: Issuer, seen: str) -> None:
    found = violated(case(leaf(ca), (ca,)))
    assert set(found) == {"every ca may sign"}
    assert seen in found["every ca may sign"]


@pytest.mark.parametrize(("allowed", "passes"), [(0, False), (1, True), (2, True), (None, True)])
def test_a_path_longer_than_a_ca_allows_is_found(allowed: int | None, passes: bool) -> None:
    upper = authority("Upper", ROOT, path_length=allowed)
    lower = authority("Lower", upper)
    assert ("every ca may sign" not in violated(case(leaf(lower), (lower, upper)))) is passes


@pytest.mark.parametrize(
    ("not_before", "not_after", "passes"),
    [
        (NOW, NOW + WAITS, True),
        (NOW + SECOND, NOW + timedelta(days=3650), False),
        (NOW - timedelta(days=30), NOW - SECOND, False),
        (NOW - timedelta(days=30), NOW + WAITS - SECOND, False),
    ],
    ids=["valid to the second", "not yet valid", "expired", "expires before the rotation ends"],
)
@pytest.mark.parametrize("which", ["intermediate", "root"])
def test_a_ca_that_is_not_valid_throughout_is_found(
    not_before: object, not_after: object, passes: bool, which: str
) -> None:
    times = {"not_before": not_before, "not_after": not_after}
    root = authority("Timed root", **(times if which == "root" else {}))  # type: ignore[arg-type]
    issuing = authority("Timed CA", root, **(times if which == "intermediate" else {}))  # type: ignore[arg-type]
    assert set(violated(case(leaf(issuing), (issuing,), (root,)))) == (set() if passes else {"every ca stays valid"})


NET = ipaddress.ip_network("192.0.2.0/24")


@pytest.mark.parametrize(
    ("permitted", "excluded", "seen"),
    [
        ([x509.DNSName("example.com")], None, None),
        ([x509.DNSName("trunk.example.com")], None, None),
        ([x509.DNSName(".example.com")], None, None),
        ([x509.DNSName("example.org"), x509.DNSName("Example.COM")], None, None),
        ([x509.DNSName("example.org")], None, "may not sign trunk.example.com"),
        ([x509.DNSName("unk.example.com")], None, "may not sign trunk.example.com"),
        (None, [x509.DNSName("example.com")], "may not sign trunk.example.com"),
        (None, [x509.DNSName("example.org")], None),
        ([x509.IPAddress(NET)], None, None),
        ([x509.IPAddress(ipaddress.ip_network("198.51.100.0/24"))], None, "may not sign 192.0.2.5"),
        ([x509.IPAddress(ipaddress.ip_network("2001:db8::/32"))], None, "may not sign 192.0.2.5"),
        (None, [x509.IPAddress(NET)], "may not sign 192.0.2.5"),
        ([x509.DirectoryName(x509.Name([]))], None, None),
    ],
)
def test_a_name_outside_a_cas_name_constraints_is_found(
    permitted: list[x509.GeneralName] | None, excluded: list[x509.GeneralName] | None, seen: str | None
) -> None:
    ca = authority("Narrow CA", ROOT, constraints=x509.NameConstraints(permitted, excluded))
    certificate = leaf(ca, addresses=("192.0.2.5",))
    found = violated(case(certificate, (ca,), a_leaf=facts(pem(leaf(ROOT, label="a", addresses=("192.0.2.5",))))))
    assert found == ({"every ca permits the names": f"CN=Narrow CA {seen}"} if seen else {})


@pytest.mark.parametrize("digest", [hashes.SHA256(), hashes.SHA384(), hashes.SHA512()], ids=lambda d: str(d.name))
def test_modern_signature_hashes_pass(digest: hashes.HashAlgorithm) -> None:
    issuing = authority("CA", ROOT, digest=digest)
    assert violated(case(leaf(issuing, digest=digest), (issuing,))) == {}


RSA_ROOT = authority("RSA Root", kind="rsa-2048")
RSA_CA = authority("RSA CA", RSA_ROOT, kind="rsa-2048")


@pytest.mark.parametrize("digest", [hashes.SHA1(), hashes.MD5()], ids=lambda d: str(d.name))
def test_an_old_signature_is_found_on_the_leaf_and_on_an_intermediate(digest: hashes.SHA1 | hashes.MD5) -> None:
    on_leaf = case(resigned(leaf(RSA_CA), RSA_CA, digest), (RSA_CA,), (RSA_ROOT,))
    intermediate = Issuer(resigned(RSA_CA.certificate, RSA_ROOT, digest), RSA_CA.key)
    on_intermediate = case(leaf(RSA_CA), (intermediate,), (RSA_ROOT,))
    for found in (violated(on_leaf), violated(on_intermediate)):
        assert set(found) == {"signatures use sha256 or better"}
        assert digest.name in found["signatures use sha256 or better"]


def test_sha224_is_not_enough() -> None:
    assert set(violated(case(leaf(ISSUING, digest=hashes.SHA224())))) == {"signatures use sha256 or better"}


def test_a_roots_own_sha1_signature_does_not_count() -> None:
    root = Issuer(resigned(RSA_ROOT.certificate, RSA_ROOT, hashes.SHA1()), RSA_ROOT.key)
    assert violated(case(leaf(RSA_CA), (RSA_CA,), (root, ROOT))) == {}
    assert violated(case(leaf(RSA_CA), (RSA_CA, root), (root, ROOT))) == {}


@pytest.mark.parametrize(
    ("kind", "seen"), [("rsa-1024", "RSA 1024"), ("ec-p192", "EC 192"), ("rsa-2048", None), ("ec-p384", None)]
)
def test_a_weak_key_of_a_ca_is_found(kind: str, seen: str | None) -> None:
    issuing = authority("Keyed CA", ROOT, label=f"ca {kind}", kind=kind)
    assert violated(case(leaf(issuing), (issuing,))) == ({"keys are strong": f"CN=Keyed CA: {seen}"} if seen else {})


# -- held against OpenSSL ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [(ISSUING, POLICY), (ISSUING,), ()], ids=["complete", "one missing", "leaf alone"])
def test_openssl_accepts_a_chain_exactly_when_the_rules_call_it_complete(
    sent: tuple[Issuer, ...], tmp_path: Path
) -> None:
    year = timedelta(days=3650)
    certificate = leaf(ISSUING, not_before=NOW - year, not_after=NOW + year)
    root, policy, issuing = (
        authority("Root", not_before=NOW - year),
        authority("Policy CA", ROOT, not_before=NOW - year),
        authority("Issuing CA", POLICY, not_before=NOW - year),
    )
    above = tuple({"Issuing CA": issuing, "Policy CA": policy}[_cn(issuer)] for issuer in sent)
    checked = case(certificate, above, (root,))
    file = tmp_path / "server.pem"
    private = key("leaf").private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file.write_text(checked.chain_pem + private.decode())
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    client = ssl.create_default_context(cadata=checked.trust_anchors_pem)
    assert _handshake(client, server, "trunk.example.com") is ("chain reaches a trust anchor" not in violated(checked))


def _cn(issuer: Issuer) -> str:
    return issuer.certificate.subject.rfc4514_string().removeprefix("CN=")


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext, host: str) -> bool:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=host),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    pending = list(ends)
    for _ in range(10):
        for end in list(pending):
            try:
                end.do_handshake()
                pending.remove(end)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return not pending
