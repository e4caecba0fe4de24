"""What READINESS and SOAK say of our own handshakes on B beside their success: staple, tickets and time."""

from __future__ import annotations

from collections.abc import Sequence

from domain.gates import Finding, Verdict, not_checked
from domain.latency import Latency, regression
from domain.probed import Resumption, Staple, StapleState
from domain.texts import listed

TICKETS_S = 900
"""Guide, edge case 2: tickets live for 15 minutes during a rotation."""

_UNFIT = (StapleState.STALE, StapleState.UNUSABLE)


def staple_finding(endpoint: str, staples: Sequence[Staple | None]) -> Finding:
    """The OCSP staple on B. None is stapled by most edges, and then carriers ask the responder themselves.

    A staple that says revoked is a FAIL; one that is stale or cannot be believed waits for a fresh one, or a person.
    """
    seen = [staple for staple in staples if staple is not None]
    states = {staple.state for staple in seen}
    if not seen:
        return not_checked("OCSP staple of B", "no handshake on B came that far", endpoint)
    if states == {StapleState.ABSENT}:
        return not_checked("OCSP staple of B", "the edge staples none: carriers ask the responder", endpoint)
    worst = Verdict.PASS
    if StapleState.REVOKED in states:
        worst = Verdict.FAIL
    elif states & {*_UNFIT, StapleState.ABSENT}:
        worst = Verdict.INCONCLUSIVE
    return Finding(
        check="OCSP staple of B",
        verdict=worst,
        seen=listed(dict.fromkeys(staple.text() for staple in seen)),
        expected="good and fresh",
        endpoint=endpoint,
        synthetic=True,
    )


def ticket_finding(endpoint: str, offers: Sequence[Resumption | None]) -> Finding:
    """What the edge offers to resume; nothing changes it in this version, so it is only shown."""
    seen = dict.fromkeys(offer.text() for offer in offers if offer is not None)
    said = f"{listed(seen)}; the guide wants {TICKETS_S} s" if seen else "no handshake on B came that far"
    return not_checked("TLS ticket lifetime", said, endpoint)


def time_finding(endpoint: str, on_a: Latency, on_b: Latency) -> Finding:
    """How long full handshakes on B took, and whether they are slower than on A. A warning, never a failure."""
    warning = regression(on_a, on_b)
    if warning is None:
        return not_checked("handshake time on B", on_b.text(), endpoint)
    return Finding(
        check="handshake time on B",
        verdict=Verdict.WARN,
        seen=f"{on_b.text()}; {warning}",
        expected="no slower than on A",
        endpoint=endpoint,
        synthetic=True,
    )
