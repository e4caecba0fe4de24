"""Every metric source of one ledger says what the ledger says: Datadog's stand-in, and what a Prometheus scraped."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.metrics.base import MetricSource
from domain.errors import (
    CredentialsRefused,
    PermissionMissing,
    RequestRefused,
    ServerFailed,
    Throttled,
    UnexpectedAnswer,
)
from domain.handshakes import Reading
from domain.plan import Direction
from tests.adapters.counting_lab import (
    API_KEY,
    APPLICATION_KEY,
    DATADOG_QUERIES,
    TRUNK,
    CountingLab,
    Event,
    at,
    counted,
    told,
)
from tests.adapters.endpoints import endpoint

A, B = "a1" * 32, "b2" * 32
PROBE = "198.51.100.7"
ENDPOINT = endpoint(name=TRUNK)

STORY = (
    *(Event(second, sha256=A) for second in range(0, 60, 2)),
    *(Event(second, "OUTBOUND", B) for second in range(10, 60, 5)),
    Event(12, sha256=B, cause="unknown_ca"),
    Event(13, sha256=B, peer="2001:db8::1", cause="certificate_expired"),
    Event(14, cause="timeout"),
    Event(20, sha256=B, peer=PROBE),
    *(Event(second, sha256=A, status=200) for second in range(1, 60, 3)),
    Event(33, sha256=A, status=486),
    Event(34, sha256=A, status=503),
    Event(35, "OUTBOUND", B, status=408),
)


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DD_API_KEY", API_KEY)
    monkeypatch.setenv("DD_APP_KEY", APPLICATION_KEY)


@pytest.fixture
def lab() -> CountingLab:
    return CountingLab()


@pytest.fixture(params=["prometheus", "datadog"])
def source(lab: CountingLab, request: pytest.FixtureRequest) -> MetricSource:
    return lab.sources()[request.param]


async def read(source: MetricSource, since: float, until: float) -> Reading:
    return await source.samples(ENDPOINT, at(since), at(until))


async def test_a_source_says_what_the_ledger_says(lab: CountingLab, source: MetricSource) -> None:
    lab.live(0, 60, *STORY)
    for since, until in ((0, 60), (10, 40), (10, 15), (15, 60)):
        reading = await read(source, since, until)
        assert told(reading) == counted(lab.ledger, at(since), at(until))
        assert reading.counters_since is None
        assert timedelta(0) <= at(60) - reading.read_at <= timedelta(seconds=60 - until + 5)
    whole = await read(source, 0, 60)
    assert {sample.peer for sample in whole.samples if sample.synthetic} == {PROBE}
    (refused,) = whole.real(sha256=B, direction=Direction.INBOUND, peers=["192.0.2.10"])
    assert refused.handshakes.failures == {"unknown_ca": 1}


events = st.builds(
    Event,
    second=st.integers(0, 39),
    direction=st.sampled_from(["INBOUND", "OUTBOUND"]),
    sha256=st.sampled_from([None, A, B]),
    peer=st.sampled_from(["192.0.2.10", "2001:db8::1", PROBE]),
    cause=st.sampled_from([None, None, "unknown_ca", "timeout"]),
    status=st.sampled_from([None, None, 200, 486, 503]),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(happening=st.lists(events, max_size=25), cuts=st.sets(st.sampled_from(range(5, 40, 5)), max_size=3))
async def test_all_sources_agree_window_by_window(happening: list[Event], cuts: set[int]) -> None:
    lab = CountingLab()
    lab.live(0, 40, *happening)
    for since, until in itertools.pairwise([0, *sorted(cuts), 40]):
        expected = counted(lab.ledger, at(since), at(until))
        for name, source in lab.sources().items():
            assert told(await read(source, since, until)) == expected, name


async def test_a_quiet_trunk_is_heard_of_and_counts_nothing(lab: CountingLab, source: MetricSource) -> None:
    lab.live(0, 60)
    reading = await read(source, 0, 60)
    assert reading.samples == ()
    assert at(60) - reading.read_at <= timedelta(seconds=5)


async def test_figures_that_froze_are_as_old_as_they_are_in_datadog_and_none_in_prometheus(lab: CountingLab) -> None:
    lab.live(0, 30, *STORY)
    lab.ledger.frozen = True
    lab.live(30, 60, *STORY)
    frozen = await read(lab.datadog(), 0, 60)
    assert at(29) <= frozen.read_at <= at(30)
    assert told(frozen) == counted(lab.ledger, at(0), at(60))
    with pytest.raises(UnexpectedAnswer, match="does not scrape every target"):
        await read(lab.prometheus(), 0, 60)


async def test_counters_that_began_anew_say_so(lab: CountingLab, source: MetricSource) -> None:
    lab.live(0, 30, *STORY)
    lab.now = at(30.25)
    lab.ledger.reset()
    lab.live(30, 60, *STORY)
    reading = await read(source, 0, 60)
    assert reading.counters_since == at(30.25)
    after = await read(source, 35, 60)
    assert after.counters_since is None
    assert told(after) == counted(lab.ledger, at(35), at(60))


async def test_what_has_no_part_in_a_rotation_is_not_told() -> None:
    lab = CountingLab(directions=("INBOUND",))
    lab.live(0, 60, *STORY)
    for source in lab.sources().values():
        assert {sample.direction for sample in (await read(source, 0, 60)).samples} == {Direction.INBOUND}


async def test_another_trunks_figures_are_an_outage(lab: CountingLab, source: MetricSource) -> None:
    lab.live(0, 60, *STORY)
    with pytest.raises(UnexpectedAnswer):
        await source.samples(endpoint(name="us-1"), at(0), at(60))


# -- Datadog's refusals ------------------------------------------------------------------------------------------------


async def test_wrong_keys_are_told_from_a_missing_permission(lab: CountingLab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab.live(0, 10, *STORY)
    lab.api.permitted = False
    with pytest.raises(PermissionMissing, match="Failed permission authorization checks"):
        await read(lab.datadog(), 0, 10)
    monkeypatch.setenv("DD_APP_KEY", "f00")
    with pytest.raises(CredentialsRefused, match="Forbidden"):
        await read(lab.datadog(), 0, 10)
    assert [(entry.method, entry.status) for entry in lab.log.entries] == [
        ("POST", 403),
        ("GET", 200),
        ("POST", 403),
        ("GET", 403),
    ]


async def test_a_limit_and_a_failure_of_datadog_are_told(lab: CountingLab) -> None:
    lab.live(0, 10, *STORY)
    lab.faults.status = 429
    with pytest.raises(Throttled) as raised:
        await read(lab.datadog(), 0, 10)
    assert raised.value.retry_after_s == 7
    lab.faults.status = 500
    with pytest.raises(ServerFailed):
        await read(lab.datadog(), 0, 10)


async def test_a_query_that_datadog_does_not_understand_is_refused_with_its_words(lab: CountingLab) -> None:
    wrong = {**DATADOG_QUERIES, "handshakes_ok": "sum:sip.handshakes.good{*}.as_count()"}
    with pytest.raises(RequestRefused, match=r"400.*scope_expr"):
        await read(lab.datadog(queries=wrong), 0, 10)
