"""What is said of staple, tickets and time of our own handshakes on B."""

from __future__ import annotations

import pytest

from domain.gates import Verdict
from domain.latency import ENOUGH, latency
from domain.offers import staple_finding, ticket_finding, time_finding
from domain.probed import Resumption, Staple, StapleState

GOOD, ABSENT, STALE, REVOKED, UNUSABLE = (
    Staple(state=state)
    for state in (
        StapleState.GOOD,
        StapleState.ABSENT,
        StapleState.STALE,
        StapleState.REVOKED,
        StapleState.UNUSABLE,
    )
)


@pytest.mark.parametrize(
    ("staples", "verdict"),
    [
        ([], Verdict.NOT_CHECKED),
        ([None], Verdict.NOT_CHECKED),
        ([ABSENT, None], Verdict.NOT_CHECKED),
        ([GOOD, None, GOOD], Verdict.PASS),
        ([GOOD, ABSENT], Verdict.INCONCLUSIVE),
        ([GOOD, STALE], Verdict.INCONCLUSIVE),
        ([UNUSABLE], Verdict.INCONCLUSIVE),
        ([GOOD, STALE, REVOKED], Verdict.FAIL),
    ],
)
def test_a_staple_passes_only_when_every_one_is_good(staples: list[Staple | None], verdict: Verdict) -> None:
    found = staple_finding("east", staples)
    assert (found.check, found.verdict, found.endpoint) == ("OCSP staple of B", verdict, "east")


def test_what_was_stapled_is_told() -> None:
    found = staple_finding("east", [Staple(state=StapleState.UNUSABLE, detail="it is about another certificate")] * 3)
    assert found.seen == "OCSP staple unusable (it is about another certificate)"


def test_tickets_are_shown_and_never_judged() -> None:
    offer = Resumption(offered=True, ticket=True, lifetime_s=7200)
    found = ticket_finding("east", [offer, None, offer])
    assert found.verdict is Verdict.NOT_CHECKED
    assert found.seen == "session ticket offered, lifetime 7200 s; the guide wants 900 s"
    assert ticket_finding("east", []).verdict is Verdict.NOT_CHECKED
    assert ticket_finding("east", [Resumption(offered=False)]).seen.startswith("no resumption offered")


def test_slow_handshakes_are_a_warning_and_no_verdict() -> None:
    fast, slow = latency([20.0] * ENOUGH), latency([300.0] * ENOUGH)
    found = time_finding("east", fast, slow)
    assert found.verdict is Verdict.WARN
    assert "100.00 % above 100 ms; full handshakes are slower on B" in found.seen
    assert time_finding("east", slow, fast).seen == fast.text()
    assert time_finding("east", latency([]), latency([])).seen == "no handshakes"
