"""What the durability tests live in: one OpenBao, one Temporal on disk, one tapped lab, and workers that can be killed.

All of it stays up from case to case; only workers die. A rotation that completed leaves its B as the next one's A.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from temporalio.client import Client, WorkflowFailureError

from adapters.registry import Adapters
from codec.encryption import EncryptionCodec, data_converter, load_keyring
from lab.bao import Bao
from lab.temporal_server import TemporalServer
from settings import load_settings
from tests.durability.taps import Taps
from tests.e2e.stage import ROOT, LabProcess, Rotation, Stage, running_lab, until

QUICK = (
    ('soak = "2s"', 'soak = "500ms"'),
    ('overlap = "8s"', 'overlap = "1200ms"'),
    ('gate_interval = "500ms"', 'gate_interval = "250ms"'),
    ('adopt_window = "5s"', 'adopt_window = "3s"'),
    ('drain_spacing = "500ms"', 'drain_spacing = "250ms"'),
    ('action_deadline = "20s"', 'action_deadline = "2m"'),
)
"""Short waits; but long enough an action deadline that a worker's death (8 s) never turns a rotation back."""


CALLS_PER_S = "7"
"""On each trunk: enough for every gate, and little enough that nothing starves beside a worker that starts."""


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


class House:
    """What runs. Temporal stays as long as the house; PKI and lab can be had anew after a test that broke them."""

    def __init__(self, directory: Path, temporal: TemporalServer) -> None:
        """`directory` exists, and Temporal runs. Nothing else does before `renew`."""
        self.directory = directory
        self.temporal = temporal
        self.bao: Bao
        self.lab: LabProcess
        self.workers: list[WorkerProcess] = []
        self._open = contextlib.ExitStack()
        self._labs = self._started = 0

    def renew(self) -> None:
        """A fresh PKI and a fresh lab; ends the workers of the old ones."""
        self.close()
        self._labs += 1
        directory = self.directory / f"lab {self._labs}"
        directory.mkdir()
        self.bao = self._open.enter_context(Bao(directory))
        token = directory / "root.token"
        token.touch(mode=0o600)
        token.write_text(self.bao.root_token)
        vault = ("--vault-address", self.bao.address, "--vault-token-file", str(token))
        self.lab = self._open.enter_context(running_lab(directory, "--tap", *vault, "--call-rate", CALLS_PER_S))

    def close(self) -> None:
        """Ends workers, lab and PKI."""
        self.dismiss()
        self._open.close()

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


async def completes(rotation: Rotation, patience_s: float = 200.0) -> None:
    """Returns when the rotation has completed.

    Raises AssertionError with its own words when it failed instead, and with what it waits for after the patience.
    """
    try:
        async with asyncio.timeout(patience_s):
            await rotation.handle.result()
    except WorkflowFailureError as failed:
        raise AssertionError(f"it did not complete: {failed.cause}") from None
    except TimeoutError:
        status = await rotation.status()
        raise AssertionError(
            f"after {patience_s:.0f} s in {status.phase}, frozen {status.frozen}, waiting for {status.waiting}"
        ) from None


async def settled_in(house: House, stage: Stage) -> None:
    """One rotation that is not looked at, so that every later one finds an A of the same kind.

    The lab's first A comes from a retiring intermediate and was never in custody; every other was the B before.
    """
    await house.one_worker()
    await completes(await stage.start(stage.plan(*QUICK)))


@contextlib.contextmanager
def running_house(directory: Path) -> Iterator[House]:
    """Starts everything but workers, and ends it by its own process ids."""
    directory.mkdir(parents=True, exist_ok=True)
    with TemporalServer(directory, database=directory / "temporal.db") as temporal:
        house = House(directory, temporal)
        try:
            house.renew()
            yield house
        finally:
            house.close()
