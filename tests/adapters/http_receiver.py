"""A real HTTP server that keeps what it gets and answers what it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lab.ports import LOOPBACK, free_port


@dataclass
class Receiver:
    """`got` are path and JSON body of each request."""

    url: str
    status: int = 202
    text: str = ""
    got: list[tuple[str, Any]] = field(default_factory=list)

    async def take(self, request: Request) -> Response:
        self.got.append((request.url.path, await request.json()))
        return Response(self.text, self.status)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """It listens within the block."""
    port = free_port()
    receiver = Receiver(f"http://{LOOPBACK}:{port}")
    app = Starlette(routes=[Route("/{path:path}", receiver.take, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, host=LOOPBACK, port=port, log_level="error", lifespan="off"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 – uvicorn tells nobody
        await asyncio.sleep(0.01)
    try:
        yield receiver
    finally:
        server.should_exit = True
        await serving
