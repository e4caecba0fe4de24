"""Two sources of one side: what is a contradiction, and what is none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.agreement import contradictions
from domain.gates import Verdict, combine
from domain.handshakes import Reading, Sample, Tally
from domain.plan import Thresholds
from tests.domain.plans import plan
from tests.domain.readings import NOW, A, B, reading, sample, tally

EAST = plan().endpoints[0]
PEER = EAST.peers[0]
THRESHOLDS = Thresholds()


def told(source: str, shaken: Tally, calls: Tally | None = None, **changes: Any) -> Reading:
    one = sample(**{"peer": PEER, "handshakes": shaken, "call_setups": calls or Tally(), **changes})
    return reading(one, source=source)


def found(believed: Reading, other: Reading, sha256: str | None = B) -> list[str]:
    findings = contradictions(EAST, believed, other, thresholds=THRESHOLDS, sha256=sha256)
    assert all(one.verdict is Verdict.INCONCLUSIVE for one in findings)
    assert not findings or combine("verify", findings, NOW).verdict is Verdict.INCONCLUSIVE
    return [one.text() for one in findings]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (tally(1000), tally(1000)),
        (tally(1000), tally(990, timeout=10)),
        (tally(1000), tally(750)),
        (tally(599), Tally()),
        (tally(599), tally(1, timeout=598)),
    ],
    ids=["equal", "one percent of success", "a quarter of traffic", "no sample", "no sample on either side"],
)
def test_sources_that_agree_say_nothing(ours: Tally, theirs: Tally) -> None:
    assert found(told("genesys", ours), told("datadog", theirs)) == []


def test_a_share_of_success_that_differs_is_a_contradiction() -> None:
    [text] = found(told("genesys", tally(1000)), told("datadog", tally(980, timeout=20)))
    assert text == (
        "east: handshakes, inbound, genesys against datadog: genesys 1000 of 1000 (100.00 %), datadog 980 of 1000 "
        "(98.00 %): 20 × timeout: the shares of successes differ by more than 1.00 % (expected two sources that agree)"
    )


def test_traffic_that_only_one_source_sees_is_a_contradiction() -> None:
    [text] = found(told("genesys", tally(700)), told("datadog", tally(1000)))
    assert "the attempts differ by more than 25.00 %" in text
    # on A it sees some, on B none: a source that tells certificates has to tell of B
    [text] = found(told("genesys", tally(700)), told("datadog", tally(700), sha256=A))
    assert "datadog no attempts" in text


def test_a_source_that_counts_no_calls_contradicts_none() -> None:
    ours = told("genesys", tally(700), tally(700))
    assert found(ours, told("datadog", tally(700))) == []
    [text] = found(ours, told("datadog", tally(700), tally(600, **{"503": 100})))
    assert "call setups" in text


def test_where_one_does_not_tell_certificates_all_of_them_are_compared() -> None:
    ours = reading(*(sample(peer=PEER, sha256=sha256, handshakes=tally(500)) for sha256 in (A, B)), source="genesys")
    assert found(ours, told("datadog", tally(1000), sha256=None)) == []
    assert found(ours, told("datadog", tally(500), sha256=None)) != []


def test_strangers_and_our_own_probes_are_not_compared() -> None:
    ours = told("genesys", tally(700))
    others: list[Sample] = [
        sample(peer=PEER, handshakes=tally(700)),
        sample(peer="203.0.113.66", handshakes=tally(0, timeout=900)),
        sample(peer=PEER, handshakes=tally(900), synthetic=True),
    ]
    assert found(ours, reading(*others, source="datadog")) == []


tallies = st.builds(lambda good, bad: tally(good, timeout=bad), st.integers(0, 2000), st.integers(0, 2000))


@given(tallies, tallies)
def test_neither_is_right_because_it_is_believed(ours: Tally, theirs: Tally) -> None:
    one, other = told("genesys", ours), told("datadog", theirs)
    assert bool(found(one, other)) is bool(found(other, one))
    assert found(one, one) == []
