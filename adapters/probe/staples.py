"""What the OCSP response in a handshake is worth: verified against the leaf's issuer, and fresh or not (RFC 6960)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.x509 import ocsp

from adapters.pki.revocation import signed_for
from domain.probed import Staple, StapleState

AHEAD: Final = timedelta(minutes=5)
"""How far a responder's clock may be ahead of ours."""


def read_staple(der: bytes, leaf: x509.Certificate, issuer: x509.Certificate | None, now: datetime) -> Staple:
    """The staple (DER, empty when the server sent none) about this leaf at that time."""
    if not der:
        return Staple(state=StapleState.ABSENT)
    try:
        response = ocsp.load_der_ocsp_response(der)
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return _unusable(f"the responder answers {response.response_status.name.lower()}")
        about = [one for one in response.responses if one.serial_number == leaf.serial_number]
        believed = issuer is not None and signed_for(response, issuer)
    except ValueError:
        return _unusable("it is no OCSP response")
    if not about:
        return _unusable("it is about another certificate")
    if not believed:
        return _unusable("it is not signed by the issuer or its responder")
    return _judged(about[0], response.produced_at_utc, now)


def _judged(single: ocsp.OCSPSingleResponse, produced_at: datetime, now: datetime) -> Staple:
    state, detail = StapleState.UNUSABLE, "the responder does not know the certificate"
    if single.certificate_status is ocsp.OCSPCertStatus.REVOKED:
        state, detail = StapleState.REVOKED, ""
    elif single.next_update_utc is not None and single.next_update_utc < now:
        state, detail = StapleState.STALE, ""
    elif single.this_update_utc > now + AHEAD:
        detail = "it is from the future"
    elif single.certificate_status is ocsp.OCSPCertStatus.GOOD:
        state, detail = StapleState.GOOD, ""
    return Staple(state=state, produced_at=produced_at, next_update=single.next_update_utc, detail=detail)


def _unusable(detail: str) -> Staple:
    return Staple(state=StapleState.UNUSABLE, detail=detail)
