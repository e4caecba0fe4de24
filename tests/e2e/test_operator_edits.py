"""An operator edits a trunk in the platform's own pages while a rotation writes it: both survive."""

from __future__ import annotations

from typing import Any

from tests.e2e.stage import LabProcess, Stage
from tests.e2e.test_rolling_back import assert_a_alone_and_b_gone


def edit(lab: LabProcess, trunk: str, *, before_next_put: bool = False, **changes: Any) -> None:
    """As an operator would: now, or between the next writer's read and its write."""
    lab.post("/lab/operator-edit", {"trunk": trunk, "changes": changes, "before_next_put": before_next_put})


def settings(lab: LabProcess, trunk: str) -> dict[str, Any]:
    found: dict[str, Any] = lab.get("/lab/state")["trunks"][trunk]["settings"]
    return found


def conflicts(lab: LabProcess) -> dict[str, int]:
    """How many writes each platform has refused for a stale version."""
    counts = lab.get("/lab/state")["api_requests"]
    return {name: counts.get(name, {}).get("409", 0) for name in ("genesys", "cxone")}


async def test_edits_before_and_between_the_writes_of_a_rotation_survive_to_its_end(stage: Stage) -> None:
    lab, before = stage.lab, conflicts(stage.lab)
    edit(lab, "genesys", before_next_put=True, maxConcurrentCalls=321)
    edit(lab, "cxone", before_next_put=True, tags=["edited", "in BIND"])
    rotation = await stage.start()
    await rotation.reaches("OVERLAP")
    assert conflicts(lab) == {name: count + 1 for name, count in before.items()}
    edit(lab, "genesys", inboundSite="site-of-the-overlap")
    edit(lab, "cxone", before_next_put=True, routingProfile="edited before REMOVE")
    await rotation.completes()
    assert conflicts(lab) == {"genesys": before["genesys"] + 1, "cxone": before["cxone"] + 2}

    status = await rotation.status()
    assert status.b is not None
    state = lab.get("/lab/state")
    assert [trunk["pool"] for trunk in state["trunks"].values()] == [[status.b.sha256]] * 2
    genesys, cxone = settings(lab, "genesys"), settings(lab, "cxone")
    assert (genesys["maxConcurrentCalls"], genesys["inboundSite"]) == (321, "site-of-the-overlap")
    assert (cxone["tags"], cxone["routingProfile"]) == (["edited", "in BIND"], "edited before REMOVE")
    assert state["violations"] == []


async def test_edits_survive_a_rollback_that_they_get_in_the_way_of(stage: Stage) -> None:
    lab = stage.lab
    rotation = await stage.start(stage.plan(('overlap = "8s"', 'overlap = "10m"')))
    await rotation.reaches("OVERLAP")
    before = conflicts(lab)
    edit(lab, "genesys", maxConcurrentCalls=77)
    for trunk in ("genesys", "cxone"):
        edit(lab, trunk, before_next_put=True, name=f"EDITED-{trunk}")
    await rotation.handle.signal("rollback", {"by": "ann", "reason": "test"})
    assert (await rotation.fails()).type == "RolledBack"
    assert conflicts(lab) == {name: count + 1 for name, count in before.items()}
    await assert_a_alone_and_b_gone(stage, rotation)
    status = await rotation.status()
    assert status.rollback is not None
    assert status.rollback.a_alone_seconds is not None
    assert status.rollback.a_alone_seconds < 30
    assert settings(lab, "genesys")["maxConcurrentCalls"] == 77
    assert [settings(lab, trunk)["name"] for trunk in ("genesys", "cxone")] == ["EDITED-genesys", "EDITED-cxone"]
    assert lab.get("/lab/state")["violations"] == []
