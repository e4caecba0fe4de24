"""What one fresh handshake of our own can tell apart: the layer, our verdict on the chain, the staple, resumption."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from domain.handshakes import Record
from domain.texts import Readable


class Layer(StrEnum):
    """Where a probe failed. TLS and SIP are different layers and are never mixed."""

    DNS = "dns"
    TCP = "tcp"
    TLS = "tls"
    IDENTITY = "identity"
    SIP = "sip"


class Distrust(StrEnum):
    """Why our own verification refused the chain that was served."""

    INCOMPLETE_CHAIN = "incomplete chain"
    UNKNOWN_ISSUER = "unknown issuer"
    EXPIRED = "expired"
    NOT_YET_VALID = "not yet valid"
    WRONG_PURPOSE = "wrong purpose"
    OTHER = "other"


class StapleState(StrEnum):
    """What the OCSP response in the handshake is worth (RFC 6066 section 8, RFC 6960)."""

    ABSENT = "absent"
    GOOD = "good"
    STALE = "stale"
    REVOKED = "revoked"
    UNUSABLE = "unusable"


class Staple(Record):
    """A staple, verified against the leaf's issuer. Times are UTC and the responder's; `detail` is for people."""

    state: StapleState
    produced_at: datetime | None = None
    next_update: datetime | None = None
    detail: Readable = ""

    def text(self) -> str:
        """For people, for example `OCSP staple stale, from 2026-11-18 09:00 UTC, good until 2026-11-25 09:00 UTC`."""
        said = f", from {self.produced_at:%Y-%m-%d %H:%M} UTC" if self.produced_at else ""
        until = f", good until {self.next_update:%Y-%m-%d %H:%M} UTC" if self.next_update else ""
        why = f" ({self.detail})" if self.detail and self.state is StapleState.UNUSABLE else ""
        return f"OCSP staple {self.state}{said}{until}{why}"


class Resumption(Record):
    """Whether the server offered to resume the session, by a ticket or by the session's id (TLS 1.2 only).

    `lifetime_s` is the server's hint in seconds (RFC 5077 section 3.3, RFC 8446 section 4.6.1); 0 in TLS 1.2 says
    nothing, None where there was no ticket.
    """

    offered: bool
    ticket: bool = False
    lifetime_s: Annotated[int, Field(ge=0)] | None = None

    def text(self) -> str:
        """For people."""
        if not self.offered:
            return "no resumption offered"
        if not self.ticket:
            return "resumption by session id offered"
        return f"session ticket offered, lifetime {self.lifetime_s or 'not said'}{' s' if self.lifetime_s else ''}"


class Probed(Record):
    """One probe as the diagnosis takes it. `layer` is where it failed, None when all went well.

    `alert` is the peer's alert that ended it, `distrust` our own verdict; `sip_status` is the last answer.
    """

    where: str
    leaf_sha256: str | None = None
    layer: Layer | None = None
    words: Readable = ""
    alert: str | None = None
    distrust: Distrust | None = None
    sip_status: int | None = None
    version: str | None = None
    cipher: str | None = None
    staple: Staple | None = None
    resumption: Resumption | None = None

    @property
    def shook_hands(self) -> bool:
        """A full handshake went well, whatever came after it."""
        return self.layer in (None, Layer.SIP, Layer.IDENTITY)

    def text(self) -> str:
        """For people, one line."""
        served = f" served {self.leaf_sha256[:12]}" if self.leaf_sha256 else ""
        if self.layer is not None:
            return f"{self.where}{served}: failed at {self.layer}: {self.words}"
        how = " ".join(part for part in (self.version, self.cipher) if part)
        return f"{self.where}{served}: a good fresh handshake{f', {how}' if how else ''}"
