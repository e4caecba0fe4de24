"""RFC 5922 section 7 as a table: whom a certificate speaks for."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from adapters.probe.identity import names_of, sip_identities, speaks_for

FQDN = "trunk.example.com"


@cache
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def leaf(*names: str, common_name: str | None = FQDN) -> x509.Certificate:
    """A certificate with SANs written as `dns:…`, `uri:…`, `ip:…`, `mail:…`; no extension without any."""
    kinds = {
        "dns": x509.DNSName,
        "uri": x509.UniformResourceIdentifier,
        "mail": x509.RFC822Name,
        "ip": lambda text: x509.IPAddress(ipaddress.ip_address(text)),
    }
    alternatives = []
    for name in names:
        kind, _, value = name.partition(":")
        alternatives.append(kinds[kind](value))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key().public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=not common_name)
    return builder.sign(key(), hashes.SHA256())


@pytest.mark.parametrize(
    ("names", "identity", "matches"),
    [
        # DNS names, equal or not (7.2)
        (["dns:trunk.example.com"], FQDN, True),
        (["dns:TRUNK.Example.Com"], "trunk.example.COM", True),
        (["dns:trunk.example.com"], "trunk.example.com.", True),
        (["dns:other.example.com", "dns:trunk.example.com"], FQDN, True),
        (["dns:other.example.com"], FQDN, False),
        (["dns:*.example.com"], FQDN, False),
        (["dns:*.example.com"], "*.example.com", True),
        (["dns:example.com"], FQDN, False),
        (["dns:trunk.example.com"], "example.com", False),
        (["dns:trunk.example.com"], "trunk.example.com.evil.example", False),
        # A SIP URI comes first, and then DNS names do not count (7.1)
        (["uri:sip:trunk.example.com"], FQDN, True),
        (["uri:SIP:Trunk.example.com"], FQDN, True),
        (["uri:sip:trunk.example.com", "dns:node1.example.com"], FQDN, True),
        (["uri:sip:example.com", "dns:trunk.example.com"], FQDN, False),
        (["uri:sip:example.com", "dns:trunk.example.com"], "example.com", True),
        (["uri:sip:alice@trunk.example.com"], FQDN, False),
        (["uri:sip:alice@trunk.example.com", "dns:trunk.example.com"], FQDN, True),
        (["uri:sips:trunk.example.com"], FQDN, False),
        (["uri:https://trunk.example.com"], FQDN, False),
        (["uri:https://trunk.example.com", "dns:trunk.example.com"], FQDN, True),
        # The common name only without any alternative name (7.1)
        ([], FQDN, True),
        ([], "other.example.com", False),
        (["ip:192.0.2.7"], FQDN, False),
        (["mail:noc@example.com"], FQDN, False),
        # Addresses, for trunks on static addresses
        (["ip:192.0.2.7"], "192.0.2.7", True),
        (["ip:192.0.2.7"], "192.0.2.8", False),
        (["ip:2001:db8::7"], "2001:0db8:0:0::7", True),
        (["ip:2001:db8::7"], "[2001:db8::7]", True),
        (["uri:sip:192.0.2.7"], "192.0.2.7", True),
        (["dns:192.0.2.7"], "192.0.2.7", False),
        (["dns:trunk.example.com", "ip:192.0.2.7"], "192.0.2.7", True),
        ([], "192.0.2.7", False),
    ],
)
def test_a_certificate_speaks_for_an_identity_or_not(names: list[str], identity: str, matches: bool) -> None:
    assert speaks_for(leaf(*names), identity) is matches


def test_a_certificate_without_any_name_speaks_for_nobody() -> None:
    assert sip_identities(leaf(common_name=None)) == ()
    assert names_of(leaf(common_name=None)) == "nobody"


def test_a_common_name_that_is_an_address_is_no_identity() -> None:
    assert not speaks_for(leaf(common_name="192.0.2.7"), "192.0.2.7")


def test_names_are_told_to_people() -> None:
    shown = names_of(leaf("dns:b.example.com", "dns:a.example.com", "ip:192.0.2.7"))
    assert shown == "a.example.com, b.example.com, 192.0.2.7"
