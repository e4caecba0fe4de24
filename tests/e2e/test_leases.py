"""One rotation at a time on a trunk and on a certificate A; a holder that is gone holds nothing."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError
from temporalio.exceptions import ApplicationError

from domain.phases import Phase
from domain.plan import Plan
from domain.rotation import lease_id
from tests.e2e.stage import LabProcess, Rotation, Stage, staged, until

HELD = ('overlap = "8s"', 'overlap = "10m"')
"""A rotation that stays in its overlap until the test ends it."""


def one_trunk(plan: Plan, name: str, endpoint: str) -> Plan:
    """The plan for one endpoint alone; the other trunk that presents A is named."""
    others = tuple(one.trunk for one in plan.endpoints if one.name != endpoint)
    certificate = plan.certificate.model_copy(update={"also_used_by": others})
    return plan.model_copy(update={"name": name, "certificate": certificate, "endpoints": (plan.endpoint(endpoint),)})


async def test_a_second_rotation_of_the_same_trunks_is_refused_and_names_the_first(stage: Stage) -> None:
    first = await stage.start(stage.plan(HELD))
    await first.reaches("BIND")
    second = await stage.start(stage.plan())
    error = await second.fails()
    assert error.type == "Aborted"
    assert f"held by {first.handle.id} (in " in error.message
    assert (await second.status()).effects == ()
    await _back(first)


async def test_a_lease_is_on_the_physical_trunk_and_not_on_the_name_of_a_profile(
    temporal: str, lab: LabProcess, tmp_path: Path
) -> None:
    """Another profile for the same API: the trunk is the same."""
    settings = tmp_path / "settings.toml"
    text = (lab.directory / "settings.toml").read_text()
    start, end = text.index("[platforms.genesys-lab]"), text.index("[platforms.cxone-lab]")
    settings.write_text(text + text[start:end].replace("genesys-lab", "other-name"))
    async with staged(temporal, lab, settings) as stage:
        first = await stage.start(stage.plan(HELD))
        await first.reaches("BIND")
        second = await stage.start(stage.plan(("genesys-lab", "other-name")))
        error = await second.fails()
        assert error.type == "Aborted"
        assert f"held by {first.handle.id}" in error.message
        await _back(first)


async def test_of_two_concurrent_starts_one_wins_and_the_other_names_it(stage: Stage) -> None:
    one, two = await asyncio.gather(stage.start(stage.plan(HELD)), stage.start(stage.plan(HELD)))

    async def decided() -> tuple[Rotation, Rotation] | None:
        for loser, winner in ((one, two), (two, one)):
            if (await loser.handle.describe()).close_time is not None:
                return loser, winner
        return None

    loser, winner = await until(decided, "one of both to be refused")
    error = await loser.fails()
    assert error.type == "Aborted"
    assert f"held by {winner.handle.id}" in error.message
    await winner.reaches("BIND")
    await _back(winner)


async def test_a_certificate_is_leased_as_well_as_the_trunks(stage: Stage) -> None:
    """Another trunk, the same A: refused by the lease on A."""
    first = await stage.start(one_trunk(stage.plan(HELD), f"one-{uuid.uuid4().hex[:8]}", "genesys"))
    await first.reaches("BIND")
    second = await stage.start(one_trunk(stage.plan(HELD), f"two-{uuid.uuid4().hex[:8]}", "cxone"))
    error = await second.fails()
    assert error.type == "Aborted"
    assert "lease on A: held by " + first.handle.id in error.message
    assert "lease on the trunk" not in error.message
    await _back(first)


async def test_a_holder_that_was_terminated_frees_its_leases_at_once(stage: Stage) -> None:
    first = await stage.start(stage.plan(HELD))
    await first.shows(lambda s: any(g.gate == "preflight" for g in s.gates), "PREFLIGHT to be over")
    physical = stage.adapters.edge("genesys-lab").physical_trunk(stage.plan().endpoint("genesys").trunk)
    lease = stage.client.get_workflow_handle(lease_id(physical))
    assert (await lease.describe()).parent_id == first.handle.id
    await first.handle.terminate("by hand")

    async def free() -> bool:
        return (await lease.describe()).status is WorkflowExecutionStatus.TERMINATED

    await until(free, "the lease to end with its holder")


@pytest.mark.durability
async def test_a_lease_that_a_reset_left_behind_is_freed_by_the_next_rotation(stage: Stage) -> None:
    """The server leaves children of a reset run alone: nobody would ever end them."""
    plan = stage.plan(HELD)
    first = await stage.start(plan)
    await first.reaches("OVERLAP")
    await _reset_to_the_beginning(stage, first)
    again = Rotation(stage.client.get_workflow_handle(first.handle.id), stage.client)
    status = await again.reaches("OVERLAP")
    preflight = next(gate for gate in status.gates if gate.gate == "preflight")
    leftovers = next(finding for finding in preflight.findings if finding.check == "leftovers of earlier runs")
    assert leftovers.seen.startswith("adopted: ")
    await again.handle.signal("rollback", {"by": "ann"})
    with pytest.raises(WorkflowFailureError) as failed:
        await again.handle.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "RolledBack"
    assert stage.lab.as_found()

    second = await stage.start(stage.plan())
    await second.completes()


async def _reset_to_the_beginning(stage: Stage, rotation: Rotation) -> None:
    run = (await rotation.handle.describe()).run_id
    await stage.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=stage.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=rotation.handle.id, run_id=run),
            reason="by hand",
            workflow_task_finish_event_id=4,
            request_id=str(uuid.uuid4()),
        )
    )


async def _back(rotation: Rotation) -> None:
    await rotation.handle.signal("rollback", {"by": "ann", "reason": "end of the test"})
    assert (await rotation.fails()).type == "RolledBack"
    assert (await rotation.status()).phase is Phase.ROLLED_BACK
