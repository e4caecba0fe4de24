"""Does a certificate speak for a SIP domain? RFC 5922 section 7, and IP addresses where the identity is one."""

from __future__ import annotations

from cryptography import x509

from domain.certificate_facts import facts_of, host_name, ip_text
from domain.certificate_names import sip_domains


def sip_identities(leaf: x509.Certificate) -> tuple[str, ...]:
    """The SIP domains of the leaf, lower case, sorted (RFC 5922 section 7.1).

    `URI:sip:domain` without a user part; if there is none, the DNS names; if there is no subjectAltName at all, the
    common name. Raises `CertificateRefused` when its contents cannot be read.
    """
    facts = facts_of(leaf)
    if not (facts.uris or facts.dns_names or _has_alternative_names(leaf)):
        return (host_name(facts.common_name),) if facts.common_name else ()
    return tuple(sorted(set(sip_domains(facts.uris)))) or facts.dns_names


def speaks_for(leaf: x509.Certificate, identity: str) -> bool:
    """True when the leaf bears the identity: a SIP domain or an IP address, as the plan or the carrier names it.

    Names are equal or not, without regard to case: a wildcard or a parent domain matches nothing (section 7.2). An
    address matches SAN `IP:`, which RFC 5922 leaves out and trunks on static addresses use, or `URI:sip:` with it.
    """
    address = ip_text(identity.strip("[]"))
    if address is None:
        return host_name(identity) in sip_identities(leaf)
    facts = facts_of(leaf)
    return address in facts.ip_addresses or address in sip_domains(facts.uris)


def names_of(leaf: x509.Certificate) -> str:
    """Whom the leaf speaks for, for people."""
    facts = facts_of(leaf)
    return ", ".join([*sip_identities(leaf), *facts.ip_addresses]) or "nobody"


def _has_alternative_names(leaf: x509.Certificate) -> bool:
    try:
        leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return False
    return True
