"""From what was observed to the cause: ranked, each with its evidence and the next step. Pure.

A cause is SEEN when our own prober, the PKI or a measured clock shows it, and LIKELY when only an alert, a SIP status
or the platform's word points to it (`domain.causes`). What fits nothing is UNKNOWN, with what was seen. Neither the
order of the symptoms nor how often one of them is repeated changes the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Final

from pydantic import Field

from domain.causes import (
    ABOUT_THE_PROBER,
    ALERTS,
    ANY_OTHER_STATUS,
    DISTRUSTS,
    EXPLAINED_WITHOUT_ALERT,
    PLATFORM_WORDS,
    REMEDIES,
    SIP_STATUSES,
    FailureCause,
)
from domain.handshakes import Record
from domain.probed import Layer, Probed, StapleState
from domain.symptoms import PROBER, Failure, Symptoms, What
from domain.texts import SHOWN, Readable, readable

DRIFT_LIMIT: Final = timedelta(minutes=5)
"""Guide, edge case 1: clocks further apart than this are drift."""

BRIEF: Final = 400
"""Characters of what a finding, an alert or a rollback's reason says of its diagnosis."""

C = FailureCause


class Sure(StrEnum):
    """How much a diagnosis is worth."""

    SEEN = "seen"
    LIKELY = "likely"
    NOT_KNOWN = "not known"


class Diagnosis(Record):
    """One cause, how sure it is, what speaks for it, and what to do next."""

    cause: FailureCause
    sure: Sure
    sentence: Readable
    evidence: tuple[Readable, ...] = Field(description="one line each, the same whatever the order was")
    next_step: Readable

    def text(self) -> str:
        """For people, with the evidence."""
        return f"{self.brief()}; evidence: {'; '.join(self.evidence) or 'none'}"

    def brief(self) -> str:
        """For people, without the evidence."""
        named = "cause not known" if self.sure is Sure.NOT_KNOWN else f"{self.sure}: {self.cause}"
        return f"{named} – {self.sentence}; next: {self.next_step}"


def diagnose(symptoms: Symptoms) -> tuple[Diagnosis, ...]:
    """The causes, best first; never empty.

    What explains the counted failures comes before what was seen beside them.
    """
    view = _View(symptoms)
    ranked = sorted(view.causes(), key=view.rank)
    return tuple(view.diagnosis(cause) for cause in ranked) or (view.unknown(),)


def told(diagnoses: Iterable[Diagnosis], limit: int = BRIEF) -> str:
    """The first diagnosis in words, the others by name: what a finding or an alert has room for."""
    first, *others = diagnoses
    rest = f"; perhaps also {', '.join(other.cause for other in others[:SHOWN])}" if others else ""
    return readable(first.brief(), limit - len(rest)) + rest


class _View:
    """The observations, sorted and without repetition, and what they say about each cause."""

    def __init__(self, symptoms: Symptoms) -> None:
        self.symptoms = symptoms
        self.probes = sorted(set(symptoms.probes), key=Probed.model_dump_json)
        self.failures = self._merged(symptoms.failures)
        self.seen = _collected(self._sights())
        self.likely: dict[FailureCause, list[str]] = {}
        self.score: dict[FailureCause, int] = {}
        self.count: dict[FailureCause, int] = {}
        for what, cause in sorted({(f.what, f.cause) for f in self.failures}):
            self._follow(self._pointed(what, cause), [f for f in self.failures if (f.what, f.cause) == (what, cause)])
        for reason in sorted(set(symptoms.platform_reasons)):
            self._platform(reason)
        self._stapled()

    def causes(self) -> list[FailureCause]:
        """Every cause that something speaks for."""
        return [cause for cause in FailureCause if cause in self.seen or cause in self.likely]

    def rank(self, cause: FailureCause) -> tuple[int, int, int, int]:
        """Sort key: seen and explaining; likely; seen, but explaining none of the counted failures."""
        explains = cause in self.likely or not self.failures
        tier = 0 if cause in self.seen and explains else 1 if cause in self.likely else 2
        return tier, -self.score.get(cause, 0), -self.count.get(cause, 0), list(FailureCause).index(cause)

    def diagnosis(self, cause: FailureCause) -> Diagnosis:
        """The record of one cause."""
        remedy = REMEDIES[cause]
        lines = [*self.seen.get(cause, ()), *self.likely.get(cause, ())]
        sentence = remedy.sentence
        if any(
            f.sha256 is not None and f.sha256 == self.symptoms.sha256_a and cause in self._of(f) for f in self.failures
        ):
            sentence += "; A is refused as well, so that going back to A does not mend it"
        return Diagnosis(
            cause=cause,
            sure=Sure.SEEN if cause in self.seen else Sure.LIKELY,
            sentence=sentence,
            evidence=_shortened([*dict.fromkeys(lines), *self._context()]),
            next_step=remedy.next_step,
        )

    def unknown(self) -> Diagnosis:
        """Nothing fits: everything that was seen is the evidence."""
        remedy = REMEDIES[C.UNKNOWN]
        lines = [self._line(f) for f in self.failures]
        lines += [f"the platform: {reason}" for reason in sorted(set(self.symptoms.platform_reasons))]
        return Diagnosis(
            cause=C.UNKNOWN,
            sure=Sure.NOT_KNOWN,
            sentence=remedy.sentence,
            evidence=_shortened([*lines, *self._context()]) or ("nothing was observed",),
            next_step=remedy.next_step,
        )

    # -- what we saw ourselves ------------------------------------------------------------------------------------

    def _sights(self) -> Iterator[tuple[FailureCause, str]]:
        for probe in self.probes:
            line = f"{PROBER}: {probe.text()}"
            if probe.layer is Layer.DNS:
                yield C.NOT_RESOLVED, line
            elif probe.layer is Layer.TCP:
                yield C.NOT_REACHABLE, line
            elif probe.layer is Layer.IDENTITY:
                yield C.NAME_MISMATCH, line
            elif probe.layer is Layer.SIP and probe.sip_status is not None and probe.sip_status >= 300:
                yield C.SIP_REFUSED, line
            if probe.distrust is not None and probe.distrust in DISTRUSTS:
                yield DISTRUSTS[probe.distrust], line
            if probe.staple is not None and probe.staple.state in (StapleState.STALE, StapleState.UNUSABLE):
                yield C.STAPLE_STALE, f"{PROBER}: {probe.where}: {probe.staple.text()}"
            if probe.staple is not None and probe.staple.state is StapleState.REVOKED:
                yield C.REVOKED, f"{PROBER}: {probe.where}: {probe.staple.text()}"
        for name in sorted(set(self.symptoms.unresolved)):
            yield C.NOT_RESOLVED, f"DNS: {name} has no address"
        if self.symptoms.pki_revoked:
            yield C.REVOKED, "the PKI itself says that B is revoked"
        if self._drift_excludes():
            assert self.symptoms.facts is not None
            dates = f"{self.symptoms.facts.not_before:%Y-%m-%d %H:%M} to {self.symptoms.facts.not_after:%Y-%m-%d %H:%M}"
            yield C.CLOCK_DRIFT, f"{self._drift()}, and B is valid from {dates} UTC"

    def _drift_excludes(self) -> bool:
        """By the other side's measured clock the certificate is outside its validity, and by ours it is not."""
        facts, now, drift = self.symptoms.facts, self.symptoms.now, self.symptoms.drift
        if facts is None or drift is None or not facts.not_before <= now <= facts.not_after:
            return False
        return not facts.not_before <= now + drift <= facts.not_after

    # -- what points to a cause -----------------------------------------------------------------------------------

    def _pointed(self, what: What, cause: str) -> list[FailureCause]:
        """The causes that a failure points to, best first; where one of them was seen, that one alone."""
        if what is What.CALL:
            named = SIP_STATUSES.get(cause, ANY_OTHER_STATUS)
        elif cause in EXPLAINED_WITHOUT_ALERT:
            return [c for c in FailureCause if c in self.seen]
        elif cause in ALERTS:
            row = ALERTS[cause]
            named = row.causes if not row.fresh_is_fine or self._fresh_is_fine() else ()
        else:
            named = ()
        return [c for c in named if c in self.seen] or [c for c in named if not self._ruled_out(c)]

    def _of(self, failure: Failure) -> list[FailureCause]:
        return self._pointed(failure.what, failure.cause)

    def _follow(self, causes: Iterable[FailureCause], failures: Iterable[Failure]) -> None:
        counted = list(failures)
        for place, cause in enumerate(causes):
            self.likely.setdefault(cause, []).extend(self._line(f) for f in counted)
            self.score[cause] = self.score.get(cause, 0) + max(3 - place, 1)
            self.count[cause] = self.count.get(cause, 0) + sum(f.count for f in counted)
            if cause is C.CLOCK_DRIFT and self._drifts():
                self.score[cause] += 3

    def _platform(self, reason: str) -> None:
        for word, named in PLATFORM_WORDS.items():
            if word in reason.lower():
                for place, cause in enumerate(c for c in named if not self._ruled_out(c)):
                    self.likely.setdefault(cause, []).append(f"the platform: {reason}")
                    self.score[cause] = self.score.get(cause, 0) + max(3 - place, 1)
                return

    def _stapled(self) -> None:
        """A staple that the other side complains of, and that our prober did not get either, is seen to be missing."""
        if C.STAPLE_MISSING in self.likely:
            absent = [p for p in self.probes if p.staple is not None and p.staple.state is StapleState.ABSENT]
            if absent:
                self.seen[C.STAPLE_MISSING] = [f"{PROBER}: {p.where}: no OCSP staple" for p in absent]

    def _ruled_out(self, cause: FailureCause) -> bool:
        """What we saw contradicts the cause."""
        match cause:
            case C.INCOMPLETE_CHAIN:
                return self._on_b_is_fine()
            case C.EXPIRED | C.NOT_YET_VALID:
                return self._inside() is True
            case C.CLOCK_DRIFT:
                drift = self.symptoms.drift
                agree = drift is not None and abs(drift) <= DRIFT_LIMIT and not self.symptoms.clocks
                return self._inside() is False or agree
            case C.RESUMPTION:
                offers = [probe.resumption for probe in self.probes if probe.resumption is not None]
                return bool(offers) and not any(offer.offered for offer in offers)
            case C.STAPLE_MISSING:
                return bool(self._staples()) and StapleState.ABSENT not in self._staples()
            case C.STAPLE_STALE:
                return bool(self._staples())
            case _:
                return False

    def _staples(self) -> set[StapleState]:
        return {probe.staple.state for probe in self.probes if probe.staple is not None}

    def _inside(self) -> bool | None:
        facts = self.symptoms.facts
        return None if facts is None else facts.not_before <= self.symptoms.now <= facts.not_after

    def _fresh_is_fine(self) -> bool:
        return bool(self.probes) and all(probe.shook_hands for probe in self.probes)

    def _on_b_is_fine(self) -> bool:
        b = self.symptoms.sha256_b
        on_b = [probe for probe in self.probes if probe.leaf_sha256 is not None and b in (None, probe.leaf_sha256)]
        return bool(on_b) and all(probe.shook_hands for probe in on_b)

    # -- words ----------------------------------------------------------------------------------------------------

    def _merged(self, failures: Iterable[Failure]) -> list[Failure]:
        """Each kind of failure once, with its highest count; the prober's alerts are failures too."""
        met = [
            Failure(reporter=PROBER, what=What.HANDSHAKE, cause=probe.alert, count=1, sha256=probe.leaf_sha256)
            for probe in self.probes
            if probe.alert is not None and probe.alert not in ABOUT_THE_PROBER
        ]
        highest: dict[tuple[str, ...], Failure] = {}
        for one in (*failures, *met):
            key = (one.reporter, one.what, one.cause, str(one.direction), one.sha256 or "")
            if one.count and (key not in highest or highest[key].count < one.count):
                highest[key] = one
        return [highest[key] for key in sorted(highest)]

    def _line(self, failure: Failure) -> str:
        number = ALERTS[failure.cause].number if failure.what is What.HANDSHAKE and failure.cause in ALERTS else None
        named = f"{failure.cause} (alert {number})" if number is not None else failure.cause
        towards = f", {failure.direction}" if failure.direction is not None else ""
        return f"{failure.reporter}: {failure.count} × {failure.what} on {self._name(failure.sha256)}{towards}: {named}"

    def _name(self, sha256: str | None) -> str:
        if sha256 is None:
            return "no certificate"
        names = {self.symptoms.sha256_a: "A", self.symptoms.sha256_b: "B"}
        return names.get(sha256, sha256[:12])

    def _drifts(self) -> bool:
        apart = self.symptoms.drift is not None and abs(self.symptoms.drift) > DRIFT_LIMIT
        return apart or bool(self.symptoms.clocks)

    def _drift(self) -> str:
        seconds = (self.symptoms.drift or timedelta(0)).total_seconds()
        return f"clock: the other side's is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} ours"

    def _context(self) -> Iterator[str]:
        """What was looked at and may matter, after what speaks for the cause."""
        for probe in self.probes:
            if probe.layer is None or (probe.layer is Layer.TLS and probe.distrust is None):
                yield f"{PROBER}: {probe.text()}"
            if probe.resumption is not None and probe.resumption.offered:
                yield f"{PROBER}: {probe.where}: {probe.resumption.text()}"
        yield from (f"clock: {line}" for line in sorted(set(self.symptoms.clocks)))
        if self._drifts() and not self.symptoms.clocks and not self._drift_excludes():
            yield self._drift()


def _collected(pairs: Iterable[tuple[FailureCause, str]]) -> dict[FailureCause, list[str]]:
    found: dict[FailureCause, list[str]] = {}
    for cause, line in pairs:
        found.setdefault(cause, []).append(line)
    return found


def _shortened(lines: Iterable[str]) -> tuple[str, ...]:
    every = list(dict.fromkeys(lines))
    more = (f"and {len(every) - SHOWN} more",) if len(every) > SHOWN else ()
    return (*every[:SHOWN], *more)
