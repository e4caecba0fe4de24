"""What a terminated run left is found by the next one and reported, then adopted or cleaned as the operator chooses."""

from __future__ import annotations

import pytest

from adapters.pki.base import RevocationReason
from domain.certificates import facts
from domain.errors import ServerFailed
from domain.phases import Phase
from domain.plan import Plan
from tests.e2e.stage import Rotation, Stage
from tests.e2e.test_rolling_back import assert_a_alone_and_b_gone
from workflows.messages import LeftoverChoice, RotationStatus

LONG = (('overlap = "8s"', 'overlap = "10m"'), ('hold = "1s"', 'hold = "10m"'))
"""Phases in which a run stays until it is terminated."""
SHORT_OVERLAP = (('hold = "1s"', 'hold = "10m"'),)


async def died_in(stage: Stage, phase: Phase) -> tuple[Rotation, RotationStatus]:
    """A run that was terminated by hand in that phase."""
    rotation = await stage.start(stage.plan(*(SHORT_OVERLAP if phase is Phase.HOLD else LONG)))
    status = await rotation.reaches(phase.value)
    await rotation.handle.terminate("by hand")
    return rotation, status


def named(stage: Stage, dead: Rotation, *changes: tuple[str, str]) -> Plan:
    """The plan of that run, again."""
    return stage.plan(*changes, name=dead.handle.id.removeprefix("rotation-"))


async def test_leftovers_are_reported_with_their_run_and_nothing_is_touched(stage: Stage) -> None:
    dead, status = await died_in(stage, Phase.OVERLAP)
    before = stage.lab.get("/lab/state")["trunks"]
    rotation = await stage.start(named(stage, dead))
    error = await rotation.fails()
    assert error.type == "Aborted"
    assert status.run in error.message
    assert "TERMINATED in OVERLAP" in error.message
    assert "key in [keys.vault-kv-lab]" in error.message
    assert "in the pool of genesys" in error.message
    assert "--leftovers adopt" in error.message
    after = stage.lab.get("/lab/state")["trunks"]
    assert {n: t["pool"] for n, t in before.items()} == {n: t["pool"] for n, t in after.items()}
    assert await stage.adapters.custodian("vault-kv-lab").chain(status.run) is not None

    cleaned = await stage.start(named(stage, dead, LONG[0]), LeftoverChoice.CLEAN)
    await cleaned.reaches("BIND")
    await _back(stage, cleaned)
    assert stage.lab.as_found()


@pytest.mark.parametrize("phase", [Phase.UPLOAD, Phase.OVERLAP, Phase.HOLD])
async def test_cleaned_leftovers_are_gone_and_the_rotation_makes_its_own(stage: Stage, phase: Phase) -> None:
    dead, left = await died_in(stage, phase)
    rotation = await stage.start(named(stage, dead, LONG[0]), LeftoverChoice.CLEAN)
    status = await rotation.reaches("READINESS")
    assert status.run != left.run
    preflight = next(gate for gate in status.gates if gate.gate == "preflight")
    assert any(finding.seen.startswith(f"cleaned: {left.run}") for finding in preflight.findings)
    custodian = stage.adapters.custodian("vault-kv-lab")
    assert await custodian.public_key_sha256(left.run) is None
    assert status.a is not None
    assert status.a.sha256 == stage.lab.facts["certificate_a"]
    assert left.b is not None
    assert status.b is not None
    for endpoint in stage.plan().endpoints:
        assert await stage.adapters.edge(endpoint.platform).find_certificate(left.b.sha256) is None
    authority = stage.adapters.authority("vault-lab")
    unrevoked = await authority.find_issued(
        common_name=stage.plan().certificate.common_name, spki_sha256=left.b.spki_sha256
    )
    assert unrevoked == ()
    await _back(stage, rotation)
    await assert_a_alone_and_b_gone(stage, rotation)
    assert stage.lab.get("/lab/state")["violations"] == []


async def test_a_run_that_died_while_it_turned_back_is_cleaned_and_not_adopted(stage: Stage) -> None:
    dead = await stage.start(stage.plan(LONG[0], ('late_request = "1s"', 'late_request = "10m"')))
    await dead.reaches("OVERLAP")
    await dead.handle.signal("rollback", {"by": "ann"})
    left = await dead.shows(lambda s: s.rollback and s.rollback.a_alone_seconds is not None, "A alone")
    await dead.handle.terminate("by hand")
    adopting = await stage.start(named(stage, dead), LeftoverChoice.ADOPT)
    error = await adopting.fails()
    assert "TERMINATED in ROLLING_BACK" in error.message
    assert "cannot be adopted" in error.message
    rotation = await stage.start(named(stage, dead, LONG[0]), LeftoverChoice.CLEAN)
    await rotation.reaches("BIND")
    await _back(stage, rotation)
    await assert_a_alone_and_b_gone(stage, rotation)
    assert await stage.adapters.custodian("vault-kv-lab").public_key_sha256(left.run) is None
    assert stage.lab.as_found()


async def test_what_a_run_that_died_after_hold_had_still_to_do_is_done(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A was out of every pool; revocation and deletion were missing. Its B is the next rotation's A."""

    async def sealed(leaf_pem: str, reason: RevocationReason) -> None:
        raise ServerFailed("the PKI is sealed")

    dead = await stage.start()
    with monkeypatch.context() as patched:
        patched.setattr(stage.adapters.authority("vault-lab"), "revoke", sealed)
        left = await dead.reaches("REVOKE")
        await dead.handle.terminate("by hand")
    rotation = await stage.start(named(stage, dead, LONG[0]), LeftoverChoice.CLEAN)
    status = await rotation.reaches("BIND")
    assert left.a is not None
    assert left.b is not None
    assert status.a is not None
    assert status.a.sha256 == left.b.sha256
    for endpoint in stage.plan().endpoints:
        assert await stage.adapters.edge(endpoint.platform).find_certificate(left.a.sha256) is None
    revoked = next(effect for effect in status.effects if effect.action == "revoke A")
    assert revoked.changed
    assert any(effect.action == "destroy the key of A" for effect in status.effects)
    await _back(stage, rotation)
    assert stage.lab.get("/lab/state")["violations"] == []


@pytest.mark.parametrize("phase", [Phase.UPLOAD, Phase.HOLD])
async def test_an_adopted_run_goes_on_with_the_same_certificate_and_turns_back_to_the_first_baseline(
    stage: Stage, phase: Phase
) -> None:
    dead, left = await died_in(stage, phase)
    rotation = await stage.start(named(stage, dead, LONG[0]), LeftoverChoice.ADOPT)
    status = await rotation.reaches("OVERLAP")
    assert status.run == left.run
    assert status.a is not None
    assert status.a.sha256 == stage.lab.facts["certificate_a"]
    if left.b is not None:
        assert status.b is not None
        assert status.b.sha256 == left.b.sha256
    await _back(stage, rotation)
    await assert_a_alone_and_b_gone(stage, rotation)
    assert stage.lab.as_found()
    assert stage.lab.get("/lab/state")["violations"] == []


@pytest.mark.durability
async def test_an_adopted_run_completes_and_is_no_leftover_of_the_next(stage: Stage) -> None:
    dead, left = await died_in(stage, Phase.OVERLAP)
    rotation = await stage.start(named(stage, dead), LeftoverChoice.ADOPT)
    await rotation.completes()
    status = await rotation.status()
    assert status.run == left.run
    assert status.a_revoked

    # the same plan again, next year: what is served is no leftover, and its key ends with it
    again = await stage.start(named(stage, dead))
    summary = await again.completes()
    second = await again.status()
    assert second.run != left.run
    assert second.a is not None
    assert status.b is not None
    assert second.a.sha256 == status.b.sha256
    custodian = stage.adapters.custodian("vault-kv-lab")
    assert await custodian.chain(left.run) is None, "the key of A was in custody and is destroyed with A"
    kept = await custodian.chain(second.run)
    assert kept is not None
    assert facts(kept).sha256 == summary.sha256_b
    assert stage.lab.get("/lab/state")["violations"] == []


async def _back(stage: Stage, rotation: Rotation) -> None:
    await rotation.handle.signal("rollback", {"by": "ann", "reason": "end of the test"})
    assert (await rotation.fails()).type == "RolledBack"
