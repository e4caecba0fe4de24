"""A TCP listener that keeps its port, and owns the tasks of the connections that it accepted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Accepted = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """Listens on `host`; port 0 takes any free one and keeps it. `serve` runs once per connection."""

    def __init__(self, host: str, port: int, serve: Accepted) -> None:
        self.host, self.port = host, port
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def listening(self) -> bool:
        """New connections are accepted."""
        return self._server is not None

    async def open(self) -> None:
        """Starts to accept. Raises OSError when the port is taken."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, self.host, self.port, backlog=256)
            self.port = self._server.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        """Stops to accept; connections that are open live on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def close(self) -> None:
        """Stops to accept and ends every connection's task."""
        self.refuse()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._run(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        finally:
            writer.transport.abort()
