"""A trunk as the platform on its other side sees it, and what that means for a gate.

Where the certificate sits on a customer's SBC, the cloud behind it (Genesys BYOC) knows better than anybody whether
the SBC is still trusted: it connects to it, and pings it with OPTIONS over the very TLS that a rotation changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from datetime import datetime, timedelta

from domain.gates import Finding, Verdict, not_checked
from domain.handshakes import Count, Record
from domain.plan import Endpoint, TrunkObserver
from domain.texts import listed

CONNECTED = "trunk connected (observer)"
"""The check's name in PREFLIGHT, READINESS, VERIFY and DRAIN."""

TRUSTED = "trust store (observer)"
"""The check's name in PREFLIGHT."""


class Pinged(Record):
    """What became of the OPTIONS pings to one address, and since when it has been so (None: not told)."""

    address: str
    answered: bool
    since: datetime | None = None
    error: str = ""


class ObservedTrunk(Record):
    """The trunk as its observer reports it. Moments are by the observer's own clock, which showed `clock` then.

    `out_of_service` says in words what keeps the trunk from being used, whoever decided so. `pings` is None where
    none are sent. `heard_at` is when the trunk's end last reported to the observer's API; None: it does not say.
    """

    trunk: str
    name: str
    out_of_service: tuple[str, ...] = ()
    connected: bool
    connected_since: datetime | None = None
    pings: tuple[Pinged, ...] | None = None
    inbound_calls: Count | None = None
    outbound_calls: Count | None = None
    heard_at: datetime | None
    clock: datetime

    def text(self) -> str:
        """For people, one line."""
        since = f" since {self.connected_since:%Y-%m-%d %H:%M:%S}" if self.connected_since else ""
        parts = [*self.out_of_service, f"{'connected' if self.connected else 'disconnected'}{since}"]
        if self.pings is None:
            parts.append("no OPTIONS pings are sent")
        else:
            answered = sum(ping.answered for ping in self.pings)
            parts.append(f"OPTIONS answered by {answered} of {len(self.pings)}")
            parts += [_silent(ping) for ping in self.pings if not ping.answered]
        if self.inbound_calls is not None and self.outbound_calls is not None:
            parts.append(f"{self.inbound_calls} calls in, {self.outbound_calls} out")
        return f"{self.name}: {listed(parts)}"


def connected_finding(endpoint: Endpoint, seen: ObservedTrunk, *, now: datetime, at_once: bool = False) -> Finding:
    """Whether the trunk's other side can use it.

    FAIL: out of service; or disconnected, or an OPTIONS ping without an answer, for at least the plan's `down_for` –
    `at_once` (PREFLIGHT: a rotation begins on a trunk that is well) without that patience. What has been down for
    less may be a flap: INCONCLUSIVE, as are stale reports and pings that are on and about which nothing is said.
    """
    observer = endpoint.observer
    assert observer is not None, "only an endpoint with an observer is judged"
    verdict, expected = _verdict(seen, observer, now, patience=timedelta(0) if at_once else observer.down_for)
    return Finding(check=CONNECTED, verdict=verdict, seen=seen.text(), expected=expected, endpoint=endpoint.name)


def trusted_finding(endpoint: Endpoint, needed: Mapping[str, str], trusted: Set[str] | None) -> Finding:
    """Whether the trunk's other side trusts the roots to which B's chain can lead.

    `needed` maps the SHA-256 of each root to its subject, `trusted` is the observer's trust store; None where it
    has none that can be read (Genesys BYOC Cloud trusts public CAs), which is NOT_CHECKED.
    """
    if trusted is None:
        why = "this kind of trunk trusts public CAs, of which the observer shows no list"
        return not_checked(TRUSTED, why, endpoint.name)
    missing = [f"{subject} ({sha256[:12]}…)" for sha256, subject in needed.items() if sha256 not in trusted]
    if missing or not needed:
        seen = f"missing: {listed(missing)}" if missing else "no root is known"
        verdict = Verdict.FAIL if missing else Verdict.INCONCLUSIVE
    else:
        seen, verdict = listed(needed.values()), Verdict.PASS
    expected = "every root to which B's chain can lead; add what is missing to the observer's certificate authorities"
    return Finding(check=TRUSTED, verdict=verdict, seen=seen, expected=expected, endpoint=endpoint.name)


def _verdict(
    seen: ObservedTrunk, observer: TrunkObserver, now: datetime, *, patience: timedelta
) -> tuple[Verdict, str]:
    expected = "connected, every OPTIONS ping answered"
    if seen.heard_at is None:
        return Verdict.INCONCLUSIVE, "a report with its time"
    # A clock that runs ahead makes an old report look fresh.
    if max(abs(now - seen.heard_at), abs(now - seen.clock)) > observer.stale_after:
        age = (now - seen.heard_at).total_seconds()
        limit = observer.stale_after.total_seconds()
        return Verdict.INCONCLUSIVE, f"a report at most {limit:.0f} s old; this one is {age:.0f} s old"
    if seen.out_of_service:
        return Verdict.FAIL, f"in service, {expected}"
    down = [] if seen.connected else [seen.connected_since]
    down += [ping.since for ping in seen.pings or () if not ping.answered]
    # Clocks of HTTP have whole seconds: what has just gone down lies in their future.
    if any(since is None or not patience or seen.clock - since >= patience for since in down):
        return Verdict.FAIL, expected
    if down:
        return Verdict.INCONCLUSIVE, f"{expected}; it counts as down after {patience.total_seconds():.0f} s"
    if seen.pings == ():
        return Verdict.INCONCLUSIVE, f"{expected}; pings are on, and none is reported"
    return Verdict.PASS, expected


def _silent(ping: Pinged) -> str:
    since = f" since {ping.since:%H:%M:%S}" if ping.since else ""
    return f"{ping.address} does not answer{since}" + (f" ({ping.error})" if ping.error else "")
