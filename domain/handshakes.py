"""Samples of handshakes and call setups: what a source measured on one endpoint in one window (guide section 4).

A sample belongs to one endpoint, one direction and one certificate. Sources answer `samples(since, until)`; nothing
here keeps state between two looks.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from domain.plan import Direction

Count = Annotated[int, Field(ge=0)]

CERTIFICATE_ALERTS = frozenset(
    {
        "bad_certificate",
        "unsupported_certificate",
        "certificate_revoked",
        "certificate_expired",
        "certificate_unknown",
        "unknown_ca",
        "bad_certificate_status_response",
    }
)
"""TLS alerts with which a peer refuses a certificate, or what is stapled to it (RFC 8446 section 6.2)."""


class Reporter(StrEnum):
    """Who counted."""

    PLATFORM = "platform"
    CARRIER = "carrier"


class Record(BaseModel):
    """Base of all immutable records that travel between activities and workflow. NaN and infinities are no figures."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Tally(Record):
    """Attempts and their outcomes; failures by cause. Attempts = successes + all failures."""

    attempts: Count = 0
    successes: Count = 0
    failures: Mapping[str, Count] = {}

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.attempts != self.successes + sum(self.failures.values()):
            raise ValueError(
                f"{self.attempts} attempts are not {self.successes} successes + {sum(self.failures.values())} failures"
            )
        return self

    @property
    def success_rate(self) -> float | None:
        """0–1, or None without attempts: no data is neither 0 nor 100 %."""
        return self.successes / self.attempts if self.attempts else None

    def __add__(self, other: Tally) -> Tally:
        causes = {*self.failures, *other.failures}
        return Tally(
            attempts=self.attempts + other.attempts,
            successes=self.successes + other.successes,
            failures={c: self.failures.get(c, 0) + other.failures.get(c, 0) for c in sorted(causes)},
        )

    def text(self) -> str:
        """For people, for example `612 of 612 (100.00 %)`."""
        rate = self.success_rate
        if rate is None:
            return "no attempts"
        shown = f"{self.successes} of {self.attempts} ({percent(rate)})"
        causes = ", ".join(f"{count} × {cause}" for cause, count in self.failures.items() if count)
        return f"{shown}: {causes}" if causes else shown


def percent(rate: float) -> str:
    """A share 0–1 as a percentage that is never rounded up across a threshold: 0.99499 is `99.49 %`."""
    return f"{math.floor(rate * 10000 + 1e-9) / 100:.2f} %"


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of tallies; empty without any."""
    result = Tally()
    for tally in tallies:
        result = result + tally
    return result


class Sample(Record):
    """What one reporter counted on one endpoint, direction and certificate in [since, until)."""

    endpoint: str
    reporter: Reporter
    direction: Direction
    sha256: str | None = Field(description="leaf that was presented; None when the reporter could not tell")
    peer: str | None = Field(default=None, description="address of the other side, where the reporter tells")
    synthetic: bool = Field(default=False, description="made by our own prober, not by the carrier's traffic")
    handshakes: Tally = Tally()
    call_setups: Tally = Tally()


class Reading(Record):
    """One answer of one source: its samples, the window asked for, and when its counters were read and last reset."""

    endpoint: str
    reporter: Reporter
    since: datetime
    until: datetime
    read_at: datetime
    counters_since: datetime | None = None
    samples: tuple[Sample, ...] = ()
    source: str = Field(default="", description="settings profile that was asked")
    told: Count | None = Field(
        default=None, description="how many samples the source told; default: those that are here"
    )

    @model_validator(mode="after")
    def _sealed(self) -> Self:
        if self.told is None:
            object.__setattr__(self, "told", len(self.samples))
        return self

    def damage(self) -> str | None:
        """In words, what happened to the samples between their source and here; None when they are what it told.

        A sample that is lost or that counts twice could turn a failure into a success.
        """
        here = {(s.endpoint, s.reporter, s.direction, s.sha256, s.peer, s.synthetic) for s in self.samples}
        if len(self.samples) > len(here):
            return f"{len(self.samples) - len(here)} of {len(self.samples)} samples are here twice"
        return None if len(here) == self.told else f"{len(here)} of the {self.told} samples that the source told"

    def age(self, now: datetime) -> timedelta:
        """How old the figures are."""
        return now - self.read_at

    def reset_within(self) -> bool:
        """True when the counters were reset inside the window: their figures do not cover it."""
        return self.counters_since is not None and self.counters_since > self.since

    def real(
        self, *, sha256: str | None = None, direction: Direction | None = None, peers: Iterable[str] | None = None
    ) -> tuple[Sample, ...]:
        """Samples of real traffic, narrowed to a certificate, a direction and known peers (strangers are ignored)."""
        known = None if peers is None else set(peers)
        return tuple(
            sample
            for sample in self.samples
            if not sample.synthetic
            and (sha256 is None or sample.sha256 == sha256)
            and (direction is None or sample.direction is direction)
            and (known is None or sample.peer is None or sample.peer in known)
        )

    def synthetic(self, *, sha256: str) -> tuple[Sample, ...]:
        """Samples that our own prober made on that certificate."""
        return tuple(s for s in self.samples if s.synthetic and s.sha256 == sha256)


def handshakes(samples: Iterable[Sample]) -> Tally:
    """All handshakes of the samples."""
    return total(sample.handshakes for sample in samples)


def call_setups(samples: Iterable[Sample]) -> Tally:
    """All call setups of the samples."""
    return total(sample.call_setups for sample in samples)


def certificate_alerts(samples: Iterable[Sample]) -> int:
    """Handshakes that a peer refused because of the certificate."""
    return sum(count for s in samples for cause, count in s.handshakes.failures.items() if cause in CERTIFICATE_ALERTS)
