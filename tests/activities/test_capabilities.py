"""What the plan needs against what the platform can do: refused at PREFLIGHT, or replaced where that is needed."""

from __future__ import annotations

import pytest

from activities.capabilities import capability_findings
from adapters.edges.base import Canary, Capabilities
from domain.gates import Verdict
from domain.plan import Plan
from tests.domain.plans import plan

ALL = Capabilities(
    pool=True,
    prefer=True,
    canary=Canary.SNI,
    weights=True,
    per_certificate_handshakes=True,
    active_calls=True,
    close_connections=True,
)
BARE = Capabilities(pool=False, prefer=True, canary=Canary.NONE, active_calls=True, call_setups=False)
EVERY_SUBSTITUTE = 'pool = "switch"\ncanary = "blind_switch"\nhandshakes = "carrier"\ncall_setups = "carrier"\n'


def with_substitutes(lines: str) -> Plan:
    node = 'address = "198.51.100.2"\n'
    return plan((node, f"{node}\n[endpoints.substitutes]\n{lines}"))


def seen(whose: Plan, can: Capabilities) -> dict[str, tuple[Verdict, str]]:
    findings = capability_findings(whose, whose.endpoints[0], can)
    assert all(finding.endpoint == "east" for finding in findings)
    return {finding.check: (finding.verdict, finding.seen) for finding in findings}


def test_a_platform_that_can_do_everything_passes() -> None:
    assert seen(plan(), ALL) == {"capabilities": (Verdict.PASS, "pool, prefer, canary, counters")}


@pytest.mark.parametrize(
    ("lacks", "named"),
    [
        ({"pool": False}, "pool"),
        ({"prefer": False}, "prefer"),
        ({"canary": Canary.NONE}, "canary"),
        ({"per_certificate_handshakes": False}, "handshakes per certificate"),
        ({"call_setups": False}, "call setups per certificate"),
        ({"active_calls": False}, "active calls per certificate"),
    ],
    ids=str,
)
def test_what_is_missing_is_refused_by_name(lacks: dict[str, object], named: str) -> None:
    assert seen(plan(), ALL.model_copy(update=lacks)) == {"capabilities": (Verdict.FAIL, f"missing: {named}")}


def test_a_ramp_needs_weights_and_a_close_needs_an_edge_that_closes() -> None:
    wanted = plan(
        ('carrier = "acme"', 'carrier = "acme"\nramp = [10]'),
        ('overlap = "72h"', 'overlap = "72h"\nclose_connections_after = "1h"'),
    )
    without = ALL.model_copy(update={"weights": False, "close_connections": False})
    missing = "missing: weights for the ramp, an orderly close of connections"
    assert seen(wanted, without) == {"capabilities": (Verdict.FAIL, missing)}
    assert seen(wanted, ALL)["capabilities"][0] is Verdict.PASS


def test_substitutes_stand_in_for_what_is_missing_and_are_shown() -> None:
    (finding,) = seen(with_substitutes(EVERY_SUBSTITUTE), BARE).values()
    assert finding[0] is Verdict.PASS
    for substitute in ("pool: switch", "canary: blind_switch", "handshakes per certificate: carrier"):
        assert substitute in finding[1]


def test_a_substitute_that_is_not_needed_is_refused_because_it_would_loosen_a_gate() -> None:
    found = seen(with_substitutes('handshakes = "carrier"\n'), ALL)
    assert found == {"substitutes": (Verdict.FAIL, "handshakes per certificate = 'carrier'")}
