"""What a request is called and whether it may change anything, from the request alone – so a new one has its name too.

Ids are replaced, so that a step of a rotation has the same name in every run and every lab.
"""

from __future__ import annotations

import re

import dns.update

from lab.tap import Operation

_VERSION = re.compile(r"v\d+(\.\d+)?")
_READS = frozenset({"GET", "HEAD", "OPTIONS", "LIST"})
_TECHNICAL = (
    re.compile(r"/oauth/token"),
    re.compile(r"/authentication/v1/token/.*"),
    re.compile(r"/v1/auth/.*"),
    re.compile(r"/v1/transit/(encrypt|decrypt)/.*"),
    re.compile(r"/v1/.*/ocsp"),
    re.compile(r"/api/v2/query/timeseries"),
)
"""Requests that are POSTs and change nothing that anybody would have to put back."""


def http_operation(method: str, path: str) -> Operation:
    """Method and path; a segment with a digit in it is an id, unless it is a version like `v2`."""
    segments = ["{id}" if _is_id(segment) else segment for segment in path.split("/")]
    effect = method not in _READS and not any(technical.fullmatch(path) for technical in _TECHNICAL)
    return Operation(f"{method} {'/'.join(segments)}", effect)


def dns_operation(message: dns.update.UpdateMessage) -> Operation:
    """The names whose records it changes; an update that only demands something changes nothing (RFC 2136)."""
    changed = sorted({rrset.name.to_text(omit_final_dot=True) for rrset in message.update})
    return Operation(f"UPDATE {' '.join(changed) or 'nothing'}", bool(changed))


def _is_id(segment: str) -> bool:
    return any(letter.isdigit() for letter in segment) and _VERSION.fullmatch(segment) is None
