"""VERIFY: platform and carrier, each direction, on B; and that missing data never helps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from domain.gates import (
    Finding,
    GateResult,
    Verdict,
    combine,
    verify_findings,
)
from domain.handshakes import Reading, Reporter, Sample, Tally
from domain.plan import Direction, Endpoint, Thresholds, Timings
from tests.domain.plans import plan
from tests.domain.readings import NOW, UNUSABLE, A, B, reading, sample, tally

THRESHOLDS = Thresholds()
TIMINGS = Timings()
SECOND = timedelta(seconds=1)
PEER = "192.0.2.10"
EAST = plan().endpoints[0]
MUTUAL = plan(('carrier = "acme"', 'carrier = "acme"\nrole = "mutual"')).endpoints[0]


def verdicts(findings: Sequence[Finding]) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in findings}


def finding(verdict: Verdict) -> Finding:
    return Finding(check=verdict.lower(), verdict=verdict, seen="seen")


# -- VERIFY ------------------------------------------------------------------------------------------------------------

ON_B = sample(peer=PEER, handshakes=tally(1000), call_setups=tally(1000))
BASELINE = reading(sample(sha256=A, peer=PEER, call_setups=tally(1000)))


def platform(*samples: Sample, **changes: Any) -> Reading:
    return reading(*samples, **changes)


def carrier(*samples: Sample, **changes: Any) -> Reading:
    told = tuple(one.model_copy(update={"reporter": Reporter.CARRIER, "peer": None}) for one in samples)
    return reading(*told, **{"reporter": Reporter.CARRIER, **changes})


def verify(*readings: Reading, baseline: Reading | None = BASELINE, endpoint: Endpoint = EAST) -> GateResult:
    found = verify_findings(
        endpoint,
        readings,
        sha256_a=A,
        sha256_b=B,
        baseline=baseline,
        thresholds=THRESHOLDS,
        now=NOW,
        timings=TIMINGS,
    )
    return combine("verify", found, NOW)


by_peer = st.lists(
    st.tuples(st.integers(0, 900), st.integers(0, 40)).map(lambda p: (tally(p[0], timeout=p[1]), tally(p[0]))),
    min_size=1,
    max_size=5,
)


@given(by_peer, st.data())
def test_no_reordering_doubling_or_loss_of_samples_turns_what_is_no_pass_into_one(
    counted: list[tuple[Tally, Tally]], data: st.DataObject
) -> None:
    samples = [
        ON_B.model_copy(update={"handshakes": one, "call_setups": calls, "peer": f"192.0.2.{number}"})
        for number, (one, calls) in enumerate(counted, 10)
    ]
    everybody = EAST.model_copy(update={"peers": tuple(one.peer for one in samples)})
    whole, told = platform(*samples), carrier(ON_B)
    before = verify(whole, told, endpoint=everybody)
    drawn = data.draw(st.lists(st.sampled_from(samples), max_size=8))
    after = verify(whole.model_copy(update={"samples": tuple(drawn)}), told, endpoint=everybody)
    if before.verdict is not Verdict.PASS:
        assert after.verdict is not Verdict.PASS
    in_another_order = data.draw(st.permutations(samples))
    reordered = whole.model_copy(update={"samples": tuple(in_another_order)})
    assert verify(reordered, told, endpoint=everybody).verdict is before.verdict


def test_what_was_usual_before_the_rotation_stands_in_for_a_baseline_that_is_too_small() -> None:
    calls = with_calls(tally(960, **{"503": 40}))

    def judged(usual: float | None) -> Verdict:
        found = verify_findings(
            EAST,
            (platform(calls), carrier(calls)),
            sha256_a=A,
            sha256_b=B,
            baseline=None,
            thresholds=THRESHOLDS,
            now=NOW,
            timings=TIMINGS,
            setup_success=usual,
        )
        return combine("verify", found, NOW).verdict

    assert [judged(None), judged(0.97), judged(0.963)] == [Verdict.FAIL, Verdict.FAIL, Verdict.PASS]


def with_handshakes(counted: Tally) -> Sample:
    return ON_B.model_copy(update={"handshakes": counted})


def with_calls(counted: Tally) -> Sample:
    return ON_B.model_copy(update={"call_setups": counted})


def test_verify_passes_when_platform_and_carrier_agree_on_b() -> None:
    assert verify(platform(ON_B), carrier(ON_B)).verdict is Verdict.PASS


@pytest.mark.parametrize("reporter", Reporter)
@pytest.mark.parametrize(
    ("counted", "verdict"),
    [(tally(1990, unknown_ca=10), Verdict.FAIL), (tally(1991, unknown_ca=9), Verdict.PASS)],
    ids=["exactly 99.5 %", "above"],
)
def test_verify_wants_more_than_99_5_percent_from_both(reporter: Reporter, counted: Tally, verdict: Verdict) -> None:
    ours = with_handshakes(counted) if reporter is Reporter.PLATFORM else ON_B
    theirs = with_handshakes(counted) if reporter is Reporter.CARRIER else ON_B
    assert verify(platform(ours), carrier(theirs)).verdict is verdict


def test_verify_without_one_reporter_is_an_error_that_names_it() -> None:
    assert verify(platform(ON_B)).reason == "east: carrier figures: none"
    assert verify(carrier(ON_B)).reason == "east: platform figures: none"
    assert verify().verdict is Verdict.ERROR


@pytest.mark.parametrize(
    "samples",
    [
        [],
        [ON_B.model_copy(update={"synthetic": True})],
        [ON_B.model_copy(update={"sha256": A})],
        [ON_B.model_copy(update={"sha256": None})],
        [with_handshakes(Tally())],
        [with_calls(Tally())],
    ],
    ids=["nothing", "our own probes", "A only", "no certificate told", "no handshakes", "no calls"],
)
@pytest.mark.parametrize("reporter", Reporter)
def test_verify_is_undecided_without_real_data_on_b_from_either_side(samples: list[Sample], reporter: Reporter) -> None:
    ours = samples if reporter is Reporter.PLATFORM else [ON_B]
    theirs = samples if reporter is Reporter.CARRIER else [ON_B]
    assert verify(platform(*ours), carrier(*theirs)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("changes", UNUSABLE, ids=["stale", "from the future", "reset"])
@pytest.mark.parametrize("reporter", Reporter)
def test_verify_is_undecided_on_figures_that_cannot_be_used(changes: dict[str, Any], reporter: Reporter) -> None:
    ours = changes if reporter is Reporter.PLATFORM else {}
    theirs = changes if reporter is Reporter.CARRIER else {}
    assert verify(platform(ON_B, **ours), carrier(ON_B, **theirs)).verdict is Verdict.INCONCLUSIVE


def test_verify_wants_each_direction_that_the_trunks_role_has() -> None:
    outbound = ON_B.model_copy(update={"direction": Direction.OUTBOUND})
    both = [ON_B, outbound]
    assert verify(platform(*both), carrier(*both), endpoint=MUTUAL).verdict is Verdict.PASS
    assert verify(platform(*both), carrier(ON_B), endpoint=MUTUAL).verdict is Verdict.INCONCLUSIVE
    assert verify(platform(outbound), carrier(*both), endpoint=MUTUAL).verdict is Verdict.INCONCLUSIVE
    one_way = outbound.model_copy(update={"handshakes": tally(0, unknown_ca=1000)})
    assert verify(platform(*both), carrier(ON_B, one_way), endpoint=MUTUAL).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("on_a", "on_b", "verdict"),
    [
        (tally(1000), tally(995, busy=5), Verdict.PASS),
        (tally(1000), tally(994, busy=6), Verdict.FAIL),
        (tally(980, busy=20), tally(976, busy=24), Verdict.PASS),
        (tally(980, busy=20), tally(974, busy=26), Verdict.FAIL),
        (tally(500, busy=99), tally(990, busy=10), Verdict.FAIL),
        (Tally(), tally(990, busy=10), Verdict.FAIL),
    ],
    ids=[
        "as good as A less the margin",
        "worse than A",
        "A was not better",
        "A was a little better",
        "too little of A to compare",
        "nothing of A to compare",
    ],
)
def test_call_setup_on_b_is_not_worse_than_it_was_on_a(on_a: Tally, on_b: Tally, verdict: Verdict) -> None:
    baseline = reading(sample(sha256=A, peer=PEER, call_setups=on_a))
    found = verify(platform(with_calls(on_b)), carrier(ON_B), baseline=baseline)
    assert found.verdict is verdict


def test_without_a_baseline_call_setup_is_held_against_the_threshold() -> None:
    assert verify(platform(with_calls(tally(990, busy=10))), carrier(ON_B), baseline=None).verdict is Verdict.FAIL
    assert verify(platform(with_calls(tally(995, busy=5))), carrier(ON_B), baseline=None).verdict is Verdict.PASS


counts = st.tuples(st.integers(0, 1500), st.integers(0, 20)).map(lambda p: tally(p[0], unknown_ca=p[1]))
samples_of_b = st.lists(
    st.builds(
        lambda direction, shaken, calls: sample(direction=direction, peer=PEER, handshakes=shaken, call_setups=calls),
        st.sampled_from(Direction),
        counts,
        counts,
    ),
    max_size=4,
)


@given(samples_of_b, samples_of_b, st.sampled_from(["platform", "carrier", "inbound", "outbound", "successes"]))
def test_missing_data_never_turns_a_verify_that_does_not_pass_into_one_that_does(
    ours: list[Sample], theirs: list[Sample], lost: str
) -> None:
    """A reporter that falls silent, a direction that is not told any more, good samples that get lost."""
    assume(verify(platform(*ours), carrier(*theirs), endpoint=MUTUAL).verdict is not Verdict.PASS)
    if lost in ("inbound", "outbound"):
        ours, theirs = ([s for s in side if s.direction != lost] for side in (ours, theirs))
    if lost == "successes":
        ours, theirs = (
            [s.model_copy(update={"handshakes": tally(0, **s.handshakes.failures)}) for s in side]
            for side in (ours, theirs)
        )
    readings = [platform(*ours)] if lost != "platform" else []
    readings += [carrier(*theirs)] if lost != "carrier" else []
    assert verify(*readings, endpoint=MUTUAL).verdict is not Verdict.PASS


@given(samples_of_b, samples_of_b)
def test_a_verify_that_passes_has_the_sample_from_both_in_both_directions(
    ours: list[Sample], theirs: list[Sample]
) -> None:
    if verify(platform(*ours), carrier(*theirs), endpoint=MUTUAL).verdict is Verdict.PASS:
        for side in (ours, theirs):
            for direction in Direction:
                attempts = sum(s.handshakes.attempts for s in side if s.direction is direction)
                assert attempts >= THRESHOLDS.minimum_sample
