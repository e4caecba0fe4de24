"""The codec server beside the Temporal Web UI: it decrypts what a page shows. It never encrypts.

    python -m codec.server --port 0 --origin http://127.0.0.1:8233

prints `{"url": …}` as its first line, which is the UI's codec endpoint and `temporal --codec-endpoint`. It listens on
the loopback interface; elsewhere it demands a bearer token, for which a front with TLS is expected.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import uvicorn
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from temporalio.api.common.v1 import Payload, Payloads
from temporalio.converter import PayloadCodec

from codec.encryption import EncryptionCodec, PayloadUnreadable, load_keyring, without_mark
from domain.errors import RotatorError, SettingsInvalid
from settings import load_settings

BODY_LIMIT = 4 * 1024 * 1024
"""Bytes of one request; more is answered 413."""

ANSWER_LIMIT = 64 * 1024 * 1024
"""Bytes of all payloads of one answer: what arrives compressed could grow a thousandfold. More is answered 413."""


class _TooLarge(Exception):
    """The body passed `BODY_LIMIT`, or the answer `ANSWER_LIMIT`; the message says which."""


class DecodeService:
    """Answers the Web UI. A request from a page of another origin is refused, not merely left without CORS headers."""

    def __init__(
        self, codec: PayloadCodec, origins: Sequence[str], token: str | None = None, *, encodes: bool = False
    ) -> None:
        self._codec = codec
        self._encodes = encodes
        self._origins = frozenset(origins)
        self._token = token

    async def decode(self, request: Request) -> JSONResponse:
        """`{"payloads": […]}` in, the same in plain out (protobuf JSON); plain payloads pass through."""
        return await self._answer(request, self._decoded)

    async def encode(self, request: Request) -> JSONResponse:
        """Encrypts what a person sends from the Web UI, where that was switched on; refused otherwise.

        Whoever reaches an encoding server can write payloads that workers take for encrypted ones of their own.
        """
        if not self._encodes:
            return _error(403, "this codec server only decodes; start it with --encode to send signals from the Web UI")
        return await self._answer(request, self._codec.encode)

    async def _decoded(self, payloads: Sequence[Payload]) -> list[Payload]:
        """One after the other, so that the limit holds before memory is full; plain ones exactly as they came."""
        decoded, length = [], 0
        for payload in payloads:
            plain = without_mark((await self._codec.decode([payload]))[0])
            length += plain.ByteSize()
            if length > ANSWER_LIMIT:
                raise _TooLarge(f"the answer would be larger than {ANSWER_LIMIT} bytes: ask for fewer payloads")
            decoded.append(plain)
        return decoded

    async def _answer(
        self, request: Request, convert: Callable[[Sequence[Payload]], Awaitable[list[Payload]]]
    ) -> JSONResponse:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        try:
            payloads = json_format.Parse(await _body(request), Payloads(), ignore_unknown_fields=True)
            converted = await convert(payloads.payloads)
        except _TooLarge as error:
            return _error(413, str(error))
        except ClientDisconnect:
            return _error(400, "the request ended early")
        except (json_format.ParseError, UnicodeDecodeError, RecursionError):
            return _error(400, 'the request is not {"payloads": [{"metadata": {…}, "data": "<base64>"}]}')
        except PayloadUnreadable as error:
            return _error(400, str(error))
        return JSONResponse(json_format.MessageToDict(Payloads(payloads=converted)))

    async def health(self, request: Request) -> JSONResponse:
        """200 while it serves."""
        return JSONResponse({"status": "ok"})

    def _refusal(self, request: Request) -> JSONResponse | None:
        origin = request.headers.get("origin")
        if origin is not None and origin not in self._origins:
            return _error(403, "pages of this origin may not use the codec server; start it with --origin")
        given = request.headers.get("authorization", "").encode()
        if self._token is not None and not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            return _error(401, "the header Authorization: Bearer … is missing or wrong")
        return None


def application(
    codec: PayloadCodec,
    origins: Sequence[str],
    *,
    prefix: str = "",
    token: str | None = None,
    encodes: bool = False,
) -> Starlette:
    """The server as an ASGI application. `prefix` precedes /decode and /encode, for example `/codec`."""
    service = DecodeService(codec, origins, token, encodes=encodes)
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(origins),
        allow_methods=["POST"],
        allow_headers=["content-type", "x-namespace", "authorization"],
        allow_private_network=True,
    )
    return Starlette(
        routes=[
            Route(f"{prefix}/decode", service.decode, methods=["POST"]),
            Route(f"{prefix}/encode", service.encode, methods=["POST"]),
            Route("/health", service.health, methods=["GET"]),
        ],
        middleware=[cors],
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serves until SIGTERM or SIGINT. Returns 2 when settings or options are wrong."""
    options = _options(arguments)
    try:
        settings = load_settings(options.settings)
        token = os.environ.get(options.token_env) if options.token_env else None
        _check_exposure(options.host, options.token_env, token)
        codec = EncryptionCodec(load_keyring(settings.codec))
        origins = [_origin(url) for url in (options.origin or filter(None, [settings.web_ui]))]
        if not origins:
            raise SettingsInvalid("no origin is named", where="codec server", action="pass --origin or set web_ui")
        listener = _listen(options.host, options.port)
    except RotatorError as error:
        print(error, file=sys.stderr)
        return 2
    prefix = f"/{options.prefix.strip('/')}" if options.prefix.strip("/") else ""
    server = uvicorn.Server(
        uvicorn.Config(
            application(codec, origins, prefix=prefix, token=token, encodes=options.encode),
            log_level="warning",
            access_log=False,
            lifespan="off",
            ws="none",
        )
    )
    # uvicorn hands a signal that it has served on to the handler that was there before it: leave with 0, not by signal.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(json.dumps({"url": f"http://{shown}:{port}{prefix}"}), flush=True)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        return 0
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m codec.server", description="Decrypts payloads for the Web UI.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8088, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--origin", action="append", help="origin of the Web UI; repeatable (default: its web_ui)")
    parser.add_argument("--prefix", default="", help="path before /decode, for example /codec")
    parser.add_argument("--encode", action="store_true", help="also encrypt, so that the Web UI can send signals")
    parser.add_argument("--settings", type=Path, help="settings file (default: $SIP_ROTATE_SETTINGS)")
    parser.add_argument("--token-env", help="environment variable with the bearer token that requests must carry")
    return parser.parse_args(arguments)


def _check_exposure(host: str, variable: str | None, token: str | None) -> None:
    if variable is not None and not token:
        raise SettingsInvalid("the bearer token is missing", where="--token-env", seen=f"{variable} is not set")
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and token is None:
        raise SettingsInvalid(
            "anyone who reaches this address could read every payload",
            where=f"--host {host}",
            action="listen on 127.0.0.1, or name a bearer token with --token-env behind a front with TLS",
        )


def _origin(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise SettingsInvalid("the origin is no http(s) URL", where="--origin", seen=url)
    return f"{parts.scheme}://{parts.netloc}"


def _listen(host: str, port: int) -> socket.socket:
    if not 0 <= port <= 65535:
        raise SettingsInvalid("cannot listen", where="--port", seen=str(port), action="pass 0 to 65535")
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise SettingsInvalid("cannot listen", where=f"{host}:{port}", seen=str(error)) from None


async def _body(request: Request) -> bytes:
    """Reads to the end also what it does not keep: a client that is still sending would never read the refusal."""
    body, length = bytearray(), 0
    async for part in request.stream():
        length += len(part)
        if length <= BODY_LIMIT:
            body += part
    if length > BODY_LIMIT:
        raise _TooLarge(f"the request is larger than {BODY_LIMIT} bytes")
    return bytes(body)


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status_code=status)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # CPython sometimes aborts while it tears the Temporal SDK's core down, which would turn a clean stop into a crash.
    os._exit(code)
