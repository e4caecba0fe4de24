"""The SIP identities of a certificate (RFC 5922 section 7.1)."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID


def sip_domains(leaf_der: bytes) -> frozenset[str]:
    """Lower-case domains that the certificate is for: SAN `URI:sip:…`, else SAN DNS, else (no SAN) the CN."""
    leaf = x509.load_der_x509_certificate(leaf_der)
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        subject = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return frozenset(str(name.value).lower() for name in subject)
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    domains = [uri.split(":", 1)[1] for uri in uris if uri.lower().startswith("sip:") and "@" not in uri]
    return frozenset(name.lower() for name in domains or names.get_values_for_type(x509.DNSName))
