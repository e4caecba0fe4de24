"""Real programs that a test starts: their output in a file, ready when a condition holds, ended by their own id."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

PATIENCE_S = 30.0
_LOOK_AGAIN_S = 0.02


class ProgramFailed(RuntimeError):
    """A program ended, or was not ready in time; the message has the end of its log."""


async def until(condition: Callable[[], Awaitable[object]], what: str, patience_s: float = PATIENCE_S) -> None:
    """Returns when the condition is truthy; TimeoutError with `what` after the patience."""
    try:
        async with asyncio.timeout(patience_s):
            while True:
                if await condition():
                    return
                await asyncio.sleep(_LOOK_AGAIN_S)
    except TimeoutError:
        raise TimeoutError(f"waited {patience_s:.0f} s in vain for: {what}") from None


class Program:
    """One process group. `log` is the file that gets what it prints."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name, self.log = name, directory / f"{name}.log"
        self._command, self._directory = list(command), directory
        self._process: asyncio.subprocess.Process | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def start(self, ready: Callable[[], Awaitable[object]] | None = None) -> None:
        """Starts it and waits until it is ready. Raises ProgramFailed."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                cwd=self._directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": str(self._directory)},
            )
        if ready is None:
            return

        async def up() -> object:
            if not self.running:
                raise ProgramFailed(f"{self.name} ended at once:\n{self.last_words()}")
            return await ready()

        try:
            await until(up, f"{self.name} to be ready")
        except TimeoutError as late:
            await self.kill()
            raise ProgramFailed(f"{late}\n{self.last_words()}") from late

    async def wait(self, patience_s: float) -> int:
        """Its exit code. Raises TimeoutError."""
        assert self._process is not None
        async with asyncio.timeout(patience_s):
            return await self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """A signal to the process itself; nothing when it has ended."""
        if self._process is not None and self.running:
            self._process.send_signal(number)

    async def stop(self, patience_s: float = 8.0) -> None:
        """SIGTERM, and SIGKILL after the patience."""
        self.signal(signal.SIGTERM)
        if self._process is not None:
            with contextlib.suppress(TimeoutError):
                await self.wait(patience_s)
        await self.kill()

    async def kill(self) -> None:
        """SIGKILL to all of its process group, at once."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""
