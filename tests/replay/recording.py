"""The stage on which histories are recorded: real server, real lab, the product's worker – and plain payloads."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from temporalio.client import Client, WorkflowHandle, WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter

from adapters.registry import Adapters
from connection import polled
from desk.rotations import Rotations
from domain.plan import Plan
from settings import load_settings
from tests.e2e.stage import LabProcess, Rotation, Stage, until
from tests.replay.histories import children
from worker import build_worker
from workflows.messages import LeftoverChoice
from workflows.rotation import CertificateRotation

IDENTITY = "recorder"
"""In place of process id and host name."""

DRY_RUN = "RotationDryRun"


@dataclass
class Recording:
    """One stage, and the executions whose histories are wanted, by the name of the path."""

    stage: Stage
    wanted: dict[str, WorkflowHandle[Any, Any]] = field(default_factory=dict)

    async def start(
        self,
        name: str,
        *changes: tuple[str, str],
        wanted: bool = True,
        leftovers: LeftoverChoice = LeftoverChoice.REFUSE,
    ) -> Rotation:
        """Starts a rotation by the door of the product; `changes` are made to the text of the lab's plan."""
        plan = self.stage.plan(*changes, name=f"replay-{name}")
        started = await Rotations(self.stage.client).start(plan, IDENTITY, leftovers)
        handle = self.stage.client.get_workflow_handle_for(CertificateRotation.run, started.id)
        rotation = Rotation(handle, self.stage.client)
        self.stage._started.append(rotation)
        if wanted:
            self.wanted[name] = handle
        return rotation

    async def dry_run(self, name: str) -> None:
        """A dry run by the door of the product."""
        plan: Plan = self.stage.plan(name=f"replay-{name}")

        async def asked() -> bool:
            async for execution in self.stage.client.list_workflows(f"WorkflowType = '{DRY_RUN}'"):
                self.wanted[name] = self.stage.client.get_workflow_handle(execution.id)
                return True
            return False

        await Rotations(self.stage.client).dry_run(plan, IDENTITY)
        await until(asked, "the dry run to be listed")

    async def histories(self) -> dict[str, WorkflowHistory]:
        """What was asked for."""
        return {name: await handle.fetch_history() for name, handle in self.wanted.items()}

    async def keep_leases_of(self, name: str) -> None:
        """The leases that the rotation held, as histories of their own."""
        history = await self.wanted[name].fetch_history()
        for child in children(history):
            kind = "certificate" if len(child) == len("lease/") + 64 else "trunk"
            handle = self.stage.client.get_workflow_handle(child)

            async def ended(handle: WorkflowHandle[Any, Any] = handle) -> bool:
                return (await handle.describe()).close_time is not None

            await until(ended, f"the end of {child}")
            self.wanted.setdefault(f"lease-of-{kind}", handle)


@contextlib.asynccontextmanager
async def recording(temporal_address: str, lab: LabProcess) -> AsyncIterator[Recording]:
    """A worker in this process; client and worker encrypt nothing (see `tests.replay.histories`)."""
    settings = load_settings(lab.directory / "settings.toml")
    client = await Client.connect(temporal_address, data_converter=pydantic_data_converter, identity=IDENTITY)
    adapters = Adapters(settings)
    stage = Stage(client, lab, settings, adapters, (lab.directory / "plan.toml").read_text())
    try:
        async with build_worker(client, adapters, identity=IDENTITY):
            await until(lambda: polled(client), "the server to know the worker")
            try:
                yield Recording(stage)
            finally:
                await stage.end()
    finally:
        await adapters.close()
