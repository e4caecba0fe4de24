"""What is known of failures on a trunk: who counted what, what our prober met, what the platform and the PKI say."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from domain.certificate_facts import CertificateFacts
from domain.handshakes import Count, Reading, Record
from domain.plan import Direction
from domain.probed import Probed
from domain.texts import Readable

PROBER: Final = "prober"


class What(StrEnum):
    """What failed."""

    HANDSHAKE = "handshake"
    CALL = "call setup"


class Failure(Record):
    """Failures of one kind and cause that one reporter counted; `cause` is an alert's name or a SIP status."""

    reporter: str
    what: What
    cause: str
    count: Count
    direction: Direction | None = None
    sha256: str | None = None


class Symptoms(Record):
    """Everything that is known of one endpoint's failures. `facts` are B's; each part may be missing.

    `drift` is the other side's clock minus ours; `clocks` says in words which clocks are off (`domain.clocks`).
    `unresolved` are names of targets without an address. `pki_revoked` is what the PKI itself says of B.
    """

    now: datetime
    failures: tuple[Failure, ...] = ()
    probes: tuple[Probed, ...] = ()
    facts: CertificateFacts | None = None
    sha256_a: str | None = None
    sha256_b: str | None = None
    platform_reasons: tuple[Readable, ...] = ()
    drift: timedelta | None = None
    clocks: tuple[Readable, ...] = ()
    unresolved: tuple[str, ...] = ()
    pki_revoked: bool | None = None


def failures_of(readings: Iterable[Reading]) -> tuple[Failure, ...]:
    """What the samples of these readings hold against the trunk; our own synthetic ones count as the prober's."""
    found = []
    for reading in readings:
        for sample in reading.samples:
            reporter = PROBER if sample.synthetic else str(sample.reporter)
            for what, tally in ((What.HANDSHAKE, sample.handshakes), (What.CALL, sample.call_setups)):
                found += [
                    Failure(
                        reporter=reporter,
                        what=what,
                        cause=cause,
                        count=count,
                        direction=sample.direction,
                        sha256=sample.sha256,
                    )
                    for cause, count in tally.failures.items()
                    if count
                ]
    return tuple(found)
