"""Between the adapter and HAProxy's command line: a socket that passes commands on, and may lose what comes back."""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

_CHANGE = re.compile(rb"(?m)^@\S+ ((?:set|commit|shutdown|abort) .*?)(?: <<)?$")
_NO_CHANGE = b"abort ssl cert"


def nothing(_: str) -> None:
    """Lets it happen."""


@dataclass
class CommandTap:
    """One node's command line with interference. `done` are the changes that were carried out, payloads apart.

    `before` is called with each request that changes something, before it is passed on; what it raises ends the
    connection instead. With `lose_answer` the next change is carried out and its answer lost; with `swallow` changes
    are said to be made, and are not. `asked` counts requests of any kind. While `silent`, none is answered.
    """

    master: Path
    before: Callable[[str], None] = nothing
    lose_answer: bool = False
    swallow: bool = False
    silent: bool = False
    asked: int = 0
    done: list[str] = field(default_factory=list)
    socket: Path = field(init=False)
    _server: asyncio.Server | None = field(default=None, init=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    @property
    def runtime(self) -> str:
        return f"unix:{self.socket}"

    async def open(self) -> None:
        """Answers from now on."""
        self._server = await asyncio.start_unix_server(self._accept, self.socket)

    async def close(self) -> None:
        """Refuses connections from now on, and breaks off those that are open."""
        if self._server is not None:
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self._server = None
        self.socket.unlink(missing_ok=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await self._pass_on(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.read(65536)  # the adapter sends a request at once
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        changes = [found.decode() for found in _CHANGE.findall(request) if not found.startswith(_NO_CHANGE)]
        for change in changes:
            try:
                self.before(change)
            except ConnectionError:
                return
        if changes and self.swallow:
            writer.write(b"\n" * request.count(b"\n"))
            return
        from_master, to_master = await asyncio.open_unix_connection(self.master)
        try:
            to_master.write(request)
            to_master.write_eof()
            answer = await from_master.read()
        finally:
            to_master.close()
        self.done += changes
        if changes and self.lose_answer:
            self.lose_answer = False
            return
        writer.write(answer)
        await writer.drain()


@asynccontextmanager
async def command_tap(master: Path) -> AsyncIterator[CommandTap]:
    """A tap in front of that socket."""
    with tempfile.TemporaryDirectory(prefix="tap") as folder:  # a socket's path has room for 107 characters
        tap = CommandTap(master)
        tap.socket = Path(folder) / "master.sock"
        await tap.open()
        try:
            yield tap
        finally:
            await tap.close()
