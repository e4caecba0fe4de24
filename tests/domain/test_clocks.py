"""Clocks against NTP: what servers say together, what a drift means, and how it is said."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest

from domain.clocks import DRIFT, ClockLimits, Clocks, NtpTime, ServerTime, ToldClock, Whose, agreed, drift_text, span
from domain.gates import Finding, Verdict, combine
from tests.domain.readings import NOW


def server(name: str, offset_s: float, distance_s: float = 0.01) -> ServerTime:
    return ServerTime(server=name, stratum=1, offset_s=offset_s, delay_s=0.01, distance_s=distance_s)


def ahead(worker_s: float) -> NtpTime:
    return agreed([server("ntp.example", -worker_s)], {})


def carrier(beside_worker_s: float | None, problem: str | None = None) -> ToldClock:
    return ToldClock(
        whose=Whose.CARRIER,
        profile="acme",
        endpoint="east",
        beside_worker_s=beside_worker_s,
        uncertainty_s=0.05,
        problem=problem,
    )


def measured(*told: ToldClock, ntp: NtpTime | None = None, problem: str | None = None) -> Clocks:
    worker = ToldClock(whose=Whose.WORKER, beside_worker_s=0.0)
    return Clocks(told=(worker, *told), ntp=ntp, ntp_problem=problem)


def verdicts(findings: Sequence[Finding]) -> dict[str, Verdict]:
    return {finding.check: finding.verdict for finding in findings}


# -- what servers say together -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offsets", "ahead_s", "uncertainty_s"),
    [
        ([0.2], -0.2, 0.01),
        ([0.2, 0.4], -0.3, 0.11),
        ([-0.1, 0.0, 0.9], 0.0, 0.91),
        ([432.0, 432.5, 432.9], -432.5, 0.51),
    ],
)
def test_the_median_counts_and_every_server_lies_within_the_uncertainty(
    offsets: list[float], ahead_s: float, uncertainty_s: float
) -> None:
    found = agreed([server(f"ntp{number}", offset) for number, offset in enumerate(offsets)], {"ntp9": "silent"})
    assert found.ahead_s == pytest.approx(ahead_s)
    assert found.uncertainty_s == pytest.approx(uncertainty_s)
    assert found.spread_s == pytest.approx(max(offsets) - min(offsets))
    assert "ntp9 not used: silent" in found.text()


@pytest.mark.parametrize(("apart_s", "told"), [(1.0, True), (1.001, False), (-1.001, False)])
def test_servers_that_are_more_than_a_second_apart_give_no_time(apart_s: float, told: bool) -> None:
    found = agreed([server("a", 0.0), server("b", apart_s)], {})
    assert (found.ahead_s is not None) is told
    [*findings] = measured(carrier(0.0), ntp=found).findings()
    if told:
        assert verdicts(findings) == {"clock of the worker": Verdict.PASS, "clock of the carrier": Verdict.PASS}
        return
    [finding] = findings
    assert (finding.check, finding.verdict) == (DRIFT, Verdict.INCONCLUSIVE)
    assert "contradict each other by 1.0 s, so no drift can be told" in finding.seen
    assert "a puts the worker" in finding.seen
    assert "b puts the worker" in finding.seen
    assert measured(carrier(0.0), ntp=found).drift_s(carrier(0.0)) is None


# -- what a drift means ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("drift_s", "verdict"),
    [
        (0.0, Verdict.PASS),
        (90.0, Verdict.PASS),
        (-90.0, Verdict.PASS),
        (90.1, Verdict.WARN),
        (-90.1, Verdict.WARN),
        (300.0, Verdict.WARN),
        (-300.0, Verdict.WARN),
        (300.1, Verdict.FAIL),
        (-300.1, Verdict.FAIL),
    ],
)
def test_more_than_90_s_warns_and_more_than_5_min_refuses_in_both_directions(drift_s: float, verdict: Verdict) -> None:
    for clocks in (measured(carrier(drift_s), ntp=ahead(0.0)), measured(carrier(drift_s - 40), ntp=ahead(40))):
        assert verdicts(clocks.findings())["clock of the carrier"] is verdict
    worker = measured(ntp=ahead(drift_s))
    assert verdicts(worker.findings()) == {"clock of the worker": verdict}


def test_a_refusal_says_whose_clock_is_off_by_how_much_and_what_to_do() -> None:
    finding = measured(carrier(431.5), ntp=ahead(0.5)).findings()[1]
    assert finding.endpoint == "east"
    assert finding.text() == (
        "east: clock of the carrier: the carrier's clock (acme) is 7 min 12 s ahead of NTP, ± 0.06 s "
        "(expected at most 5 min; have the carrier synchronise its SIP proxies by NTP)"
    )


def test_the_limits_are_those_of_the_settings() -> None:
    limits = ClockLimits(warn_above=timedelta(seconds=1), refuse_above=timedelta(seconds=2))
    for drift, verdict in ((0.9, Verdict.PASS), (1.5, Verdict.WARN), (2.5, Verdict.FAIL)):
        clocks = measured(ntp=ahead(drift)).model_copy(update={"limits": limits})
        assert verdicts(clocks.findings()) == {"clock of the worker": verdict}


def test_a_worker_whose_own_clock_is_wrong_accuses_nobody_else() -> None:
    clocks = measured(carrier(-400.0), ntp=ahead(400.0))
    assert verdicts(clocks.findings()) == {"clock of the worker": Verdict.FAIL, "clock of the carrier": Verdict.PASS}
    assert clocks.off() == ("the worker's clock is 6 min 40 s ahead of NTP",)
    assert verdicts(clocks.findings(worker=False)) == {"clock of the carrier": Verdict.PASS}


def test_without_servers_nothing_is_claimed_and_the_difference_from_the_worker_is_shown() -> None:
    clocks = measured(carrier(-600.0))
    [finding] = clocks.findings()
    assert (finding.check, finding.verdict, finding.endpoint) == (DRIFT, Verdict.NOT_CHECKED, "east")
    assert finding.seen == (
        "not checked against NTP: no [ntp] servers in the settings; "
        "the carrier's clock (acme) is 10 min behind the worker's, ± 0.05 s"
    )
    assert clocks.off() == ("the carrier's clock (acme) is 10 min behind the worker's",)


def test_servers_that_say_nothing_are_an_error_and_no_drift_of_zero() -> None:
    clocks = measured(carrier(0.0), problem="[ntp]: no NTP server gives a usable time")
    [finding] = clocks.findings()
    assert (finding.check, finding.verdict) == (DRIFT, Verdict.ERROR)
    assert clocks.drift_s(carrier(0.0)) is None
    assert clocks.text().startswith("[ntp]: no NTP server gives a usable time; the carrier's clock (acme) is 0.00 s")


def test_a_clock_that_cannot_be_read_is_an_error_and_one_that_is_not_told_is_not_checked() -> None:
    findings = measured(carrier(None, "401"), ntp=ahead(0.0)).findings()
    assert (findings[1].verdict, findings[1].seen) == (Verdict.ERROR, "401")
    silent = ToldClock(whose=Whose.PLATFORM, profile="eu", endpoint="east")
    findings = measured(silent, ntp=ahead(0.0)).findings()
    assert (findings[1].check, findings[1].verdict) == ("clock of the platform", Verdict.NOT_CHECKED)
    assert findings[1].seen == "the platform's clock (eu) is not told"


def test_a_warning_stops_nothing_and_is_no_pass() -> None:
    warning = measured(ntp=ahead(100.0)).findings()
    passed = Finding(check="trunk", verdict=Verdict.PASS, seen="there")
    result = combine("preflight", [passed, *warning], NOW)
    assert result.verdict is Verdict.PASS
    assert result.warnings == (warning[0].text(),)
    assert combine("preflight", warning, NOW).verdict is Verdict.INCONCLUSIVE
    failed = passed.model_copy(update={"verdict": Verdict.FAIL})
    assert combine("preflight", [failed, *warning], NOW).reason == failed.text()


# -- words -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 s"),
        (0.017, "0.02 s"),
        (3.44, "3.4 s"),
        (89.6, "90 s"),
        (119.4, "119 s"),
        (119.6, "2 min"),
        (300.0, "5 min"),
        (432.2, "7 min 12 s"),
        (7199.0, "119 min 59 s"),
        (7200.0, "2 h"),
        (86_460.0, "24 h 1 min"),
    ],
)
def test_a_span_reads_like_a_clock(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_drift_has_a_direction() -> None:
    assert drift_text(432, "NTP") == "7 min 12 s ahead of NTP"
    assert drift_text(-432, "NTP") == "7 min 12 s behind NTP"
