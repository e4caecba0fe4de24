"""What the diagnosis has to say of each fault of the lab that has one cause."""

from __future__ import annotations

from domain.causes import FailureCause
from domain.diagnosis import Sure

CAUSES: dict[str, tuple[FailureCause, Sure]] = {
    "b-without-intermediate": (FailureCause.INCOMPLETE_CHAIN, Sure.SEEN),
    "carrier-distrusts-b": (FailureCause.UNKNOWN_ISSUER, Sure.LIKELY),
    "carrier-expects-other-name": (FailureCause.NAME_MISMATCH, Sure.LIKELY),
    "cipher-mismatch-on-b": (FailureCause.CIPHER_MISMATCH, Sure.LIKELY),
    "protocol-mismatch-on-b": (FailureCause.PROTOCOL_MISMATCH, Sure.LIKELY),
    "carrier-clock-behind": (FailureCause.CLOCK_DRIFT, Sure.SEEN),
    "carrier-clock-ahead": (FailureCause.CLOCK_DRIFT, Sure.SEEN),
    "b-revoked": (FailureCause.REVOKED, Sure.SEEN),
    "staple-missing": (FailureCause.STAPLE_MISSING, Sure.SEEN),
    "staple-stale": (FailureCause.STAPLE_STALE, Sure.SEEN),
    "resumption-breaks-on-b": (FailureCause.RESUMPTION, Sure.LIKELY),
    "dns-gone-for-b": (FailureCause.NOT_RESOLVED, Sure.SEEN),
    "tcp-refused-for-b": (FailureCause.NOT_REACHABLE, Sure.SEEN),
    "invites-403": (FailureCause.SIP_REFUSED, Sure.SEEN),
}
