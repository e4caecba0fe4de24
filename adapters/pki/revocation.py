"""What an OCSP answer (RFC 6960) or a CRL (RFC 5280 section 5) says about one certificate.

Answers count only when the issuer (or its delegated responder) signed them and they are current; everything else is
"not to be had", with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from domain.certificate_path import issued

OCSP_REQUEST_TYPE = "application/ocsp-request"


@dataclass(frozen=True)
class Verdict:
    """True revoked, False good, None not to be had; `detail` for people."""

    revoked: bool | None
    detail: str
    revoked_at: datetime | None = None


def responder_urls(leaf: x509.Certificate) -> tuple[str, ...]:
    """The OCSP responders that the certificate names (RFC 5280 section 4.2.2.1)."""
    try:
        access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(
        description.access_location.value
        for description in access
        if description.access_method == AuthorityInformationAccessOID.OCSP
        and isinstance(description.access_location, x509.UniformResourceIdentifier)
    )


def ocsp_request(leaf: x509.Certificate, issuer: x509.Certificate) -> bytes:
    """A DER request for one certificate, CertID over SHA-1 as every responder knows it (RFC 5019), without nonce."""
    name_only = hashes.SHA1()  # noqa: S303 - it finds the certificate and protects nothing
    return ocsp.OCSPRequestBuilder().add_certificate(leaf, issuer, name_only).build().public_bytes(Encoding.DER)


def read_ocsp(der: bytes, leaf: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Verdict:
    """The verdict of a DER response."""
    try:
        response = ocsp.load_der_ocsp_response(der)
    except ValueError:
        return Verdict(None, "OCSP: the answer is no OCSP response")
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return Verdict(None, f"OCSP: the responder answers {response.response_status.name.lower()}")
    if not signed_for(response, issuer):
        return Verdict(None, "OCSP: the answer is not signed by the issuer or its responder")
    for single in response.responses:
        if single.serial_number != leaf.serial_number:
            continue
        if single.next_update_utc is not None and single.next_update_utc < now:
            return Verdict(None, f"OCSP: the answer is stale since {single.next_update_utc:%Y-%m-%dT%H:%M:%SZ}")
        if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
            at = single.revocation_time_utc
            return Verdict(True, f"OCSP: revoked at {at:%Y-%m-%dT%H:%M:%SZ}" if at else "OCSP: revoked", at)
        if single.certificate_status is ocsp.OCSPCertStatus.GOOD:
            return Verdict(False, "OCSP: good")
        return Verdict(None, "OCSP: the responder does not know the certificate")
    return Verdict(None, "OCSP: the answer is about another certificate")


def read_crl(crl_bytes: bytes, leaf: x509.Certificate, issuer: x509.Certificate, now: datetime) -> Verdict:
    """The verdict of a CRL, PEM or DER."""
    try:
        pem = crl_bytes.lstrip().startswith(b"-----BEGIN")
        crl = x509.load_pem_x509_crl(crl_bytes) if pem else x509.load_der_x509_crl(crl_bytes)
    except ValueError:
        return Verdict(None, "CRL: the answer is no CRL")
    if not _crl_signed_by(crl, issuer):
        return Verdict(None, "CRL: not signed by the issuer")
    if crl.next_update_utc is not None and crl.next_update_utc < now:
        return Verdict(None, f"CRL: stale since {crl.next_update_utc:%Y-%m-%dT%H:%M:%SZ}")
    entry = crl.get_revoked_certificate_by_serial_number(leaf.serial_number)
    if entry is None:
        return Verdict(False, f"CRL of {crl.last_update_utc:%Y-%m-%dT%H:%M:%SZ}: not listed")
    at = entry.revocation_date_utc
    return Verdict(True, f"CRL of {crl.last_update_utc:%Y-%m-%dT%H:%M:%SZ}: revoked at {at:%Y-%m-%dT%H:%M:%SZ}", at)


def _crl_signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    try:
        return crl.issuer == issuer.subject and crl.is_signature_valid(key)  # type: ignore[arg-type]
    except (TypeError, UnsupportedAlgorithm):
        return False


def signed_for(response: ocsp.OCSPResponse, issuer: x509.Certificate) -> bool:
    """Signed by the issuer itself, or by a certificate that the issuer made for OCSP (RFC 6960 section 4.2.2.2)."""
    delegates = [certificate for certificate in response.certificates if _may_answer(certificate, issuer)]
    return any(_signature_fits(response, signer) for signer in (issuer, *delegates))


def _may_answer(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return ExtendedKeyUsageOID.OCSP_SIGNING in usage and issued(certificate, issuer)


def _signature_fits(response: ocsp.OCSPResponse, signer: x509.Certificate) -> bool:
    key, digest = signer.public_key(), response.signature_hash_algorithm
    try:
        if isinstance(key, rsa.RSAPublicKey) and digest is not None:
            key.verify(response.signature, response.tbs_response_bytes, padding.PKCS1v15(), digest)
            return True
        if isinstance(key, ec.EllipticCurvePublicKey) and digest is not None:
            key.verify(response.signature, response.tbs_response_bytes, ec.ECDSA(digest))
            return True
    except InvalidSignature:
        pass
    return False
