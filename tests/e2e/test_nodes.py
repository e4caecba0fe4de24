"""Two nodes behind one endpoint: one goes away and comes back with what it had when it left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from desk.looks import looks_of
from domain.phases import Phase
from tests.e2e.stage import LabProcess, Rotation, Stage, running_lab, until
from tests.e2e.test_rolling_back import assert_a_alone_and_b_gone

pytestmark = pytest.mark.durability

PATIENT = ('action_deadline = "20s"', 'action_deadline = "2m"\ndrain_deadline = "3s"')


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[LabProcess]:
    """A lab whose Genesys trunk answers on two nodes."""
    with running_lab(tmp_path / "a lab", "--nodes", "2") as process:
        yield process


def second_node(lab: LabProcess, **change: object) -> None:
    lab.post("/lab/node", {"trunk": "genesys", "node": "genesys-2", **change})


def address(lab: LabProcess) -> str:
    """The second node's address, as the plan writes it."""
    return f"127.0.0.1:{lab.facts['trunks']['genesys']['node_ports'][1]}"


async def says(stage: Stage, rotation: Rotation, words: str) -> None:
    """Returns once an activity that is repeated has said these words."""

    async def look() -> bool:
        looks = await looks_of(await rotation.handle.describe(), stage.client.data_converter)
        return any(words in (look.said or "") for look in looks)

    await until(look, f"an activity that says {words!r}")


async def test_a_node_that_goes_away_in_the_overlap_blocks_the_removal_by_name_until_it_is_back(stage: Stage) -> None:
    lab, sha256_a = stage.lab, stage.lab.facts["certificate_a"]
    rotation = await stage.start(stage.plan(PATIENT))
    await rotation.reaches("OVERLAP")
    second_node(lab, up=False)

    status = await rotation.shows(
        lambda s: s.waiting is not None and address(lab) in s.waiting.what, "the node that is waited for"
    )
    assert status.phase is Phase.DRAIN
    assert status.waiting is not None
    assert "nobody can override" in status.waiting.what
    assert not status.a_revoked
    assert any(alert.kind == "inconclusive" and address(lab) in alert.summary for alert in status.alerts)

    async def alerted() -> bool:
        return any(
            alert["kind"] == "inconclusive" and address(lab) in alert["summary"]
            for alert in lab.get("/lab/inbox")["alerts"]
        )

    await until(alerted, "an alert that names the node")
    for trunk in lab.get("/lab/state")["trunks"].values():
        assert sha256_a in trunk["pool"]

    second_node(lab, up=True, resync_after_s=2)
    await rotation.completes()
    status = await rotation.status()
    assert status.b is not None
    assert status.a_revoked
    final = lab.post("/lab/settle")
    assert [node["pool"] for node in final["trunks"]["genesys"]["nodes"]] == [[status.b.sha256]] * 2
    assert final["violations"] == []


async def test_a_node_that_left_with_a_alone_blocks_the_removal_until_it_has_taken_b(stage: Stage) -> None:
    """It is back in the middle of the overlap, answers every probe, and would go on serving A for ever."""
    lab, sha256_a = stage.lab, stage.lab.facts["certificate_a"]
    rotation = await stage.start(stage.plan(PATIENT, ("prefer = false", "prefer = true")))
    await rotation.shows(lambda s: s.waiting and s.waiting.gate == "prefer", "the approval `prefer`")
    second_node(lab, up=False)
    second_node(lab, up=True, resync_after_s=None)
    await rotation.handle.signal("approve", {"gate": "prefer", "by": "ann"})
    # what is preferred is probed on every node: PREFER waits for the one that still prefers A
    await says(stage, rotation, "another certificate than its pool says")
    assert (await rotation.status()).phase is Phase.PREFER
    nodes = lab.get("/lab/state")["trunks"]["genesys"]["nodes"]
    assert [node["stale"] for node in nodes] == [False, True]
    assert nodes[1]["pool"][0] == sha256_a
    second_node(lab, resync=True)
    await rotation.reaches("OVERLAP")
    await rotation.handle.signal("rollback", {"by": "ann", "reason": "end of the test"})
    assert (await rotation.fails()).type == "RolledBack"
    await assert_a_alone_and_b_gone(stage, rotation)


async def test_a_rollback_past_a_node_that_comes_back_with_b_preferred_ends_in_a_alone_on_both(stage: Stage) -> None:
    lab, sha256_a = stage.lab, stage.lab.facts["certificate_a"]
    rotation = await stage.start(stage.plan(('overlap = "8s"', 'overlap = "10m"')))
    status = await rotation.reaches("OVERLAP")
    assert status.b is not None
    second_node(lab, up=False)
    await rotation.handle.signal("rollback", {"by": "ann", "reason": "a node is down"})

    # A stands alone where it can be read, inside the budget, and people hear of the node that could not be
    status = await rotation.shows(lambda s: s.rollback and s.rollback.a_alone_seconds is not None, "A alone")
    assert status.rollback is not None
    assert status.rollback.a_alone_seconds is not None
    assert status.rollback.a_alone_seconds < 30
    assert status.rollback.unread == (f"genesys {address(lab)}",)
    assert any(alert.kind == "nodes_unread" and address(lab) in alert.summary for alert in status.alerts)

    # it is back with B preferred: B must not be deleted under it
    assert status.b is not None
    await says(stage, rotation, "could not be probed")
    second_node(lab, up=True, resync_after_s=None)
    assert lab.get("/lab/state")["trunks"]["genesys"]["nodes"][1]["pool"] == [status.b.sha256, sha256_a]
    await says(stage, rotation, "another certificate than its pool says")
    assert await stage.adapters.edge("genesys-lab").find_certificate(status.b.sha256) is not None

    second_node(lab, resync=True)
    assert (await rotation.fails()).type == "RolledBack"
    await assert_a_alone_and_b_gone(stage, rotation)
    final = lab.post("/lab/settle")
    assert [node["pool"] for node in final["trunks"]["genesys"]["nodes"]] == [[sha256_a]] * 2
    assert final["violations"] == []
