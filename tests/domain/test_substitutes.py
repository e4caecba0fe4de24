"""What a platform cannot tell: the plan names who speaks instead, and what nobody measured passes nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.errors import PlanInvalid
from domain.gates import Finding, Verdict, adopt_findings, combine, soak_findings, verify_findings
from domain.guard import GuardFinding, GuardVerdict, guard_endpoint
from domain.handshakes import Reading, Reporter, Sample
from domain.plan import Endpoint, Thresholds, Timings
from tests.domain.plans import plan
from tests.domain.readings import NOW, A, B, reading, sample, tally

PEER = "192.0.2.10"
FEW = Thresholds(minimum_sample=10, guard_sample=5)


def endpoint(*substitutes: str) -> Endpoint:
    """The plan's endpoint with these lines in [endpoints.substitutes]."""
    table = "\n[endpoints.substitutes]\n" + "\n".join(substitutes) + "\n"
    return plan(('address = "198.51.100.2"\n', f'address = "198.51.100.2"\n{table}')).endpoints[0]


BY_CARRIER = endpoint('handshakes = "carrier"', 'pool = "switch"')
WITHOUT_CALLS = endpoint('call_setups = "carrier"')


def verified(whom: Endpoint, *readings: Reading) -> list[Finding]:
    return verify_findings(
        whom, readings, sha256_a=A, sha256_b=B, baseline=None, thresholds=FEW, now=NOW, timings=Timings()
    )


def carrier(**changes: object) -> Reading:
    good = sample(reporter=Reporter.CARRIER, handshakes=tally(100), call_setups=tally(100), **changes)
    return reading(good, reporter=Reporter.CARRIER)


def platform(*samples: Sample) -> Reading:
    return reading(*(samples or (sample(peer=PEER, handshakes=tally(100), call_setups=tally(100)),)))


def by_check(findings: list[Finding]) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in findings}


def test_the_platforms_handshakes_are_not_checked_where_it_cannot_tell_failed_ones() -> None:
    seen = by_check(verified(BY_CARRIER, platform(), carrier()))
    assert seen["handshakes on B, inbound, platform"] is Verdict.NOT_CHECKED
    assert seen["call setups on B, inbound, platform"] is Verdict.PASS
    assert seen["handshakes on B, inbound, carrier"] is Verdict.PASS


def test_failures_that_the_carrier_reports_fail_the_gate_whoever_is_silent() -> None:
    refused = carrier(sha256=B).model_copy(
        update={"samples": (sample(reporter=Reporter.CARRIER, handshakes=tally(50, unknown_ca=50)),)}
    )
    findings = verified(BY_CARRIER, platform(), refused)
    assert combine("verify", findings, NOW).verdict is Verdict.FAIL


def test_without_the_carriers_figures_nothing_passes() -> None:
    nobody = reading(reporter=Reporter.CARRIER)
    assert combine("verify", verified(BY_CARRIER, platform(), nobody), NOW).verdict is Verdict.INCONCLUSIVE
    assert combine("verify", verified(BY_CARRIER, platform()), NOW).verdict is Verdict.ERROR


def test_call_setups_of_the_platform_are_not_checked_where_it_counts_none() -> None:
    seen = by_check(verified(WITHOUT_CALLS, platform(sample(peer=PEER, handshakes=tally(100))), carrier()))
    assert seen["call setups on B, inbound, platform"] is Verdict.NOT_CHECKED
    assert seen["handshakes on B, inbound, platform"] is Verdict.PASS


def test_adopt_takes_new_connections_where_calls_are_not_counted() -> None:
    on_a, on_b = (sample(sha256=s, peer=PEER, handshakes=tally(n)) for s, n in ((A, 10), (B, 90)))
    (share,) = adopt_findings(
        WITHOUT_CALLS, platform(on_a, on_b), sha256_b=B, thresholds=FEW, now=NOW, timings=Timings()
    )
    assert (share.check, share.verdict, share.value) == ("share of new connections on B, inbound", Verdict.PASS, 0.9)


def soaked(whom: Endpoint, *samples: Sample, told: Reading | None = None) -> list[Finding]:
    return soak_findings(whom, platform(*samples), told, sha256_b=B, thresholds=FEW, now=NOW, timings=Timings())


def test_soak_looks_at_calls_and_the_canary_where_failed_handshakes_are_not_told() -> None:
    real = sample(sha256=A, peer=PEER, handshakes=tally(100), call_setups=tally(99, **{"403": 1}))
    canary = sample(synthetic=True, peer="203.0.113.5", handshakes=tally(20))
    seen = by_check(soaked(BY_CARRIER, real, canary, told=carrier()))
    assert seen == {
        "handshakes, inbound, A and B": Verdict.NOT_CHECKED,
        "handshakes, inbound, A and B, carrier": Verdict.PASS,
        "call setups, inbound, A and B": Verdict.FAIL,
        "handshakes on B, canary": Verdict.PASS,
        "test calls on B, canary": Verdict.NOT_CHECKED,
    }


@pytest.mark.parametrize("silent", [None, reading(reporter=Reporter.CARRIER)], ids=["not asked", "says nothing"])
def test_soak_does_not_pass_on_our_own_probes_when_the_carrier_has_to_speak_and_does_not(
    silent: Reading | None,
) -> None:
    both = endpoint('handshakes = "carrier"', 'call_setups = "carrier"')
    canary = sample(synthetic=True, peer="203.0.113.5", handshakes=tally(20), call_setups=tally(20))
    assert combine("soak", soaked(both, canary, told=silent), NOW).verdict is Verdict.INCONCLUSIVE
    assert combine("soak", soaked(both, canary, told=carrier()), NOW).verdict is Verdict.PASS


# -- the guard ---------------------------------------------------------------------------------------------------------


def guarded(told: Reading | None, *samples: Sample, widest: bool = False) -> GuardFinding | None:
    return guard_endpoint(
        BY_CARRIER, platform(*samples), told, thresholds=FEW, now=NOW, timings=Timings(), window_is_widest=widest
    )


def refusing(**failures: int) -> Reading:
    return reading(sample(reporter=Reporter.CARRIER, handshakes=tally(50, **failures)), reporter=Reporter.CARRIER)


def test_the_guard_calls_nothing_healthy_on_handshakes_that_cannot_fail() -> None:
    """The platform shows those that succeeded alone: it asks for the carrier's figures first."""
    assert guarded(None) is None
    seen = guarded(carrier())
    assert seen is not None
    assert seen.verdict is GuardVerdict.HEALTHY


def test_the_guard_sees_what_the_carrier_refuses_on_a_platform_that_shows_no_failure() -> None:
    seen = guarded(refusing(unknown_ca=50))
    assert seen is not None
    assert (seen.verdict, seen.value) == (GuardVerdict.BREACH, 0.5)
    in_a_row = guarded(reading(sample(reporter=Reporter.CARRIER, handshakes=tally(0, unknown_ca=5))))
    assert in_a_row is not None
    assert in_a_row.verdict is GuardVerdict.BREACH


def test_stale_figures_of_the_carrier_that_stands_in_are_blindness() -> None:
    stale = carrier().model_copy(update={"read_at": NOW - timedelta(minutes=5)})
    seen = guarded(stale)
    assert seen is not None
    assert (seen.verdict, "stand in for handshakes" in seen.seen) == (GuardVerdict.BLIND, True)


def test_rejected_calls_are_a_breach_without_the_carrier() -> None:
    rejected = sample(peer=PEER, handshakes=tally(100), call_setups=tally(50, **{"403": 50}))
    seen = guarded(None, rejected)
    assert seen is not None
    assert seen.verdict is GuardVerdict.BREACH


def test_a_blind_switch_has_no_canary_to_judge_and_the_endpoint_is_judged_all_the_same() -> None:
    blind = endpoint('canary = "blind_switch"')
    real = sample(sha256=A, peer=PEER, handshakes=tally(100), call_setups=tally(100))
    seen = by_check(soaked(blind, real))
    assert seen["handshakes on B, canary"] is Verdict.NOT_CHECKED
    assert combine("soak", soaked(blind, real), NOW).verdict is Verdict.PASS
    quiet = soaked(blind, sample(sha256=A, peer=PEER, handshakes=tally(2), call_setups=tally(2)))
    assert combine("soak", quiet, NOW).verdict is Verdict.INCONCLUSIVE


def test_a_blind_switch_needs_a_person() -> None:
    changes = (
        ('address = "198.51.100.2"\n', 'address = "198.51.100.2"\n[endpoints.substitutes]\ncanary = "blind_switch"\n'),
        ("[notifications]", "[approvals]\nprefer = false\n\n[notifications]"),
    )
    with pytest.raises(PlanInvalid, match=r"blind_switch.*needs approvals\.prefer = true"):
        plan(*changes)


@pytest.mark.parametrize(
    ("ramp", "words"),
    [("[25, 5]", "must rise"), ("[5, 5]", "must rise"), ("[0]", "greater than or equal to 1"), ("[100]", "less than")],
)
def test_a_ramp_that_does_not_rise_below_a_hundred_is_refused(ramp: str, words: str) -> None:
    with pytest.raises(PlanInvalid, match=words):
        plan(('carrier = "acme"', f'carrier = "acme"\nramp = {ramp}'))


def test_a_ramp_lasts_so_long_a_step() -> None:
    found = plan(('carrier = "acme"', 'carrier = "acme"\nramp = [5, 25, 50]'))
    assert found.endpoints[0].ramp == (5, 25, 50)
    assert found.timings.ramp_step == timedelta(minutes=5)
