"""Child processes of the demo: each in its own process group, with a log, a readiness test and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

STOP_WITHIN_S = 15.0
"""Above the 10 s in which a worker drains; then the whole process group is killed."""

LOOK_EVERY_S = 0.05


class ChildFailed(RuntimeError):
    """A child ended early or was not ready in time; the message holds the end of its log."""


class Child:
    """One process and everything that it starts: a session of its own, so that Ctrl-C reaches only who stops it."""

    def __init__(self, name: str, command: Sequence[str], log: Path, *, env: Mapping[str, str], cwd: Path) -> None:
        """Starts it. Standard output and error go to `log`. Raises `ChildFailed` when it cannot be started."""
        self.name, self.log = name, log
        with log.open("wb") as output:
            try:
                self._process = subprocess.Popen(
                    list(command),
                    env=dict(env),
                    cwd=cwd,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise ChildFailed(f"{name} cannot be started: {error}") from None

    @property
    def pid(self) -> int:
        """Its process id, which is its process group's too."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """True until it has ended."""
        return self._ended() is None

    def output(self) -> str:
        """Everything it has said so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log."""
        return "\n".join(self.output().splitlines()[-lines:])

    def check(self) -> None:
        """Raises `ChildFailed` when it has ended."""
        code = self._ended()
        if code is not None:
            raise ChildFailed(f"{self.name} ended with code {code}:\n{self.tail()}")

    async def ready(self, look: Callable[[], T | None], within_s: float) -> T:
        """What `look` finds, as soon as it finds something. Raises `ChildFailed` when it ends or takes too long."""
        until = time.monotonic() + within_s
        while (found := look()) is None:
            self.check()
            if time.monotonic() > until:
                raise ChildFailed(f"{self.name} is not ready after {within_s:.0f} s:\n{self.tail()}")
            await asyncio.sleep(LOOK_EVERY_S)
        return found

    def ask_to_stop(self) -> None:
        """SIGTERM to the process; it ends its own children."""
        if self.running:
            self._process.terminate()

    def stop(self, within_s: float = STOP_WITHIN_S) -> bool:
        """Ends it, then whatever is left of its process group. False when it had to be killed. Blocks."""
        self.ask_to_stop()
        until = time.monotonic() + within_s
        while self.running and time.monotonic() < until:
            time.sleep(LOOK_EVERY_S)
        in_time = not self.running
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        return in_time

    def _ended(self) -> int | None:
        """Its exit code (negative: the signal), or None. It is not reaped here, so that nobody else gets its id."""
        if self._process.returncode is None and hasattr(os, "waitid"):
            ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return None
            return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        return self._process.poll()


class Children:
    """Every process that the demo started, and their end in the reverse order."""

    def __init__(self, directory: Path) -> None:
        """Logs go to `directory`, which exists."""
        self.directory = directory
        self._children: list[Child] = []

    def start(self, name: str, command: Sequence[str], *, env: Mapping[str, str], cwd: Path) -> Child:
        """Starts one; its log is `<name>.log`."""
        child = Child(name, command, self.directory / f"{name}.log", env=env, cwd=cwd)
        self._children.append(child)
        return child

    def check(self) -> None:
        """Raises `ChildFailed` when one has ended on its own."""
        for child in self._children:
            child.check()

    def tails(self, lines: int = 15) -> str:
        """The end of every log that says anything, for a person who must find out what went wrong."""
        spoken = [(child, child.tail(lines)) for child in self._children]
        return "\n\n".join(f"--- {child.log} ---\n{tail}" for child, tail in spoken if tail)

    def stop(self) -> list[str]:
        """Ends them, last started first; blocks. Returns the names of those that had to be killed."""
        killed = []
        while self._children:
            child = self._children.pop()
            if not child.stop():
                killed.append(child.name)
        return killed
