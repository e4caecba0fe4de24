"""The command line against a real Temporal server, with a stand-in for the workflow behind it."""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import Result
from temporalio.client import Client
from temporalio.worker import Worker

from connection import TASK_QUEUE, connect, polled
from desk.failures import Refused
from desk.rotations import Rotations
from settings import load_settings
from tests.desk.conftest import Run
from tests.desk.stand_in import StandIn, StandInDryRun

Say = Callable[..., "asyncio.Future[Result]"]


def change_key(settings_file: Path, key_id: str) -> None:
    """Another key, under this id."""
    settings_file.with_name("codec.key").write_text(base64.b64encode(b"x" * 32).decode())
    settings_file.write_text(settings_file.read_text().replace("k1", key_id))


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Waits for a condition that comes soon."""
    for _ in range(300):
        if await condition():
            return
        await asyncio.sleep(0.1)
    raise AssertionError("it did not come within 30 s")


async def _answered(rotations: Rotations, name: str) -> bool:
    try:
        return (await rotations.report(name)).status is not None
    except Refused:
        return False


@asynccontextmanager
async def working(settings_file: Path) -> AsyncIterator[Client]:
    """A worker with the stand-ins that the server has heard of; answers are encrypted as in production."""
    client = await connect(load_settings(settings_file))
    async with Worker(client, task_queue=TASK_QUEUE, workflows=[StandIn, StandInDryRun]):
        await until(lambda: polled(client))
        yield client


@pytest.fixture
async def worker(temporal: str, settings_file: Path, run: Run) -> AsyncIterator[None]:
    """A worker, ready."""
    async with working(settings_file):
        yield


@pytest.fixture
def say(run: Run) -> Callable[..., object]:
    """Runs the command line beside this test's own event loop."""

    async def invoke(*arguments: str) -> Result:
        return await asyncio.to_thread(run, *arguments)

    return invoke


@pytest.fixture
def plan(write_plan: Callable[..., str]) -> tuple[str, str]:
    """A plan of its own: its name and its file."""
    name = f"east-{uuid.uuid4().hex[:6]}"
    return name, write_plan(('name = "east-2026"', f'name = "{name}"'))


class TestWithoutWorker:
    def test_start_says_that_nobody_polls_the_task_queue(self, run: Run, temporal: str, plan: tuple[str, str]) -> None:
        for verb in (("start",), ("start", "--wait"), ("plan",)):
            result = run(*verb, plan[1])
            assert result.exit_code == 5
            assert "no worker polls the task queue" in result.stderr
        assert run("list", "--json").stdout.strip() == "[]"

    def test_a_namespace_that_does_not_exist_is_named(
        self, run: Run, temporal: str, plan: tuple[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TEMPORAL_NAMESPACE", "nowhere")
        for verb in (("list",), ("status", "x"), ("rollback", "x"), ("start", plan[1])):
            result = run(*verb)
            assert result.exit_code == 5, result.stderr
            assert "nowhere" in result.stderr
            assert "TEMPORAL_NAMESPACE" in result.stderr

    def test_an_unknown_rotation_is_refused(self, run: Run, temporal: str) -> None:
        for verb in (("status", "x"), ("approve", "x", "prefer"), ("rollback", "x")):
            result = run(*verb)
            assert result.exit_code == 6
            assert "no such rotation" in result.stderr


@pytest.mark.usefixtures("worker")
class TestWithWorker:
    async def test_a_rotation_is_started_once_shown_approved_and_completed(
        self, say: Say, plan: tuple[str, str]
    ) -> None:
        name, file = plan
        started = await say("start", file)
        assert started.exit_code == 0, started.stderr
        assert f"started rotation-{name} by ada" in started.stdout

        again = await say("start", file)
        assert again.exit_code == 6
        assert f"rotation-{name}: this plan's rotation is running already" in again.stderr

        shown = await say("status", name)
        assert "Waiting for the approval `prefer`" in shown.stdout
        assert f'approve {name} prefer --reason "why"' in shown.stdout
        assert f"http://ui.example/namespaces/default/workflows/rotation-{name}/" in shown.stdout

        wrong = await say("approve", name, "remove")
        assert wrong.exit_code == 6
        assert "gate 'remove': unknown gate; waiting now: prefer" in wrong.stderr

        long = await say("approve", name, "prefer", "--reason", "x" * 501)
        assert long.exit_code == 6
        assert "reason: String should have at most 500 characters" in long.stderr

        right = await say("approve", name, "prefer", "--reason", "good figures")
        assert right.exit_code == 0
        assert "as ada" in right.stderr
        assert right.stdout.strip() == "approve prefer: accepted"

        ended = await say("status", f"rotation-{name}", "--watch")
        assert ended.exit_code == 0
        assert "COMPLETED  completed" in ended.stdout
        late = await say("rollback", name)
        assert late.exit_code == 6
        assert "the rotation has ended" in late.stderr

    async def test_a_rotation_is_paused_and_resumed(self, say: Say, plan: tuple[str, str]) -> None:
        name, file = plan
        await say("start", file, "--leftovers", "clean")
        paused = await say("pause", name, "--reason", "the carrier works")
        assert (paused.exit_code, paused.stdout.strip()) == (0, "pause: accepted")
        assert "as ada" in paused.stderr
        refused = await say("resume", name)
        assert refused.exit_code == 6
        assert "it is not paused" in refused.stderr
        assert (await say("resume", name, "--reason", "it is")).stdout.strip() == "resume: accepted"
        longer = await say("extend", name, "24", "--reason", "a holiday")
        assert (longer.exit_code, longer.stdout.strip()) == (0, "extend: accepted")
        assert "by 24 h as ada" in longer.stderr
        assert (await say("extend", name, "-1")).exit_code == 2
        too_long = await say("extend", name, "480")
        assert too_long.exit_code == 6
        assert "A would expire" in too_long.stderr
        wrong = await say("start", file, "--leftovers", "keep")
        assert wrong.exit_code == 2
        await say("rollback", name)

    async def test_waiting_for_a_rotation_that_rolls_back_ends_with_3(
        self, say: Say, plan: tuple[str, str], settings_file: Path
    ) -> None:
        name, file = plan
        waiting = asyncio.ensure_future(say("start", file, "--wait"))
        rotations = Rotations(await connect(load_settings(settings_file)))
        await until(lambda: _answered(rotations, name))
        asked = await rotations.roll_back(name, "eve", "it rains")
        assert asked.by == "eve"
        result = await waiting
        assert result.exit_code == 3
        assert "Failed: rolled back to A in 2.3 s" in result.stdout
        status = json.loads((await say("status", name, "--json")).stdout)
        assert status["row"]["execution"] == "FAILED"
        assert status["status"]["phase"] == "ROLLED_BACK"
        rows = json.loads((await say("list", "--json", "--phase", "rolled_back")).stdout)
        assert f"rotation-{name}" in {row["id"] for row in rows}

    async def test_an_answer_under_another_key_is_named_as_such(
        self, say: Say, plan: tuple[str, str], settings_file: Path
    ) -> None:
        name, file = plan
        await say("start", file)
        change_key(settings_file, "k1")
        changed = await say("status", name)
        assert changed.exit_code == 5
        assert "codec.keys.k1: a payload was changed after its encryption" in changed.stderr
        change_key(settings_file, "k2")
        other = await say("status", name)
        assert other.exit_code == 5
        assert "key id 'k1'; known: k2" in other.stderr

    async def test_rotations_are_listed_by_platform(self, say: Say, plan: tuple[str, str]) -> None:
        name, file = plan
        await say("start", file)

        async def listed(platform: str) -> bool:
            answer = await say("list", "--platform", platform, "--json")
            return f"rotation-{name}" in {row["id"] for row in json.loads(answer.stdout)}

        await until(lambda: listed("genesys-eu"))
        assert not await listed("cxone-eu")
        table = (await say("list")).stdout
        assert "genesys-eu" in table
        assert "trunk.example.com" in table
        await say("rollback", name)

    async def test_a_dry_run_shows_every_check_and_ends_with_7_on_findings(
        self, say: Say, write_plan: Callable[..., str]
    ) -> None:
        good = await say("plan", write_plan(('name = "east-2026"', 'name = "good"')))
        assert good.exit_code == 0, good.stderr
        assert "612 of 613 (99.83 %)" in good.stdout
        assert "serial" in good.stdout
        bad = await say("plan", write_plan(('name = "east-2026"', 'name = "bad"')))
        assert bad.exit_code == 7
        assert "1 finding: the rotation would not start" in bad.stdout


async def test_without_a_worker_a_running_rotation_is_shown_from_its_search_attributes(
    say: Say, temporal: str, settings_file: Path, plan: tuple[str, str]
) -> None:
    async with working(settings_file):
        started = await say("start", plan[1])
    assert started.exit_code == 0, started.stderr
    shown = await say("status", plan[0])
    assert shown.exit_code == 0
    assert "PREFLIGHT" in shown.stdout
    assert "no worker answers on task queue sip-tls-rotation" in shown.stdout
