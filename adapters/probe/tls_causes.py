"""Words for what ended a handshake: the alert that the peer sent, or why we did not trust its certificate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cryptography import x509
from OpenSSL import SSL

from domain.probed import Distrust

ALERTS: Final = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    100: "no_renegotiation",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""AlertDescription (RFC 8446 section 6, RFC 5246 section 7.2)."""

_CODES = SSL.X509VerificationCodes
_NO_ISSUER: Final = frozenset(
    {
        _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT,
        _CODES.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        _CODES.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
    }
)
_SELF_SIGNED: Final = frozenset({_CODES.ERR_DEPTH_ZERO_SELF_SIGNED_CERT, _CODES.ERR_SELF_SIGNED_CERT_IN_CHAIN})
_PLAIN: Final = {
    _CODES.ERR_CERT_HAS_EXPIRED: (Distrust.EXPIRED, "expired"),
    _CODES.ERR_CERT_NOT_YET_VALID: (Distrust.NOT_YET_VALID, "not yet valid"),
    _CODES.ERR_INVALID_PURPOSE: (Distrust.WRONG_PURPOSE, "wrong purpose: not for a TLS server"),
    _CODES.ERR_CERT_SIGNATURE_FAILURE: (Distrust.OTHER, "wrong signature"),
}


def alert_name(number: int) -> str:
    """The alert in lower case, as the RFCs write it."""
    return ALERTS.get(number, f"alert_{number}")


def distrust(
    code: int, depth: int, certificate: x509.Certificate, shown: Sequence[x509.Certificate]
) -> tuple[Distrust, str]:
    """Why OpenSSL's verification (X509_V_ERR `code`) refused `certificate`, at `depth` above the leaf: kind and words.

    "incomplete chain" when the server sent its leaf alone and nobody we trust issued it; otherwise the topmost issuer
    is "unknown". Which of the two a lone leaf is, nobody can tell who does not know the CA.
    """
    whose = "the leaf" if depth == 0 else certificate.subject.rfc4514_string()
    if code in _NO_ISSUER:
        issuer = certificate.issuer.rfc4514_string()
        if depth == 0 and len(shown) == 1:
            lone = f"incomplete chain: the leaf came alone, and its issuer {issuer} is no trust anchor"
            return Distrust.INCOMPLETE_CHAIN, lone
        return Distrust.UNKNOWN_ISSUER, f"unknown issuer: {issuer} is neither in the chain nor a trust anchor"
    if code in _SELF_SIGNED:
        return Distrust.UNKNOWN_ISSUER, f"unknown issuer: {whose} is self-signed and no trust anchor"
    kind, words = _PLAIN.get(code) or (Distrust.OTHER, _constant(code))
    return kind, f"{words}: {whose}"


def _constant(code: int) -> str:
    """OpenSSL's own name of a verification error, in words."""
    for name, value in vars(_CODES).items():
        if value == code and name.startswith("ERR_"):
            return name.removeprefix("ERR_").replace("_", " ").lower()
    return f"verification error {code}"
