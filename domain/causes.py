"""What a failed handshake or call can come from, and which observation points to which cause. Data, in one place.

`docs/diagnosis.md` is checked against these tables. Alerts are those of RFC 8446 section 6.2, which names the meaning
of each; RFC 5246 section 7.2.2 and RFC 6066 section 8 are the sources of those that TLS 1.3 took over. An alert says
what the peer complained of, never why, so that it makes a cause likely at most (`domain.diagnosis`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from domain.handshakes import CERTIFICATE_ALERTS
from domain.probed import Distrust


class FailureCause(StrEnum):
    """Why handshakes or calls on a trunk fail. UNKNOWN is an answer: what was seen fits nothing here."""

    INCOMPLETE_CHAIN = "incomplete chain"
    UNKNOWN_ISSUER = "unknown issuer"
    NAME_MISMATCH = "name mismatch"
    CIPHER_MISMATCH = "cipher mismatch"
    PROTOCOL_MISMATCH = "protocol mismatch"
    NOT_YET_VALID = "not yet valid"
    EXPIRED = "expired"
    CLOCK_DRIFT = "clock drift"
    REVOKED = "revoked"
    STAPLE_STALE = "stale OCSP staple"
    STAPLE_MISSING = "missing OCSP staple"
    RESUMPTION = "session resumption"
    WRONG_PURPOSE = "wrong purpose"
    NO_CLIENT_CERTIFICATE = "no client certificate"
    NOT_RESOLVED = "name does not resolve"
    NOT_REACHABLE = "no TCP connection"
    SIP_REFUSED = "refused by SIP"
    UNKNOWN = "unknown"


class Remedy(NamedTuple):
    """What a cause means, and what a person does next."""

    sentence: str
    next_step: str


C = FailureCause

REMEDIES: Final[Mapping[FailureCause, Remedy]] = {
    C.INCOMPLETE_CHAIN: Remedy(
        "the leaf is served without the intermediate that leads to the root",
        "upload the chain with every intermediate again, and probe the node",
    ),
    C.UNKNOWN_ISSUER: Remedy(
        "the other side does not trust the CA that issued the certificate",
        "have the carrier add the root of B's chain to the trunk's trust store, then start again",
    ),
    C.NAME_MISMATCH: Remedy(
        "the certificate does not bear the name that the other side expects on the trunk",
        "ask the carrier which name it expects, and compare it with the subject alternative names of A and B",
    ),
    C.CIPHER_MISMATCH: Remedy(
        "both sides have no cipher suite, group or signature algorithm in common",
        "compare the carrier's suites with the trunk's and with B's key type, and agree on a common one",
    ),
    C.PROTOCOL_MISMATCH: Remedy(
        "both sides have no TLS version in common",
        "have the carrier enable TLS 1.2 or 1.3, or allow TLS 1.2 on the listener that serves B",
    ),
    C.NOT_YET_VALID: Remedy(
        "the certificate's notBefore lies in the future",
        "wait until notBefore, or issue B anew with notBefore 24 hours back",
    ),
    C.EXPIRED: Remedy(
        "the certificate, or an intermediate of its chain, has expired",
        "look at the dates of every certificate of the chain, and issue or upload it anew",
    ),
    C.CLOCK_DRIFT: Remedy(
        "a clock is off: the certificate is inside its validity, and the other side finds it outside",
        "compare the clocks of edge, carrier and worker with NTP and set the wrong one right, then start again",
    ),
    C.REVOKED: Remedy(
        "the certificate counts as revoked",
        "look up its serial number in the PKI's OCSP and CRL; if it is good there, have the carrier flush its caches",
    ),
    C.STAPLE_STALE: Remedy(
        "the edge staples an OCSP response that is over its time or cannot be believed",
        "let the edge fetch a fresh OCSP response for B, and check that it reaches the responder",
    ),
    C.STAPLE_MISSING: Remedy(
        "the other side demands an OCSP staple, and the edge sends none with B",
        "enable OCSP stapling on the listener that serves B, or have the carrier ask the responder itself",
    ),
    C.RESUMPTION: Remedy(
        "fresh handshakes are fine, resumed sessions are not",
        "flush the edge's ticket cache, and have the carrier pause session resumption for 30 minutes",
    ),
    C.WRONG_PURPOSE: Remedy(
        "the certificate is not for this use: its key usage or its kind of key is refused",
        "compare the extended key usage (serverAuth, clientAuth) and the key type of B with A's",
    ),
    C.NO_CLIENT_CERTIFICATE: Remedy(
        "a client certificate is demanded, and none was shown",
        "check that the trunk's role is mutual on both sides, and that B is bound for outbound calls",
    ),
    C.NOT_RESOLVED: Remedy(
        "the name of the target has no address",
        "put the A or AAAA record of the target back, and look at the SRV record that leads to it",
    ),
    C.NOT_REACHABLE: Remedy(
        "no TCP connection to the target",
        "check the listener, port 5061 and the firewalls between; certificates play no part before TCP stands",
    ),
    C.SIP_REFUSED: Remedy(
        "the handshake is good, and SIP refuses the request",
        "ask the carrier why it refuses: its list of allowed names or fingerprints, or a cached OCSP answer",
    ),
    C.UNKNOWN: Remedy(
        "what was seen fits no known cause",
        "compare the traces of both sides for one failed handshake; the evidence has what was counted",
    ),
}


class AlertRow(NamedTuple):
    """One alert, or one of the contract's words for an end without an alert, and the causes it points to, best first.

    With `fresh_is_fine` it points there only when a fresh handshake of our own went well.
    """

    number: int | None
    causes: tuple[FailureCause, ...]
    source: str
    fresh_is_fine: bool = False


_8446, _5246, _6066 = "RFC 8446 section 6.2", "RFC 5246 section 7.2.2", "RFC 6066 section 8"
_RESUMED = (C.RESUMPTION,)

ALERTS: Final[Mapping[str, AlertRow]] = {
    "unknown_ca": AlertRow(48, (C.UNKNOWN_ISSUER, C.INCOMPLETE_CHAIN), _8446),
    "bad_certificate": AlertRow(42, (C.NAME_MISMATCH, C.CLOCK_DRIFT, C.NOT_YET_VALID), _8446),
    "certificate_unknown": AlertRow(46, (C.NAME_MISMATCH, C.UNKNOWN_ISSUER, C.STAPLE_STALE, C.REVOKED), _8446),
    "certificate_expired": AlertRow(45, (C.CLOCK_DRIFT, C.EXPIRED, C.NOT_YET_VALID), _8446),
    "certificate_revoked": AlertRow(44, (C.REVOKED,), _8446),
    "bad_certificate_status_response": AlertRow(113, (C.STAPLE_MISSING, C.STAPLE_STALE, C.REVOKED), _6066),
    "unsupported_certificate": AlertRow(43, (C.WRONG_PURPOSE,), _8446),
    "certificate_required": AlertRow(116, (C.NO_CLIENT_CERTIFICATE,), _8446),
    "unrecognized_name": AlertRow(112, (C.NAME_MISMATCH,), _8446),
    "handshake_failure": AlertRow(40, (C.CIPHER_MISMATCH, C.NO_CLIENT_CERTIFICATE), _8446),
    "insufficient_security": AlertRow(71, (C.CIPHER_MISMATCH,), _8446),
    "protocol_version": AlertRow(70, (C.PROTOCOL_MISMATCH,), _8446),
    "inappropriate_fallback": AlertRow(86, (C.PROTOCOL_MISMATCH,), _8446),
    "internal_error": AlertRow(80, _RESUMED, _8446, fresh_is_fine=True),
    "unknown_psk_identity": AlertRow(115, _RESUMED, _8446, fresh_is_fine=True),
    "illegal_parameter": AlertRow(47, _RESUMED, _8446, fresh_is_fine=True),
    "bad_record_mac": AlertRow(20, _RESUMED, _5246, fresh_is_fine=True),
    "decrypt_error": AlertRow(51, _RESUMED, _8446, fresh_is_fine=True),
    "timeout": AlertRow(None, (C.NOT_REACHABLE,), "no answer at all"),
    "connection_reset": AlertRow(None, (), "closed without an alert: it says nothing"),
    "other": AlertRow(None, (), "an alert that the contract does not name"),
}
"""Failed handshakes, as platforms and carriers count them (docs/platform-contract.md), and as our prober meets them."""

ABOUT_THE_PROBER: Final = CERTIFICATE_ALERTS | {"certificate_required"}
"""Alerts of a server that our prober meets as a client: they are about the prober's certificate, not the trunk's."""

EXPLAINED_WITHOUT_ALERT: Final = frozenset({"connection_reset", "other"})
"""Ends of a handshake that any cause which was seen explains."""

SIP_STATUSES: Final[Mapping[str, tuple[FailureCause, ...]]] = {
    "401": (C.SIP_REFUSED,),
    "403": (C.SIP_REFUSED, C.NAME_MISMATCH),
    "407": (C.SIP_REFUSED,),
    "415": (C.SIP_REFUSED, C.INCOMPLETE_CHAIN),
}
"""Final answers to an INVITE after a good handshake (guide sections 1 and 2). Every other one is SIP's own business."""

ANY_OTHER_STATUS: Final = (C.SIP_REFUSED,)

DISTRUSTS: Final[Mapping[Distrust, FailureCause]] = {
    Distrust.INCOMPLETE_CHAIN: C.INCOMPLETE_CHAIN,
    Distrust.UNKNOWN_ISSUER: C.UNKNOWN_ISSUER,
    Distrust.EXPIRED: C.EXPIRED,
    Distrust.NOT_YET_VALID: C.NOT_YET_VALID,
    Distrust.WRONG_PURPOSE: C.WRONG_PURPOSE,
}
"""Our prober's own verdict on the chain that it was served."""

PLATFORM_WORDS: Final[Mapping[str, tuple[FailureCause, ...]]] = {
    "not yet valid": (C.CLOCK_DRIFT, C.NOT_YET_VALID),
    "expired": (C.CLOCK_DRIFT, C.EXPIRED),
    "revoked": (C.REVOKED,),
    "chain": (C.INCOMPLETE_CHAIN, C.UNKNOWN_ISSUER),
    "path": (C.INCOMPLETE_CHAIN, C.UNKNOWN_ISSUER),
    "name": (C.NAME_MISMATCH,),
}
"""Words in the platform's reason for calling a certificate invalid. They are the platform's word, not our sight."""
