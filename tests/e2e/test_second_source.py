"""A second source that counts our side: believed where the plan says so, and never contradicted in silence."""

from __future__ import annotations

from domain.gates import Verdict
from domain.handshakes import Reading, Tally
from tests.e2e.stage import LabProcess, Stage, staged
from tests.e2e.tampering import Call, TamperedAdapters

SECOND = ('carrier = "carrier-lab"', 'carrier = "carrier-lab"\nmetrics = "datadog-lab"')
BELIEVED = (SECOND[0], f'{SECOND[1]}\nauthority = {{ verify = "metrics", adopt = "metrics" }}')
SOON_UNDECIDED = ('overlap = "8s"', 'overlap = "8s"\nsoak_grace = "2s"')


async def _darker(call: Call) -> Reading:
    """What the source told, with a tenth of the successes called failures."""
    reading: Reading = await call()
    darker = (one.model_copy(update={"handshakes": _tenth_lost(one.handshakes)}) for one in reading.samples)
    return reading.model_copy(update={"samples": tuple(darker)})


def _tenth_lost(tally: Tally) -> Tally:
    lost = tally.successes // 10
    failures = {**tally.failures, "other": tally.failures.get("other", 0) + lost}
    return Tally(attempts=tally.attempts, successes=tally.successes - lost, failures=failures)


async def test_a_rotation_completes_on_the_figures_of_the_source_that_the_plan_believes(stage: Stage) -> None:
    rotation = await stage.start(stage.plan(BELIEVED))
    await rotation.completes()
    status = await rotation.status()
    by_name = {gate.gate: gate for gate in status.gates}
    [preflight] = [gate for gate in status.gates if gate.gate == "preflight"]
    assert any(f.check == "second source" and "[metrics.datadog-lab]" in f.seen for f in preflight.findings)
    assert by_name["verify"].verdict is Verdict.PASS
    assert by_name["verify"].overridden_by is None


async def test_a_source_that_contradicts_leaves_the_gate_undecided_until_a_person_decides(
    temporal: str, lab: LabProcess
) -> None:
    async with staged(temporal, lab, build=TamperedAdapters) as stage:
        assert isinstance(stage.adapters, TamperedAdapters)
        stage.adapters.rules["metric_source.samples"] = _darker
        rotation = await stage.start(stage.plan(SECOND, SOON_UNDECIDED))
        status = await rotation.shows(lambda s: s.waiting and s.waiting.gate == "soak", "SOAK undecided")
        assert status.waiting is not None
        assert "genesys-lab against datadog-lab" in status.waiting.what
        assert "the shares of successes differ by more than 1.00 %" in status.waiting.what
        await rotation.handle.signal("rollback", {"by": "ann", "reason": "find out who is right"})
        assert (await rotation.fails()).type == "RolledBack"
