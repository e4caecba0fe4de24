"""Gates: readings in, verdicts out. No data passes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from domain.gates import (
    Finding,
    GateResult,
    Verdict,
    adopt_findings,
    combine,
    freshness,
    not_checked,
    soak_findings,
    success_rate,
    usual_setups,
)
from domain.handshakes import Sample, Tally
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


# -- combining ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "verdict"),
    [
        ([], Verdict.INCONCLUSIVE),
        ([Verdict.NOT_CHECKED], Verdict.INCONCLUSIVE),
        ([Verdict.PASS], Verdict.PASS),
        ([Verdict.PASS, Verdict.NOT_CHECKED], Verdict.PASS),
        ([Verdict.WARN], Verdict.INCONCLUSIVE),
        ([Verdict.PASS, Verdict.WARN], Verdict.PASS),
        ([Verdict.WARN, Verdict.FAIL], Verdict.FAIL),
        ([Verdict.PASS, Verdict.INCONCLUSIVE], Verdict.INCONCLUSIVE),
        ([Verdict.PASS, Verdict.ERROR, Verdict.INCONCLUSIVE], Verdict.ERROR),
        ([Verdict.PASS, Verdict.ERROR, Verdict.INCONCLUSIVE, Verdict.FAIL], Verdict.FAIL),
    ],
)
def test_the_worst_finding_decides_and_without_a_pass_nothing_passes(parts: list[Verdict], verdict: Verdict) -> None:
    assert combine("soak", [finding(part) for part in parts], NOW).verdict is verdict


@given(st.lists(st.sampled_from(Verdict)), st.sampled_from(Verdict))
def test_one_more_finding_never_turns_a_gate_that_does_not_pass_into_one_that_does(
    parts: list[Verdict], more: Verdict
) -> None:
    before = combine("soak", [finding(part) for part in parts], NOW).verdict
    after = combine("soak", [finding(part) for part in [*parts, more]], NOW).verdict
    undecided_for_want_of_findings = not set(parts) - {Verdict.NOT_CHECKED, Verdict.WARN}
    assert before is Verdict.PASS or after is not Verdict.PASS or undecided_for_want_of_findings


def test_the_reason_names_the_findings_that_decided() -> None:
    low = Finding(check="handshakes", verdict=Verdict.FAIL, seen="3 of 600", expected="≥ 99.50 %", endpoint="east")
    result = combine("verify", [finding(Verdict.PASS), low, finding(Verdict.INCONCLUSIVE)], NOW)
    assert result.reason == "east: handshakes: 3 of 600 (expected ≥ 99.50 %)"
    assert combine("verify", [], NOW).reason == "nothing was measured"


def test_what_was_not_checked_is_shown_as_such() -> None:
    shown = not_checked("clock drift", "not part of this version", "east")
    assert shown.verdict is Verdict.NOT_CHECKED
    assert combine("preflight", [shown], NOW).verdict is not Verdict.PASS


@pytest.mark.parametrize("field", ["value", "threshold"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_finding_cannot_hold_nan_or_infinity(field: str, value: float) -> None:
    with pytest.raises(ValidationError):
        Finding(check="handshakes", verdict=Verdict.PASS, seen="", **{field: value})  # type: ignore[arg-type]


def test_a_result_survives_its_way_through_a_payload() -> None:
    result = combine("soak", [finding(Verdict.PASS), finding(Verdict.FAIL)], NOW)
    assert GateResult.model_validate_json(result.model_dump_json()) == result


# -- success rates -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counted", "strictly", "verdict"),
    [
        (Tally(), False, Verdict.INCONCLUSIVE),
        (Tally(), True, Verdict.INCONCLUSIVE),
        (tally(599), False, Verdict.INCONCLUSIVE),
        (tally(600), False, Verdict.PASS),
        (tally(597, timeout=3), False, Verdict.PASS),
        (tally(597, timeout=3), True, Verdict.FAIL),
        (tally(1990, timeout=10), False, Verdict.PASS),
        (tally(1990, timeout=10), True, Verdict.FAIL),
        (tally(598, timeout=2), True, Verdict.PASS),
        (tally(596, timeout=4), False, Verdict.FAIL),
        (tally(0, timeout=600), False, Verdict.FAIL),
        (tally(0, timeout=1), True, Verdict.INCONCLUSIVE),
        (tally(0, timeout=3), False, Verdict.INCONCLUSIVE),
        (tally(0, timeout=4), False, Verdict.FAIL),
        (tally(0, timeout=3), True, Verdict.FAIL),
        (tally(500, timeout=4), False, Verdict.FAIL),
    ],
    ids=[
        "no data",
        "no data, strictly",
        "one short of the sample",
        "the sample",
        "on the line: SOAK passes",
        "on the line: VERIFY does not",
        "on the line, more data",
        "on the line, more data, strictly",
        "above the line",
        "below the line",
        "nothing succeeds",
        "one failure decides nothing",
        "could still end on the line",
        "cannot reach the line any more",
        "cannot pass the line any more",
        "cannot reach it, mostly good",
    ],
)
def test_success_against_99_5_percent_of_600(counted: Tally, strictly: bool, verdict: Verdict) -> None:
    found = success_rate("handshakes", counted, threshold=0.995, minimum_sample=600, strictly=strictly)
    assert found.verdict is verdict
    assert found.value == counted.success_rate


def test_a_single_failure_never_fails_a_gate_however_small_its_sample() -> None:
    one, two = tally(0, timeout=1), tally(0, timeout=2)
    assert success_rate("x", one, threshold=0.995, minimum_sample=10).verdict is Verdict.INCONCLUSIVE
    assert success_rate("x", two, threshold=0.995, minimum_sample=10).verdict is Verdict.FAIL


parts = st.tuples(st.integers(0, 2000), st.integers(0, 50)).map(lambda p: tally(p[0], timeout=p[1]))
lines = {"threshold": st.sampled_from([0.85, 0.98, 0.995]), "minimum_sample": st.integers(1, 1200)}


@given(parts, st.integers(0, 2000), st.booleans(), lines["threshold"], lines["minimum_sample"])
def test_losing_good_samples_never_turns_a_fail_into_a_pass(
    counted: Tally, lost: int, strictly: bool, threshold: float, minimum: int
) -> None:
    before = success_rate("x", counted, threshold=threshold, minimum_sample=minimum, strictly=strictly)
    assume(before.verdict is not Verdict.PASS)
    rest = tally(max(0, counted.successes - lost), **counted.failures)
    after = success_rate("x", rest, threshold=threshold, minimum_sample=minimum, strictly=strictly)
    assert after.verdict is not Verdict.PASS


@given(parts, st.booleans(), lines["threshold"], lines["minimum_sample"])
def test_a_pass_rests_on_the_whole_sample_and_on_the_threshold(
    counted: Tally, strictly: bool, threshold: float, minimum: int
) -> None:
    found = success_rate("x", counted, threshold=threshold, minimum_sample=minimum, strictly=strictly)
    if found.verdict is Verdict.PASS:
        assert counted.attempts >= minimum
        assert counted.successes / counted.attempts >= threshold


@given(parts, st.integers(0, 600), lines["threshold"])
def test_an_early_fail_is_one_that_no_further_success_could_mend(counted: Tally, more: int, threshold: float) -> None:
    early = success_rate("x", counted, threshold=threshold, minimum_sample=600)
    assume(early.verdict is Verdict.FAIL and counted.attempts < 600)
    mended = counted + tally(min(more, 600 - counted.attempts))
    assert success_rate("x", mended, threshold=threshold, minimum_sample=600).verdict is Verdict.FAIL


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [
        (tally(600), Verdict.PASS),
        (tally(946, timeout=1), Verdict.PASS),
        (tally(945, timeout=1), Verdict.INCONCLUSIVE),
        (tally(598, timeout=2), Verdict.INCONCLUSIVE),
        (tally(590, timeout=10), Verdict.FAIL),
        (tally(599), Verdict.INCONCLUSIVE),
    ],
    ids=["no failure", "one failure", "one attempt too few", "above the line, not surely", "below it", "no sample"],
)
def test_with_a_confidence_what_is_not_sure_is_not_decided(counted: Tally, verdict: Verdict) -> None:
    found = success_rate("x", counted, threshold=0.995, minimum_sample=600, confidence=0.95)
    assert found.verdict is verdict
    assert found.expected == "≥ 99.50 % of at least 600, with 95.00 % confidence"


# -- freshness ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "seen"),
    [
        ({}, []),
        ({"read_at": NOW - timedelta(seconds=60)}, []),
        ({"read_at": NOW - timedelta(seconds=61)}, ["61 s old"]),
        ({"read_at": NOW + timedelta(seconds=60)}, []),
        ({"read_at": NOW + timedelta(seconds=61)}, ["from 61 s in the future"]),
        ({"counters_since": NOW - timedelta(hours=1)}, []),
        ({"counters_since": NOW - timedelta(seconds=5)}, ["counters were reset at 11:59:55, inside the window"]),
    ],
    ids=["fresh", "just fresh", "stale", "clock ahead, tolerated", "from the future", "counting long", "reset"],
)
def test_a_reading_is_usable_only_when_fresh_and_counted_throughout(changes: dict[str, Any], seen: list[str]) -> None:
    found = freshness(reading(**changes), now=NOW, stale_after=timedelta(seconds=60))
    assert [one.seen for one in found] == seen
    assert all(one.verdict is Verdict.INCONCLUSIVE for one in found)


@pytest.mark.parametrize(
    ("counted", "verdict"),
    [
        (tally(98, **{"503": 2}), Verdict.PASS),
        (tally(97, **{"503": 3}), Verdict.WARN),
        (tally(50, **{"403": 50}), Verdict.WARN),
        (tally(49, **{"403": 51}), Verdict.FAIL),
        (tally(0, **{"403": 100}), Verdict.FAIL),
    ],
    ids=["on the guard's line", "below it", "half", "less than half", "none"],
)
def test_a_trunk_on_which_calls_fail_already_is_no_quiet_measure(counted: Tally, verdict: Verdict) -> None:
    found = usual_setups(counted, THRESHOLDS, "east")
    assert found.verdict is verdict
    assert found.seen == counted.text()


def test_samples_that_are_lost_or_doubled_on_their_way_make_a_reading_unusable() -> None:
    whole = reading(sample(peer="192.0.2.1"), sample(peer="192.0.2.2"))
    assert whole.damage() is None
    lost = whole.model_copy(update={"samples": whole.samples[:1]})
    assert lost.damage() == "1 of the 2 samples that the source told"
    doubled = whole.model_copy(update={"samples": whole.samples + whole.samples[:1]})
    assert doubled.damage() == "1 of 3 samples are here twice"
    instead = whole.model_copy(update={"samples": whole.samples[:1] * 2})
    for damaged in (lost, doubled, instead):
        [found] = freshness(damaged, now=NOW, stale_after=timedelta(seconds=60))
        assert (found.verdict, found.check) == (Verdict.INCONCLUSIVE, "platform figures")


# -- SOAK --------------------------------------------------------------------------------------------------------------


def soak(*samples: Sample, endpoint: Endpoint = EAST, **changes: Any) -> GateResult:
    found = soak_findings(
        endpoint, reading(*samples, **changes), sha256_b=B, thresholds=THRESHOLDS, now=NOW, timings=TIMINGS
    )
    return combine("soak", found, NOW)


TRAFFIC = sample(sha256=A, peer=PEER, handshakes=tally(600), call_setups=tally(600))
CANARY = sample(synthetic=True, handshakes=tally(600), call_setups=tally(600))


def test_soak_passes_on_the_trunks_own_traffic_and_our_canary() -> None:
    assert soak(TRAFFIC, CANARY).verdict is Verdict.PASS


def test_soak_passes_exactly_on_the_line() -> None:
    on_the_line = tally(597, timeout=3)
    traffic = TRAFFIC.model_copy(update={"handshakes": on_the_line, "call_setups": on_the_line})
    canary = CANARY.model_copy(update={"handshakes": on_the_line})
    assert soak(traffic, canary).verdict is Verdict.PASS


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        ([], Verdict.INCONCLUSIVE),
        ([TRAFFIC], Verdict.INCONCLUSIVE),
        ([CANARY], Verdict.INCONCLUSIVE),
        ([TRAFFIC.model_copy(update={"call_setups": Tally()}), CANARY], Verdict.INCONCLUSIVE),
        ([TRAFFIC.model_copy(update={"peer": "203.0.113.66"}), CANARY], Verdict.INCONCLUSIVE),
        ([TRAFFIC, CANARY.model_copy(update={"sha256": A})], Verdict.INCONCLUSIVE),
        ([TRAFFIC, CANARY.model_copy(update={"handshakes": tally(590, unknown_ca=10)})], Verdict.FAIL),
        ([TRAFFIC.model_copy(update={"handshakes": tally(590, unknown_ca=10)}), CANARY], Verdict.FAIL),
        ([TRAFFIC.model_copy(update={"call_setups": tally(590, timeout=10)}), CANARY], Verdict.FAIL),
    ],
    ids=[
        "nothing measured",
        "no canary",
        "our probes are no traffic",
        "no calls",
        "strangers only",
        "a canary that was served A",
        "the canary fails",
        "handshakes fail",
        "calls fail",
    ],
)
def test_soak_needs_real_traffic_and_b_on_the_canary_path(samples: list[Sample], verdict: Verdict) -> None:
    assert soak(*samples).verdict is verdict


@pytest.mark.parametrize("changes", UNUSABLE, ids=["stale", "from the future", "reset"])
def test_soak_is_undecided_on_figures_that_cannot_be_used(changes: dict[str, Any]) -> None:
    assert soak(TRAFFIC, CANARY, **changes).verdict is Verdict.INCONCLUSIVE


def test_soak_looks_at_each_direction_of_a_mutual_trunk() -> None:
    assert soak(TRAFFIC, CANARY, endpoint=MUTUAL).verdict is Verdict.INCONCLUSIVE
    outbound = TRAFFIC.model_copy(update={"direction": Direction.OUTBOUND})
    assert soak(TRAFFIC, outbound, CANARY, endpoint=MUTUAL).verdict is Verdict.PASS


def test_test_calls_on_the_canary_path_count_only_when_the_plan_names_one() -> None:
    silent = CANARY.model_copy(update={"call_setups": Tally()})
    assert soak(TRAFFIC, silent).verdict is Verdict.PASS
    ringing = plan(('carrier = "acme"', 'carrier = "acme"\ntest_call = "sip:echo@example.com"')).endpoints[0]
    assert soak(TRAFFIC, silent, endpoint=ringing).verdict is Verdict.INCONCLUSIVE
    assert soak(TRAFFIC, CANARY, endpoint=ringing).verdict is Verdict.PASS


def test_canary_findings_are_marked_synthetic_and_traffic_is_not() -> None:
    marks = {one.check: one.synthetic for one in soak(TRAFFIC, CANARY).findings if one.verdict is Verdict.PASS}
    assert marks == {
        "handshakes, inbound, A and B": False,
        "call setups, inbound, A and B": False,
        "handshakes on B, canary": True,
    }


# -- ADOPT -------------------------------------------------------------------------------------------------------------


def adopt(*samples: Sample, endpoint: Endpoint = EAST, **changes: Any) -> GateResult:
    found = adopt_findings(
        endpoint, reading(*samples, **changes), sha256_b=B, thresholds=THRESHOLDS, now=NOW, timings=TIMINGS
    )
    return combine("adopt", found, NOW)


def calls(on: str | None, attempts: int, **changes: Any) -> Sample:
    return sample(sha256=on, peer=PEER, handshakes=Tally(), call_setups=tally(attempts), **changes)


@pytest.mark.parametrize(
    ("samples", "verdict"),
    [
        ([calls(B, 850), calls(A, 150)], Verdict.PASS),
        ([calls(B, 849), calls(A, 151)], Verdict.INCONCLUSIVE),
        ([calls(B, 600)], Verdict.PASS),
        ([calls(B, 599)], Verdict.INCONCLUSIVE),
        ([calls(A, 5000)], Verdict.INCONCLUSIVE),
        ([], Verdict.INCONCLUSIVE),
        ([calls(B, 1000, synthetic=True)], Verdict.INCONCLUSIVE),
        ([calls(B, 850), calls(None, 1000)], Verdict.PASS),
        ([calls(None, 5000)], Verdict.INCONCLUSIVE),
    ],
    ids=[
        "exactly 85 %",
        "one call short",
        "all on B",
        "below the sample",
        "none on B",
        "no calls",
        "our own test calls",
        "calls on an unknown certificate do not count",
        "nothing else than unknown ones",
    ],
)
def test_adopt_waits_for_85_percent_of_new_calls_and_never_fails(samples: list[Sample], verdict: Verdict) -> None:
    assert adopt(*samples).verdict is verdict


def test_adopt_counts_attempts_because_a_failed_call_used_b_too() -> None:
    failing = calls(B, 0).model_copy(update={"call_setups": tally(0, busy=900)})
    assert adopt(failing, calls(A, 100)).verdict is Verdict.PASS


@pytest.mark.parametrize("changes", UNUSABLE, ids=["stale", "from the future", "reset"])
def test_adopt_is_undecided_on_figures_that_cannot_be_used(changes: dict[str, Any]) -> None:
    assert adopt(calls(B, 1000), **changes).verdict is Verdict.INCONCLUSIVE


def test_adopt_wants_each_direction() -> None:
    inbound, outbound = calls(B, 1000), calls(B, 1000, direction=Direction.OUTBOUND)
    assert adopt(inbound, endpoint=MUTUAL).verdict is Verdict.INCONCLUSIVE
    assert adopt(inbound, outbound, endpoint=MUTUAL).verdict is Verdict.PASS
