"""A certificate case in which everything is right, and the rules that a changed one violates."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from cryptography import x509

from domain.certificates import CertificateCase, CertificateFacts, check_certificate, facts, spki_sha256
from domain.plan import Plan
from tests.domain.chains import NOW, Issuer, authority, key, leaf, pem, spki
from tests.domain.plans import plan

EC_PLAN = plan(('custody = "vault"', 'custody = "vault"\nkey_type = "ec-p256"'))
RSA_PLAN = plan()
SECOND = timedelta(seconds=1)
WAITS = timedelta(hours=72) + timedelta(hours=24) + timedelta(hours=24)

ROOT = authority("Root")
POLICY = authority("Policy CA", ROOT)
ISSUING = authority("Issuing CA", POLICY)
A = facts(pem(leaf(ISSUING, label="a")))


def case(
    certificate: x509.Certificate | None = None,
    above: Sequence[Issuer] = (ISSUING, POLICY),
    roots: Sequence[Issuer] = (ROOT,),
    *,
    a_leaf: CertificateFacts | None = A,
    plan: Plan = EC_PLAN,
) -> CertificateCase:
    """A case in which everything is right, but for what the test changes."""
    return CertificateCase(
        chain_pem=pem(certificate or leaf(ISSUING), *(issuer.certificate for issuer in above)),
        trust_anchors_pem=pem(*(issuer.certificate for issuer in roots)),
        key_spki_sha256=spki_sha256(spki(key("leaf"))),
        a_leaf=a_leaf,
        plan=plan,
        now=NOW,
    )


def violated(of: CertificateCase) -> dict[str, str]:
    """The rules that fail, with what they saw."""
    return {result.rule: result.seen for result in check_certificate(of) if not result.passed}
