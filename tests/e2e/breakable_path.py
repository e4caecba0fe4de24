"""A TCP path between the worker and one service that a test can close, or make swallow everything, and mend again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from lab.ports import LOOPBACK, free_port


class BreakablePath:
    """Listens on a port of its own and passes bytes on to `target` (a base URL) both ways."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        assert parts.hostname is not None
        assert parts.port is not None
        self._target = parts.hostname, parts.port
        self._port = free_port()
        self.url = f"http://{LOOPBACK}:{self._port}"
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._connections: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Everything passes again."""
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, LOOPBACK, self._port)

    async def close(self) -> None:
        """Connections are cut and new ones refused."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
            for connection in list(self._connections):
                connection.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            await server.wait_closed()

    def swallow(self) -> None:
        """Connections are accepted and stay; nothing passes any more, so that nothing is ever answered."""
        self._flowing.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        with contextlib.suppress(asyncio.CancelledError, OSError):
            there, back = await asyncio.open_connection(*self._target)
            try:
                await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
            finally:
                back.close()
        writer.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await self._flowing.wait()
            sink.write(data)
            await sink.drain()
        sink.close()


@contextlib.asynccontextmanager
async def breakable_path(target: str) -> AsyncIterator[BreakablePath]:
    """An open path to `target`."""
    path = BreakablePath(target)
    await path.open()
    try:
        yield path
    finally:
        path.swallow()
        await path.close()
