"""The worker's memory of handshake times: bounded, apart by run, endpoint and certificate, of good handshakes only."""

from __future__ import annotations

from typing import Any

from activities.handshake_times import KEPT, SERIES, HandshakeTimes
from adapters.probe.base import Layer, ProbeResult, ProbeTarget
from domain.rotation import Run
from tests.domain.plans import plan
from tests.domain.readings import NOW, A, B

RUN = Run(plan=plan(), rotation="r", key="one")


def probe(ms: float | None, leaf: str | None = B, **changes: Any) -> ProbeResult:
    target = ProbeTarget(address="192.0.2.1", port=5061, server_name=None, identity="trunk.example.com")
    return ProbeResult(target=target, at=NOW, leaf_sha256=leaf, handshake_ms=ms, **changes)


def test_times_are_kept_apart_by_run_endpoint_and_certificate() -> None:
    times = HandshakeTimes()
    times.note(RUN, "east", [probe(10.0), probe(30.0), probe(500.0, A)])
    times.note(RUN, "west", [probe(90.0)])
    times.note(RUN.model_copy(update={"key": "two"}), "east", [probe(70.0)])
    assert (times.of(RUN, "east", B).count, times.of(RUN, "east", B).highest) == (2, 30.0)
    assert times.of(RUN, "east", A).highest == 500.0
    assert times.of(RUN, "north", B).count == 0


def test_only_good_handshakes_are_noted() -> None:
    times = HandshakeTimes()
    failed = probe(10.0, failed_layer=Layer.SIP, cause="OPTIONS answered 503")
    times.note(RUN, "east", [failed, probe(None), probe(10.0, None)])
    assert times.of(RUN, "east", B).count == 0


def test_the_memory_is_bounded() -> None:
    times = HandshakeTimes()
    times.note(RUN, "east", [probe(float(n)) for n in range(KEPT + 50)])
    assert times.of(RUN, "east", B).count == KEPT
    assert times.of(RUN, "east", B).p50 > 50
    for n in range(SERIES):
        times.note(RUN, f"trunk {n}", [probe(1.0)])
    assert times.of(RUN, "east", B).count == 0
    assert times.of(RUN, "trunk 0", B).count == 1
