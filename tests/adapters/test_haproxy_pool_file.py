"""sip-pool.cfg as it is shipped and as operators may write it: what is ours changes, everything else stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.edges.haproxy.pool_file import Arrangement, arrangement, rewritten
from domain.errors import UnexpectedAnswer

SHIPPED = (Path(__file__).parents[2] / "deploy" / "haproxy" / "sip-pool.cfg").read_text()
A_ALONE = {"one": 100, "two": None}

OPERATORS = """\
global
    maxconn 100
# rotation: version 41 first two canary one
backend other-pool
    server one 192.0.2.1:5061 weight 7
backend trunk-pool from sip   # ours
    balance roundrobin
    server  one  "unix@/run/a b#1.sock" weight 20 send-proxy-v2 maxconn 9 # as weight 9 disabled
    # server one 192.0.2.9:1 weight 3
\tserver two 'unix@/run/two.sock'\tdisabled   send-proxy-v2
    server three 192.0.2.3:5061 weight 5 backup
frontend trunk-pool-front
    server one 192.0.2.2:5061
"""


def test_the_shipped_file_holds_one_certificate_and_no_canary() -> None:
    found = arrangement(SHIPPED, "trunk", "node")
    assert found == Arrangement(1, "one", None, {"pool": A_ALONE, "canary-pool": A_ALONE, "out-pool": A_ALONE})


def test_what_is_ours_changes_and_everything_else_stays() -> None:
    found = arrangement(OPERATORS, "trunk", "node")
    assert found == Arrangement(41, "two", "one", {"pool": {"one": 20, "two": None, "three": 5}})
    wanted = Arrangement(42, "two", None, {"pool": {"one": None, "two": 100}, "out-pool": A_ALONE})
    changed = rewritten(OPERATORS, "trunk", wanted)
    assert arrangement(changed, "trunk", "node").pools == {"pool": {"one": None, "two": 100, "three": 5}}
    before, after = OPERATORS.splitlines(), changed.splitlines()
    assert {old: new for old, new in zip(before, after, strict=True) if old != new} == {
        "# rotation: version 41 first two canary one": "# rotation: version 42 first two canary none",
        '    server  one  "unix@/run/a b#1.sock" weight 20 send-proxy-v2 maxconn 9 # as weight 9 disabled': (
            '    server  one  "unix@/run/a b#1.sock" send-proxy-v2 maxconn 9 weight 0 disabled # as weight 9 disabled'
        ),
        "\tserver two 'unix@/run/two.sock'\tdisabled   send-proxy-v2": (
            "\tserver two 'unix@/run/two.sock'   send-proxy-v2 weight 100"
        ),
    }


def test_a_server_without_a_weight_weighs_one() -> None:
    text = "# rotation: version 1 first one canary none\nbackend trunk-pool\nserver one 192.0.2.1:1\n"
    assert arrangement(text, "trunk", "node").pools == {"pool": {"one": 1}}


def test_line_ends_stay_as_they_are() -> None:
    text = SHIPPED.replace("\n", "\r\n")
    wanted = replace(arrangement(text, "trunk", "node"), version=9, pools={"pool": {"one": 0, "two": 100}})
    assert rewritten(text, "trunk", wanted) == rewritten(SHIPPED, "trunk", wanted).replace("\n", "\r\n")


weights = st.one_of(st.none(), st.integers(0, 256))


@given(weights, weights, st.sampled_from([None, "one", "two"]), st.integers(1, 10**9))
def test_what_is_written_is_read_again_and_writing_it_twice_changes_nothing(
    one: int | None, two: int | None, canary: str | None, version: int
) -> None:
    pools = {name: {"one": one, "two": two} for name in ("pool", "canary-pool", "out-pool")}
    wanted = Arrangement(version, "two", canary, pools)
    for text in (SHIPPED, OPERATORS):
        once = rewritten(text, "trunk", wanted)
        found = arrangement(once, "trunk", "node")
        assert (found.version, found.first, found.canary) == (version, "two", canary)
        assert all(found.pools[pool][slot] == pools[pool][slot] for pool in found.pools for slot in ("one", "two"))
        assert rewritten(once, "trunk", wanted) == once


@pytest.mark.parametrize(
    "text",
    [
        "",
        SHIPPED.replace("# rotation: version 1", "# rotation: version x"),
        SHIPPED.replace("backend trunk-pool", "backend trunk-elsewhere"),
        SHIPPED.replace("    server", "    # server"),
    ],
)
def test_a_file_without_its_first_line_or_its_pool_is_refused(text: str) -> None:
    with pytest.raises(UnexpectedAnswer, match="does not have its form"):
        arrangement(text, "trunk", "node")
