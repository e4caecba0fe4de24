"""OCSP staples as a carrier of the lab takes them, and old ones as a neglected edge sends them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

STALE_SINCE = timedelta(days=3)
_LIFE = timedelta(days=7)


def is_fresh_and_good(staple: bytes, leaf: x509.Certificate) -> bool:
    """Whether a staple (DER, empty when there was none) says now that this leaf is good."""
    try:
        response = ocsp.load_der_ocsp_response(staple)
    except ValueError:
        return False
    if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
        return False
    return any(
        single.serial_number == leaf.serial_number
        and single.certificate_status is ocsp.OCSPCertStatus.GOOD
        and single.next_update_utc is not None
        and single.this_update_utc <= datetime.now(UTC) < single.next_update_utc
        for single in response.responses
    )


def stale(
    leaf: x509.Certificate, issuer: x509.Certificate, signer: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> bytes:
    """A response that called the leaf good for a week and is over its time; signed by the issuer's responder, DER."""
    over = datetime.now(UTC) - STALE_SINCE
    return (
        ocsp.OCSPResponseBuilder()
        .add_response(
            cert=leaf,
            issuer=issuer,
            algorithm=SHA1(),
            cert_status=ocsp.OCSPCertStatus.GOOD,
            this_update=over - _LIFE,
            next_update=over,
            revocation_time=None,
            revocation_reason=None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, signer)
        .certificates([signer])
        .sign(key, SHA256())
        .public_bytes(Encoding.DER)
    )
