"""Payload encryption where not everybody has it: hands without a codec, a new key in mid-run, a key that is missing."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.sdk.v1 import WorkflowMetadata
from temporalio.client import Client, WorkflowExecutionStatus

from adapters.registry import Adapters
from codec.encryption import KEY_ID, EncryptionCodec, KeyMissing, data_converter, is_encrypted, load_keyring
from codec.missing_keys import payloads_in
from domain.phases import Phase
from settings import load_settings
from tests.e2e.stage import ROOT, LabProcess, Stage, until

OLD, NEW = "demo-1", "demo-2"


# -- hands without a codec ---------------------------------------------------------------------------------------------


async def test_messages_in_plain_text_are_accepted_and_marked_wherever_a_person_looks(stage: Stage) -> None:
    rotation = await stage.start(stage.plan(("prefer = false", "prefer = true")))
    await rotation.shows(lambda s: s.waiting and s.waiting.gate == "prefer", "the approval `prefer`")
    plain = await Client.connect(stage.client.service_client.config.target_host)
    by_hand = plain.get_workflow_handle(rotation.handle.id)
    await by_hand.signal("approve", "not even an object")
    await rotation.handle.signal("approve", {"gate": "remove", "by": "eager"})
    await by_hand.signal("approve", {"gate": "prefer", "by": "ann", "reason": "by hand"})
    await rotation.reaches("PREFER")
    await rotation.handle.signal("pause", {"by": "bob", "reason": "encrypted"})
    await by_hand.signal("rollback", {"by": "eve", "reason": "by hand too"})
    assert (await rotation.fails()).type == "RolledBack"
    told = [
        ("approve", None, True),
        ("approve", "eager", False),
        ("approve", "ann", True),
        ("pause", "bob", False),
        ("rollback", "eve", True),
    ]
    status, evidence = await rotation.status(), await rotation.evidence()
    assert [(d.message, d.by, d.plaintext) for d in status.decisions] == told
    entries = [e.data for e in evidence.entries if e.kind == "decision"]
    assert [(e["message"], e["by"], e["plaintext"]) for e in entries] == told
    metadata = await rotation.handle.query("__temporal_workflow_metadata", result_type=WorkflowMetadata)
    marked = [line for line in metadata.current_details.splitlines() if "came unencrypted" in line]
    assert [("ann" in line, "eve" in line) for line in marked] == [(False, False), (True, False), (False, True)]


# -- keys --------------------------------------------------------------------------------------------------------------


@dataclass
class Keys:
    """Settings files of one lab that differ in their keyring."""

    lab: LabProcess
    directory: Path

    def settings(self, current: str, *others: str) -> Path:
        """The lab's settings with these keys; a key is made when it is first named, `OLD` is the lab's own."""
        text = (self.lab.directory / "settings.toml").read_text()
        head, _, rest = text.partition("[codec]")
        _, _, rest = rest.partition("\n[")
        lines = [f'current = "{current}"']
        for name in (current, *others):
            file = self.lab.directory / "codec.key" if name == OLD else self.directory / f"{name}.key"
            if not file.exists():
                file.write_text(base64.b64encode(os.urandom(32)).decode())
            lines.append(f'keys.{name} = {{ file = "{file}" }}')
        path = self.directory / f"settings {'-'.join((current, *others))}.toml"
        path.write_text(f"{head}[codec]\n" + "\n".join(lines) + f"\n\n[{rest}")
        return path

    @contextlib.asynccontextmanager
    async def stage(self, temporal: str, current: str, *others: str) -> AsyncIterator[Stage]:
        """A client with these keys and no worker."""
        settings = load_settings(self.settings(current, *others))
        converter = data_converter(EncryptionCodec(load_keyring(settings.codec)))
        client = await Client.connect(temporal, data_converter=converter)
        stage = Stage(client, self.lab, settings, Adapters(settings), (self.lab.directory / "plan.toml").read_text())
        try:
            yield stage
        finally:
            await stage.end()
            await stage.adapters.close()


class WorkerProcess:
    """`python worker.py`, as it is run in production."""

    def __init__(self, settings: Path, temporal: str, log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "worker.py", "--settings", str(settings)],
                cwd=ROOT,
                env={**os.environ, "TEMPORAL_ADDRESS": temporal},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def said(self) -> str:
        """Everything that it printed and logged."""
        return self._log.read_text(errors="replace")

    async def says(self, words: str) -> None:
        """Waits for words in its log."""

        async def there() -> bool:
            assert self.process.poll() is None or words in self.said(), self.said()[-3000:]
            return words in self.said()

        await until(there, f"the worker to say {words!r}")

    async def ends(self) -> int:
        """Its exit code, once it has ended by itself."""

        async def ended() -> bool:
            return self.process.poll() is not None

        await until(ended, "the worker to end")
        assert self.process.returncode is not None
        return self.process.returncode

    async def stopped(self) -> int:
        """Its exit code after SIGTERM."""
        self.process.send_signal(signal.SIGTERM)
        return await self.ends()


@dataclass
class Workers:
    """Starts workers."""

    temporal: str
    directory: Path

    def __post_init__(self) -> None:
        self.all: list[WorkerProcess] = []

    async def start(self, settings: Path, *, ready: bool = True) -> WorkerProcess:
        """A worker, by default once it polls."""
        worker = WorkerProcess(settings, self.temporal, self.directory / f"worker {len(self.all)}.log")
        self.all.append(worker)
        if ready:
            await worker.says("worker ready")
        return worker


@pytest.fixture
def keys(lab: LabProcess, tmp_path: Path) -> Keys:
    """Keyrings for the lab."""
    return Keys(lab, tmp_path)


@pytest.fixture
def workers(temporal: str, tmp_path: Path) -> Iterator[Workers]:
    """Workers in processes of their own; what still runs is killed at the end."""
    started = Workers(temporal, tmp_path)
    yield started
    for worker in started.all:
        if worker.process.poll() is None:
            worker.process.kill()
            worker.process.wait()


async def test_a_key_is_changed_in_mid_run_and_a_worker_without_the_old_one_says_so_and_loses_nothing(
    temporal: str, keys: Keys, workers: Workers
) -> None:
    first = await workers.start(keys.settings(OLD))
    async with keys.stage(temporal, OLD, NEW) as stage:
        rotation = await stage.start()
        await rotation.reaches("OVERLAP")
        assert await first.stopped() == 0
        before = len((await rotation.handle.fetch_history()).events)

        # a worker that was given the new key alone
        lacking = await workers.start(keys.settings(NEW), ready=False)
        assert await lacking.ends() == 4
        last = lacking.said().strip().splitlines()[-1]
        assert last.startswith("error: ")
        for words in (f"the encryption key '{OLD}' is not in the keyring", rotation.handle.id, "[codec.keys]"):
            assert words in last
        description = await rotation.handle.describe()
        assert description.status is WorkflowExecutionStatus.RUNNING

        # one that has both: what it writes carries the new key's id
        changed = await workers.start(keys.settings(NEW, OLD))
        summary = await rotation.completes()
        assert summary.a_revoked
        status = await rotation.status()
        assert status.phase is Phase.COMPLETED
        assert status.rollback is None
        events = (await rotation.handle.fetch_history()).events
        assert _key_ids(events[:before]) == {OLD}
        assert _key_ids(events[-10:]) == {NEW}
        assert await changed.stopped() == 0
    async with keys.stage(temporal, NEW) as late:
        with pytest.raises(KeyMissing, match=f"key id '{OLD}'"):
            await late.client.data_converter.decode(
                [p for event in events[:before] for p in payloads_in(event) if is_encrypted(p)][:1]
            )
    assert keys.lab.post("/lab/settle")["violations"] == []


async def test_a_signal_under_an_unknown_key_stops_no_worker_and_counts_when_the_key_comes(
    temporal: str, keys: Keys, workers: Workers
) -> None:
    worker = await workers.start(keys.settings(OLD))
    async with keys.stage(temporal, OLD) as stage, keys.stage(temporal, NEW, OLD) as ahead:
        rotation = await stage.start(stage.plan(("prefer = false", "prefer = true")))
        await rotation.shows(lambda s: s.waiting and s.waiting.gate == "prefer", "the approval `prefer`")
        early = ahead.client.get_workflow_handle(rotation.handle.id)
        await early.signal("approve", {"gate": "prefer", "by": "ann"})
        await worker.says(f"workflow {rotation.handle.id} waits: a message to it is encrypted under the key '{NEW}'")
        assert worker.process.poll() is None
        assert await worker.stopped() == 0
        await workers.start(keys.settings(OLD, NEW))
        status = await rotation.reaches("PREFER")
        assert [(d.by, d.accepted, d.plaintext) for d in status.decisions] == [("ann", True, False)]
        await rotation.handle.signal("rollback", {"by": "ann"})
        assert (await rotation.fails()).type == "RolledBack"


async def test_a_worker_without_any_key_refuses_to_start(keys: Keys, workers: Workers) -> None:
    settings = keys.settings(OLD)
    settings.write_text(settings.read_text().replace(f"keys.{OLD} = ", "keys.other = "))
    worker = await workers.start(settings, ready=False)
    assert await worker.ends() == 2
    assert f"current = '{OLD}' is not among keys" in worker.said()


def _key_ids(events: Sequence[HistoryEvent]) -> set[str]:
    found = (p for event in events for p in payloads_in(event) if is_encrypted(p))
    return {p.metadata[KEY_ID].decode() for p in found}
