"""The rules for B itself, one table per rule, and the list of them as a whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from domain.certificate_rules import Rule, rule_name
from domain.certificates import (
    RULES,
    CertificateCase,
    check_certificate,
    facts,
    identity_names,
    modulus_sha256,
    spki_sha256,
)
from domain.errors import CertificateRefused
from tests.domain.certificate_cases import ISSUING, POLICY, ROOT, RSA_PLAN, SECOND, WAITS, case, violated
from tests.domain.chains import CLIENT, NOW, SERVER, authority, key, leaf, pem, spki
from tests.domain.plans import SEPARATE_TARGETS, plan

# -- the whole list ----------------------------------------------------------------------------------------------------


def test_a_good_chain_passes_every_rule_and_each_says_what_it_looked_at() -> None:
    results = check_certificate(case())
    assert [result.rule for result in results] == [rule_name(rule) for rule in RULES]
    assert [result.rule for result in results if not result.passed] == []
    assert all(result.seen and result.expected for result in results)


def test_a_good_rsa_chain_passes_every_rule_and_shows_its_modulus_hash() -> None:
    root = authority("RSA Root", kind="rsa-2048")
    certificate = leaf(root, label="rsa-leaf", kind="rsa-2048")
    good = replace(
        case(certificate, (), (root,), plan=RSA_PLAN),
        key_spki_sha256=spki_sha256(spki(key("rsa-leaf", "rsa-2048"))),
        key_modulus_sha256=modulus_sha256(key("rsa-leaf", "rsa-2048").public_key()),
    )
    assert violated(good) == {}
    (match,) = [result for result in check_certificate(good) if result.rule == "private key matches"]
    assert f"modulus SHA-256 {facts(pem(certificate)).modulus_sha256}" in match.seen


def test_everything_that_is_wrong_is_reported_at_once() -> None:
    bad = leaf(
        ISSUING,
        label="other",
        kind="ec-p384",
        dns_names=("wrong.example.com",),
        purposes=(CLIENT,),
        not_before=NOW - timedelta(minutes=5),
        not_after=NOW + timedelta(days=1),
    )
    assert set(violated(case(bad, above=(POLICY,)))) == {
        "chain reaches a trust anchor",
        "chain is sent in order",
        "private key matches",
        "names equal those of a",
        "names cover the plan",
        "not before lies 24 hours back",
        "not after outlives the rotation",
        "lifetime is what the plan asks",
        "purpose fits the trunk role",
        "key type is what the plan asks",
    }


def test_every_rule_can_be_violated() -> None:
    """A rule that no certificate violates would be an ornament; each one of the list fails somewhere in this module."""
    failing = {rule_name(rule) for rule, _ in EXAMPLES}
    assert failing == {rule_name(rule) for rule in RULES}
    for rule, example in EXAMPLES:
        assert not rule(example).passed, rule_name(rule)


def test_what_cannot_be_read_is_refused_as_a_whole() -> None:
    with pytest.raises(CertificateRefused, match="the chain"):
        check_certificate(replace(case(), chain_pem="garbage"))
    with pytest.raises(CertificateRefused, match="the trust anchors"):
        check_certificate(replace(case(), trust_anchors_pem="garbage"))


def test_a_check_time_without_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        check_certificate(replace(case(), now=NOW.replace(tzinfo=None)))


# -- the key and the leaf ----------------------------------------------------------------------------------------------


def test_a_certificate_for_another_key_is_found() -> None:
    assert set(violated(case(leaf(ISSUING, label="another")))) == {"private key matches"}


def test_a_modulus_that_differs_is_found_beside_the_spki() -> None:
    root = authority("RSA Root", kind="rsa-2048")
    good = replace(
        case(leaf(root, label="rsa-leaf", kind="rsa-2048"), (), (root,), plan=RSA_PLAN),
        key_spki_sha256=spki_sha256(spki(key("rsa-leaf", "rsa-2048"))),
    )
    assert violated(good) == {}
    assert set(violated(replace(good, key_modulus_sha256="0" * 64))) == {"private key matches"}


def test_a_itself_cannot_become_b() -> None:
    certificate = leaf(ISSUING)
    assert set(violated(case(certificate, a_leaf=facts(pem(certificate))))) == {"certificate is another than a"}


@pytest.mark.parametrize(
    ("certificate", "seen"),
    [
        (leaf(ISSUING, ca=True), "a CA certificate"),
        (leaf(ISSUING, digital_signature=False), "key usage without digitalSignature"),
    ],
    ids=["a CA", "no digitalSignature"],
)
def test_a_leaf_that_may_not_sign_handshakes_is_found(certificate: x509.Certificate, seen: str) -> None:
    assert violated(case(certificate)) == {"leaf may sign handshakes": seen}


@pytest.mark.parametrize(
    ("kind", "asked", "passes"),
    [
        ("ec-p256", "ec-p256", True),
        ("ec-p384", "ec-p256", False),
        ("ec-p256", "rsa-2048", False),
        ("rsa-2048", "rsa-2048", True),
        ("rsa-2048", "rsa-3072", False),
        ("rsa-2048", "ec-p256", False),
    ],
)
def test_the_key_type_is_the_one_of_the_plan(kind: str, asked: str, passes: bool) -> None:
    wanted = plan(('custody = "vault"', f'custody = "vault"\nkey_type = "{asked}"'))
    label = f"typed {kind}"
    checked = replace(
        case(leaf(ISSUING, label=label, kind=kind), plan=wanted), key_spki_sha256=spki_sha256(spki(key(label, kind)))
    )
    assert set(violated(checked)) == (set() if passes else {"key type is what the plan asks"})


# -- the names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "seen"),
    [
        ({"dns_names": ("trunk.example.com",)}, "missing IP:192.0.2.5, URI:sip:trunk.example.com"),
        ({"addresses": ("192.0.2.6",)}, "missing IP:192.0.2.5; too many IP:192.0.2.6"),
        ({"dns_names": ("trunk.example.com", "more.example.com")}, "too many DNS:more.example.com"),
        ({"dns_names": ("TRUNK.example.com.",)}, None),
        ({"uris": ("sip:other.example.com",)}, "missing URI:sip:trunk.example.com; too many URI:sip:other.example.com"),
    ],
    ids=["fewer", "another address", "more", "other spelling", "another URI"],
)
def test_b_bears_exactly_the_names_of_a(names: dict[str, tuple[str, ...]], seen: str | None) -> None:
    usual: dict[str, tuple[str, ...]] = {"addresses": ("192.0.2.5",), "uris": ("sip:trunk.example.com",)}
    a_leaf = facts(pem(leaf(ISSUING, label="a", **usual)))  # type: ignore[arg-type]
    given_names = names if seen and seen.startswith("missing IP:192.0.2.5, ") else {**usual, **names}
    found = violated(case(leaf(ISSUING, **given_names), a_leaf=a_leaf))  # type: ignore[arg-type]
    assert found == ({"names equal those of a": seen} if seen else {})


def test_without_an_a_the_names_are_those_of_the_plan() -> None:
    assert violated(case(a_leaf=None)) == {}
    more = leaf(ISSUING, dns_names=("trunk.example.com", "more.example.com"))
    assert violated(case(more, a_leaf=None)) == {"names equal those of a": "too many DNS:more.example.com"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ((), ("trunk.example.com",)),
        (
            (('fqdn = "trunk.example.com"', 'fqdn = "SIP.example.com"'),),
            ("sip.example.com", "trunk.example.com"),
        ),
        (SEPARATE_TARGETS, ("a.trunk.example.com", "b.trunk.example.com", "trunk.example.com")),
        (
            (('carrier = "acme"', 'carrier = "acme"\ntopology = "static_ip"'),),
            ("198.51.100.1", "198.51.100.2", "trunk.example.com"),
        ),
        (
            (('custody = "vault"', 'custody = "vault"\nip_addresses = ["2001:DB8::0:1"]'),),
            ("2001:db8::1", "trunk.example.com"),
        ),
    ],
    ids=["one FQDN", "SIP domain", "SRV targets", "static addresses", "the plan's own addresses"],
)
def test_the_certificate_must_cover_every_name_that_a_peer_compares(
    changes: tuple[tuple[str, str], ...], expected: tuple[str, ...]
) -> None:
    assert identity_names(plan(*changes)) == expected


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ({"dns_names": ("trunk.example.com",)}, ""),
        ({"dns_names": ("x.example.com",), "uris": ("sip:trunk.example.com",)}, ""),
        ({"dns_names": ("x.example.com",), "uris": ("SIP:Trunk.example.com:5061;transport=tls",)}, ""),
        ({"dns_names": ("*.example.com",)}, "trunk.example.com"),
        ({"dns_names": ("x.example.com",), "uris": ("sips:trunk.example.com",)}, "trunk.example.com"),
        ({"dns_names": ("x.example.com",), "uris": ("sip:alice@trunk.example.com",)}, "trunk.example.com"),
        ({"dns_names": ("x.example.com",), "uris": ("sip:trunk.example.com@evil.example",)}, "trunk.example.com"),
        ({"dns_names": ("example.com",)}, "trunk.example.com"),
        ({"dns_names": ()}, "trunk.example.com"),
    ],
    ids=[
        "DNS",
        "SIP URI",
        "SIP URI with port",
        "wildcard",
        "SIPS URI",
        "URI of a user",
        "a user named like it",
        "parent",
        "none",
    ],
)
def test_a_sip_domain_is_covered_literally_or_by_a_sip_uri_and_never_by_a_wildcard(
    names: dict[str, tuple[str, ...]], missing: str
) -> None:
    certificate = leaf(ISSUING, **names)  # type: ignore[arg-type]
    same_names = facts(pem(leaf(ISSUING, label="a", **names)))  # type: ignore[arg-type]
    found = violated(case(certificate, a_leaf=same_names))
    assert found == ({"names cover the plan": f"not covered: {missing}"} if missing else {})


# -- the times ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("back", "passes"),
    [
        (timedelta(hours=24), True),
        (timedelta(hours=24, minutes=10), True),
        (timedelta(hours=24) - SECOND, False),
        (timedelta(0), False),
        (-SECOND, False),
    ],
    ids=["24 h to the second", "with the buffer", "a second short", "now", "in the future"],
)
def test_not_before_lies_at_least_24_hours_back_without_a_second_buffer(back: timedelta, passes: bool) -> None:
    found = violated(case(leaf(ISSUING, not_before=NOW - back, not_after=NOW + timedelta(days=91))))
    assert set(found) == (set() if passes else {"not before lies 24 hours back"})


@pytest.mark.parametrize(
    ("left", "passes"), [(WAITS, True), (WAITS - SECOND, False), (-SECOND, False)], ids=["exactly", "short", "expired"]
)
def test_b_outlives_overlap_hold_and_margin(left: timedelta, passes: bool) -> None:
    certificate = leaf(ISSUING, not_before=NOW - timedelta(days=25), not_after=NOW + left)
    short_lived = plan(
        ('custody = "vault"', 'custody = "vault"\nkey_type = "ec-p256"'), ('lifetime = "90d"', 'lifetime = "20d"')
    )
    assert set(violated(case(certificate, plan=short_lived))) == (
        set() if passes else {"not after outlives the rotation"}
    )


def test_without_a_lifetime_in_the_plan_b_lives_as_long_as_the_pki_role_gives() -> None:
    start = NOW - timedelta(days=2)
    certificate = leaf(ISSUING, not_before=start, not_after=start + timedelta(days=31))
    assert not violated(
        case(
            certificate,
            plan=plan(('lifetime = "90d"\n', ""), ('custody = "vault"', 'custody = "vault"\nkey_type = "ec-p256"')),
        )
    )


@pytest.mark.parametrize(
    ("lifetime", "passes"),
    [
        (timedelta(days=90), True),
        (timedelta(days=90) - SECOND, True),
        (timedelta(days=90) - timedelta(hours=1), False),
        (timedelta(days=31), False),
    ],
    ids=["to the second", "last second counted in", "an hour short", "cut by the CA's limit"],
)
def test_a_lifetime_that_the_authority_cut_is_found(lifetime: timedelta, passes: bool) -> None:
    start = NOW - timedelta(days=2)
    found = violated(case(leaf(ISSUING, not_before=start, not_after=start + lifetime)))
    assert set(found) == (set() if passes else {"lifetime is what the plan asks"})


# -- the purposes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "purposes", "passes"),
    [
        ("server", (SERVER,), True),
        ("server", (SERVER, CLIENT), True),
        ("server", (CLIENT,), False),
        ("server", (), False),
        ("client", (CLIENT,), True),
        ("client", (SERVER,), False),
        ("mutual", (SERVER, CLIENT), True),
        ("mutual", (SERVER,), False),
        ("mutual", (CLIENT,), False),
        ("server", (x509.ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,), False),
    ],
)
def test_the_purposes_fit_the_trunks_role(role: str, purposes: tuple[x509.ObjectIdentifier, ...], passes: bool) -> None:
    wanted = plan(
        ('custody = "vault"', 'custody = "vault"\nkey_type = "ec-p256"'),
        ('carrier = "acme"', f'carrier = "acme"\nrole = "{role}"'),
    )
    found = violated(case(leaf(ISSUING, purposes=purposes), plan=wanted))
    assert set(found) == (set() if passes else {"purpose fits the trunk role"})


@pytest.mark.parametrize(
    ("limited_to", "passes"), [((SERVER,), True), ((SERVER, CLIENT), True), ((CLIENT,), False)], ids=str
)
def test_a_ca_that_is_limited_to_other_purposes_is_found(
    limited_to: tuple[x509.ObjectIdentifier, ...], passes: bool
) -> None:
    issuing = authority("Purpose CA", ROOT, purposes=limited_to)
    found = violated(case(leaf(issuing), (issuing,)))
    assert found == (
        {} if passes else {"purpose fits the trunk role": "serverAuth; CN=Purpose CA is limited to clientAuth"}
    )


# -- one example per rule ----------------------------------------------------------------------------------------------


def _weak() -> CertificateCase:
    issuing = authority("Keyed CA", ROOT, label="ca rsa-1024", kind="rsa-1024")
    return case(leaf(issuing), (issuing,))


def _narrow() -> CertificateCase:
    constraints = x509.NameConstraints([x509.DNSName("example.org")], None)
    ca = authority("Narrow CA", ROOT, constraints=constraints)
    return case(leaf(ca), (ca,))


def _not_a_ca() -> CertificateCase:
    ca = authority("CA1", ROOT, ca=False)
    return case(leaf(ca), (ca,))


def _young_root() -> CertificateCase:
    root = authority("Young root", not_before=NOW + SECOND)
    return case(leaf(root), (), (root,))


EXAMPLES: tuple[tuple[Rule, CertificateCase], ...] = tuple(
    zip(
        RULES,
        (
            case(above=()),
            case(above=(POLICY, ISSUING)),
            _not_a_ca(),
            _young_root(),
            _narrow(),
            _weak(),
            case(leaf(ISSUING, digest=hashes.SHA224())),
            case(leaf(ISSUING, label="another")),
            (lambda certificate: case(certificate, a_leaf=facts(pem(certificate))))(leaf(ISSUING)),
            case(leaf(ISSUING, ca=True)),
            case(leaf(ISSUING, dns_names=("wrong.example.com",))),
            case(leaf(ISSUING, dns_names=("wrong.example.com",))),
            case(leaf(ISSUING, not_before=NOW)),
            case(leaf(ISSUING, not_after=NOW + timedelta(days=1))),
            case(leaf(ISSUING, not_after=NOW + timedelta(days=1))),
            case(leaf(ISSUING, purposes=(CLIENT,))),
            case(leaf(ISSUING, kind="ec-p384", label="p384")),
        ),
        strict=True,
    )
)
