"""One HTTP service of the lab: an ASGI application on a free loopback port, in the running event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from lab.ports import LOOPBACK, listening_socket


class _QuietServer(uvicorn.Server):
    """uvicorn without its own signal handlers: the lab's launcher owns SIGTERM and SIGINT."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpService:
    """Serves `app` from `start()` until `stop()`; no access log, no lifespan."""

    def __init__(self, app: ASGIApp) -> None:
        self._socket = listening_socket()
        self.url = f"http://{LOOPBACK}:{self._socket.getsockname()[1]}"
        """Base URL, known before the start."""
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2, ws="none"
        )
        self._server = _QuietServer(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once requests are answered. Raises what uvicorn raised when it could not start."""
        task = asyncio.create_task(self._server.serve(sockets=[self._socket]), name=f"http {self.url}")
        self._task = task
        while not self._server.started:
            if task.done():
                await task
                raise RuntimeError(f"the HTTP service at {self.url} ended before it served")
            await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """Finish the requests in flight (at most 2 s) and close every connection and the port."""
        task, self._task = self._task, None
        if task is not None:
            self._server.should_exit = True
            await task
        self._socket.close()
