"""The diagnosis: each observation points to its cause, what was seen beats a guess, and order plays no part."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.probe.tls_causes import ALERTS as ALERTS_OF_TLS
from domain.causes import ALERTS, DISTRUSTS, REMEDIES, SIP_STATUSES, FailureCause
from domain.diagnosis import BRIEF, Diagnosis, Sure, diagnose, told
from domain.handshakes import CERTIFICATE_ALERTS, Reading, Reporter, Sample, Tally
from domain.plan import Direction
from domain.probed import Distrust, Layer, Probed, Resumption, Staple, StapleState
from domain.symptoms import Failure, Symptoms, What, failures_of
from domain.texts import LONGEST
from tests.domain.symptoms import NOW, A, B, alert, answered, broken, facts, fine, symptoms

C = FailureCause


def first(given: Symptoms) -> Diagnosis:
    return diagnose(given)[0]


@pytest.mark.parametrize("name", [name for name, row in ALERTS.items() if row.causes and row.number is not None])
def test_an_alert_alone_makes_its_first_cause_likely_and_never_certain(name: str) -> None:
    row = ALERTS[name]
    found = first(symptoms(alert(name), probes=(fine(staple=None),) if row.fresh_is_fine else (), facts=None))
    assert (found.cause, found.sure) == (row.causes[0], Sure.LIKELY)
    assert any(f"{name} (alert {row.number})" in line for line in found.evidence)
    assert found.next_step == REMEDIES[found.cause].next_step


def test_every_alert_of_the_table_has_its_number_in_the_rfcs() -> None:
    numbers = {name: number for number, name in ALERTS_OF_TLS.items()}
    assert {name: row.number for name, row in ALERTS.items() if row.number is not None}.items() <= numbers.items()


def test_every_certificate_alert_leads_to_a_cause_and_every_cause_has_a_remedy() -> None:
    assert [name for name in CERTIFICATE_ALERTS if not ALERTS[name].causes] == []
    assert set(REMEDIES) == set(FailureCause)
    reachable = {cause for row in ALERTS.values() for cause in row.causes} | set(DISTRUSTS.values())
    reachable |= {cause for causes in SIP_STATUSES.values() for cause in causes}
    assert set(FailureCause) - reachable == {C.NOT_RESOLVED, C.UNKNOWN}


@pytest.mark.parametrize("distrust", DISTRUSTS)
def test_what_the_prober_refuses_itself_is_seen(distrust: Distrust) -> None:
    probe = broken(Layer.TLS, f"{distrust}: the leaf", distrust=distrust)
    found = first(symptoms(probes=(probe,), facts=None))
    assert (found.cause, found.sure) == (DISTRUSTS[distrust], Sure.SEEN)
    assert found.evidence == (f"prober: {probe.text()}",)


@pytest.mark.parametrize(
    ("probe", "cause"),
    [
        (broken(Layer.DNS, "b.trunk.example.com: name or service not known"), C.NOT_RESOLVED),
        (broken(Layer.TCP, "connection refused"), C.NOT_REACHABLE),
        (broken(Layer.IDENTITY, "the certificate is for nobody"), C.NAME_MISMATCH),
        (broken(Layer.SIP, "INVITE answered 403", sip_status=403), C.SIP_REFUSED),
        (fine(staple=Staple(state=StapleState.STALE)), C.STAPLE_STALE),
        (fine(staple=Staple(state=StapleState.UNUSABLE)), C.STAPLE_STALE),
        (fine(staple=Staple(state=StapleState.REVOKED)), C.REVOKED),
    ],
)
def test_each_layer_that_the_prober_tells_apart_has_its_own_cause(probe: Probed, cause: FailureCause) -> None:
    found = first(symptoms(probes=(probe,)))
    assert (found.cause, found.sure) == (cause, Sure.SEEN)


def test_unknown_ca_is_the_incomplete_chain_that_the_prober_saw_and_nothing_else() -> None:
    lone = broken(Layer.TLS, "incomplete chain: the leaf came alone", distrust=Distrust.INCOMPLETE_CHAIN)
    (found,) = diagnose(symptoms(alert("unknown_ca"), probes=(lone,)))
    assert (found.cause, found.sure) == (C.INCOMPLETE_CHAIN, Sure.SEEN)
    assert len(found.evidence) == 2


def test_unknown_ca_beside_a_whole_chain_is_an_unknown_issuer() -> None:
    assert [d.cause for d in diagnose(symptoms(alert("unknown_ca"), probes=(fine(),)))] == [C.UNKNOWN_ISSUER]
    without_a_probe = [d.cause for d in diagnose(symptoms(alert("unknown_ca")))]
    assert without_a_probe == [C.UNKNOWN_ISSUER, C.INCOMPLETE_CHAIN]
    on_a = fine(leaf_sha256=A)
    assert C.INCOMPLETE_CHAIN in [d.cause for d in diagnose(symptoms(alert("unknown_ca"), probes=(on_a,)))]


def test_a_measured_clock_by_which_b_is_outside_its_validity_is_seen_drift() -> None:
    for name, drift in (("bad_certificate", timedelta(hours=-25)), ("certificate_expired", timedelta(days=120))):
        found = first(symptoms(alert(name), probes=(fine(),), drift=drift))
        assert (found.cause, found.sure) == (C.CLOCK_DRIFT, Sure.SEEN)
        assert "behind ours" in found.evidence[0] if drift < timedelta(0) else "ahead of ours" in found.evidence[0]


def test_a_drift_that_excludes_nothing_makes_drift_likelier_and_clocks_that_agree_rule_it_out() -> None:
    assert first(symptoms(alert("bad_certificate"))).cause is C.NAME_MISMATCH
    drifting = first(symptoms(alert("bad_certificate"), drift=timedelta(minutes=6)))
    assert (drifting.cause, drifting.sure) == (C.CLOCK_DRIFT, Sure.LIKELY)
    assert any("360 s ahead" in line for line in drifting.evidence)
    agreeing = diagnose(symptoms(alert("bad_certificate"), drift=timedelta(seconds=2)))
    assert [d.cause for d in agreeing] == [C.NAME_MISMATCH]
    assert diagnose(symptoms(drift=timedelta(minutes=6)))[0].cause is C.UNKNOWN


def test_a_certificate_that_is_really_over_is_expired_and_no_drift() -> None:
    over = facts(left=timedelta(minutes=-1))
    assert first(symptoms(alert("certificate_expired"), facts=over)).cause is C.EXPIRED
    inside = [d.cause for d in diagnose(symptoms(alert("certificate_expired")))]
    assert inside == [C.CLOCK_DRIFT]


def test_a_refused_name_shows_as_an_alert_one_way_and_403_the_other() -> None:
    both = diagnose(symptoms(alert("certificate_unknown"), answered(403), probes=(fine(),)))
    assert both[0].cause is C.NAME_MISMATCH
    assert both[1].cause is C.SIP_REFUSED
    assert first(symptoms(answered(403), probes=(fine(),))).cause is C.SIP_REFUSED


def test_a_complaint_about_the_staple_is_what_the_prober_got() -> None:
    complaint = alert("bad_certificate_status_response")
    missing = diagnose(symptoms(complaint, probes=(fine(),)))
    assert (missing[0].cause, missing[0].sure) == (C.STAPLE_MISSING, Sure.SEEN)
    assert C.STAPLE_STALE not in [d.cause for d in missing]
    old = fine(staple=Staple(state=StapleState.STALE))
    assert [(d.cause, d.sure) for d in diagnose(symptoms(complaint, probes=(old,)))] == [(C.STAPLE_STALE, Sure.SEEN)]
    good = fine(staple=Staple(state=StapleState.GOOD))
    assert [d.cause for d in diagnose(symptoms(complaint, probes=(good,)))] == [C.REVOKED]


def test_no_staple_is_no_failure_by_itself() -> None:
    assert first(symptoms(probes=(fine(),))).cause is C.UNKNOWN


def test_resumption_is_suspected_only_where_fresh_handshakes_go_well() -> None:
    offers = fine(resumption=Resumption(offered=True, ticket=True, lifetime_s=7200))
    found = first(symptoms(alert("internal_error"), probes=(offers,)))
    assert (found.cause, found.sure) == (C.RESUMPTION, Sure.LIKELY)
    assert any("session ticket offered, lifetime 7200 s" in line for line in found.evidence)
    assert first(symptoms(alert("internal_error"))).cause is C.UNKNOWN
    offers_none = fine(resumption=Resumption(offered=False))
    assert first(symptoms(alert("internal_error"), probes=(offers_none,))).cause is C.UNKNOWN
    fails_too = broken(Layer.TLS, "internal_error", alert="internal_error")
    assert first(symptoms(alert("internal_error"), probes=(offers, fails_too))).cause is C.UNKNOWN


def test_an_edge_that_refuses_our_prober_says_nothing_about_the_trunks_certificate() -> None:
    refused = broken(Layer.TLS, "certificate_required", alert="certificate_required")
    assert first(symptoms(probes=(refused,))).cause is C.UNKNOWN
    stranger = broken(Layer.TLS, "unknown_ca", alert="unknown_ca")
    assert first(symptoms(alert("certificate_revoked"), probes=(stranger,))).cause is C.REVOKED
    assert (
        first(symptoms(probes=(broken(Layer.TLS, "protocol_version", alert="protocol_version"),))).sure is Sure.LIKELY
    )


def test_the_pki_and_the_dns_are_believed() -> None:
    assert (first(symptoms(alert("certificate_revoked"), pki_revoked=True)).sure) is Sure.SEEN
    assert first(symptoms(alert("certificate_revoked"), pki_revoked=False)).sure is Sure.LIKELY
    gone = first(symptoms(unresolved=("b.trunk.example.com",)))
    assert (gone.cause, gone.sure) == (C.NOT_RESOLVED, Sure.SEEN)
    assert gone.evidence == ("DNS: b.trunk.example.com has no address",)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("not yet valid", C.CLOCK_DRIFT),
        ("certificate has EXPIRED", C.CLOCK_DRIFT),
        ("no path to a trusted root", C.INCOMPLETE_CHAIN),
        ("revoked by issuer", C.REVOKED),
        ("we do not like it", C.UNKNOWN),
    ],
)
def test_the_platforms_reason_is_its_word(reason: str, cause: FailureCause) -> None:
    found = first(symptoms(platform_reasons=(reason,)))
    assert found.cause is cause
    assert found.sure is not Sure.SEEN
    assert f"the platform: {reason}" in found.evidence


def test_what_was_seen_beside_the_failures_and_explains_none_comes_last() -> None:
    away = broken(Layer.TCP, "connection refused", where="192.0.2.2:5061", leaf_sha256=None)
    causes = [d.cause for d in diagnose(symptoms(alert("unknown_ca"), probes=(fine(), away)))]
    assert causes == [C.UNKNOWN_ISSUER, C.NOT_REACHABLE]
    silent = [d.cause for d in diagnose(symptoms(alert("connection_reset"), probes=(away,)))]
    assert silent == [C.NOT_REACHABLE]


def test_what_fits_nothing_is_unknown_with_everything_that_was_seen() -> None:
    (found,) = diagnose(symptoms(alert("other", count=3), alert("connection_reset", on=None), probes=(fine(),)))
    assert (found.cause, found.sure) == (C.UNKNOWN, Sure.NOT_KNOWN)
    assert len(found.evidence) == 3
    assert found.brief().startswith("cause not known – ")
    assert first(Symptoms(now=NOW)).evidence == ("nothing was observed",)


def test_a_cause_that_strikes_a_too_says_that_going_back_does_not_help() -> None:
    found = first(symptoms(alert("certificate_expired"), alert("certificate_expired", on=A)))
    assert "going back to A does not mend it" in found.sentence
    others = diagnose(symptoms(alert("certificate_expired"), alert("unknown_ca", on=A)))
    assert {d.cause: "going back" in d.sentence for d in others} == {
        C.CLOCK_DRIFT: False,
        C.UNKNOWN_ISSUER: True,
        C.INCOMPLETE_CHAIN: True,
    }


def test_the_cause_of_many_failures_comes_before_that_of_one() -> None:
    few, many = alert("handshake_failure", count=1), alert("protocol_version", count=40)
    assert first(symptoms(few, many)).cause is C.PROTOCOL_MISMATCH


def test_failures_are_taken_from_samples_and_our_own_count_as_the_probers() -> None:
    handshakes = Tally(attempts=3, successes=1, failures={"unknown_ca": 2, "timeout": 0})
    calls = Tally(attempts=1, failures={"403": 1})
    sample = Sample(
        endpoint="one",
        reporter=Reporter.PLATFORM,
        direction=Direction.INBOUND,
        sha256=B,
        handshakes=handshakes,
        call_setups=calls,
    )
    reading = Reading(
        endpoint="one",
        reporter=Reporter.PLATFORM,
        since=NOW - timedelta(minutes=1),
        until=NOW,
        read_at=NOW,
        samples=(sample, sample.model_copy(update={"synthetic": True})),
    )
    found = failures_of([reading])
    assert [(f.reporter, f.what, f.cause, f.count) for f in found] == [
        ("platform", What.HANDSHAKE, "unknown_ca", 2),
        ("platform", What.CALL, "403", 1),
        ("prober", What.HANDSHAKE, "unknown_ca", 2),
        ("prober", What.CALL, "403", 1),
    ]


def test_the_words_for_a_finding_are_bounded_and_name_cause_and_next_step() -> None:
    many = tuple(broken(Layer.TCP, "x" * 900, where=f"192.0.2.{n}:5061") for n in range(40))
    diagnoses = diagnose(symptoms(alert("unknown_ca"), alert("handshake_failure"), answered(403), probes=many))
    text = told(diagnoses)
    assert len(text) <= BRIEF
    assert text.startswith("likely: unknown issuer – ")
    assert REMEDIES[C.UNKNOWN_ISSUER].next_step in text
    assert "perhaps also" in text
    for one in diagnoses:
        assert len(one.evidence) <= 9
        assert all(len(line) <= LONGEST for line in one.evidence)


FAILURES = st.builds(
    Failure,
    reporter=st.sampled_from(["platform", "carrier", "prober"]),
    what=st.just(What.HANDSHAKE),
    cause=st.sampled_from(sorted(ALERTS)),
    count=st.integers(0, 50),
    direction=st.sampled_from([None, *Direction]),
    sha256=st.sampled_from([A, B, None]),
) | st.builds(answered, st.sampled_from([401, 403, 415, 480, 503]), count=st.integers(0, 50))
PROBES = st.builds(
    fine,
    where=st.sampled_from(["192.0.2.1:5061", "192.0.2.2:5061"]),
    layer=st.sampled_from([None, *Layer]),
    words=st.sampled_from(["", "it broke"]),
    alert=st.sampled_from([None, "internal_error", "handshake_failure"]),
    distrust=st.sampled_from([None, *Distrust]),
    sip_status=st.sampled_from([None, 200, 403]),
    leaf_sha256=st.sampled_from([A, B, None]),
    staple=st.none() | st.builds(Staple, state=st.sampled_from(list(StapleState))),
)


@given(st.data(), st.lists(FAILURES, max_size=8), st.lists(PROBES, max_size=4))
def test_order_and_repetition_change_nothing(
    data: st.DataObject, failures: list[Failure], probes: list[Probed]
) -> None:
    drift = data.draw(st.sampled_from([None, timedelta(0), timedelta(hours=-30)]))
    again = failures + [data.draw(st.sampled_from(failures)) for _ in range(2) if failures]
    probes_again = probes + [data.draw(st.sampled_from(probes)) for _ in range(2) if probes]
    answers = diagnose(symptoms(*failures, probes=tuple(probes), drift=drift))
    shuffled = symptoms(
        *data.draw(st.permutations(again)), probes=tuple(data.draw(st.permutations(probes_again))), drift=drift
    )
    assert diagnose(shuffled) == answers
    assert len({one.cause for one in answers}) == len(answers) >= 1
    assert (C.UNKNOWN in {one.cause for one in answers}) == (len(answers) == 1 and answers[0].cause is C.UNKNOWN)


@given(st.lists(FAILURES, max_size=8))
def test_nothing_is_certain_without_our_own_sight(failures: list[Failure]) -> None:
    assert all(one.sure is not Sure.SEEN for one in diagnose(symptoms(*failures)))
