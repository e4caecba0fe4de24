"""Names of handshake failures: the TLS alert in lower case, or `connection_reset`, `timeout`, `other`."""

from __future__ import annotations

import re
import ssl

ALERTS = frozenset(
    {
        "unknown_ca",
        "bad_certificate",
        "certificate_unknown",
        "certificate_expired",
        "certificate_revoked",
        "unsupported_certificate",
        "handshake_failure",
        "protocol_version",
        "unrecognized_name",
        "certificate_required",
        "internal_error",
        "bad_certificate_status_response",
    }
)
"""The alerts that the platform contract names; any other alert is reported as `other`."""

_NUMBERS = {
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    48: "unknown_ca",
    70: "protocol_version",
    80: "internal_error",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    116: "certificate_required",
}
"""The same by their numbers (RFC 8446 section 6)."""

_RECEIVED_ALERT = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?(\w+)")

# What OpenSSL sends when its own verification fails (ssl/statem/statem_lib.c), by X509_V_ERR number.
_VERIFY_ALERTS = {
    **dict.fromkeys((2, 3, 18, 19, 20, 21, 22, 24, 25, 33), "unknown_ca"),
    **dict.fromkeys((4, 5, 6, 9, 11, 13, 14, 27, 28, 62, 63, 64, 66, 67, 68, 94), "bad_certificate"),
    **dict.fromkeys((10, 12), "certificate_expired"),
    23: "certificate_revoked",
    26: "unsupported_certificate",
    50: "handshake_failure",
    # Signatures that do not verify end in decrypt_error, which the contract does not name.
    **dict.fromkeys((7, 8), "other"),
    **dict.fromkeys((1, 17, 69, 70), "internal_error"),
}

# What OpenSSL sends when the handshake fails on this side for another reason, by reason name.
_LOCAL_ALERTS = {
    "NO_SHARED_CIPHER": "handshake_failure",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "handshake_failure",
    "NO_SHARED_GROUPS": "handshake_failure",
    "NO_SUITABLE_KEY_SHARE": "handshake_failure",
    "NO_CERTIFICATE_SET": "handshake_failure",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "certificate_required",
    "UNSUPPORTED_PROTOCOL": "protocol_version",
    "VERSION_TOO_LOW": "protocol_version",
    "VERSION_TOO_HIGH": "protocol_version",
    "WRONG_SSL_VERSION": "protocol_version",
    "INTERNAL_ERROR": "internal_error",
}


class AlertSeen(ssl.SSLError):
    """A handshake or connection that ended with an alert, sent or received, whose number is known."""

    def __init__(self, number: int) -> None:
        super().__init__(0, f"alert {number}")
        self.number = number


def failure_cause(error: BaseException) -> str:
    """The contract's name of what ended a handshake or a connection: an alert sent or received, or the rest.

    A peer that goes away without an alert, by FIN or RST, is `connection_reset`.
    """
    match error:
        case AlertSeen():
            return _NUMBERS.get(error.number, "other")
        case ssl.SSLCertVerificationError():
            return _VERIFY_ALERTS.get(error.verify_code, "certificate_unknown")
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError() | ConnectionError():
            return "connection_reset"
        case ssl.SSLError():
            return _alert_name(error.reason or "")
        case TimeoutError():
            return "timeout"
        case _:
            return "other"


def _alert_name(reason: str) -> str:
    """The alert behind an OpenSSL reason such as `TLSV1_ALERT_UNKNOWN_CA` or `NO_SHARED_CIPHER`."""
    if reason in _LOCAL_ALERTS:
        return _LOCAL_ALERTS[reason]
    received = _RECEIVED_ALERT.fullmatch(reason)
    name = received[1].lower() if received else "other"
    return name if name in ALERTS else "other"
