"""What counts as an answer of OCSP and CRL, and what does not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from adapters.pki.chain import without_root
from adapters.pki.revocation import Verdict, ocsp_request, read_crl, read_ocsp, responder_urls
from domain.certificates import parse_chain
from tests.lab.small_ca import Authority

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
REVOKED_AT = NOW - HOUR

ROOT = Authority("root")
CA = Authority("issuer", ROOT)
LEAF = parse_chain(CA.issue("trunk.example.com").chain_pem)[0]
OTHER = parse_chain(CA.issue("other.example.com").chain_pem)[0]
STRANGER = Authority("issuer", ROOT)


def response(
    status: ocsp.OCSPCertStatus,
    *,
    about: x509.Certificate = LEAF,
    signer: Authority = CA,
    delegate: tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes] | None = None,
    next_update: datetime | None = NOW + HOUR,
) -> bytes:
    """A signed OCSP response."""
    revoked = REVOKED_AT if status is ocsp.OCSPCertStatus.REVOKED else None
    certificate, key = delegate or (signer.certificate, signer.key)
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(about, CA.certificate, hashes.SHA1(), status, NOW - 2 * HOUR, next_update, revoked, None)
        .responder_id(ocsp.OCSPResponderEncoding.HASH, certificate)
    )
    if delegate:
        builder = builder.certificates([certificate])
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def delegate(
    by: Authority, *usages: x509.ObjectIdentifier
) -> tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes]:
    """A responder's certificate with an RSA key, and that key."""
    key = rsa.generate_private_key(65537, 2048)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "responder")]))
        .issuer_name(by.name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - HOUR)
        .not_valid_after(NOW + HOUR)
    )
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(by.key, hashes.SHA256()), key


def crl(*serials: int, signer: Authority = CA, next_update: datetime = NOW + HOUR) -> x509.CertificateRevocationList:
    """A signed CRL."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.name)
        .last_update(NOW - 2 * HOUR)
        .next_update(next_update)
    )
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(REVOKED_AT).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(signer.key, hashes.SHA256())


def verdict(der: bytes) -> Verdict:
    return read_ocsp(der, LEAF, CA.certificate, NOW)


def test_an_ocsp_request_names_exactly_the_certificate() -> None:
    request = ocsp.load_der_ocsp_request(ocsp_request(LEAF, CA.certificate))
    assert request.serial_number == LEAF.serial_number


def test_ocsp_says_good_or_revoked() -> None:
    assert verdict(response(ocsp.OCSPCertStatus.GOOD)) == Verdict(False, "OCSP: good")
    revoked = verdict(response(ocsp.OCSPCertStatus.REVOKED))
    assert (revoked.revoked, revoked.revoked_at) == (True, REVOKED_AT)


def test_an_unknown_certificate_is_neither_good_nor_revoked() -> None:
    assert verdict(response(ocsp.OCSPCertStatus.UNKNOWN)).revoked is None


@pytest.mark.parametrize(
    ("der", "reason"),
    [
        (response(ocsp.OCSPCertStatus.GOOD, signer=STRANGER), "not signed by the issuer"),
        (response(ocsp.OCSPCertStatus.GOOD, about=OTHER), "another certificate"),
        (response(ocsp.OCSPCertStatus.GOOD, next_update=NOW - HOUR), "stale"),
        (
            ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(Encoding.DER),
            "try_later",
        ),
        (b"<html>", "no OCSP response"),
        (b"", "no OCSP response"),
    ],
)
def test_an_ocsp_answer_that_proves_nothing_is_no_verdict(der: bytes, reason: str) -> None:
    seen = verdict(der)
    assert seen.revoked is None
    assert reason in seen.detail


def test_a_responder_that_the_issuer_delegated_is_believed() -> None:
    signer = delegate(CA, ExtendedKeyUsageOID.OCSP_SIGNING)
    assert verdict(response(ocsp.OCSPCertStatus.GOOD, delegate=signer)).revoked is False


@pytest.mark.parametrize(
    "signer",
    [
        delegate(CA),
        delegate(CA, ExtendedKeyUsageOID.SERVER_AUTH),
        delegate(STRANGER, ExtendedKeyUsageOID.OCSP_SIGNING),
    ],
)
def test_a_responder_that_nobody_delegated_is_not_believed(
    signer: tuple[x509.Certificate, CertificateIssuerPrivateKeyTypes],
) -> None:
    assert verdict(response(ocsp.OCSPCertStatus.GOOD, delegate=signer)).revoked is None


def test_an_answer_without_an_end_does_not_grow_stale() -> None:
    assert verdict(response(ocsp.OCSPCertStatus.GOOD, next_update=None)).revoked is False


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_crl_lists_the_certificate_or_does_not(encoding: Encoding) -> None:
    listed = read_crl(crl(LEAF.serial_number).public_bytes(encoding), LEAF, CA.certificate, NOW)
    absent = read_crl(crl(OTHER.serial_number).public_bytes(encoding), LEAF, CA.certificate, NOW)
    assert (listed.revoked, listed.revoked_at) == (True, REVOKED_AT)
    assert absent.revoked is False


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (crl(signer=STRANGER).public_bytes(Encoding.PEM), "not signed by the issuer"),
        (crl(signer=ROOT).public_bytes(Encoding.PEM), "not signed by the issuer"),
        (crl(next_update=NOW - HOUR).public_bytes(Encoding.PEM), "stale"),
        (b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "no CRL"),
        (b"", "no CRL"),
    ],
)
def test_a_crl_that_proves_nothing_is_no_verdict(content: bytes, reason: str) -> None:
    seen = read_crl(content, LEAF, CA.certificate, NOW)
    assert seen.revoked is None
    assert reason in seen.detail


def test_the_responders_are_those_that_the_certificate_names() -> None:
    access = [
        (AuthorityInformationAccessOID.OCSP, "http://ocsp.example.com"),
        (AuthorityInformationAccessOID.CA_ISSUERS, "http://ca.example.com"),
        (AuthorityInformationAccessOID.OCSP, "http://second.example.com"),
    ]
    descriptions = [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for method, url in access]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(CA.name)
        .issuer_name(CA.name)
        .public_key(CA.key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + HOUR)
        .add_extension(x509.AuthorityInformationAccess(descriptions), critical=False)
        .sign(CA.key, hashes.SHA256())
    )
    assert responder_urls(certificate) == ("http://ocsp.example.com", "http://second.example.com")
    assert responder_urls(LEAF) == ()


def test_a_chain_is_put_in_order_and_ends_before_the_root() -> None:
    second = Authority("second", CA)
    leaf = parse_chain(second.issue("trunk.example.com").chain_pem)[0]
    shuffled = [ROOT.certificate, CA.certificate, STRANGER.certificate, second.certificate, CA.certificate]
    assert parse_chain(without_root(leaf, shuffled)) == (leaf, second.certificate, CA.certificate)
    assert parse_chain(without_root(leaf, [])) == (leaf,)
