"""Clocks against NTP (guide edge case 1): what the servers say together, and what a drift means for a rotation.

A drift is "this clock minus NTP", in seconds: above zero the clock is ahead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from statistics import median

from pydantic import Field

from domain.gates import Finding, Verdict, not_checked
from domain.handshakes import Record
from domain.texts import Readable, listed

CONTRADICTION_S = 1.0
"""Seconds by which servers may differ; beyond, at least one of them is wrong, and nobody can say which."""

DRIFT = "clock drift (NTP)"
"""The check of all clocks together: where NTP itself says nothing."""

NO_SERVERS = "not checked against NTP: no [ntp] servers in the settings"


class Whose(StrEnum):
    """Whose clock it is."""

    WORKER = "worker"
    PLATFORM = "platform"
    CARRIER = "carrier"


MENDED_BY: Mapping[Whose, str] = {
    Whose.WORKER: "synchronise the clock of the worker's host by NTP",
    Whose.PLATFORM: "have the platform's edge synchronise with an authoritative NTP source",
    Whose.CARRIER: "have the carrier synchronise its SIP proxies by NTP",
}


class ServerTime(Record):
    """A usable answer of one NTP server, in seconds (RFC 5905).

    `offset_s` (theta) is the server's clock minus ours, `delay_s` (delta) the round trip, `distance_s` (lambda, the
    root distance) the most by which the offset can be wrong.
    """

    server: str
    stratum: int
    offset_s: float
    delay_s: float
    distance_s: float


class NtpTime(Record):
    """What all servers say about this worker's clock, in seconds.

    `ahead_s` is the worker's clock minus NTP, the median; None where the servers contradict each other. Every server's
    time lies within `uncertainty_s` of it. `spread_s` is the widest difference between two servers; `unusable` says of
    each of the others why its answer was not used.
    """

    ahead_s: float | None
    uncertainty_s: float
    spread_s: float
    answered: tuple[ServerTime, ...]
    unusable: Mapping[str, str] = {}

    def text(self) -> str:
        """The servers, for people."""
        used = listed(f"{one.server}, stratum {one.stratum}" for one in self.answered)
        left = "; ".join(f"{server} not used: {why}" for server, why in self.unusable.items())
        return f"by {used}; {left}" if left else f"by {used}"


class ClockLimits(Record):
    """Drifts above which PREFLIGHT warns, and refuses."""

    warn_above: timedelta = timedelta(seconds=90)
    refuse_above: timedelta = timedelta(minutes=5)


class ToldClock(Record):
    """One clock beside the worker's. Without `beside_worker_s` it was not told; `problem` says why, if it was asked.

    `beside_worker_s` is this clock minus the worker's, in seconds, give or take `uncertainty_s`.
    """

    whose: Whose
    profile: str = ""
    endpoint: str | None = None
    beside_worker_s: float | None = None
    uncertainty_s: float = 0.0
    problem: Readable | None = None

    @property
    def name(self) -> str:
        """For people, for example `the carrier's clock (acme)`."""
        return f"the {self.whose}'s clock" + (f" ({self.profile})" if self.profile else "")


class Clocks(Record):
    """One measurement of all clocks: the worker's first, then those that were asked.

    `ntp` is None without servers in the settings, or when none of them gave a usable time; then `ntp_problem` says why.
    """

    told: tuple[ToldClock, ...]
    ntp: NtpTime | None = None
    ntp_problem: Readable | None = None
    limits: ClockLimits = Field(default=ClockLimits(), description="of [ntp], or its defaults")

    def drift_s(self, clock: ToldClock) -> float | None:
        """The clock minus NTP, in seconds; None when either did not tell, or the servers contradict each other."""
        if self.ntp is None or self.ntp.ahead_s is None or clock.beside_worker_s is None:
            return None
        return clock.beside_worker_s + self.ntp.ahead_s

    def findings(self, *, worker: bool = True) -> list[Finding]:
        """For PREFLIGHT: each clock against NTP – the worker's too, unless it was judged already –, or why none is."""
        places = {clock.endpoint for clock in self.told if clock.endpoint is not None}
        where = places.pop() if len(places) == 1 else None
        if self.ntp_problem is not None:
            return [_drift(Verdict.ERROR, self.ntp_problem, "a usable time", where)]
        if self.ntp is None:
            beside = [self._beside_worker(clock) for clock in self.told if clock.whose is not Whose.WORKER]
            return [not_checked("clock drift (NTP)", "; ".join([NO_SERVERS, *beside]), where)]
        if self.ntp.ahead_s is None:
            expected = f"at most {span(CONTRADICTION_S)} between them; correct or take out the wrong one in [ntp]"
            return [_drift(Verdict.INCONCLUSIVE, contradiction(self.ntp), expected, where)]
        return [self._finding(clock) for clock in self.told if worker or clock.whose is not Whose.WORKER]

    def off(self) -> tuple[str, ...]:
        """In words, every clock that is off by more than `limits.warn_above`; without NTP, beside the worker's."""
        worst = self.limits.warn_above.total_seconds()
        against = self.ntp is not None and self.ntp.ahead_s is not None
        found = [(clock, self.drift_s(clock) if against else clock.beside_worker_s) for clock in self.told]
        reference = "NTP" if against else "the worker's"
        return tuple(
            f"{clock.name} is {drift_text(drift, reference)}"
            for clock, drift in found
            if drift is not None and abs(drift) > worst
        )

    def text(self) -> str:
        """One line for people: every clock, and how much it is off."""
        if self.ntp is not None and self.ntp.ahead_s is not None:
            return "; ".join(self._against_ntp(clock) for clock in self.told)
        why = NO_SERVERS if self.ntp is None else contradiction(self.ntp)
        beside = [self._beside_worker(clock) for clock in self.told if clock.whose is not Whose.WORKER]
        return "; ".join([self.ntp_problem or why, *beside])

    def _finding(self, clock: ToldClock) -> Finding:
        check, drift = f"clock of the {clock.whose}", self.drift_s(clock)
        if clock.problem is not None:
            return Finding(
                check=check, verdict=Verdict.ERROR, seen=clock.problem, expected="its time", endpoint=clock.endpoint
            )
        if drift is None:
            return not_checked("clock of the platform", f"{clock.name} is not told", clock.endpoint)
        verdict, limit = Verdict.PASS, self.limits.warn_above
        if abs(drift) > self.limits.refuse_above.total_seconds():
            verdict, limit = Verdict.FAIL, self.limits.refuse_above
        elif abs(drift) > limit.total_seconds():
            verdict = Verdict.WARN
        advice = "" if verdict is Verdict.PASS else f"; {MENDED_BY[clock.whose]}"
        return Finding(
            check=check,
            verdict=verdict,
            seen=self._against_ntp(clock),
            expected=f"at most {span(limit.total_seconds())}{advice}",
            endpoint=clock.endpoint,
        )

    def _against_ntp(self, clock: ToldClock) -> str:
        drift = self.drift_s(clock)
        if drift is None or self.ntp is None:
            return f"{clock.name} is not told" + (f": {clock.problem}" if clock.problem else "")
        unsure = span(clock.uncertainty_s + self.ntp.uncertainty_s)
        servers = f", {self.ntp.text()}" if clock.whose is Whose.WORKER else ""
        return f"{clock.name} is {drift_text(drift, 'NTP')}, ± {unsure}{servers}"

    def _beside_worker(self, clock: ToldClock) -> str:
        if clock.beside_worker_s is None:
            return f"{clock.name} is not told" + (f": {clock.problem}" if clock.problem else "")
        drift = drift_text(clock.beside_worker_s, "the worker's")
        return f"{clock.name} is {drift}, ± {span(clock.uncertainty_s)}"


def agreed(answered: Sequence[ServerTime], unusable: Mapping[str, str]) -> NtpTime:
    """The median of the usable answers, of which there is at least one; no time where they contradict each other."""
    offsets = [one.offset_s for one in answered]
    middle, spread = median(offsets), max(offsets) - min(offsets)
    return NtpTime(
        ahead_s=-middle if spread <= CONTRADICTION_S else None,
        uncertainty_s=max(abs(one.offset_s - middle) + one.distance_s for one in answered),
        spread_s=spread,
        answered=tuple(answered),
        unusable=unusable,
    )


def contradiction(ntp: NtpTime) -> str:
    """That the servers contradict each other, and what each of them says."""
    said = listed(f"{one.server} puts the worker {drift_text(-one.offset_s, 'itself')}" for one in ntp.answered)
    return f"the NTP servers contradict each other by {span(ntp.spread_s)}, so no drift can be told: {said}"


def drift_text(drift_s: float, reference: str) -> str:
    """For example `7 min 12 s ahead of NTP`."""
    return f"{span(abs(drift_s))} {'behind' if drift_s < 0 else 'ahead of'} {reference}"


def span(seconds: float) -> str:
    """`0.02 s`, `3.4 s`, `90 s`, `7 min 12 s` or `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.{2 if seconds < 1 else 1}f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def _drift(verdict: Verdict, seen: str, expected: str, endpoint: str | None) -> Finding:
    return Finding(check=DRIFT, verdict=verdict, seen=seen, expected=expected, endpoint=endpoint)
