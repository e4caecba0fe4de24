"""What the durability tests live in: one OpenBao, one Temporal on disk, one tapped lab, and workers that can be killed.

All of it stays up from case to case; only workers die. A rotation that completed leaves its B as the next one's A.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from temporalio.client import Client

from adapters.registry import Adapters
from codec.encryption import EncryptionCodec, data_converter, load_keyring
from lab.bao import Bao
from lab.temporal_server import TemporalServer
from settings import load_settings
from tests.durability.taps import Taps
from tests.e2e.stage import ROOT, LabProcess, Stage, running_lab, until

QUICK = (
    ('soak = "2s"', 'soak = "500ms"'),
    ('overlap = "8s"', 'overlap = "1s"'),
    ('gate_interval = "500ms"', 'gate_interval = "250ms"'),
    ('adopt_window = "5s"', 'adopt_window = "2s"'),
    ('drain_spacing = "500ms"', 'drain_spacing = "250ms"'),
    ('action_deadline = "20s"', 'action_deadline = "2m"'),
)
"""Short waits; but long enough an action deadline that a worker's death (8 s) never turns a rotation back."""


class WorkerProcess:
    """`python worker.py`, which can be killed and frozen."""

    def __init__(self, settings: Path, temporal: str, log: Path) -> None:
        """Starts it; see `ready`."""
        self.log = log
        environment = {**os.environ, "TEMPORAL_ADDRESS": temporal}
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "worker.py", "--settings", str(settings)],
                env=environment,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def identity(self) -> str:
        """How Temporal names it: process id and host, as the SDK does."""
        return f"{self._process.pid}@{socket.gethostname()}"

    @property
    def running(self) -> bool:
        """True until it has ended, however it ended."""
        return self._process.poll() is None

    def output(self) -> str:
        """Everything it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    async def ready(self) -> None:
        """Returns when the server knows of its poll. Raises AssertionError when it ends or takes too long."""

        async def said() -> bool:
            assert self.running, f"the worker ended:\n{self.output()[-3000:]}"
            return "worker ready" in self.output()

        await until(said, "a worker that is ready")

    def kill(self) -> None:
        """SIGKILL: no goodbye to anybody."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it stands still in the middle of whatever it does."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT: it goes on, as if no time had passed."""
        self._process.send_signal(signal.SIGCONT)

    async def drained(self) -> None:
        """SIGTERM; returns when it has ended what it was doing, and itself."""
        self._process.terminate()

        async def ended() -> bool:
            return not self.running

        await until(ended, "the end of a worker that drains")

    def stop(self) -> None:
        """Ends it for good; a frozen one is killed."""
        if self.running:
            self.kill()


@dataclass
class House:
    """What runs. `temporal.address` and the lab's settings are what a worker needs."""

    directory: Path
    bao: Bao
    temporal: TemporalServer
    lab: LabProcess
    workers: list[WorkerProcess] = field(default_factory=list)
    _started: int = 0

    @property
    def taps(self) -> Taps:
        """The lab's taps."""
        return Taps(self.lab)

    async def worker(self) -> WorkerProcess:
        """One more worker process, polling."""
        self._started += 1
        log = self.directory / f"worker-{self._started}.log"
        worker = WorkerProcess(self.lab.directory / "settings.toml", self.temporal.address, log)
        self.workers.append(worker)
        await worker.ready()
        return worker

    async def one_worker(self) -> WorkerProcess:
        """The only worker that is alive: the last of them, or a new one."""
        alive = [worker for worker in self.workers if worker.running]
        for worker in alive[:-1]:
            worker.stop()
        return alive[-1] if alive else await self.worker()

    def dismiss(self) -> None:
        """Ends every worker."""
        while self.workers:
            self.workers.pop().stop()

    @contextlib.asynccontextmanager
    async def stage(self) -> AsyncIterator[Stage]:
        """A client and the plan; the workers are processes of their own."""
        settings = load_settings(self.lab.directory / "settings.toml")
        client = await Client.connect(
            self.temporal.address, data_converter=data_converter(EncryptionCodec(load_keyring(settings.codec)))
        )
        adapters = Adapters(settings)
        stage = Stage(client, self.lab, settings, adapters, (self.lab.directory / "plan.toml").read_text())
        try:
            yield stage
        finally:
            await stage.end()
            await adapters.close()
            self.taps.forget()


@contextlib.contextmanager
def running_house(directory: Path) -> Iterator[House]:
    """Starts everything but workers, and ends it by its own process ids."""
    directory.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        bao = stack.enter_context(Bao(directory))
        token = directory / "root.token"
        token.touch(mode=0o600)
        token.write_text(bao.root_token)
        temporal = stack.enter_context(TemporalServer(directory, database=directory / "temporal.db"))
        arguments = ("--tap", "--vault-address", bao.address, "--vault-token-file", str(token))
        lab = stack.enter_context(running_lab(directory / "a lab", *arguments))
        house = House(directory, bao, temporal, lab)
        stack.callback(house.dismiss)
        yield house
