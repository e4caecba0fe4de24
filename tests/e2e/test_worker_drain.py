"""A worker that is asked to end does end, even when something in it does not."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from pathlib import Path

from temporalio.client import Client

from connection import TASK_QUEUE
from tests.e2e.stage import LabProcess
from worker import HELD_UP

ROOT = Path(__file__).parents[2]


async def test_a_worker_whose_workflow_does_not_let_go_of_its_thread_leaves_after_the_drain(
    temporal: str, lab: LabProcess
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.e2e.held_up_worker", "--settings", str(lab.directory / "settings.toml")),
        cwd=ROOT,
        env={**os.environ, "TEMPORAL_ADDRESS": temporal},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    try:
        await process.stdout.readuntil(b"worker ready")
        client = await Client.connect(temporal)
        handle = await client.start_workflow("HeldUp", id=f"held-up-{uuid.uuid4().hex}", task_queue=TASK_QUEUE)
        await process.stdout.readuntil(b"thread held")
        process.send_signal(signal.SIGTERM)
        said = (await process.stdout.read()).decode()
        assert await process.wait() == HELD_UP, said
        assert "held up by a task that does not end" in said
        await handle.terminate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
