"""Gates: pure functions from readings to verdicts (guide section 4).

No data is not success: a verdict is PASS only on measurements with the minimum sample. FAIL is decided, INCONCLUSIVE
is not decidable (too few, stale, contradicting), ERROR is a source that could not be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from domain.confidence import at_least
from domain.handshakes import (
    Reading,
    Record,
    Reporter,
    Tally,
    call_setups,
    handshakes,
    percent,
)
from domain.plan import Direction, Endpoint, Thresholds, Timings
from domain.texts import Readable


class Verdict(StrEnum):
    """What a gate says. NOT_CHECKED is shown for what this version does not look at; it never counts as PASS.

    WARN is of findings alone: something is not as it should be, and stops nothing.
    """

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    ERROR = "ERROR"
    NOT_CHECKED = "NOT_CHECKED"
    WARN = "WARN"


LEAST_USUAL = 0.5
"""Share of call setups (0–1) below which a trunk is broken, and nothing that B could be held against."""

BY_CARRIER = "the platform does not tell; the plan names the carrier's figures as the substitute"
BLIND_SWITCH = "no canary path; the plan says blind_switch"
"""What findings say where a substitute of the plan stands in."""


class Finding(Record):
    """One check inside a gate: what was looked at, what was seen against what was expected."""

    check: str
    verdict: Verdict
    seen: Readable
    expected: Readable = ""
    endpoint: str | None = None
    value: float | None = Field(default=None, description="the measured share 0–1, where there is one")
    threshold: float | None = None
    synthetic: bool = False

    def text(self) -> str:
        """For people, one line."""
        where = f"{self.endpoint}: " if self.endpoint else ""
        mark = " [synthetic]" if self.synthetic else ""
        expected = f" (expected {self.expected})" if self.expected else ""
        return f"{where}{self.check}: {self.seen}{expected}{mark}"


class GateResult(Record):
    """A gate's verdict with everything that it rests on."""

    gate: str
    verdict: Verdict
    findings: tuple[Finding, ...]
    decided_at: datetime
    overridden_by: str | None = None

    @property
    def reason(self) -> str:
        """The findings that decided, as one line: everything that failed or could not be looked at."""
        wanted = {Verdict.FAIL, Verdict.ERROR} if self.verdict in (Verdict.FAIL, Verdict.ERROR) else {self.verdict}
        deciding = [f for f in self.findings if f.verdict in wanted] or list(self.findings)
        return "; ".join(f.text() for f in deciding) or "nothing was measured"

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was found and stops nothing, for people, one line each."""
        return tuple(f.text() for f in self.findings if f.verdict is Verdict.WARN)


_ORDER = (Verdict.FAIL, Verdict.ERROR, Verdict.INCONCLUSIVE)


def combine(gate: str, findings: Iterable[Finding], at: datetime) -> GateResult:
    """The verdict of a gate over its findings: the worst wins, and without a single PASS nothing passes.

    NOT_CHECKED and WARN findings are shown and do not take part.
    """
    all_findings = tuple(findings)
    verdict = next((v for v in _ORDER if any(f.verdict is v for f in all_findings)), None)
    if verdict is None:
        passed = any(f.verdict is Verdict.PASS for f in all_findings)
        verdict = Verdict.PASS if passed else Verdict.INCONCLUSIVE
    return GateResult(gate=gate, verdict=verdict, findings=all_findings, decided_at=at)


def not_checked(check: str, why: str, endpoint: str | None = None) -> Finding:
    """A check that this version does not make, shown as such."""
    return Finding(check=check, verdict=Verdict.NOT_CHECKED, seen=why, endpoint=endpoint)


def success_rate(
    check: str,
    tally: Tally,
    *,
    threshold: float,
    minimum_sample: int,
    endpoint: str | None = None,
    strictly: bool = False,
    synthetic: bool = False,
    confidence: float | None = None,
) -> Finding:
    """Success over a window against a threshold, `> threshold` when `strictly`, else `>=`.

    INCONCLUSIVE below the minimum sample – except that failures which no further success could outweigh within the
    minimum sample are a FAIL at once – and while a `confidence` (0–1, one-sided) that is asked for is not reached.
    """
    rate = tally.success_rate
    sign = ">" if strictly else "≥"
    sure = f", with {percent(confidence)} confidence" if confidence is not None else ""
    expected = f"{sign} {percent(threshold)} of at least {minimum_sample}{sure}"
    if tally.attempts < minimum_sample:
        failed = tally.attempts - tally.successes
        best = (minimum_sample - failed) / minimum_sample
        hopeless = failed > 0 and (best < threshold or (strictly and best <= threshold))
        verdict = Verdict.FAIL if hopeless and failed >= 2 else Verdict.INCONCLUSIVE
    else:
        assert rate is not None
        verdict = Verdict.PASS if rate > threshold or (rate == threshold and not strictly) else Verdict.FAIL
        if verdict is Verdict.PASS and confidence is not None:
            sample = {"successes": tally.successes, "attempts": tally.attempts}
            verdict = Verdict.PASS if at_least(threshold, **sample, confidence=confidence) else Verdict.INCONCLUSIVE
    return Finding(
        check=check,
        verdict=verdict,
        seen=tally.text(),
        expected=expected,
        endpoint=endpoint,
        value=rate,
        threshold=threshold,
        synthetic=synthetic,
    )


def freshness(reading: Reading, *, now: datetime, stale_after: timedelta) -> list[Finding]:
    """What makes a reading unusable for a gate: damage, stale figures, or a reset inside its window."""
    findings = stale_or_damaged(reading, now=now, stale_after=stale_after)
    if reading.reset_within():
        seen = f"counters were reset at {reading.counters_since:%H:%M:%S}, inside the window"
        findings.append(_unusable(reading, seen, ""))
    return findings


def stale_or_damaged(reading: Reading, *, now: datetime, stale_after: timedelta) -> list[Finding]:
    """What makes a reading unusable for anybody: old figures, figures from the future, or lost samples."""
    findings = []
    age = reading.age(now)
    if abs(age) > stale_after:  # a clock that runs ahead makes old figures look fresh
        seconds = age.total_seconds()
        seen = f"{seconds:.0f} s old" if seconds > 0 else f"from {-seconds:.0f} s in the future"
        findings.append(_unusable(reading, seen, f"at most {stale_after.total_seconds():.0f} s"))
    damage = reading.damage()
    if damage is not None:
        findings.append(_unusable(reading, damage, "all of them, each once"))
    return findings


def _unusable(reading: Reading, seen: str, expected: str) -> Finding:
    return Finding(
        check=f"{reading.reporter} figures",
        verdict=Verdict.INCONCLUSIVE,
        seen=seen,
        expected=expected,
        endpoint=reading.endpoint,
    )


def soak_findings(
    endpoint: Endpoint,
    platform: Reading,
    carrier: Reading | None = None,
    *,
    sha256_b: str,
    thresholds: Thresholds,
    now: datetime,
    timings: Timings,
    setup_success: float | None = None,
) -> list[Finding]:
    """Step 5: the endpoint as a whole on real traffic; B on the canary path on our own handshakes and test calls.

    `carrier` is needed where the plan has the carrier speak for the platform. `setup_success` is the share of call
    setups that succeeded on A before the rotation (0–1): where it lies below the threshold, it is the measure.
    """
    readings = [platform] if carrier is None else [platform, carrier]
    unusable = [f for reading in readings for f in freshness(reading, now=now, stale_after=timings.stale_after)]
    if unusable:
        return unusable
    findings = []
    for direction in endpoint.directions:
        real = platform.real(direction=direction, peers=endpoint.peers)
        told = () if carrier is None else carrier.real(direction=direction)
        for name, count in (("handshakes", handshakes), ("call setups", call_setups)):
            tally, whose = count(real), ""
            if by_carrier(endpoint, name):
                findings.append(not_checked(f"{name}, {direction}, A and B", BY_CARRIER, endpoint.name))
                tally, whose = count(told), ", carrier"
            findings.append(
                success_rate(
                    f"{name}, {direction}, A and B{whose}",
                    tally,
                    threshold=thresholds.success if name == "handshakes" else setup_floor(setup_success, thresholds),
                    minimum_sample=thresholds.minimum_sample,
                    endpoint=endpoint.name,
                    confidence=thresholds.confidence,
                )
            )
    if endpoint.substitutes.canary is not None:
        return [*findings, not_checked("handshakes on B, canary", BLIND_SWITCH, endpoint.name)]
    canary = platform.synthetic(sha256=sha256_b)
    for name, tally in (("handshakes", handshakes(canary)), ("call setups", call_setups(canary))):
        if name == "call setups" and endpoint.substitutes.call_setups is not None:
            findings.append(not_checked("test calls on B, canary", BY_CARRIER, endpoint.name))
            continue
        if name == "call setups" and endpoint.test_call is None:
            findings.append(not_checked("test calls on B, canary", "the plan names no test_call", endpoint.name))
            continue
        findings.append(
            success_rate(
                f"{name} on B, canary",
                tally,
                threshold=thresholds.success,
                minimum_sample=thresholds.minimum_sample,
                endpoint=endpoint.name,
                synthetic=True,
                confidence=thresholds.confidence,
            )
        )
    return findings


def setup_floor(usual: float | None, thresholds: Thresholds) -> float:
    """What share of call setups has to succeed (0–1), when that share is usual on A; None: nobody could tell."""
    return thresholds.success if usual is None else max(0.0, min(thresholds.success, usual - thresholds.setup_margin))


def usual_setups(tally: Tally, thresholds: Thresholds, endpoint: str) -> Finding:
    """PREFLIGHT: what B is held against. A trunk on which calls fail already is a warning, and no measure below half.

    There is at least one attempt. Raises AssertionError without any.
    """
    rate = tally.success_rate
    assert rate is not None
    verdict = Verdict.PASS if rate >= thresholds.breach else Verdict.WARN if rate >= LEAST_USUAL else Verdict.FAIL
    expected = "what B is held against"
    if verdict is not Verdict.PASS:
        expected = f"≥ {percent(thresholds.breach)}: find out why calls fail before anything is changed"
    return Finding(
        check="call setups on A before the rotation",
        verdict=verdict,
        seen=tally.text(),
        expected=expected,
        endpoint=endpoint,
        value=rate,
        threshold=thresholds.breach,
    )


def soaked_long_enough(reading: Reading, since: datetime, *, now: datetime, soak: timedelta) -> list[Finding]:
    """Step 5: figures whose counters began anew after `since` have to cover a whole soak time again."""
    over = reading.since + soak
    if reading.since <= since or now >= over:
        return []
    return [
        Finding(
            check=f"{reading.reporter} figures",
            verdict=Verdict.INCONCLUSIVE,
            seen=f"counters were reset at {reading.since:%H:%M:%S}, and the soak time began again",
            expected=f"figures until {over:%H:%M:%S}",
            endpoint=reading.endpoint,
        )
    ]


def by_carrier(endpoint: Endpoint, name: str) -> bool:
    """True where the plan has the carrier speak for the platform on `handshakes` or `call setups`."""
    substitutes = endpoint.substitutes
    return (substitutes.handshakes if name == "handshakes" else substitutes.call_setups) is not None


def verify_findings(
    endpoint: Endpoint,
    readings: Sequence[Reading],
    *,
    sha256_a: str,
    sha256_b: str,
    baseline: Reading | None,
    thresholds: Thresholds,
    now: datetime,
    timings: Timings,
    setup_success: float | None = None,
) -> list[Finding]:
    """Step 7: platform and carrier above the threshold on B, each direction; call setup on B not worse than on A.

    `baseline` is the platform's reading of A before PREFER; where it has too few calls, `setup_success` (0–1) tells
    what was usual on A before the rotation, and without either B is held against the threshold alone.
    """
    findings: list[Finding] = []
    present = {reading.reporter for reading in readings}
    for reporter in Reporter:
        if reporter not in present:
            findings.append(
                Finding(check=f"{reporter} figures", verdict=Verdict.ERROR, seen="none", endpoint=endpoint.name)
            )
    for reading in readings:
        unusable = freshness(reading, now=now, stale_after=timings.stale_after)
        if unusable:
            findings += unusable
            continue
        peers = endpoint.peers if reading.reporter is Reporter.PLATFORM else None
        for direction in endpoint.directions:
            on_b = reading.real(sha256=sha256_b, direction=direction, peers=peers)
            floor = setup_floor(setup_success, thresholds)
            if baseline is not None and reading.reporter is Reporter.PLATFORM:
                on_a = call_setups(baseline.real(sha256=sha256_a, direction=direction, peers=peers))
                if on_a.success_rate is not None and on_a.attempts >= thresholds.minimum_sample:
                    floor = max(0.0, on_a.success_rate - thresholds.setup_margin)
            for name, tally, threshold in (
                ("handshakes", handshakes(on_b), thresholds.success),
                ("call setups", call_setups(on_b), floor),
            ):
                check = f"{name} on B, {direction}, {reading.reporter}"
                if reading.reporter is Reporter.PLATFORM and by_carrier(endpoint, name):
                    findings.append(not_checked(check, BY_CARRIER, endpoint.name))
                    continue
                findings.append(
                    success_rate(
                        check,
                        tally,
                        threshold=threshold,
                        minimum_sample=thresholds.minimum_sample,
                        endpoint=endpoint.name,
                        strictly=name == "handshakes",
                        confidence=thresholds.confidence,
                    )
                )
    if Direction.OUTBOUND not in endpoint.directions:
        why = "not applicable: on this trunk we present no client certificate"
        findings.append(not_checked("handshakes on B, outbound", why, endpoint.name))
    return findings


def adopt_findings(
    endpoint: Endpoint, platform: Reading, *, sha256_b: str, thresholds: Thresholds, now: datetime, timings: Timings
) -> list[Finding]:
    """Step 8: the share of new calls that use B. A share below the threshold is not a failure: it waits for traffic."""
    unusable = freshness(platform, now=now, stale_after=timings.stale_after)
    if unusable:
        return unusable
    findings = []
    for direction in endpoint.directions:
        real = [s for s in platform.real(direction=direction, peers=endpoint.peers) if s.sha256 is not None]
        count, what = call_setups, "calls"
        if endpoint.substitutes.call_setups is not None:  # each of them over a connection that was set up
            count, what = handshakes, "connections"
        new = count(real).attempts
        on_b = count([s for s in real if s.sha256 == sha256_b]).attempts
        enough = new >= thresholds.minimum_sample
        share = on_b / new if new else None
        passed = enough and share is not None and share >= thresholds.adopt_share
        findings.append(
            Finding(
                check=f"share of new {what} on B, {direction}",
                verdict=Verdict.PASS if passed else Verdict.INCONCLUSIVE,
                seen=f"no new {what}" if share is None else f"{on_b} of {new} ({percent(share)})",
                expected=f"≥ {percent(thresholds.adopt_share)} of at least {thresholds.minimum_sample}",
                endpoint=endpoint.name,
                value=share,
                threshold=thresholds.adopt_share,
            )
        )
    return findings


def calls_finding(
    endpoint: str, calls: int | None, counted_at: datetime | None, *, now: datetime, stale_after: timedelta
) -> Finding:
    """DRAIN: live calls on A. A count that is missing, undated or stale is none: no data is not zero."""
    if calls is None:
        seen = "not reported"
    elif counted_at is None or abs(now - counted_at) > stale_after:
        seen = f"{calls}, counted at {counted_at:%H:%M:%S}" if counted_at else f"{calls}, counted nobody knows when"
    else:
        verdict = Verdict.INCONCLUSIVE if calls else Verdict.PASS
        return Finding(
            check="active calls on A",
            verdict=verdict,
            seen=str(calls),
            expected="0",
            endpoint=endpoint,
            value=float(calls),
        )
    return Finding(
        check="active calls on A", verdict=Verdict.INCONCLUSIVE, seen=seen, expected="a fresh 0", endpoint=endpoint
    )


def same_processes(endpoint: str, counting_since: datetime | None, counted_at: datetime | None) -> list[Finding]:
    """DRAIN: two zeros say the same only when no process of the edge began to count between them."""
    if counting_since is None or counted_at is None or counting_since <= counted_at:
        return []
    return [
        Finding(
            check="active calls on A",
            verdict=Verdict.INCONCLUSIVE,
            seen=f"a process of the edge started at {counting_since:%H:%M:%S}, after the first count",
            expected="the same processes in both counts",
            endpoint=endpoint,
        )
    ]
