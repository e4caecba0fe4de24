"""A platform that shouts: it stands before the lab's API and, when told to, answers changes with megabytes of error."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIsecretsecret\n-----END PRIVATE KEY-----"
"""What a platform must not echo, and one did."""

BODY = f"<html>it is all your fault {KEY} ".encode() + b"fault " * 850_000
"""5 MB."""


class Shouting:
    """Passes everything on; with `status` set, it answers every change with that and `BODY`."""

    def __init__(self, upstream: str) -> None:
        self._upstream = httpx.AsyncClient(base_url=upstream, trust_env=False, timeout=30)
        self.status: int | None = None
        self.shouted = 0
        self.url = ""

    async def _answer(self, request: Request) -> Response:
        body = await request.body()
        if self.status is not None and request.method in ("PUT", "POST", "PATCH") and "token" not in request.url.path:
            self.shouted += 1
            return Response(BODY, self.status, media_type="text/html")
        headers = {k: v for k, v in request.headers.items() if k not in ("host", "content-length")}
        path = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        answer = await self._upstream.request(request.method, path, content=body, headers=headers)
        kept = {k: v for k, v in answer.headers.items() if k in ("content-type", "retry-after", "etag", "location")}
        return Response(answer.content, answer.status_code, headers=kept)

    @contextlib.asynccontextmanager
    async def served(self) -> AsyncIterator[Shouting]:
        """On a free port."""
        methods = ["GET", "PUT", "POST", "PATCH", "DELETE"]
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        config = uvicorn.Config(app, lifespan="off", ws="none", log_level="error", access_log=False)
        listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = uvicorn.Server(config)
        running = asyncio.create_task(server._serve([listener]))
        try:
            yield self
        finally:
            server.should_exit = True
            await running
            listener.close()
            await self._upstream.aclose()
