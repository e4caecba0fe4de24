"""A clock that is off by ten minutes: nothing goes on by figures of another time, and all goes on when it is right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from domain.gates import Verdict
from domain.phases import Phase
from tests.e2e.stage import LabProcess, Stage

pytestmark = pytest.mark.durability


@pytest.fixture
def lab(lab: LabProcess) -> Iterator[LabProcess]:
    """The usual lab; its clocks are right again at the end."""
    yield lab
    for service in ("genesys", "cxone", "carrier"):
        lab.post("/lab/clock", {"service": service, "ahead_s": 0})
    lab.post("/lab/ntp", {"ahead_s": 0})


@pytest.mark.parametrize(("service", "ahead_s", "words"), [("genesys", 600, "in the future"), ("cxone", -600, "s old")])
async def test_a_platform_whose_clock_is_off_freezes_the_advance_until_it_is_right(
    stage: Stage, service: str, ahead_s: int, words: str
) -> None:
    rotation = await stage.start()
    await rotation.reaches("SOAK")
    stage.lab.post("/lab/clock", {"service": service, "ahead_s": ahead_s})
    status = await rotation.shows(lambda s: s.frozen, "the advance frozen")
    assert status.frozen is not None
    assert service in status.frozen
    assert words in status.frozen
    assert any(alert.kind == "blind" for alert in status.alerts)
    assert status.phase in (Phase.SOAK, Phase.APPROVE_PREFER)
    pools = {name: trunk["pool"] for name, trunk in stage.lab.get("/lab/state")["trunks"].items()}

    # the soak time passes, and more: the gate does not
    soaked = await rotation.shows(lambda s: s.frozen and s.waiting, "what it waits for")
    assert not any(gate.gate == "verify" for gate in soaked.gates)
    assert {name: trunk["pool"] for name, trunk in stage.lab.get("/lab/state")["trunks"].items()} == pools

    stage.lab.post("/lab/clock", {"service": service, "ahead_s": 0})
    await rotation.shows(lambda s: not s.frozen, "the advance free again")
    await rotation.completes()
    status = await rotation.status()
    assert [alert.kind for alert in status.alerts if alert.kind in ("blind", "watching_again")][-1] == "watching_again"
    assert stage.lab.get("/lab/state")["violations"] == []


@pytest.mark.parametrize("ahead_s", [600, -600])
async def test_a_carrier_whose_clock_is_off_decides_nothing_until_it_is_right(stage: Stage, ahead_s: int) -> None:
    rotation = await stage.start(
        stage.plan(("prefer = false", "prefer = true"), ('overlap = "8s"', 'overlap = "8s"\nverify_deadline = "3s"'))
    )
    await rotation.shows(lambda s: s.waiting and s.waiting.gate == "prefer", "the approval `prefer`")
    stage.lab.post("/lab/clock", {"service": "carrier", "ahead_s": ahead_s})
    await rotation.handle.signal("approve", {"gate": "prefer", "by": "ann"})
    status = await rotation.shows(lambda s: s.waiting and s.waiting.gate == "verify", "VERIFY undecided")
    result = next(gate for gate in status.gates if gate.gate == "verify")
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "carrier figures" in result.reason
    assert any(alert.kind == "inconclusive" and "carrier figures" in alert.summary for alert in status.alerts)

    stage.lab.post("/lab/clock", {"service": "carrier", "ahead_s": 0})
    await rotation.completes()
    status = await rotation.status()
    verify = next(gate for gate in reversed(status.gates) if gate.gate == "verify")
    assert (verify.verdict, verify.overridden_by) == (Verdict.PASS, None)


async def test_a_drift_beyond_five_minutes_is_refused_before_anything_is_changed(stage: Stage) -> None:
    stage.lab.post("/lab/clock", {"service": "carrier", "ahead_s": 432})
    rotation = await stage.start()
    failed = await rotation.fails()
    assert failed.type == "Aborted"
    words = "genesys: clock of the carrier: the carrier's clock (carrier-lab) is 7 min 12 s ahead of NTP"
    assert words in str(failed)
    assert "have the carrier synchronise its SIP proxies by NTP" in str(failed)
    status = await rotation.status()
    [preflight] = status.gates
    refused = {finding.check for finding in preflight.findings if finding.verdict is Verdict.FAIL}
    assert refused == {"clock of the carrier"}
    assert stage.lab.as_found()


async def test_a_drift_beyond_90_seconds_is_told_and_the_rotation_goes_on(stage: Stage) -> None:
    stage.lab.post("/lab/ntp", {"ahead_s": 100})
    rotation = await stage.start()
    status = await rotation.reaches("ISSUE")
    [alert] = [alert for alert in status.alerts if alert.kind == "preflight_warning"]
    for whose in ("worker's clock", "platform's clock (genesys-lab)", "carrier's clock (carrier-lab)"):
        assert f"the {whose} is 100 s behind NTP" in alert.summary
    preflight = next(gate for gate in status.gates if gate.gate == "preflight")
    assert preflight.verdict is Verdict.PASS
    assert len(preflight.warnings) == 5, "of the worker, two platforms, and the carrier of two trunks"
    await rotation.shows(lambda s: any(a.kind == alert.kind and a.delivered for a in s.alerts), "the alert delivered")
    assert "preflight_warning" in {one["kind"] for one in stage.lab.get("/lab/inbox")["alerts"]}
