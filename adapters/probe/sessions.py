"""Whether a server offered to resume a session, read from the session as OpenSSL serialises it.

pyOpenSSL shows neither tickets nor their lifetime; the DER of SSL_SESSION does (OpenSSL, `ssl/ssl_asn1.c`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from OpenSSL import SSL
from OpenSSL._util import ffi, lib

from domain.probed import Resumption

_SESSION_ID: Final = 3
"""Place of the session's id: after the structure's version, the protocol's, and the suite."""

_LIFETIME, _TICKET = 0xA9, 0xAA
"""Explicit tags 9 and 10: the ticket's lifetime hint in seconds, and the ticket."""


def resumption_of(session: SSL.Session | None) -> Resumption:
    """What the server offered. A TLS 1.3 session has its ticket only after something was read."""
    if session is None:
        return Resumption(offered=False)
    fields = list(_fields(_serialised(session)))
    named = dict(fields)
    lifetime = named.get(_LIFETIME)
    ticket = _TICKET in named
    by_id = len(fields) > _SESSION_ID and bool(fields[_SESSION_ID][1])
    return Resumption(
        offered=ticket or by_id,
        ticket=ticket,
        lifetime_s=(int.from_bytes(_inner(lifetime), "big") if lifetime else 0) if ticket else None,
    )


def _serialised(session: Any) -> bytes:
    length = lib.i2d_SSL_SESSION(session._session, ffi.NULL)
    if length <= 0:
        return b""
    buffer = ffi.new("unsigned char[]", length)
    lib.i2d_SSL_SESSION(session._session, ffi.new("unsigned char **", buffer))
    return bytes(ffi.buffer(buffer, length))


def _fields(der: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each member of a SEQUENCE."""
    rest = _inner(der)
    while rest:
        head, length = _length(rest)
        yield rest[0], rest[head : head + length]
        rest = rest[head + length :]


def _inner(der: bytes) -> bytes:
    """The content of one element; nothing of an empty text."""
    if not der:
        return b""
    head, length = _length(der)
    return der[head : head + length]


def _length(der: bytes) -> tuple[int, int]:
    """Octets of tag and length, and the length (X.690 section 8.1.3, definite form)."""
    if der[1] < 0x80:
        return 2, der[1]
    octets = der[1] & 0x7F
    return 2 + octets, int.from_bytes(der[2 : 2 + octets], "big")
