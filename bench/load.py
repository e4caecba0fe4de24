"""The traffic of a row: SIPp callers of two kinds, and processes that make handshakes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import CallFigures
from bench.handshakes import Handshake, read
from bench.sipp_load import sources
from tests.sip.trunk_path import TrunkPath

ROOT = Path(__file__).resolve().parents[1]
VERSIONS = ("1.3", "1.2")
_LOOK_AGAIN_S = 0.5
_SLOWEST = 4
"""How many times as long a busy machine may take."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Calls and handshakes per second; the handshakes come from so many processes."""

    calls: float
    handshakes: float
    processes: int = 4


class Load:
    """Running traffic on one path. `begun` is the Unix time of its start; the figures are there after `finish`."""

    def __init__(self, path: TrunkPath, pace: Pace) -> None:
        self.begun = 0.0
        self._path, self._pace = path, pace
        self._sources = sources(path, pace.calls)
        self._files = [path.folder / f"handshakes-{n}.csv" for n in range(pace.processes)]
        self._makers: list[asyncio.subprocess.Process] = []

    async def start(self) -> None:
        """Begins to call and to make handshakes."""
        self.begun = time.time()
        for number, file in enumerate(self._files):
            self._makers.append(await self._maker(VERSIONS[number % len(VERSIONS)], file))
        for source in self._sources:
            await source.start()

    async def until(self, seconds: float, calls: int, handshakes: int) -> None:
        """Returns when it has gone on for so long, with so much traffic. Raises RuntimeError if it cannot."""
        while time.time() < self.begun + seconds or self.placed() < calls or self.made() < handshakes:
            for maker in self._makers:
                if maker.returncode is not None:
                    raise RuntimeError(f"a process that makes handshakes ended with {maker.returncode}")
            if time.time() > self.begun + _SLOWEST * seconds + 60:
                so_far = f"{self.placed()} calls and {self.made()} handshakes"
                raise RuntimeError(f"only {so_far} in {time.time() - self.begun:.0f} s")
            await asyncio.sleep(_LOOK_AGAIN_S)

    def made(self) -> int:
        """Handshakes so far, failed ones included."""
        return sum(file.read_bytes().count(b"\n") for file in self._files if file.exists())

    def placed(self) -> int:
        """Calls so far, as SIPp wrote it last."""
        return sum(source.placed() for source in self._sources)

    async def finish(self) -> dict[str, CallFigures]:
        """No new handshakes and calls; returns when the last call has ended, or should have."""
        await self._end_makers()
        ended = await asyncio.gather(*(source.finish() for source in self._sources))
        return {source.kind: figures for source, figures in zip(self._sources, ended, strict=True)}

    def handshakes(self) -> list[Handshake]:
        """All of them, in the order of their ends."""
        return sorted((one for file in self._files for one in read(file)), key=lambda one: one.at)

    async def stop(self) -> None:
        """Ends everything, whatever state it is in."""
        for source in self._sources:
            await source.stop()
        await self._end_makers()

    async def _maker(self, version: str, file: Path) -> asyncio.subprocess.Process:
        [(host, port)] = self._path.nodes
        parties = self._path.parties
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.handshakes", "--host", host, "--port", str(port)),
            *("--fqdn", parties.fqdn, "--root", str(parties.root), "--version", version),
            *("--pace", str(self._pace.handshakes / self._pace.processes), "--output", str(file)),
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )

    async def _end_makers(self) -> None:
        for maker in self._makers:
            with contextlib.suppress(ProcessLookupError):
                maker.send_signal(signal.SIGTERM)
        for maker in self._makers:
            await maker.wait()
        self._makers.clear()


@asynccontextmanager
async def load(path: TrunkPath, pace: Pace) -> AsyncIterator[Load]:
    """Running traffic; it is ended at the latest with the block."""
    running = Load(path, pace)
    try:
        await running.start()
        yield running
    finally:
        await running.stop()
