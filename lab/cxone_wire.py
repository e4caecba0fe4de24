"""How the CXone stand-in reads and words things: fields, error codes, counts."""

from __future__ import annotations

import re
import uuid
from datetime import datetime

from lab.api_guard import Dialect, Refusal
from lab.certificate_check import Defect
from lab.ledger import Counts
from lab.strict_fields import (
    CIPHER_SUITE,
    FLAG,
    PEM,
    TEXT,
    FieldRefused,
    exactly,
    list_of,
    nullable,
    optional,
    shaped,
    whole_number,
)
from lab.wire_time import parse_time

LOGIN = {"accessKeyId": TEXT, "accessKeySecret": TEXT}

UPLOAD = {
    "name": TEXT,
    "certificateData": PEM,
    "privateKeyData": PEM,
    "certificateType": exactly("SIP_TLS"),
}

PROFILE_FIELDS = {
    "trunkId": TEXT,
    "version": whole_number(0, 2**31),
    "name": TEXT,
    "enabled": FLAG,
    "transport": exactly("TLS"),
    "sipDomain": TEXT,
    "primaryCertificateId": TEXT,
    "secondaryCertificateId": optional(nullable(TEXT)),
    "retransmissionTimeoutSeconds": optional(nullable(whole_number(0, 3600))),
    "tlsCipherSuites": optional(list_of(CIPHER_SUITE, at_least=1)),
    "tlsSessionTicketLifetimeSeconds": optional(whole_number(0, 604800)),
    "mutualTls": optional(FLAG),
    "listeners": optional(shaped({"primaryPort": whole_number(1, 65535), "secondaryPort": whole_number(1, 65535)})),
    "routingProfile": optional(TEXT),
    "tags": optional(list_of(TEXT)),
}

LOST = {
    "secondaryCertificateId": None,
    "retransmissionTimeoutSeconds": None,
    "tlsCipherSuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
    "tlsSessionTicketLifetimeSeconds": 7200,
}
"""What a field of the contract becomes when a PUT leaves it out; other fields disappear."""

DEFECTS = {
    Defect.INVALID: "InvalidCertificate",
    Defect.CHAIN: "InvalidChain",
    Defect.KEY: "KeyMismatch",
}


def _render(refusal: Refusal) -> dict[str, object]:
    return {"error": refusal.code, "error_description": refusal.message, "traceId": uuid.uuid4().hex}


DIALECT = Dialect(
    render=_render,
    bad_request="InvalidRequest",
    unauthenticated="invalid_token",
    forbidden="insufficient_scope",
    not_found="NotFound",
    method_not_allowed="MethodNotAllowed",
    too_many_requests="TooManyRequests",
    internal_error="InternalError",
)


def counts_object(counts: Counts) -> dict[str, object]:
    """`handshakes` and `invites` of a metrics series."""
    handshakes, setups = counts.handshakes, counts.call_setups
    return {
        "handshakes": {
            "total": handshakes.attempts,
            "ok": handshakes.successes,
            "failed": dict(handshakes.failures),
        },
        "invites": {
            "total": setups.attempts,
            "ok": setups.successes,
            "failed": {str(status): count for status, count in setups.failures.items()},
        },
    }


def matched_version(header: str | None) -> int:
    """The version in `If-Match: "<version>"`. Raises `Refusal` 428 without it, else `FieldRefused`."""
    if header is None:
        raise Refusal(428, "PreconditionRequired", "send If-Match with the version that was read")
    match = re.fullmatch(r'"(\d{1,9})"', header)
    if match is None:
        raise FieldRefused('If-Match must be the version in double quotes, as in the ETag, for example "3"')
    return int(match.group(1))


def period(start: str, end: str) -> tuple[datetime, datetime]:
    """`startDate` and `endDate` as times. Raises `FieldRefused`."""
    try:
        since, until = parse_time(start), parse_time(end)
    except ValueError:
        raise FieldRefused("startDate and endDate must be UTC times with milliseconds") from None
    if since >= until:
        raise FieldRefused("startDate must lie before endDate")
    return since, until
