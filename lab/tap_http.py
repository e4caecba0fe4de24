"""A tap on an HTTP service: a reverse proxy on a loopback port of its own, HTTP/1.1 in the clear.

Not an ASGI application: a server that speaks ASGI answers 500 where this one has to close the connection unanswered.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import h11
import httpx

from lab.listening import Listener
from lab.ports import LOOPBACK
from lab.tap import Lost, Taps
from lab.tap_names import http_operation

_CHUNK = 65536
_SERVICE_TIMEOUT_S = 30.0
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"host"})
_BODYLESS = frozenset({204, 304})


@dataclass(frozen=True)
class _Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class HttpTap:
    """Passes every request on to `upstream` (a base URL without trailing slash) and its answer back."""

    def __init__(self, service: str, upstream: str, taps: Taps) -> None:
        self.service, self._upstream, self._taps = service, upstream, taps
        self._listener = Listener(LOOPBACK, 0, self._serve)
        self._client = httpx.AsyncClient(
            base_url=upstream, trust_env=False, timeout=_SERVICE_TIMEOUT_S, follow_redirects=False
        )

    @property
    def url(self) -> str:
        """Base URL, known once started."""
        return f"http://{LOOPBACK}:{self._listener.port}"

    async def start(self) -> None:
        """Accept from now on."""
        await self._listener.open()

    async def stop(self) -> None:
        """Close the port and every connection; what is held is dropped."""
        await self._listener.close()
        await self._client.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)
        try:
            while (asked := await _next_request(connection, reader)) is not None:
                request, body = asked
                answer = await self._answer(request, body)
                for event in (
                    h11.Response(status_code=answer.status, headers=answer.headers),
                    h11.Data(data=answer.body),
                    h11.EndOfMessage(),
                ):
                    writer.write(connection.send(event) or b"")
                await writer.drain()
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return
                connection.start_next_cycle()
        except (Lost, ConnectionError, h11.RemoteProtocolError, httpx.HTTPError):
            return  # the listener closes the connection: the client sees an answer that never came

    async def _answer(self, request: h11.Request, body: bytes) -> _Answer:
        method, target = request.method.decode("ascii"), request.target.decode("ascii")

        async def forward() -> tuple[bool, _Answer]:
            sent = [(k, v) for k, v in request.headers if k not in _HOP_BY_HOP and k != b"accept-encoding"]
            response = await self._client.request(
                method, target, content=body, headers=[*sent, (b"accept-encoding", b"identity")]
            )
            return response.is_success, _answer_of(response)

        return await self._taps.passed(self.service, http_operation(method, target.partition("?")[0]), forward)


def _answer_of(response: httpx.Response) -> _Answer:
    headers = [(k, v) for k, v in response.headers.raw if k.lower() not in _HOP_BY_HOP]
    if response.status_code not in _BODYLESS:
        headers.append((b"content-length", str(len(response.content)).encode()))
    return _Answer(response.status_code, headers, response.content)


async def _next_request(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[h11.Request, bytes] | None:
    """The next request and its whole body; None when the client has closed the connection."""
    request: h11.Request | None = None
    body = b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(_CHUNK))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            assert request is not None
            return request, body
        else:
            return None
