"""A trunk whose other side is watched: its word is in the evidence, and what it sees turns a rotation back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from domain.gates import Verdict
from domain.observed import CONNECTED, TRUSTED
from tests.e2e.stage import LabProcess, Stage, running_lab
from tests.e2e.test_rolling_back import assert_a_alone_and_b_gone

pytestmark = pytest.mark.durability


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """A lab whose Genesys trunk has an observer."""
    with running_lab(tmp_path / "a lab", "--observed") as process:
        yield process


async def test_a_rotation_goes_through_with_the_observers_word_in_every_gate_that_asks_it(stage: Stage) -> None:
    rotation = await stage.start()
    await rotation.completes()
    status = await rotation.status()
    asked = {gate.gate: {finding.check: finding.verdict for finding in gate.findings} for gate in status.gates}
    for gate in ("preflight", "readiness", "verify", "drain"):
        assert asked[gate][CONNECTED] is Verdict.PASS, gate
    assert asked["preflight"][TRUSTED] is Verdict.PASS
    assert stage.lab.post("/lab/settle")["violations"] == []


async def test_a_trunk_that_its_other_side_loses_turns_the_rotation_back(stage: Stage) -> None:
    rotation = await stage.start()
    await rotation.reaches("SOAK")
    stage.lab.post("/lab/observer", {"connected": False})
    error = await rotation.fails()
    assert error.type == "RolledBack"
    assert f"genesys: {CONNECTED}: SBC: disconnected since " in error.message
    await assert_a_alone_and_b_gone(stage, rotation)


async def test_a_root_that_the_other_side_does_not_trust_lets_nothing_begin(stage: Stage) -> None:
    stage.lab.post("/lab/observer", {"trusts": False})
    rotation = await stage.start()
    error = await rotation.fails()
    assert error.type == "Aborted"
    assert TRUSTED in error.message
    assert stage.lab.as_found()
