"""What B must be before a platform sees it: one function per rule, and the list of them (guide sections 1 and 2).

Every rule is asked and every violation reported at once; a rule that passes says what it looked at, for the evidence.
The guide's 10-minute buffers belong to the PKI role and are not added a second time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import NamedTuple

from cryptography import x509

from domain.certificate_facts import (
    CertificateFacts,
    extended_key_usage,
    facts_of,
    host_name,
    ip_text,
    parse_chain,
    signature_hash,
)
from domain.certificate_names import forbidden_names, identity_names, uncovered
from domain.certificate_path import (
    TrustPath,
    issued,
    leaf_defect,
    name_constraints,
    signing_defect,
    trust_path,
    valid_at,
    weak_key,
)
from domain.handshakes import Record
from domain.plan import Plan, TrunkRole, duration_text
from domain.texts import Readable

BACK_DATED = timedelta(hours=24)
"""Guide section 1: notBefore lies 24 hours before the rotation."""

LAST_SECOND = timedelta(minutes=1)
"""Authorities count the last second of a lifetime in or out; a lifetime that was cut short misses by days."""

STRONG_HASHES = frozenset({"sha256", "sha384", "sha512", "sha3-256", "sha3-384", "sha3-512", "ed25519", "ed448"})

PURPOSES = {
    TrunkRole.SERVER: ("serverAuth",),
    TrunkRole.CLIENT: ("clientAuth",),
    TrunkRole.MUTUAL: ("clientAuth", "serverAuth"),
}
"""The extended key usages that a trunk's role needs (RFC 5280 section 4.2.1.12)."""


class RuleResult(Record):
    """One rule: what was seen against what was expected."""

    rule: str
    passed: bool
    seen: Readable
    expected: Readable


@dataclass(frozen=True)
class CertificateCase:
    """Everything that the rules look at. `now` is the check time, with its time zone.

    `a_leaf` is None for a certificate without a predecessor: the plan's list of names takes the place of A's.
    `key_modulus_sha256` is compared where the custody gives it; the SPKI hash alone already covers the modulus.
    """

    chain_pem: str
    trust_anchors_pem: str
    key_spki_sha256: str
    a_leaf: CertificateFacts | None
    plan: Plan
    now: datetime
    key_modulus_sha256: str | None = None

    @cached_property
    def chain(self) -> tuple[x509.Certificate, ...]:
        """The certificates as they would be sent; raises `CertificateRefused` when they cannot be read."""
        return parse_chain(self.chain_pem)

    @cached_property
    def leaf(self) -> CertificateFacts:
        """The facts of B."""
        return facts_of(self.chain[0])

    @cached_property
    def path(self) -> TrustPath:
        """The way from B to a trust anchor, as far as it goes."""
        return trust_path(self.chain, parse_chain(self.trust_anchors_pem, "the trust anchors"), self.now)

    @cached_property
    def needed_until(self) -> datetime:
        """The end of the plan's waits plus its margin: until then B must hold on any way that the rotation takes."""
        timings = self.plan.timings
        return self.now + timings.overlap + timings.hold + timings.expiry_margin


class Looked(NamedTuple):
    """What a rule says."""

    passed: bool
    seen: str
    expected: str


Rule = Callable[[CertificateCase], Looked]


def check_certificate(case: CertificateCase) -> tuple[RuleResult, ...]:
    """Every rule of `RULES` in its order, passed or not.

    Raises `CertificateRefused` only when chain or trust anchors cannot be read at all, `ValueError` when `now` has no
    time zone.
    """
    if case.now.tzinfo is None:
        raise ValueError("the check time needs a time zone")
    return tuple(RuleResult(rule=rule_name(rule), **rule(case)._asdict()) for rule in RULES)


def rule_name(rule: Rule) -> str:
    """The rule's name as it stands in reports, for example `names equal those of A`."""
    return rule.__name__.replace("_", " ")


def chain_reaches_a_trust_anchor(case: CertificateCase) -> Looked:
    """Guide section 2, the trap: every intermediate is sent, up to a root that the carrier trusts."""
    expected = "every intermediate is sent, and the last one's issuer is trusted"
    if case.path.anchor is None:
        top = case.path.certificates[-1]
        return Looked(False, f"{_name(top)} was issued by {_issuer(top)}, which is neither sent nor trusted", expected)
    way = (*case.path.certificates, case.path.anchor)
    return Looked(True, " ← ".join(_name(certificate) for certificate in way), expected)


def chain_is_sent_in_order(case: CertificateCase) -> Looked:
    """RFC 5246 section 7.4.2: each certificate certifies the one before it. A root at the end is not wrong."""
    wrong = [
        f"number {number} ({_name(upper)}) did not issue number {number - 1} ({_name(lower)})"
        for number, (lower, upper) in enumerate(zip(case.chain, case.chain[1:], strict=False), start=2)
        if not issued(lower, upper)
    ]
    return Looked(not wrong, _all(wrong) or f"{len(case.chain)} certificates", "each certifies the one before it")


def every_ca_may_sign(case: CertificateCase) -> Looked:
    """RFC 5280 section 6.1.4: basicConstraints, path length and key usage of every CA on the path."""
    wrong = []
    for below, ca in enumerate(case.path.issuers):
        defect = signing_defect(ca, below, anchor=ca is case.path.anchor)
        if defect is not None:
            wrong.append(f"{_name(ca)} {defect}")
    return Looked(not wrong, _all(wrong) or _count(case.path.issuers), "CA, path length, key usage keyCertSign")


def every_ca_stays_valid(case: CertificateCase) -> Looked:
    """A leaf is worth nothing before its issuer is valid or after it has expired."""
    wrong = [
        f"{_name(ca)} is valid from {_time(ca.not_valid_before_utc)} until {_time(ca.not_valid_after_utc)}"
        for ca in case.path.issuers
        if not (valid_at(ca, case.now) and valid_at(ca, case.needed_until))
    ]
    expected = f"valid from {_time(case.now)} until {_time(case.needed_until)}"
    return Looked(not wrong, _all(wrong) or _count(case.path.issuers), expected)


def every_ca_permits_the_names(case: CertificateCase) -> Looked:
    """RFC 5280 section 4.2.1.10: carriers refuse a name outside a CA's name constraints, though it was signed."""
    wrong, constrained = [], 0
    for ca in case.path.issuers:
        constraints = name_constraints(ca)
        if constraints is not None:
            constrained += 1
            wrong += [f"{_name(ca)} may not sign {name}" for name in forbidden_names(case.leaf, constraints)]
    seen = _all(wrong) or f"{constrained} CAs with name constraints"
    return Looked(not wrong, seen, "every DNS name and address is permitted")


def keys_are_strong(case: CertificateCase) -> Looked:
    """RSA of at least 2048 bits, curves of at least 256, from the leaf to the root."""
    way = (case.path.certificates[0], *case.path.issuers)
    wrong = [f"{_name(certificate)}: {weak}" for certificate in way if (weak := weak_key(certificate))]
    return Looked(not wrong, _all(wrong) or f"{len(way)} keys", "RSA ≥ 2048, EC ≥ 256")


def signatures_use_sha256_or_better(case: CertificateCase) -> Looked:
    """No MD5, no SHA-1. An anchor's own signature is never checked, so it does not count."""
    seen = {_name(certificate): signature_hash(certificate) for certificate in case.path.certificates}
    wrong = any(algorithm not in STRONG_HASHES for algorithm in seen.values())
    return Looked(not wrong, ", ".join(f"{name}: {algorithm}" for name, algorithm in seen.items()), "sha256 or better")


def private_key_matches(case: CertificateCase) -> Looked:
    """Guide section 2: a key that is not the certificate's breaks every handshake. SPKI fits EC too."""
    leaf = case.leaf
    seen, expected = f"SPKI SHA-256 {leaf.spki_sha256}", f"SPKI SHA-256 {case.key_spki_sha256}"
    matches = leaf.spki_sha256 == case.key_spki_sha256
    if leaf.modulus_sha256 is not None:
        seen += f", modulus SHA-256 {leaf.modulus_sha256}"
    if case.key_modulus_sha256 is not None:
        expected += f", modulus SHA-256 {case.key_modulus_sha256}"
        matches = matches and leaf.modulus_sha256 == case.key_modulus_sha256
    return Looked(matches, seen, expected)


def certificate_is_another_than_a(case: CertificateCase) -> Looked:
    """Removing A from the pools would remove B too."""
    if case.a_leaf is None:
        return Looked(True, "no A", "another certificate than A")
    return Looked(
        case.leaf.sha256 != case.a_leaf.sha256, f"SHA-256 {case.leaf.sha256}", f"other than A's {case.a_leaf.sha256}"
    )


def leaf_may_sign_handshakes(case: CertificateCase) -> Looked:
    """TLS 1.3 and ECDHE sign with the leaf's key (RFC 8446 section 4.4.2.2)."""
    defect = leaf_defect(case.chain[0])
    return Looked(defect is None, defect or "an end-entity certificate", "no CA, digitalSignature if usage is stated")


def names_equal_those_of_a(case: CertificateCase) -> Looked:
    """Guide section 1: A and B share the same SANs, or the carrier answers 403."""
    if case.a_leaf is not None:
        wanted, whose = case.a_leaf.names, "A's"
    else:
        spec = case.plan.certificate
        wanted = frozenset(
            [f"DNS:{host_name(name)}" for name in spec.dns_names] + [f"IP:{ip_text(ip)}" for ip in spec.ip_addresses]
        )
        whose = "the plan's, for want of an A"
    missing, extra = sorted(wanted - case.leaf.names), sorted(case.leaf.names - wanted)
    wrong = [f"{word} {', '.join(names)}" for word, names in (("missing", missing), ("too many", extra)) if names]
    return Looked(not wrong, _all(wrong) or _all(sorted(case.leaf.names)), f"{whose}: {_all(sorted(wanted))}")


def names_cover_the_plan(case: CertificateCase) -> Looked:
    """Guide section 1: the SANs cover every trunk FQDN, SRV target and IP address of the plan."""
    wanted = identity_names(case.plan)
    missing = uncovered(wanted, case.leaf)
    return Looked(not missing, f"not covered: {', '.join(missing)}" if missing else _count(wanted), ", ".join(wanted))


def not_before_lies_24_hours_back(case: CertificateCase) -> Looked:
    """Guide section 1, the trap: clocks that run behind must not find B not yet valid."""
    latest = case.now - BACK_DATED
    return Looked(case.leaf.not_before <= latest, _time(case.leaf.not_before), f"at most {_time(latest)}")


def not_after_outlives_the_rotation(case: CertificateCase) -> Looked:
    """Overlap, hold and the plan's margin lie inside B's validity."""
    return Looked(
        case.leaf.not_after >= case.needed_until, _time(case.leaf.not_after), f"at least {_time(case.needed_until)}"
    )


def lifetime_is_what_the_plan_asks(case: CertificateCase) -> Looked:
    """Guide section 1: the standard validity. Authorities cut a lifetime above their limit without refusing it."""
    lifetime, asked = case.leaf.not_after - case.leaf.not_before, case.plan.certificate.lifetime
    if asked is None:
        return Looked(True, duration_text(lifetime), "what the PKI role gives")
    return Looked(lifetime + LAST_SECOND >= asked, duration_text(lifetime), f"at least {duration_text(asked)}")


def purpose_fits_the_trunk_role(case: CertificateCase) -> Looked:
    """Server → serverAuth, client → clientAuth, mutual → both; in the leaf, and in every CA that limits purposes."""
    needed = {purpose for endpoint in case.plan.endpoints for purpose in PURPOSES[endpoint.role]}
    wrong = [
        f"{_name(ca)} is limited to {', '.join(usage)}"
        for ca in case.path.certificates[1:]
        if (usage := extended_key_usage(ca)) is not None and not needed <= set(usage)
    ]
    of_leaf = case.leaf.extended_key_usage
    seen = _all([", ".join(of_leaf) or "none", *wrong])
    return Looked(needed <= set(of_leaf) and not wrong, seen, ", ".join(sorted(needed)))


def key_type_is_what_the_plan_asks(case: CertificateCase) -> Looked:
    """A change of key type is a change for every peer: cipher suites follow it."""
    asked = case.plan.certificate.key_type
    return Looked(case.leaf.key_type == asked, case.leaf.key_type, str(asked))


RULES: tuple[Rule, ...] = (
    chain_reaches_a_trust_anchor,
    chain_is_sent_in_order,
    every_ca_may_sign,
    every_ca_stays_valid,
    every_ca_permits_the_names,
    keys_are_strong,
    signatures_use_sha256_or_better,
    private_key_matches,
    certificate_is_another_than_a,
    leaf_may_sign_handshakes,
    names_equal_those_of_a,
    names_cover_the_plan,
    not_before_lies_24_hours_back,
    not_after_outlives_the_rotation,
    lifetime_is_what_the_plan_asks,
    purpose_fits_the_trunk_role,
    key_type_is_what_the_plan_asks,
)
"""The specification of B."""


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string() or "(no subject)"


def _issuer(certificate: x509.Certificate) -> str:
    return certificate.issuer.rfc4514_string() or "(no issuer)"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _all(parts: Sequence[str]) -> str:
    return "; ".join(parts)


def _count(things: Sequence[object]) -> str:
    return f"all {len(things)}"
