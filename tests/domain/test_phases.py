"""The transition table against its contract, the comment at the head of domain/phases.py."""

from __future__ import annotations

import re

import pytest

from domain import phases
from domain.phases import ABORTABLE, FINAL, FORWARD, GUARDED, HOT, REVERSIBLE, TRANSITIONS, Phase, may_move

CONTRACT: dict[str, set[str]] = {
    "PREFLIGHT": {"ISSUE", "ABORTED"},
    "ISSUE": {"UPLOAD", "ABORTED"},
    "UPLOAD": {"BIND", "ROLLING_BACK"},
    "BIND": {"READINESS", "ROLLING_BACK"},
    "READINESS": {"SOAK", "ROLLING_BACK"},
    "SOAK": {"APPROVE_PREFER", "ROLLING_BACK"},
    "APPROVE_PREFER": {"PREFER", "ROLLING_BACK"},
    "PREFER": {"VERIFY", "ROLLING_BACK"},
    "VERIFY": {"ADOPT", "ROLLING_BACK"},
    "ADOPT": {"OVERLAP", "ROLLING_BACK"},
    "OVERLAP": {"DRAIN", "ROLLING_BACK"},
    "DRAIN": {"APPROVE_REMOVE", "ROLLING_BACK"},
    "APPROVE_REMOVE": {"REMOVE", "ROLLING_BACK"},
    "REMOVE": {"HOLD", "ROLLING_BACK"},
    "HOLD": {"RESTORE", "ROLLING_BACK"},
    "RESTORE": {"REVOKE"},
    "REVOKE": {"COMPLETED"},
    "COMPLETED": set(),
    "ROLLING_BACK": {"ROLLED_BACK"},
    "ROLLED_BACK": set(),
    "ABORTED": set(),
}
"""Written out by hand, so that a slip in the code that builds the table shows."""


@pytest.mark.parametrize("current", Phase, ids=str)
def test_a_step_is_allowed_exactly_when_the_contract_names_it(current: Phase) -> None:
    assert {following for following in Phase if may_move(current, following)} == CONTRACT[current]


def test_the_comment_at_the_head_of_the_module_says_the_same() -> None:
    text = re.sub(r"\s+", " ", phases.__doc__ or "")
    names = sorted((str(phase) for phase in Phase), key=len, reverse=True)
    pieces = re.split(rf"(?:^| )({'|'.join(names)})(?= +(?:\(\d+\) )?[A-Z0-9])", text)
    described = dict(zip(pieces[1::2], pieces[2::2], strict=True))
    assert set(described) == set(CONTRACT)
    implied = {str(phase): {"ROLLING_BACK"} for phase in REVERSIBLE}
    for phase, sentence in described.items():
        arrow = sentence.rpartition("→")[2] if "→" in sentence else ""
        said = set(re.findall(r"[A-Z]{3,}(?:_[A-Z]+)*", arrow)) & set(CONTRACT)
        assert said | implied.get(phase, set()) == CONTRACT[phase], phase


def test_the_way_forward_is_the_guides_ten_steps_in_their_order() -> None:
    numbered = ["ISSUE", "UPLOAD", "BIND", "READINESS", "SOAK", "PREFER", "VERIFY", "ADOPT", "REMOVE", "REVOKE"]
    assert [phase for phase in FORWARD if phase in numbered] == numbered
    assert FORWARD[0] is Phase.PREFLIGHT
    assert FORWARD[-1] is Phase.COMPLETED


def test_rolling_back_is_reachable_from_exactly_upload_to_hold() -> None:
    sources = [phase for phase in Phase if may_move(phase, Phase.ROLLING_BACK)]
    assert sources == list(FORWARD[FORWARD.index(Phase.UPLOAD) : FORWARD.index(Phase.HOLD) + 1])
    assert set(sources) == REVERSIBLE


def test_aborting_is_reachable_from_preflight_and_issue_only() -> None:
    assert {phase for phase in Phase if may_move(phase, Phase.ABORTED)} == {Phase.PREFLIGHT, Phase.ISSUE} == ABORTABLE


def test_no_phase_can_both_abort_and_roll_back() -> None:
    assert not ABORTABLE & REVERSIBLE


def test_after_hold_there_is_no_way_back() -> None:
    for phase in (Phase.RESTORE, Phase.REVOKE, Phase.COMPLETED):
        assert reachable(phase) <= {Phase.RESTORE, Phase.REVOKE, Phase.COMPLETED}


def test_a_rollback_ends_rolled_back_and_nowhere_else() -> None:
    assert reachable(Phase.ROLLING_BACK) == {Phase.ROLLING_BACK, Phase.ROLLED_BACK}


def test_final_phases_lead_nowhere_and_every_other_phase_leads_to_one() -> None:
    assert {phase for phase in Phase if not TRANSITIONS[phase]} == FINAL
    for phase in Phase:
        assert reachable(phase) & FINAL


def test_every_phase_is_reachable_and_none_is_entered_twice() -> None:
    assert reachable(Phase.PREFLIGHT) == set(Phase)
    assert not any(phase in reachable(following) for phase in Phase for following in TRANSITIONS[phase])


def test_the_guard_watches_from_bind_to_the_end_of_hold() -> None:
    assert REVERSIBLE - {Phase.UPLOAD} == GUARDED
    assert HOT <= GUARDED


def test_a_step_cannot_be_skipped() -> None:
    for index, phase in enumerate(FORWARD):
        assert not TRANSITIONS[phase] & set(FORWARD[index + 2 :])


def reachable(start: Phase) -> set[Phase]:
    """`start` and everything after it."""
    seen, waiting = {start}, [start]
    while waiting:
        for following in TRANSITIONS[waiting.pop()] - seen:
            seen.add(following)
            waiting.append(following)
    return seen
