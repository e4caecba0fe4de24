"""What an observer's word on a trunk means for a gate: down, a flap, stale, silent, trusted."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from domain.gates import Verdict, combine
from domain.observed import CONNECTED, TRUSTED, ObservedTrunk, Pinged, connected_finding, trusted_finding
from domain.plan import Endpoint, TrunkObserver
from tests.domain.plans import plan
from tests.domain.readings import NOW

EAST, WEST = "198.51.100.1:5061", "198.51.100.2:5061"
LONG_AGO = NOW - timedelta(days=3)


def observed(**observer: Any) -> Endpoint:
    """East, with an observer; ten seconds of patience and a minute of freshness unless told otherwise."""
    usual = {"profile": "byoc", "trunk": "trunk-9", "down_for": "10s", "stale_after": "60s"}
    named = TrunkObserver.model_validate({**usual, **observer})
    return plan().endpoints[0].model_copy(update={"observer": named})


def ago(seconds: float) -> Any:
    return NOW - timedelta(seconds=seconds)


def up(address: str) -> Pinged:
    return Pinged(address=address, answered=True, since=LONG_AGO)


def silent(address: str, seconds: float | None) -> Pinged:
    since = None if seconds is None else ago(seconds)
    return Pinged(address=address, answered=False, since=since, error="tls unknown_ca")


def trunk(**changes: Any) -> ObservedTrunk:
    """Connected, both pings answered, reported two seconds ago."""
    usual: dict[str, Any] = {
        "trunk": "trunk-9",
        "name": "SBC",
        "connected": True,
        "connected_since": LONG_AGO,
        "pings": (up(EAST), up(WEST)),
        "inbound_calls": 3,
        "outbound_calls": 1,
        "heard_at": ago(2),
        "clock": ago(0.5),
    }
    return ObservedTrunk(**{**usual, **changes})


def verdict(seen: ObservedTrunk, **judging: Any) -> Verdict:
    finding = connected_finding(observed(), seen, now=NOW, **judging)
    assert (finding.check, finding.endpoint) == (CONNECTED, "east")
    return finding.verdict


DOWN_LONG = {"connected": False, "connected_since": ago(11)}
DOWN_A_MOMENT = {"connected": False, "connected_since": ago(5)}


@pytest.mark.parametrize(
    ("changes", "later", "at_once"),
    [
        ({}, Verdict.PASS, Verdict.PASS),
        ({"pings": None}, Verdict.PASS, Verdict.PASS),
        ({"pings": ()}, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        (DOWN_LONG, Verdict.FAIL, Verdict.FAIL),
        (DOWN_A_MOMENT, Verdict.INCONCLUSIVE, Verdict.FAIL),
        ({"connected": False, "connected_since": None}, Verdict.FAIL, Verdict.FAIL),
        ({"connected": False, "connected_since": ago(0.1)}, Verdict.INCONCLUSIVE, Verdict.FAIL),
        ({"pings": (up(EAST), silent(WEST, 11))}, Verdict.FAIL, Verdict.FAIL),
        ({"pings": (up(EAST), silent(WEST, 5))}, Verdict.INCONCLUSIVE, Verdict.FAIL),
        ({"pings": (up(EAST), silent(WEST, None))}, Verdict.FAIL, Verdict.FAIL),
        ({**DOWN_A_MOMENT, "pings": (silent(EAST, 11), silent(WEST, 5))}, Verdict.FAIL, Verdict.FAIL),
        ({"out_of_service": ("the trunk is inactive",)}, Verdict.FAIL, Verdict.FAIL),
        ({"heard_at": None}, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        ({"heard_at": ago(61)}, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        ({"heard_at": ago(-61)}, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        ({"heard_at": ago(61), "clock": ago(61)}, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        ({"clock": ago(61)}, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        ({**DOWN_LONG, "heard_at": ago(61)}, Verdict.INCONCLUSIVE, Verdict.INCONCLUSIVE),
        ({"heard_at": ago(60)}, Verdict.PASS, Verdict.PASS),
    ],
)
def test_the_verdict_on_a_trunk(changes: dict[str, Any], later: Verdict, at_once: Verdict) -> None:
    assert verdict(trunk(**changes)) is later
    assert verdict(trunk(**changes), at_once=True) is at_once


def test_how_long_it_has_been_down_is_told_by_the_observers_own_clock() -> None:
    """Ours may be off by more than the patience; then five seconds would look like half a minute."""
    seen = trunk(**DOWN_A_MOMENT, clock=NOW, heard_at=NOW)
    assert connected_finding(observed(), seen, now=NOW + timedelta(seconds=25)).verdict is Verdict.INCONCLUSIVE


def test_the_plan_says_how_long_a_flap_may_last() -> None:
    seen = trunk(**DOWN_LONG)
    assert connected_finding(observed(down_for="30s"), seen, now=NOW).verdict is Verdict.INCONCLUSIVE
    assert connected_finding(observed(down_for="0s"), trunk(**DOWN_A_MOMENT), now=NOW).verdict is Verdict.FAIL


@pytest.mark.parametrize("wrong", [{"down_for": "3m"}, {"stale_after": "0s"}, {"stale_after": "2h"}, {"trunk": ""}])
def test_patience_has_limits(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        observed(**wrong)


def test_a_finding_says_who_does_not_answer_since_when_and_why() -> None:
    finding = connected_finding(observed(), trunk(pings=(up(EAST), silent(WEST, 11))), now=NOW)
    assert finding.seen == (
        "SBC: connected since 2026-11-20 12:00:00, OPTIONS answered by 1 of 2, "
        "198.51.100.2:5061 does not answer since 11:59:49 (tls unknown_ca), 3 calls in, 1 out"
    )
    assert finding.expected == "connected, every OPTIONS ping answered"


def test_a_finding_without_pings_says_that_there_are_none() -> None:
    finding = connected_finding(observed(), trunk(pings=None, inbound_calls=None), now=NOW)
    assert finding.seen == "SBC: connected since 2026-11-20 12:00:00, no OPTIONS pings are sent"


def test_a_trunk_with_a_thousand_addresses_gives_a_short_finding() -> None:
    pings = tuple(silent(f"198.51.100.1:{port}", 11) for port in range(1000))
    finding = connected_finding(observed(), trunk(pings=pings), now=NOW)
    assert len(finding.seen) < 1000


# -- the trust store ---------------------------------------------------------------------------------------------------

ROOTS = {"a" * 64: "Example Root 1", "b" * 64: "Example Root 2"}


def test_every_root_has_to_be_trusted() -> None:
    finding = trusted_finding(observed(), ROOTS, {*ROOTS, "c" * 64})
    assert (finding.check, finding.verdict) == (TRUSTED, Verdict.PASS)
    assert finding.seen == "Example Root 1, Example Root 2"


def test_a_root_that_is_missing_is_named_with_what_to_do() -> None:
    finding = trusted_finding(observed(), ROOTS, {"a" * 64})
    assert finding.verdict is Verdict.FAIL
    assert finding.seen == "missing: Example Root 2 (bbbbbbbbbbbb…)"
    assert "add what is missing to the observer's certificate authorities" in finding.expected


def test_a_trust_store_that_cannot_be_read_is_not_checked_and_passes_nothing() -> None:
    finding = trusted_finding(observed(), ROOTS, None)
    assert finding.verdict is Verdict.NOT_CHECKED
    assert combine("preflight", [finding], NOW).verdict is Verdict.INCONCLUSIVE


def test_no_root_at_all_is_no_trust() -> None:
    assert trusted_finding(observed(), {}, frozenset()).verdict is Verdict.INCONCLUSIVE
