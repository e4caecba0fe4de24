"""How the Genesys stand-in reads and words things: fields, error codes, counts."""

from __future__ import annotations

import base64
import binascii
import uuid
from datetime import datetime

from lab.api_guard import Dialect, Refusal
from lab.certificate_check import Defect
from lab.ledger import Counts
from lab.strict_fields import (
    CIPHER_SUITE,
    FLAG,
    NULL,
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

UPLOAD = {
    "name": TEXT,
    "type": exactly("TLS_SERVER"),
    "certificate": PEM,
    "privateKey": PEM,
    "passphrase": optional(NULL),
}
TRUNK_FIELDS = {
    "id": optional(TEXT),
    "version": whole_number(0, 2**31),
    "name": TEXT,
    "enabled": FLAG,
    "certificateIds": list_of(TEXT, at_least=1),
    "transport": exactly("TLS"),
    "sipsUri": TEXT,
    "retransmissionTimeoutSeconds": optional(nullable(whole_number(0, 3600))),
    "tlsCipherSuites": optional(list_of(CIPHER_SUITE, at_least=1)),
    "tlsSessionTicketLifetimeSeconds": optional(whole_number(0, 604800)),
    "tlsCanary": optional(nullable(shaped({"serverName": TEXT, "certificateId": TEXT}))),
    "mutualTls": optional(FLAG),
    "inboundSite": optional(TEXT),
    "maxConcurrentCalls": optional(whole_number(0, 100_000)),
}
LOST = {
    "retransmissionTimeoutSeconds": None,
    "tlsCipherSuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
    "tlsSessionTicketLifetimeSeconds": 7200,
    "tlsCanary": None,
}
"""What a field of the contract becomes when a PUT leaves it out; other fields disappear."""

DEFECTS = {
    Defect.INVALID: "certificate.invalid",
    Defect.CHAIN: "certificate.chain.incomplete",
    Defect.KEY: "certificate.key.mismatch",
}


def _render(refusal: Refusal) -> dict[str, object]:
    return {
        "message": refusal.message,
        "code": refusal.code,
        "status": refusal.status,
        "contextId": str(uuid.uuid4()),
        "details": [],
        "errors": [],
    }


DIALECT = Dialect(
    render=_render,
    bad_request="bad.request",
    unauthenticated="authentication.required",
    forbidden="missing.any.permissions",
    not_found="not.found",
    method_not_allowed="method.not.allowed",
    too_many_requests="too.many.requests.retry.after",
    internal_error="internal.error",
)


def counts_object(counts: Counts) -> dict[str, object]:
    handshakes, setups = counts.handshakes, counts.call_setups
    return {
        "tlsHandshakes": {
            "attempts": handshakes.attempts,
            "successes": handshakes.successes,
            "failures": [{"code": code, "count": count} for code, count in handshakes.failures.items()],
        },
        "callSetups": {
            "attempts": setups.attempts,
            "successes": setups.successes,
            "failures": [{"sipStatus": status, "count": count} for status, count in setups.failures.items()],
        },
    }


def basic_credentials(header: str) -> tuple[str, str]:
    kind, _, value = header.partition(" ")
    if kind.lower() != "basic":
        raise ValueError("HTTP Basic authentication is required")
    try:
        client_id, colon, secret = base64.b64decode(value, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise ValueError("the Basic credentials cannot be decoded") from None
    if not colon:
        raise ValueError("the Basic credentials cannot be decoded")
    return client_id, secret


def number(text: str, name: str, low: int, high: int) -> int:
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise FieldRefused(f"query parameter {name!r} must be an integer from {low} to {high}")
    return int(text)


def interval(text: str) -> tuple[datetime, datetime]:
    since_text, _, until_text = text.partition("/")
    try:
        since, until = parse_time(since_text), parse_time(until_text)
    except ValueError:
        raise FieldRefused("query parameter 'interval' must be <since>/<until>, UTC with milliseconds") from None
    if since >= until:
        raise FieldRefused("query parameter 'interval' must begin before it ends")
    return since, until
