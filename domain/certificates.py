"""Certificates: what they say (`facts`), and whether one may become B (`check_certificate`)."""

from __future__ import annotations

from domain.certificate_facts import (
    CertificateFacts,
    facts,
    facts_of,
    modulus_sha256,
    parse_chain,
    public_key_sha256,
    spki_sha256,
)
from domain.certificate_names import identity_names
from domain.certificate_rules import RULES, CertificateCase, RuleResult, check_certificate

__all__ = [
    "RULES",
    "CertificateCase",
    "CertificateFacts",
    "RuleResult",
    "check_certificate",
    "facts",
    "facts_of",
    "identity_names",
    "modulus_sha256",
    "parse_chain",
    "public_key_sha256",
    "spki_sha256",
]
