"""The guard: healthy, quiet, breach, blind – or one more look through a wider window."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.guard import GuardFinding, GuardVerdict, guard_endpoint, is_news
from domain.handshakes import Reading, Reporter, Sample, Tally
from domain.plan import Direction, Thresholds, Timings
from tests.domain.plans import plan
from tests.domain.readings import NOW, A, B, reading, sample, tally

EAST = plan().endpoints[0]
PEER = EAST.peers[0]
TIMINGS = Timings()
STALE = {"read_at": NOW - TIMINGS.stale_after - timedelta(seconds=1)}
AHEAD = {"read_at": NOW + TIMINGS.stale_after + timedelta(seconds=1)}


def seen(shaken: Tally, calls: Tally | None = None, **changes: Any) -> Sample:
    return sample(**{"peer": PEER, "handshakes": shaken, "call_setups": calls or Tally(), **changes})


def carrier(attempts: int, **changes: Any) -> Reading:
    told = sample(reporter=Reporter.CARRIER, handshakes=tally(attempts))
    return reading(told, **{"reporter": Reporter.CARRIER, **changes})


def look(
    platform: Reading,
    told: Reading | None = None,
    *,
    widest: bool = True,
    thresholds: Thresholds | None = None,
    certificates: tuple[str, ...] | None = None,
    setup_success: float | None = None,
) -> GuardFinding | None:
    return guard_endpoint(
        EAST,
        platform,
        told,
        thresholds=thresholds or Thresholds(),
        now=NOW,
        timings=TIMINGS,
        window_is_widest=widest,
        certificates=certificates,
        setup_success=setup_success,
    )


def verdict(*arguments: Any, **options: Any) -> GuardVerdict | None:
    found = look(*arguments, **options)
    return found.verdict if found is not None else None


NOTHING = seen(Tally(), peer=None)
"""What a platform says that has no traffic: zero is a statement."""


# -- healthy and breach ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([seen(tally(100))], GuardVerdict.HEALTHY),
        ([seen(tally(98, timeout=2))], GuardVerdict.HEALTHY),
        ([seen(tally(979, timeout=21))], GuardVerdict.BREACH),
        ([seen(tally(97, timeout=3))], GuardVerdict.BREACH),
        ([seen(tally(200), tally(97, **{"503": 3}))], GuardVerdict.BREACH),
        ([seen(tally(200), tally(98, **{"503": 2}))], GuardVerdict.HEALTHY),
        ([seen(tally(5000), sha256=A), seen(tally(97, unknown_ca=3), sha256=B)], GuardVerdict.BREACH),
        ([seen(tally(5000), sha256=A), seen(tally(60, unknown_ca=39), sha256=B)], GuardVerdict.HEALTHY),
        ([seen(tally(60), sha256=A), seen(tally(30, unknown_ca=30), sha256=B)], GuardVerdict.BREACH),
        ([seen(tally(200)), seen(tally(0, timeout=500), peer="203.0.113.66")], GuardVerdict.HEALTHY),
        ([seen(tally(200)), seen(tally(0, timeout=500), synthetic=True)], GuardVerdict.HEALTHY),
        ([seen(tally(200)), seen(tally(0, timeout=4), sha256=None)], GuardVerdict.HEALTHY),
    ],
    ids=[
        "all good",
        "exactly 98 %",
        "97.9 %",
        "97 %",
        "calls fail while handshakes succeed",
        "calls exactly on the line",
        "B fails under a large A",
        "B below its sample",
        "A and B together",
        "a scanner",
        "our own probes",
        "a few resets without certificate",
    ],
)
def test_success_against_98_percent_on_every_certificate(samples: list[Sample], expected: GuardVerdict) -> None:
    assert verdict(reading(*samples), carrier(0)) is expected


@pytest.mark.parametrize(
    ("usual", "calls", "expected"),
    [
        (None, tally(95, **{"503": 5}), GuardVerdict.BREACH),
        (0.95, tally(95, **{"503": 5}), GuardVerdict.HEALTHY),
        (0.95, tally(85, **{"503": 15}), GuardVerdict.HEALTHY),
        (0.95, tally(80, **{"503": 20}), GuardVerdict.BREACH),
        (0.95, tally(945, **{"503": 55}), GuardVerdict.HEALTHY),
        (0.95, tally(900, **{"503": 100}), GuardVerdict.BREACH),
        (1.0, tally(97, **{"503": 3}), GuardVerdict.BREACH),
        (1.0, tally(98, **{"503": 2}), GuardVerdict.HEALTHY),
        (0.999, tally(970, **{"503": 30}), GuardVerdict.BREACH),
    ],
    ids=[
        "nobody knows what is usual",
        "as usual",
        "as chance may have it",
        "no chance",
        "on the line",
        "no chance, more data",
        "all succeeded before",
        "all succeeded before, on the fixed line",
        "nearly all did",
    ],
)
def test_call_setups_are_held_against_what_was_usual_on_a(
    usual: float | None, calls: Tally, expected: GuardVerdict
) -> None:
    assert verdict(reading(seen(tally(1000), calls)), carrier(0), setup_success=usual) is expected


def test_a_breach_of_calls_says_what_was_usual() -> None:
    found = look(reading(seen(tally(1000), tally(800, **{"503": 200}))), setup_success=0.95)
    assert found is not None
    assert found.seen == "call setups: 800 of 1000 (80.00 %): 200 × 503, below 94.50 % (on A before: 95.00 %)"


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([seen(tally(50), sha256=A), seen(tally(0, timeout=20))], GuardVerdict.BREACH),
        ([seen(tally(50), sha256=A), seen(tally(0, timeout=10, handshake_failure=10))], GuardVerdict.BREACH),
        ([seen(tally(50), sha256=A), seen(tally(0, timeout=19))], GuardVerdict.QUIET),
        ([seen(tally(1), sha256=B, peer=None), seen(tally(0, timeout=20))], GuardVerdict.QUIET),
        ([seen(tally(50), tally(0, **{"403": 20}))], GuardVerdict.BREACH),
        ([seen(tally(50), tally(1, **{"403": 20}))], GuardVerdict.QUIET),
        ([seen(tally(50)), seen(tally(0, timeout=20), sha256=None)], GuardVerdict.QUIET),
        ([seen(tally(50)), seen(tally(0, timeout=20), synthetic=True)], GuardVerdict.QUIET),
    ],
    ids=[
        "timeouts on B alone",
        "of several causes",
        "one too few",
        "one success between",
        "INVITEs refused after good handshakes",
        "one call was answered",
        "no certificate was shown",
        "our own probes",
    ],
)
def test_failures_in_a_row_are_a_breach_before_the_sample_is_there(
    samples: list[Sample], expected: GuardVerdict
) -> None:
    assert verdict(reading(*samples), carrier(0)) is expected


def test_a_breach_names_the_worst_certificate_its_figures_and_the_line() -> None:
    found = look(reading(seen(tally(970, timeout=30), sha256=A), seen(tally(50, unknown_ca=150), sha256=B)))
    assert found is not None
    assert found.verdict is GuardVerdict.BREACH
    assert found.seen == f"handshakes on {B[:12]}: 50 of 200 (25.00 %): 150 × unknown_ca, below 98.00 %"
    assert found.value == 0.25


def test_a_breach_names_the_peers_that_fail_when_others_do_not() -> None:
    other = EAST.peers[1] if len(EAST.peers) > 1 else "192.0.2.99"
    endpoint = EAST.model_copy(update={"peers": (PEER, other)})
    refusing = seen(tally(0, unknown_ca=7), peer=other)

    def text(*samples: Sample) -> str:
        found = guard_endpoint(
            endpoint, reading(*samples), None, thresholds=Thresholds(consecutive_alerts=50), now=NOW, timings=TIMINGS,
            window_is_widest=True,
        )  # fmt: skip
        assert found is not None
        assert found.verdict is GuardVerdict.BREACH
        return found.seen

    assert text(seen(tally(100)), refusing).endswith(f"; from {other}: 0 of 7 (0.00 %): 7 × unknown_ca")
    assert "; from " not in text(seen(tally(90, unknown_ca=20)), seen(tally(0, unknown_ca=7), peer=other))


def test_a_certificate_on_which_nothing_succeeds_is_the_worst_one() -> None:
    found = look(reading(seen(tally(0, timeout=200), sha256=A), seen(tally(100, timeout=100), sha256=B)))
    assert found is not None
    assert found.value == 0.0
    assert A[:12] in found.seen


def test_a_breach_needs_no_word_from_the_carrier() -> None:
    assert verdict(reading(seen(tally(0, timeout=100))), None) is GuardVerdict.BREACH


def test_a_breach_is_called_in_the_first_window_that_shows_it() -> None:
    assert verdict(reading(seen(tally(0, timeout=100))), None, widest=False) is GuardVerdict.BREACH


# -- certificate alerts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        ([seen(tally(0, unknown_ca=5))], GuardVerdict.BREACH),
        ([seen(tally(0, unknown_ca=4))], GuardVerdict.QUIET),
        ([seen(tally(0, unknown_ca=3, bad_certificate=2))], GuardVerdict.BREACH),
        ([seen(tally(0, timeout=19))], GuardVerdict.QUIET),
        ([seen(tally(1, unknown_ca=5))], GuardVerdict.QUIET),
        ([seen(tally(0, unknown_ca=5), peer="203.0.113.66")], GuardVerdict.QUIET),
        ([seen(tally(0, unknown_ca=5), synthetic=True)], GuardVerdict.QUIET),
        ([seen(tally(90), sha256=A), seen(tally(0, unknown_ca=5), sha256=B)], GuardVerdict.BREACH),
        (
            [seen(tally(50)), seen(tally(0, unknown_ca=5), direction=Direction.OUTBOUND)],
            GuardVerdict.BREACH,
        ),
        ([seen(tally(0, certificate_unknown=5), sha256=None)], GuardVerdict.BREACH),
    ],
    ids=[
        "five in a row",
        "four",
        "of several kinds",
        "failures that blame no certificate",
        "a success between",
        "a stranger",
        "our own probes",
        "on B while A works",
        "in one direction only",
        "certificate not told",
    ],
)
def test_consecutive_certificate_alerts_from_known_peers_turn_back_without_waiting_for_a_sample(
    samples: list[Sample], expected: GuardVerdict
) -> None:
    assert verdict(reading(*samples), carrier(0)) is expected


# -- quiet and gone ----------------------------------------------------------------------------------------------------


def test_too_few_attempts_ask_for_a_wider_window_first() -> None:
    assert look(reading(seen(tally(99))), carrier(0), widest=False) is None
    assert look(reading(NOTHING), carrier(0), widest=False) is None


@pytest.mark.parametrize(
    ("platform", "told", "expected"),
    [
        (reading(seen(tally(99))), carrier(99), GuardVerdict.QUIET),
        (reading(NOTHING), carrier(0), GuardVerdict.QUIET),
        (reading(NOTHING), carrier(99), GuardVerdict.QUIET),
        (reading(NOTHING), carrier(100), GuardVerdict.BREACH),
        (reading(seen(tally(50))), carrier(149), GuardVerdict.QUIET),
        (reading(seen(tally(50))), carrier(150), GuardVerdict.BREACH),
        (reading(), carrier(0), GuardVerdict.QUIET),
        (reading(), carrier(100), GuardVerdict.BLIND),
        (reading(NOTHING), None, GuardVerdict.BLIND),
        (reading(NOTHING), carrier(5000, **STALE), GuardVerdict.BLIND),
        (reading(NOTHING), carrier(0, **STALE), GuardVerdict.BLIND),
        (reading(NOTHING), carrier(5000, **AHEAD), GuardVerdict.BLIND),
    ],
    ids=[
        "little on both sides",
        "nothing on both sides",
        "a little that we do not see",
        "gone: a sample that we do not see",
        "a little less than they say",
        "gone in part",
        "a silent platform and a quiet carrier",
        "a silent platform and a busy carrier",
        "no word from the carrier",
        "old traffic of the carrier is no proof of a loss",
        "an old zero of the carrier is no proof of quiet",
        "the carrier's figures come from the future",
    ],
)
def test_quiet_is_told_from_gone_by_the_carriers_figures(
    platform: Reading, told: Reading | None, expected: GuardVerdict
) -> None:
    assert verdict(platform, told) is expected


def test_traffic_that_is_gone_turns_back_in_the_first_window() -> None:
    found = look(reading(NOTHING), carrier(250), widest=False)
    assert found is not None
    assert found.verdict is GuardVerdict.BREACH
    assert found.seen == "traffic is gone: the carrier reports 250 attempts, the platform saw 0"


def test_a_certificate_of_an_earlier_run_that_only_the_carrier_remembers_is_no_lost_traffic() -> None:
    """The platform forgets the figures of a certificate that was deleted from it."""
    earlier = "e" * 64
    told = reading(
        sample(reporter=Reporter.CARRIER, sha256=earlier, handshakes=tally(500)),
        sample(reporter=Reporter.CARRIER, sha256=A, handshakes=tally(19)),
        reporter=Reporter.CARRIER,
    )
    assert verdict(reading(seen(tally(19), sha256=A)), told, certificates=(A, B)) is GuardVerdict.QUIET
    unattributed = reading(
        sample(reporter=Reporter.CARRIER, sha256=None, handshakes=tally(0, connection_reset=500)),
        reporter=Reporter.CARRIER,
    )
    assert verdict(reading(NOTHING), unattributed, certificates=(A, B)) is GuardVerdict.BREACH


def test_counters_that_were_reset_are_held_against_the_carriers_of_the_time_since_alone() -> None:
    reset = NOW - timedelta(seconds=5)
    restarted = reading(seen(tally(10)), counters_since=reset)
    assert verdict(restarted, carrier(500)) is GuardVerdict.QUIET
    assert verdict(restarted, carrier(109, since=reset)) is GuardVerdict.QUIET
    assert verdict(restarted, carrier(110, since=reset)) is GuardVerdict.BREACH


# -- what the rotation is told -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", list(GuardVerdict))
def test_a_breach_is_always_told_and_blindness_whenever_it_begins(said: GuardVerdict) -> None:
    for calm in (False, True):
        assert is_news(said, GuardVerdict.BREACH, calm=calm)
        assert is_news(said, GuardVerdict.BLIND, calm=calm) is (said is not GuardVerdict.BLIND)


@pytest.mark.parametrize("better", [GuardVerdict.HEALTHY, GuardVerdict.QUIET])
def test_better_news_is_told_once_and_not_while_the_guard_flaps(better: GuardVerdict) -> None:
    assert is_news(GuardVerdict.BLIND, better, calm=False)
    assert not is_news(GuardVerdict.BLIND, better, calm=True)
    assert not is_news(better, better, calm=False)


def test_a_trunk_that_is_now_quiet_and_now_not_is_no_news() -> None:
    assert not is_news(GuardVerdict.HEALTHY, GuardVerdict.QUIET, calm=False)
    assert not is_news(GuardVerdict.QUIET, GuardVerdict.HEALTHY, calm=False)


# -- blind -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [STALE, AHEAD], ids=["stale", "from the future"])
@pytest.mark.parametrize(
    "samples", [[seen(tally(1000))], [seen(tally(0, unknown_ca=1000))], []], ids=["good", "bad", "none"]
)
def test_figures_of_another_time_are_blindness_whatever_they_say(
    changes: dict[str, Any], samples: list[Sample]
) -> None:
    assert verdict(reading(*samples, **changes), carrier(0)) is GuardVerdict.BLIND


def test_figures_exactly_as_old_as_allowed_are_looked_at() -> None:
    assert verdict(reading(seen(tally(100)), read_at=NOW - TIMINGS.stale_after), carrier(0)) is GuardVerdict.HEALTHY


def test_counters_that_were_reset_in_the_window_do_not_blind_the_guard() -> None:
    """A restart of the edge resets its counters; what they show since then still counts."""
    reset = {"counters_since": NOW - timedelta(seconds=10)}
    assert verdict(reading(seen(tally(0, unknown_ca=200)), **reset), carrier(0)) is GuardVerdict.BREACH
    assert verdict(reading(seen(tally(200)), **reset), carrier(0)) is GuardVerdict.HEALTHY


# -- no data is not health ---------------------------------------------------------------------------------------------

counts = st.tuples(st.integers(0, 300), st.integers(0, 30)).map(lambda p: tally(p[0], timeout=p[1]))


@given(st.lists(st.builds(seen, counts, counts), max_size=4), st.none() | st.integers(0, 500), st.booleans())
def test_healthy_always_rests_on_a_sample_and_on_the_line(
    samples: list[Sample], told: int | None, widest: bool
) -> None:
    found = look(reading(*samples), None if told is None else carrier(told), widest=widest)
    if found is not None and found.verdict is GuardVerdict.HEALTHY:
        for tallies in ([s.handshakes for s in samples], [s.call_setups for s in samples]):
            attempts = sum(t.attempts for t in tallies)
            successes = sum(t.successes for t in tallies)
            assert attempts < 100 or successes / attempts >= 0.98
        assert max(sum(s.handshakes.attempts for s in samples), sum(s.call_setups.attempts for s in samples)) >= 100


@given(st.lists(st.builds(seen, counts, counts), max_size=4), st.none() | st.integers(0, 500))
def test_the_widest_window_always_has_a_verdict(samples: list[Sample], told: int | None) -> None:
    assert look(reading(*samples), None if told is None else carrier(told), widest=True) is not None
