"""Two sources that count the same side of a trunk: which one a gate believes, and when they contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from domain.gates import Finding, Verdict
from domain.handshakes import Reading, Sample, Tally, call_setups, handshakes, percent
from domain.plan import Endpoint, Thresholds

_FIGURES: Mapping[str, Callable[[Iterable[Sample]], Tally]] = {"handshakes": handshakes, "call setups": call_setups}

_ROUNDING = 1e-9
"""What is just on the margin agrees."""


def contradictions(
    endpoint: Endpoint, believed: Reading, other: Reading, *, thresholds: Thresholds, sha256: str | None = None
) -> list[Finding]:
    """What makes a gate INCONCLUSIVE because two sources do not say the same; empty when they do.

    Compared are the share of successes (`thresholds.contradiction`) and the number of attempts (of the larger one,
    `thresholds.contradiction_traffic`) of real traffic of known peers, per direction, on `sha256` where both tell
    certificates. A figure that neither source has the minimum sample of says nothing; one that only one
    source has at all is no contradiction of itself where the other does not count such a thing.
    """
    told = sha256 if all(_tells_certificates(reading) for reading in (believed, other)) else None
    findings = []
    for direction in endpoint.directions:
        of_both = [
            reading.real(sha256=told, direction=direction, peers=endpoint.peers) for reading in (believed, other)
        ]
        for name, count in _FIGURES.items():
            if not all(_counts(reading, count) for reading in (believed, other)):
                continue
            ours, theirs = (count(samples) for samples in of_both)
            why = _difference(ours, theirs, thresholds)
            if why is not None:
                findings.append(
                    Finding(
                        check=f"{name}, {direction}, {believed.source} against {other.source}",
                        verdict=Verdict.INCONCLUSIVE,
                        seen=f"{believed.source} {ours.text()}, {other.source} {theirs.text()}: {why}",
                        expected="two sources that agree",
                        endpoint=endpoint.name,
                    )
                )
    return findings


def _difference(ours: Tally, theirs: Tally, thresholds: Thresholds) -> str | None:
    most = max(ours.attempts, theirs.attempts)
    if most < thresholds.minimum_sample:
        return None
    if abs(ours.attempts - theirs.attempts) > (thresholds.contradiction_traffic + _ROUNDING) * most:
        return f"the attempts differ by more than {percent(thresholds.contradiction_traffic)}"
    assert ours.success_rate is not None
    assert theirs.success_rate is not None
    if abs(ours.success_rate - theirs.success_rate) > thresholds.contradiction + _ROUNDING:
        return f"the shares of successes differ by more than {percent(thresholds.contradiction)}"
    return None


def _tells_certificates(reading: Reading) -> bool:
    return any(sample.sha256 is not None for sample in reading.samples)


def _counts(reading: Reading, count: Callable[[Iterable[Sample]], Tally]) -> bool:
    """Whether the source counts such a thing at all: a source of handshakes alone does not say that nobody calls."""
    return count(reading.samples).attempts > 0
