"""Reading certificates: the facts, and what is refused at the door."""

from __future__ import annotations

import hashlib
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from domain.certificates import CertificateFacts, facts, parse_chain, public_key_sha256, spki_sha256
from domain.errors import CertificateRefused
from tests.domain.chains import CLIENT, SERVER, authority, key, leaf, name, pem, spki

ROOT = authority("Root")


def private_pem() -> str:
    return (
        key("leaf")
        .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        .decode()
    )


def test_the_facts_of_a_leaf_are_those_that_it_states() -> None:
    certificate = leaf(
        ROOT,
        dns_names=("B.Trunk.Example.com", "a.trunk.example.com."),
        addresses=("2001:db8:0:0:0:0:0:1", "192.0.2.5"),
        uris=("sip:trunk.example.com",),
        purposes=(SERVER, CLIENT, x509.ObjectIdentifier("1.3.6.1.5.5.7.3.20")),
    )
    seen = facts(pem(certificate, ROOT.certificate))
    assert seen.sha256 == certificate.fingerprint(hashes.SHA256()).hex()
    assert seen.spki_sha256 == hashlib.sha256(spki(key("leaf"))).hexdigest()
    assert seen.modulus_sha256 is None
    assert int(seen.serial, 16) == certificate.serial_number
    assert len(seen.serial) % 2 == 0
    assert seen.common_name == "trunk.example.com"
    assert seen.issuer == "CN=Root"
    assert seen.dns_names == ("a.trunk.example.com", "b.trunk.example.com")
    assert seen.ip_addresses == ("192.0.2.5", "2001:db8::1")
    assert seen.uris == ("sip:trunk.example.com",)
    assert seen.extended_key_usage == ("1.3.6.1.5.5.7.3.20", "clientAuth", "serverAuth")
    assert (seen.key_type, seen.signature_hash) == ("ec-p256", "sha256")
    assert (seen.not_before, seen.not_after) == (certificate.not_valid_before_utc, certificate.not_valid_after_utc)


def test_facts_survive_their_way_through_a_payload() -> None:
    seen = facts(pem(leaf(ROOT, addresses=("192.0.2.5",))))
    assert CertificateFacts.model_validate_json(seen.model_dump_json()) == seen


def test_two_name_lists_that_differ_only_in_order_and_case_are_the_same_names() -> None:
    first = facts(pem(leaf(ROOT, dns_names=("a.example.com", "b.example.com"))))
    second = facts(pem(leaf(ROOT, dns_names=("B.example.com", "A.example.com."))))
    assert first.names == second.names == {"DNS:a.example.com", "DNS:b.example.com"}


def test_a_dns_name_is_not_mistaken_for_an_address_or_a_uri() -> None:
    as_dns = facts(pem(leaf(ROOT, dns_names=("192.0.2.5",))))
    as_address = facts(pem(leaf(ROOT, dns_names=(), addresses=("192.0.2.5",))))
    assert as_dns.names != as_address.names


def test_an_rsa_leaf_has_the_modulus_hash_that_openssl_prints() -> None:
    certificate = leaf(ROOT, label="rsa", kind="rsa-2048")
    seen = facts(pem(certificate))
    modulus = f"{key('rsa', 'rsa-2048').public_key().public_numbers().n:X}"  # type: ignore[union-attr]
    assert seen.modulus_sha256 == hashlib.sha256(f"Modulus={modulus}\n".encode()).hexdigest()
    assert seen.key_type == "rsa-2048"
    openssl = shutil.which("openssl")
    if openssl is not None:
        command = [openssl, "x509", "-noout", "-modulus"]
        printed = subprocess.run(command, input=pem(certificate).encode(), capture_output=True, check=True).stdout
        assert hashlib.sha256(printed).hexdigest() == seen.modulus_sha256


def test_key_csr_and_leaf_share_one_spki_fingerprint() -> None:
    private = key("leaf")
    csr = x509.CertificateSigningRequestBuilder().subject_name(name("trunk.example.com")).sign(private, hashes.SHA256())
    assert facts(pem(leaf(ROOT))).spki_sha256 == public_key_sha256(csr.public_key()) == spki_sha256(spki(private))


def test_a_certificate_without_names_or_purposes_has_none() -> None:
    seen = facts(pem(leaf(ROOT, dns_names=(), purposes=())))
    assert seen.names == frozenset()
    assert seen.extended_key_usage == ()


def test_text_between_the_certificates_is_tolerated_as_openssl_writes_it() -> None:
    certificate = leaf(ROOT)
    text = f"subject=CN = trunk\n{pem(certificate)}\nissuer=CN = Root\n{pem(ROOT.certificate)}"
    assert parse_chain(text) == (certificate, ROOT.certificate)


GOOD = pem(leaf(ROOT))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("", "no PEM certificate"),
        ("not a certificate at all", "no PEM certificate"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate that can be read"),
        (GOOD.replace("-----END CERTIFICATE-----", ""), "no certificate that can be read"),
        (GOOD[: len(GOOD) // 2], "no certificate that can be read"),
        (GOOD + GOOD[: len(GOOD) // 2], "1 of 2 PEM blocks could be read"),
        (GOOD.replace("CERTIFICATE", "CERTIFICATE REQUEST"), "CERTIFICATE REQUEST besides certificates"),
        (GOOD + "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "X509 CRL besides certificates"),
        (GOOD + private_pem(), "holds a private key"),
        (GOOD + private_pem().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"), "holds a private key"),
        (GOOD + private_pem().replace("PRIVATE KEY", "RSA PRIVATE KEY"), "holds a private key"),
    ],
    ids=[
        "nothing",
        "no PEM",
        "no DER inside",
        "no END line",
        "cut in the middle",
        "second one cut in the middle",
        "a request",
        "a CRL",
        "a PKCS#8 key",
        "an encrypted key",
        "an RSA key",
    ],
)
def test_what_is_no_chain_of_certificates_is_refused_without_repeating_it(text: str, seen: str) -> None:
    with pytest.raises(CertificateRefused) as refused:
        parse_chain(text)
    assert seen in str(refused.value)
    lines = [line for line in text.splitlines() if len(line) > 20 and "-----" not in line and " " not in line]
    assert not any(line in str(refused.value) for line in lines)


def test_a_certificate_whose_extensions_cannot_be_read_is_refused() -> None:
    broken = leaf(ROOT, dns_names=("trunk.example.com",)).public_bytes(serialization.Encoding.DER)
    marker = b"\x82\x11trunk.example.com"
    assert broken.count(marker) == 1
    certificate = x509.load_der_x509_certificate(broken.replace(marker, b"\x82\x12trunk.example.com"))
    with pytest.raises(CertificateRefused, match=r"cannot be read|can be read"):
        parse_chain(certificate.public_bytes(serialization.Encoding.PEM).decode())
