"""A carrier that the plan knows, that does not call, and that will refuse B when it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.phases import Phase
from tests.e2e.stage import LabProcess, Rotation, Stage, running_lab, until
from tests.e2e.test_rolling_back import assert_a_alone_and_b_gone
from workflows.messages import RotationStatus

pytestmark = pytest.mark.durability


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """A lab with a second carrier on the Genesys trunk."""
    with running_lab(tmp_path / "a lab", "--dormant-peer") as process:
        yield process


async def blocked_in_drain(stage: Stage) -> tuple[Rotation, RotationStatus]:
    """A rotation that waits in DRAIN for a peer to be seen on B."""
    rotation = await stage.start(stage.plan(('overlap = "8s"', 'overlap = "8s"\ndrain_deadline = "3s"')))
    address = stage.lab.facts["dormant_address"]
    status = await rotation.shows(
        lambda s: s.phase is Phase.DRAIN and s.waiting and f"not yet: {address}" in s.waiting.what,
        f"DRAIN waiting for {address}",
    )
    return rotation, status


async def test_a_dormant_peer_that_will_refuse_b_blocks_drain_by_its_address_and_turns_back_when_it_calls(
    stage: Stage,
) -> None:
    lab, sha256_a = stage.lab, stage.lab.facts["certificate_a"]
    address = lab.facts["dormant_address"]
    rotation, status = await blocked_in_drain(stage)
    assert status.b is not None
    assert status.waiting is not None
    assert "nobody can override" in status.waiting.what
    assert any(alert.kind == "inconclusive" and address in alert.summary for alert in status.alerts)
    await rotation.handle.signal("approve", {"gate": "drain", "by": "hasty"})
    for trunk in lab.get("/lab/state")["trunks"].values():
        assert sha256_a in trunk["pool"]

    lab.post("/lab/dormant", {"on": True})
    error = await rotation.fails()
    assert error.type == "RolledBack"
    assert "unknown_ca" in error.message
    await assert_a_alone_and_b_gone(stage, rotation)

    # the guard has seen what the peer did to B, and the peer reaches A again
    refused = lab.get("/lab/state")["dormant"]["handshakes"][status.b.sha256]
    assert refused["failures"]["unknown_ca"] == refused["attempts"] > 0

    async def on_a() -> bool:
        dormant = lab.get("/lab/state")["dormant"]
        counted = dormant["handshakes"].get(sha256_a, {"attempts": 0, "failures": {}})
        return counted["attempts"] >= 3 and not counted["failures"] and dormant["calls"]["completed"] > 0

    await until(on_a, "good calls of the peer on A")
    assert lab.get("/lab/state")["violations"] == []


async def test_a_person_turns_back_from_a_drain_that_a_dormant_peer_blocks(stage: Stage) -> None:
    rotation, _ = await blocked_in_drain(stage)
    await rotation.handle.signal("rollback", {"by": "ann", "reason": "that carrier never answers"})
    assert (await rotation.fails()).type == "RolledBack"
    await assert_a_alone_and_b_gone(stage, rotation)
    assert stage.lab.get("/lab/state")["violations"] == []
