"""From what nodes say to the trunk, and from a wanted trunk to commands: tables, without a server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.edges.haproxy.answers import Loaded, LoadedFiles, Process, Statistic
from adapters.edges.haproxy.node import NodeView, OldWorker, Slot
from adapters.edges.haproxy.pool_file import Arrangement, Weights
from adapters.edges.haproxy.slots import placeholder, slot_file
from adapters.edges.haproxy.state import (
    arrangement_wanted,
    canary_leaf,
    commands_for,
    farthest_clock,
    filed_as,
    live_calls,
    node_shares,
    trunk_state,
)
from domain.errors import RequestRefused, UnexpectedAnswer
from tests.adapters.trunk_leaves import TrunkLeaf, trunk_leaf

A, B = trunk_leaf("A"), trunk_leaf("B")
EMPTY = slot_file(placeholder().get_secret_value().encode())
STARTED = datetime(2026, 11, 24, 12, tzinfo=UTC)


def memory(sha1: str | None, subject: str = "/CN=trunk.example.com") -> Loaded:
    issuer = subject if subject == "/CN=empty slot" else "/CN=issuer"
    return Loaded(sha1=sha1 or "", serial="0A", subject=subject, issuer=issuer)


def holding(leaf: TrunkLeaf) -> Slot:
    file = slot_file((leaf.chain_pem + leaf.private_key.get_secret_value()).encode())
    return Slot(file=file, memory=memory(file.sha1), path="/sip/x.pem")


NOTHING = Slot(file=EMPTY, memory=memory(EMPTY.sha1, "/CN=empty slot"), path="/sip/y.pem")


def view(
    weights: Weights,
    *,
    filed: Weights | None = None,
    first: str = "one",
    canary: str | None = None,
    leads: str = "one",
    slots: Mapping[str, Slot] | None = None,
    version: int = 1,
    name: str = "node",
) -> NodeView:
    """A node whose slots hold A and B."""
    canaries = {slot: 100 if slot == leads else None for slot in ("one", "two")}
    arranged = Arrangement(
        version, first, canary, {"pool": weights if filed is None else filed, "canary-pool": canaries}
    )
    return NodeView(
        name=name,
        where=name,
        process=Process((2, 6), STARTED, STARTED),
        statistics=(Statistic("trunk", "FRONTEND", 0, "OPEN", 0),),
        pools={"pool": weights, "canary-pool": canaries},
        loaded=LoadedFiles((), ()),
        slots=slots or {"one": holding(A), "two": holding(B)},
        old=(),
        pool_text=b"",
        arranged=arranged,
    )


def state_of(*views: NodeView) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    state = trunk_state("trunk", views, canary_port=5062, mutual_tls=False, unread=())
    return tuple({A.sha256: "A", B.sha256: "B"}[leaf] for leaf in state.pool), state.shares


@pytest.mark.parametrize(
    ("weights", "filed", "first", "expected"),
    [
        ({"one": 100, "two": None}, None, "one", (("A",), (100,))),
        ({"one": 100, "two": 0}, None, "one", (("A", "B"), (100, 0))),
        ({"one": 75, "two": 25}, None, "one", (("A", "B"), (75, 25))),
        ({"one": 25, "two": 75}, None, "one", (("B", "A"), (75, 25))),
        ({"one": 50, "two": 50}, None, "one", (("A", "B"), (50, 50))),
        ({"one": 50, "two": 50}, None, "two", (("B", "A"), (50, 50))),
        ({"one": 1, "two": 1}, None, "one", (("A", "B"), (50, 50))),
        ({"one": 256, "two": 1}, None, "one", (("A", "B"), (99, 1))),
        ({"one": 0, "two": 0}, None, "one", (("A", "B"), (0, 0))),
        ({"one": 100, "two": None}, {"one": 0, "two": 100}, "one", (("A", "B"), (100, 0))),
        ({"one": 100, "two": 0}, {"one": 100, "two": None}, "one", (("A", "B"), (100, 0))),
    ],
)
def test_the_pool_is_what_run_time_or_the_file_holds_by_the_weights_of_run_time(
    weights: Weights, filed: Weights | None, first: str, expected: tuple[tuple[str, ...], tuple[int, ...]]
) -> None:
    assert state_of(view(weights, filed=filed, first=first)) == expected


def test_nodes_that_differ_are_one_pool_with_the_mean_of_their_shares() -> None:
    a_alone, b_alone = view({"one": 100, "two": None}), view({"one": None, "two": 100})
    assert state_of(a_alone, a_alone) == (("A",), (100,))
    assert state_of(a_alone, b_alone) == (("A", "B"), (50, 50))
    assert state_of(a_alone, a_alone, b_alone) == (("A", "B"), (67, 33))
    assert state_of(a_alone, view({"one": None, "two": 0})) == (("A", "B"), (100, 0)), "of what is served at all"
    a_bit = view({"one": 99, "two": 1})
    assert state_of(a_alone, a_alone, a_alone, a_bit) == (("A", "B"), (99, 1)), "what has a share is never shown as 0"


@given(st.lists(st.tuples(st.integers(0, 256), st.integers(0, 256)), min_size=1, max_size=5))
@example([(0, 0), (0, 1)])
def test_shares_add_up_and_whoever_serves_has_one(weights: list[tuple[int, int]]) -> None:
    views = [view({"one": one, "two": two}) for one, two in weights]
    state = trunk_state("trunk", views, canary_port=None, mutual_tls=False, unread=())
    assert state.shares is not None
    serves = {leaf for one in views for leaf, share in node_shares(one).items() if share}
    assert sum(state.shares) == (100 if serves else 0)
    assert set(state.presented) == serves
    assert list(state.shares) == sorted(state.shares, reverse=True)


def test_an_empty_slot_that_gets_nothing_is_not_in_the_pool_and_one_that_gets_something_is_an_error() -> None:
    slots = {"one": holding(A), "two": NOTHING}
    assert state_of(view({"one": 100, "two": 0}, slots=slots)) == (("A",), (100,))
    with pytest.raises(UnexpectedAnswer, match="does not serve"):
        state_of(view({"one": 99, "two": 1}, slots=slots))
    with pytest.raises(UnexpectedAnswer, match="does not serve"):
        state_of(
            view({"one": 100, "two": 0}, slots={"one": holding(A), "two": replace(holding(B), file=holding(A).file)})
        )


@pytest.mark.parametrize(
    ("weights", "canary", "leads", "expected"),
    [
        ({"one": 100, "two": 0}, "two", "two", True),
        ({"one": 100, "two": 0}, None, "one", False),
        ({"one": 0, "two": 100}, "two", "two", True),
        ({"one": 0, "two": 100}, None, "two", False),
        ({"one": 100, "two": 0}, None, "two", True),
        ({"one": 100, "two": 0}, "two", "one", False),
    ],
)
def test_the_canary_is_what_its_path_serves_unless_it_only_follows_the_first(
    weights: Weights, canary: str | None, leads: str, expected: bool
) -> None:
    assert canary_leaf(view(weights, canary=canary, leads=leads)) == (B.sha256 if expected else None)


def test_commands_raise_before_they_lower_and_take_away_last() -> None:
    there = view({"one": 100, "two": None}, leads="one")
    wanted = arrangement_wanted(there, {B.sha256: 100}, None, 2)
    assert commands_for(there, wanted, "trunk") == [
        "set server trunk-pool/two weight 100",
        "set server trunk-pool/two state ready",
        "set server trunk-canary-pool/two weight 100",
        "set server trunk-canary-pool/two state ready",
        "set server trunk-pool/one weight 0",
        "set server trunk-pool/one state maint",
        "set server trunk-canary-pool/one weight 0",
        "set server trunk-canary-pool/one state maint",
    ]
    assert not filed_as(there, wanted)
    as_wanted = view({"one": None, "two": 100}, leads="two", first="two")
    assert commands_for(as_wanted, wanted, "trunk") == []
    assert filed_as(as_wanted, wanted)


pools = st.fixed_dictionaries({slot: st.one_of(st.none(), st.integers(0, 100)) for slot in ("one", "two")})


@given(pools, st.sampled_from([(100, 0), (95, 5), (50, 50), (0, 100), (100, None), (None, 100)]))
def test_no_command_leaves_the_pool_without_a_server_in_between(there: Weights, shares: tuple[int | None, ...]) -> None:
    """Promise 1: at every instant somebody serves, if somebody did before."""
    weight = {slot: found or 0 for slot, found in there.items()}
    ready = {slot: found is not None for slot, found in there.items()}
    leaves = {A.sha256: shares[0], B.sha256: shares[1]}
    wanted = arrangement_wanted(view(there), {leaf: s for leaf, s in leaves.items() if s is not None}, None, 2)
    served = any(there.values())
    for command in commands_for(view(there), wanted, "trunk"):
        _, _, server, what, value = command.split()
        pool, _, slot = server.partition("/")
        if pool == "trunk-pool":
            if what == "weight":
                weight[slot] = int(value)
            else:
                ready[slot] = value == "ready"
            serves = any(ready[one] and weight[one] for one in weight)
            assert serves or not served, command
            served = serves
    assert {slot: weight[slot] if ready[slot] else None for slot in weight} == wanted.pools["pool"]


def test_a_change_needs_its_certificates_in_memory_and_file() -> None:
    half = replace(holding(B), memory=NOTHING.memory)
    there = view({"one": 100, "two": None}, slots={"one": holding(A), "two": half})
    assert there.slots_with(B.sha256) == ["two"]
    assert there.slot_of(B.sha256) is None
    for shares, canary in (({A.sha256: 100, B.sha256: 0}, None), ({A.sha256: 100}, B.sha256)):
        with pytest.raises(RequestRefused, match="not uploaded"):
            arrangement_wanted(there, shares, canary, 2)


# -- calls -------------------------------------------------------------------------------------------------------------


def counted(**sessions: int) -> tuple[Statistic, ...]:
    return tuple(
        Statistic(f"trunk-{name.replace('_', '-')}", "FRONTEND", count, "OPEN", 0) for name, count in sessions.items()
    )


def test_connections_of_all_workers_and_both_directions_count_by_what_each_worker_has_in_memory() -> None:
    current = replace(view({"one": 100, "two": 0}), statistics=counted(tls_one=2, out_one=1, tls_two=3, try_one=9))
    swapped = {"one": current.slots["two"].memory, "two": current.slots["one"].memory}
    old = OldWorker(7, counted(tls_one=10, out_two=20), swapped)
    assert live_calls([replace(current, old=(old,))], "trunk") == {A.sha256: 23, B.sha256: 13}


def test_connections_on_a_certificate_that_nobody_knows_any_more_are_not_dropped() -> None:
    current = view({"one": 100, "two": 0})
    gone = {"one": memory("ab" * 20), "two": None}
    quiet = OldWorker(7, counted(tls_one=0, tls_two=0), gone)
    assert live_calls([replace(current, old=(quiet,))], "trunk") == {A.sha256: 0, B.sha256: 0}
    for sessions in (counted(tls_one=1), counted(tls_two=1)):
        with pytest.raises(UnexpectedAnswer, match="does not show"):
            live_calls([replace(current, old=(OldWorker(7, sessions, gone),))], "trunk")


def test_the_clock_that_is_off_by_most_is_told() -> None:
    early, late = STARTED.replace(minute=1), STARTED.replace(minute=9)
    views = [replace(view({"one": 100}), process=Process((2, 6), STARTED, clock)) for clock in (early, late, STARTED)]
    assert farthest_clock(views, STARTED) == late
    assert farthest_clock(views, late) == STARTED
