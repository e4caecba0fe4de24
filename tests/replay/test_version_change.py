"""A rotation lasts four days: it begins on one version of the product and ends on the next."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType

from tests.e2e.stage import Rotation, Stage
from tests.replay.next_version import GUARDED, IN_HOLD, IN_ISSUE, ROOT, UNGUARDED, next_version
from tests.replay.worker_processes import READY_WITHIN_S, Workers

LONG_OVERLAP = ('overlap = "8s"', 'overlap = "5m"')
NAMES_THAT_A_LACKS = ("ip_addresses = [", 'ip_addresses = ["192.0.2.7", ')


@pytest.mark.durability
async def test_a_rotation_begun_on_the_previous_version_turns_back_on_the_next(
    stage: Stage, workers: Workers, tmp_path: Path
) -> None:
    """The previous worker is drained in the overlap, as a deployment does; the next one has two more steps."""
    previous = await workers.start(ROOT)
    rotation = await stage.start(stage.plan(LONG_OVERLAP))
    await rotation.reaches("OVERLAP")
    assert await asyncio.to_thread(previous.stop), previous.tail()

    await workers.start(next_version(tmp_path / "next", GUARDED))
    assert (await rotation.status()).phase == "OVERLAP"
    await rotation.handle.signal("rollback", {"by": "ann", "reason": "on the next version"})
    assert (await rotation.fails()).type == "RolledBack"
    assert await _took(rotation) == []
    assert stage.lab.as_found()

    begun_on_the_next = await stage.start(stage.plan(NAMES_THAT_A_LACKS))
    assert (await begun_on_the_next.fails()).type == "Aborted"
    assert "issuing" in [alert.kind for alert in (await begun_on_the_next.status()).alerts]
    assert await _took(begun_on_the_next) == [IN_ISSUE]


async def test_a_rotation_begun_on_the_previous_version_completes_on_the_next(
    stage: Stage, workers: Workers, tmp_path: Path
) -> None:
    """The previous worker is killed in the overlap. Of the two new steps the rotation takes the one ahead of it."""
    previous = await workers.start(ROOT)
    rotation = await stage.start()
    await rotation.reaches("OVERLAP")
    os.kill(previous.pid, signal.SIGKILL)

    await workers.start(next_version(tmp_path / "next", GUARDED))
    assert (await rotation.completes()).a_revoked
    kinds = [alert.kind for alert in (await rotation.status()).alerts]
    assert "issuing" not in kinds
    assert "quarantine" in kinds
    assert await _took(rotation) == [IN_HOLD]
    assert stage.lab.post("/lab/settle")["violations"] == []


async def _took(rotation: Rotation) -> list[str]:
    """The patches whose new way the rotation took; no workflow task of it failed."""
    history = await rotation.handle.fetch_history()
    failed = [e for e in history.events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED]
    assert not failed, failed
    marks = [
        event.marker_recorded_event_attributes
        for event in history.events
        if event.event_type == EventType.EVENT_TYPE_MARKER_RECORDED
    ]
    known = {IN_ISSUE, IN_HOLD}
    return [
        one
        for mark in marks
        if mark.marker_name == "core_patch"
        for one in known
        if any(one.encode() in payload.data for data in mark.details.values() for payload in data.payloads)
    ]


def _replayed_by(sources: Path, history: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.replay.replaying", history]
    return subprocess.run(command, cwd=sources, capture_output=True, text=True, timeout=READY_WITHIN_S)


def test_the_guarded_change_replays_what_the_previous_version_did(tmp_path: Path) -> None:
    answer = _replayed_by(next_version(tmp_path, GUARDED, with_tests=True), "completed")
    assert answer.returncode == 0, answer.stderr


def test_the_same_change_without_its_guard_breaks_the_replay(tmp_path: Path) -> None:
    answer = _replayed_by(next_version(tmp_path, UNGUARDED, with_tests=True), "completed")
    assert answer.returncode == 1
    assert "Nondeterminism error" in answer.stdout


def test_a_change_whose_place_is_gone_fails_loudly(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="stands 0 times"):
        next_version(tmp_path, {"a text that is in no version": ""})
