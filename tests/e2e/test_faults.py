"""What others shipped broken: each fault of the lab, and what the rotation makes of it."""

from __future__ import annotations

from domain.gates import Verdict
from domain.guard import GuardVerdict
from domain.phases import Phase
from tests.e2e.stage import Rotation, Stage, until
from tests.e2e.test_rolling_back import assert_a_alone_and_b_gone


async def test_a_carrier_that_distrusts_b_turns_the_rotation_back_and_loses_no_further_call(stage: Stage) -> None:
    stage.lab.fault("carrier-distrusts-b")
    rotation = await stage.start()
    error = await rotation.fails()
    assert error.type == "RolledBack"
    status = await rotation.status()
    assert status.rollback is not None
    assert status.rollback.turn_back.cause in {"breach", "gate failed"}
    assert "unknown_ca" in status.rollback.turn_back.reason
    await assert_a_alone_and_b_gone(stage, rotation)
    lost = _lost(stage)
    placed = _placed(stage)

    async def more_calls() -> bool:
        return _placed(stage) >= placed + 20

    await until(more_calls, "20 more calls")
    assert _lost(stage) == lost
    assert stage.lab.get("/lab/state")["violations"] == []


async def test_b_refused_by_a_share_of_handshakes_turns_back(stage: Stage) -> None:
    stage.lab.fault("b-refused-by-share")
    rotation = await stage.start()
    assert (await rotation.fails()).type == "RolledBack"
    await assert_a_alone_and_b_gone(stage, rotation)


async def test_a_trunk_whose_handshakes_are_fine_and_whose_invites_get_403_does_not_pass(stage: Stage) -> None:
    stage.lab.fault("invites-403")
    rotation = await stage.start()
    error = await rotation.fails()
    assert error.type == "RolledBack"
    assert "call setups" in error.message
    assert "403" in error.message
    await assert_a_alone_and_b_gone(stage, rotation)


async def test_health_that_calls_b_invalid_turns_back_at_readiness(stage: Stage) -> None:
    stage.lab.fault("health-invalid")
    rotation = await stage.start()
    error = await rotation.fails()
    assert error.type == "RolledBack"
    assert "tlsCertificateValidation of B" in error.message
    status = await rotation.status()
    assert not any(time.phase is Phase.SOAK for time in status.phases)
    await assert_a_alone_and_b_gone(stage, rotation)


async def test_empty_metrics_never_pass_a_gate_and_freeze_advance(stage: Stage) -> None:
    stage.lab.fault("metrics-empty")
    rotation = await stage.start(stage.plan())
    status = await rotation.shows(
        lambda s: s.guard is not None and s.guard.verdict is GuardVerdict.BLIND, "the guard to say that it is blind"
    )
    assert status.frozen is not None

    async def alerted() -> bool:
        return "blind" in _alerts(stage, rotation)

    await until(alerted, "the alert `blind`")
    status = await rotation.status()
    assert not any(time.phase in (Phase.APPROVE_PREFER, Phase.PREFER) for time in status.phases)
    assert not any(g.gate == "soak" and g.verdict is Verdict.PASS for g in status.gates)
    stage.lab.fault("metrics-empty", on=False)
    await rotation.completes()
    assert stage.lab.post("/lab/settle")["violations"] == []


async def test_a_failed_removal_of_a_is_loud_and_a_is_not_revoked(stage: Stage) -> None:
    stage.lab.fault("refuse-removal")
    rotation = await stage.start(stage.plan(('action_deadline = "20s"', 'action_deadline = "4s"')))
    error = await rotation.fails()
    assert error.type == "RolledBack"
    assert "remove A from" in error.message
    await assert_a_alone_and_b_gone(stage, rotation)
    status = await rotation.status()
    assert status.a is not None
    spec = stage.plan().certificate
    revocation = await stage.adapters.authority(spec.ca).status(await stage.leaf_served())
    assert revocation.ocsp_revoked is False
    kinds = _alerts(stage, rotation)
    assert "turning_back" in kinds
    assert "completed" not in kinds


async def test_throttled_and_failing_platforms_delay_a_rotation_and_do_not_stop_it(stage: Stage) -> None:
    stage.lab.fault("api-429")
    stage.lab.fault("api-500")
    rotation = await stage.start()
    summary = await rotation.completes()
    assert summary.a_revoked
    final = stage.lab.post("/lab/settle")
    assert final["violations"] == []
    assert {name: trunk["last_losses"] for name, trunk in final["trunks"].items() if trunk["calls"]["lost"]} == {}


def _alerts(stage: Stage, rotation: Rotation) -> list[str]:
    alerts = stage.lab.get("/lab/inbox")["alerts"]
    return [alert["kind"] for alert in alerts if alert["rotation"] == rotation.handle.id]


def _lost(stage: Stage) -> int:
    return sum(trunk["calls"]["lost"] for trunk in stage.lab.get("/lab/state")["trunks"].values())


def _placed(stage: Stage) -> int:
    return sum(trunk["calls"]["placed"] for trunk in stage.lab.get("/lab/state")["trunks"].values())
