"""The guard: healthy, quiet, breach or blind – pure functions over readings (DESIGN.md, "Watching and acting")."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from enum import StrEnum

from domain.confidence import clearly_below
from domain.gates import by_carrier, stale_or_damaged
from domain.handshakes import Reading, Record, Sample, Tally, call_setups, certificate_alerts, handshakes, percent
from domain.plan import Direction, Endpoint, Thresholds, Timings
from domain.texts import Readable, listed


class GuardVerdict(StrEnum):
    """What the guard's look says. HEALTHY and QUIET keep the rotation going; QUIET passes no gate either."""

    HEALTHY = "HEALTHY"
    QUIET = "QUIET"
    BREACH = "BREACH"
    BLIND = "BLIND"


class GuardFinding(Record):
    """The guard's judgement of one endpoint, with its figures."""

    endpoint: str
    verdict: GuardVerdict
    seen: Readable
    value: float | None = None


def is_news(said: GuardVerdict, verdict: GuardVerdict, *, calm: bool) -> bool:
    """True when the rotation has to hear of it: a breach always, blindness when it begins, its end unless `calm`.

    `said` is the last verdict that it was told; `calm` is true while a guard that flaps keeps better news back. A
    trunk that is now quiet, now not, is no news: nothing follows from it, and the last look shows it.
    """
    if verdict is GuardVerdict.BREACH:
        return True
    if verdict is GuardVerdict.BLIND:
        return said is not GuardVerdict.BLIND
    return said is GuardVerdict.BLIND and not calm


BY_CHANCE = 1e-6
"""What chance alone brings more rarely than this is a breach: some thousand looks in 72 hours must not have one."""

_FIGURES: Mapping[str, Callable[[Iterable[Sample]], Tally]] = {"handshakes": handshakes, "call setups": call_setups}


def guard_endpoint(
    endpoint: Endpoint,
    platform: Reading,
    carrier: Reading | None,
    *,
    thresholds: Thresholds,
    now: datetime,
    timings: Timings,
    window_is_widest: bool,
    certificates: Collection[str] | None = None,
    setup_success: float | None = None,
) -> GuardFinding | None:
    """One endpoint in one window; None asks for a wider window (fewer attempts than the guard's sample).

    BREACH: success of handshakes or call setups below the line on any certificate that has the sample, consecutive
    certificate alerts or other failures of known peers, or traffic that the carrier reports and a talking platform does
    not see. Where fewer call setups than the line succeeded on A before the rotation (`setup_success`, 0–1), the line
    lies below that, and what chance alone could bring is no breach.
    Only the rotation's own `certificates` are held against the carrier's figures, and what it could attribute to none:
    a platform forgets the figures of a certificate that was deleted from it (an earlier run's), a carrier does not.
    The carrier's figures count against the platform's only where they begin after its counters were last reset.
    BLIND: stale figures, or a platform that says nothing at all while the carrier reports attempts.

    Where the plan has the carrier speak for the platform (`[endpoints.substitutes]`), its figures are judged in the
    place of the platform's, and nothing is HEALTHY without them: None asks for them, stale ones are BLIND.
    """
    for finding in stale_or_damaged(platform, now=now, stale_after=timings.stale_after):
        return GuardFinding(endpoint=endpoint.name, verdict=GuardVerdict.BLIND, seen=finding.text())
    real = platform.real(peers=endpoint.peers)
    # Stale figures of the carrier are none: old traffic must not make a quiet trunk look gone.
    told = None
    if carrier is not None and abs(carrier.age(now)) <= timings.stale_after and carrier.damage() is None:
        told = [s for s in carrier.real() if certificates is None or s.sha256 is None or s.sha256 in certificates]
    judged = {name: told if by_carrier(endpoint, name) else list(real) for name in _FIGURES}
    in_a_row = _alerts_without_success(judged["handshakes"] or (), thresholds.consecutive_alerts)
    for what, count in _FIGURES.items():
        in_a_row = in_a_row or _failures_without_success(what, count, judged[what] or (), thresholds)
    if in_a_row:
        return GuardFinding(endpoint=endpoint.name, verdict=GuardVerdict.BREACH, seen=in_a_row, value=0.0)
    small = True
    worst: GuardFinding | None = None
    for what, count in _FIGURES.items():
        of_all = judged[what] or []
        for certificate in (None, *sorted({s.sha256 for s in of_all if s.sha256})):
            samples = [s for s in of_all if certificate is None or s.sha256 == certificate]
            tally = count(samples)
            rate = tally.success_rate
            if rate is None or tally.attempts < thresholds.guard_sample:
                continue
            small = False
            on = f" on {certificate[:12]}" if certificate else ""
            usual = setup_success if what == "call setups" else None
            line = thresholds.breach if usual is None else min(thresholds.breach, usual - thresholds.setup_margin)
            if rate >= line or (worst is not None and rate >= (worst.value or 0.0)):
                continue
            if usual is None or clearly_below(
                usual, successes=tally.successes, attempts=tally.attempts, chance=BY_CHANCE
            ):
                worst = GuardFinding(
                    endpoint=endpoint.name,
                    verdict=GuardVerdict.BREACH,
                    seen=f"{what}{on}: {tally.text()}, below {percent(line)}"
                    + ("" if usual is None else f" (on A before: {percent(usual)})")
                    + _peers_below(samples, count, line),
                    value=rate,
                )
    if worst is not None:
        return worst
    seen = handshakes(real)
    unheard = [name for name, samples in judged.items() if samples is None]
    if unheard and carrier is not None:
        return GuardFinding(
            endpoint=endpoint.name,
            verdict=GuardVerdict.BLIND,
            seen=f"the carrier's figures, which stand in for {' and '.join(unheard)}, are stale",
        )
    if not small and not unheard:
        tallies = {name: count(judged[name] or ()) for name, count in _FIGURES.items()}
        return GuardFinding(
            endpoint=endpoint.name,
            verdict=GuardVerdict.HEALTHY,
            seen=", ".join(f"{name} {tally.text()}" for name, tally in tallies.items()),
            value=tallies["handshakes"].success_rate,
        )
    reported = None if told is None else handshakes(told).attempts
    reset = platform.counters_since
    covered = carrier is not None and (reset is None or carrier.since >= reset)
    if covered and reported is not None and reported - seen.attempts >= thresholds.guard_sample:
        if not platform.samples:
            return GuardFinding(
                endpoint=endpoint.name,
                verdict=GuardVerdict.BLIND,
                seen=f"the platform reports nothing at all while the carrier reports {reported} attempts",
            )
        return GuardFinding(
            endpoint=endpoint.name,
            verdict=GuardVerdict.BREACH,
            seen=f"traffic is gone: the carrier reports {reported} attempts, the platform saw {seen.attempts}",
            value=0.0,
        )
    if not window_is_widest:
        return None
    if reported is None:
        return GuardFinding(
            endpoint=endpoint.name,
            verdict=GuardVerdict.BLIND,
            seen=f"{seen.attempts} attempts here, and the carrier's figures are missing or stale",
        )
    return GuardFinding(
        endpoint=endpoint.name,
        verdict=GuardVerdict.QUIET,
        seen=f"{seen.attempts} handshakes here, {reported} at the carrier: fewer than {thresholds.guard_sample}",
    )


def _peers_below(samples: Sequence[Sample], count: Callable[[Iterable[Sample]], Tally], line: float) -> str:
    """Which peers fail, when others do not: one that refuses B alone is found by its address."""
    tallies = {
        peer: count(s for s in samples if s.peer == peer) for peer in sorted({s.peer for s in samples if s.peer})
    }
    below = [f"{p}: {t.text()}" for p, t in tallies.items() if t.success_rate is not None and t.success_rate < line]
    return f"; from {listed(below)}" if below and len(below) < len(tallies) else ""


def _alerts_without_success(samples: Iterable[Sample], limit: int) -> str | None:
    """Certificate alerts in a row: at least `limit` on one certificate and direction without any success between."""
    groups: dict[tuple[str | None, Direction], list[Sample]] = {}
    for sample in samples:
        groups.setdefault((sample.sha256, sample.direction), []).append(sample)
    for (sha256, direction), group in groups.items():
        refused = certificate_alerts(group)
        tally = handshakes(group)
        if refused >= limit and tally.successes == 0:
            name = sha256[:12] if sha256 else "an unknown certificate"
            return f"{refused} handshakes in a row on {name}, {direction}, refused for the certificate: {tally.text()}"
    return None


def _failures_without_success(
    what: str, count: Callable[[Iterable[Sample]], Tally], samples: Iterable[Sample], thresholds: Thresholds
) -> str | None:
    """Failures in a row, whatever their cause, on one certificate and direction; what showed none has no successes."""
    groups: dict[tuple[str, Direction], list[Sample]] = {}
    for sample in samples:
        if sample.sha256 is not None:
            groups.setdefault((sample.sha256, sample.direction), []).append(sample)
    for (sha256, direction), group in groups.items():
        tally = count(group)
        if tally.successes == 0 and tally.attempts >= thresholds.consecutive_failures:
            return f"{tally.attempts} {what} in a row on {sha256[:12]}, {direction}, failed: {tally.text()}"
    return None
