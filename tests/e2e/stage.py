"""The stage of an end-to-end test: a real Temporal server, the lab as its own process, a worker, and one plan."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
import tomllib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from adapters.probe.base import ProbeTarget
from adapters.registry import Adapters
from codec.encryption import EncryptionCodec, data_converter, load_keyring
from connection import TASK_QUEUE
from domain.plan import Plan, parse_plan
from settings import Settings, load_settings
from worker import build_worker
from workflows.attributes import initial
from workflows.messages import Evidence, LeftoverChoice, RotationRequest, RotationStatus, RotationSummary
from workflows.rotation import CertificateRotation

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 150.0
"""How long a condition may take before a test fails; no test is judged by its speed."""


@dataclass
class LabProcess:
    """One running lab: `python -m lab run` and its control API."""

    directory: Path
    process: subprocess.Popen[bytes]
    facts: dict[str, Any]
    http: httpx.Client = field(repr=False)

    def get(self, path: str) -> Any:
        """A GET on the control API."""
        answer = self.http.get(path)
        answer.raise_for_status()
        return answer.json()

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """A POST on the control API."""
        answer = self.http.post(path, json=body or {})
        answer.raise_for_status()
        return answer.json()

    def as_found(self) -> bool:
        """True when both trunks serve A alone and no call was lost, as at the start."""
        trunks = self.get("/lab/state")["trunks"].values()
        return all(trunk["pool"] == [self.facts["certificate_a"]] and not trunk["calls"]["lost"] for trunk in trunks)

    def calm(self) -> None:
        """Ends every fault."""
        for name, fault in self.get("/lab/faults").items():
            if fault["armed"]:
                self.fault(name, on=False)

    def fault(self, name: str, on: bool = True) -> None:
        """Arms or disarms a fault."""
        self.post("/lab/faults", {"name": name, "on": on})


@contextlib.contextmanager
def running_lab(directory: Path, *arguments: str) -> Iterator[LabProcess]:
    """The lab, started and stopped by its own pid."""
    directory.mkdir(parents=True, exist_ok=True)
    log = (directory / "lab.log").open("wb")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "lab",
            "run",
            "--directory",
            str(directory),
            "--speed",
            "test",
            "--call-rate",
            "10",
            *arguments,
        ],
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    try:
        ready = directory / "lab.json"
        limit = time.monotonic() + PATIENCE_S
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > limit:
                raise RuntimeError(f"the lab did not start:\n{(directory / 'lab.log').read_text()[-3000:]}")
            time.sleep(0.05)
        facts = json.loads(ready.read_text())
        with httpx.Client(base_url=facts["control"], timeout=30) as http:
            yield LabProcess(directory, process, facts, http)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


async def until(condition: Callable[[], Awaitable[Any]], what: str, patience_s: float = PATIENCE_S) -> Any:
    """Waits for a condition and returns its truthy value; fails with `what` after the patience."""
    limit = time.monotonic() + patience_s
    while True:
        value = await condition()
        if value:
            return value
        if time.monotonic() > limit:
            raise AssertionError(f"waited {patience_s:.0f} s in vain for: {what}")
        await asyncio.sleep(0.05)


@dataclass
class Rotation:
    """One rotation under test."""

    handle: WorkflowHandle[Any, RotationSummary]
    client: Client

    async def status(self) -> RotationStatus:
        """The query `status`."""
        return await self.handle.query(CertificateRotation.status)

    async def evidence(self) -> Evidence:
        """The query `evidence`."""
        return await self.handle.query(CertificateRotation.evidence)

    async def reaches(self, phase: str, patience_s: float = PATIENCE_S) -> RotationStatus:
        """The status once the phase was entered."""

        async def entered() -> RotationStatus | None:
            status = await self.status()
            if any(time.phase == phase for time in status.phases):
                return status
            if status.failure is not None:
                raise AssertionError(f"it ended before {phase}: {status.failure}")
            return None

        return await until(entered, f"phase {phase}", patience_s)

    async def shows(self, condition: Callable[[RotationStatus], Any], what: str) -> RotationStatus:
        """The status once it fulfils a condition."""

        async def seen() -> RotationStatus | None:
            status = await self.status()
            if condition(status):
                return status
            assert status.failure is None, f"it ended before {what}: {status.failure}"
            return None

        return await until(seen, what)

    async def completes(self) -> RotationSummary:
        """The result of a rotation that succeeds."""
        async with asyncio.timeout(PATIENCE_S * 2):
            return await self.handle.result()

    async def fails(self) -> ApplicationError:
        """The typed error of a rotation that ends as failed."""
        with pytest.raises(WorkflowFailureError) as failed:
            async with asyncio.timeout(PATIENCE_S * 2):
                await self.handle.result()
        cause = failed.value.cause
        assert isinstance(cause, ApplicationError), cause
        return cause

    async def history_json(self) -> str:
        """The whole history as JSON."""
        return (await self.handle.fetch_history()).to_json()


@dataclass
class Stage:
    """Everything a test needs to run rotations against one lab."""

    client: Client
    lab: LabProcess
    settings: Settings
    adapters: Adapters
    plan_text: str
    _started: list[Rotation] = field(default_factory=list)

    def plan(self, *changes: tuple[str, str], name: str | None = None) -> Plan:
        """The lab's plan under a name of its own, with textual changes `(old, new)`; each must apply."""
        text = self.plan_text
        given = tomllib.loads(text)["name"]
        text = text.replace(f'name = "{given}"', f'name = "{name or f"lab-{uuid.uuid4().hex[:8]}"}"', 1)
        for old, new in changes:
            assert old in text, f"{old!r} is not in the lab's plan"
            text = text.replace(old, new)
        return parse_plan(text)

    async def start(self, plan: Plan | None = None, leftovers: LeftoverChoice = LeftoverChoice.REFUSE) -> Rotation:
        """Starts a rotation as `starter.py start` does."""
        plan = plan or self.plan()
        handle = await self.client.start_workflow(
            CertificateRotation.run,
            RotationRequest(plan=plan, started_by="test", leftovers=leftovers),
            id=f"rotation-{plan.name}",
            task_queue=TASK_QUEUE,
            task_timeout=timedelta(seconds=5),
            search_attributes=initial(plan),
        )
        rotation = Rotation(handle, self.client)
        self._started.append(rotation)
        return rotation

    async def leaf_served(self) -> str:
        """PEM of the leaf that the first node of the first endpoint serves now."""
        endpoint = self.plan().endpoints[0]
        node = endpoint.nodes[0]
        probe = await self.adapters.prober().probe(
            ProbeTarget(address=node.address, port=node.port, server_name=endpoint.fqdn, identity=endpoint.fqdn)
        )
        assert probe.leaf_pem is not None
        return probe.leaf_pem

    async def end(self) -> None:
        """Terminates what a failed test left running."""
        for rotation in self._started:
            description = await rotation.handle.describe()
            if description.close_time is None:
                await rotation.handle.terminate("end of the test")


@contextlib.asynccontextmanager
async def staged(
    temporal_address: str,
    lab: LabProcess,
    settings_file: Path | None = None,
    *,
    build: Callable[[Settings], Adapters] = Adapters,
) -> AsyncIterator[Stage]:
    """A stage with a worker in this process; `settings_file` stands in for the lab's own, `build` for the registry."""
    settings = load_settings(settings_file or lab.directory / "settings.toml")
    converter = data_converter(EncryptionCodec(load_keyring(settings.codec)))
    client = await Client.connect(temporal_address, data_converter=converter)
    adapters = build(settings)
    stage = Stage(client, lab, settings, adapters, (lab.directory / "plan.toml").read_text())
    try:
        async with _running(build_worker(client, adapters)):
            try:
                yield stage
            finally:
                await stage.end()
    finally:
        await adapters.close()


@contextlib.asynccontextmanager
async def _running(worker: Worker) -> AsyncIterator[None]:
    """A worker that polls. The SDK waits without limit for a workflow whose thread was interrupted; a test does not."""
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        ending = asyncio.create_task(worker.shutdown())
        done, _ = await asyncio.wait([ending], timeout=PATIENCE_S)
        if not done:
            raise AssertionError(f"the worker did not end within {PATIENCE_S:.0f} s: a workflow's thread holds it up")
        await running
