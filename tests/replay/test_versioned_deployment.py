"""Versioned deployment: a rotation stays with the version it began on, and new ones begin on the current one."""

from __future__ import annotations

from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from tests.e2e.stage import Rotation, Stage, until
from tests.replay.next_version import ROOT, UNGUARDED, next_version
from tests.replay.test_version_change import LONG_OVERLAP
from tests.replay.worker_processes import Workers
from worker import DEPLOYMENT

pytestmark = pytest.mark.durability


async def test_a_rotation_stays_with_its_version_while_new_ones_begin_on_the_current_one(
    stage: Stage, workers: Workers, tmp_path: Path
) -> None:
    """The change of the second version has no guard, and needs none: it never meets a rotation of the first."""
    await workers.start(ROOT, build_id="1")
    await _make_current(stage.client, "1")
    first = await stage.start(stage.plan(LONG_OVERLAP))
    await first.reaches("OVERLAP")

    await workers.start(next_version(tmp_path / "next", UNGUARDED), build_id="2")
    await _make_current(stage.client, "2")
    second = await stage.start()
    assert (await second.fails()).type == "Aborted"  # the first holds the lease
    assert await _versions(second) == {"2"}

    await first.handle.signal("rollback", {"by": "ann", "reason": "on its own version"})
    assert (await first.fails()).type == "RolledBack"
    assert await _versions(first) == {"1"}


async def _make_current(client: Client, build_id: str) -> None:
    async def made() -> bool:
        try:
            await client.workflow_service.set_worker_deployment_current_version(
                SetWorkerDeploymentCurrentVersionRequest(
                    namespace=client.namespace, deployment_name=DEPLOYMENT, build_id=build_id, identity="test"
                )
            )
        except RPCError:
            return False
        return True

    await until(made, f"version {build_id} to become current")


async def _versions(rotation: Rotation) -> set[str]:
    """Build ids of the workers that worked on the rotation; no workflow task of it failed."""
    history = await rotation.handle.fetch_history()
    kinds = [event.event_type for event in history.events]
    assert EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED not in kinds
    return {
        event.workflow_task_completed_event_attributes.deployment_version.build_id
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED
    }
