"""What a TLS listener serves, by a fresh handshake of our own: read from what runs, not from what was written.

Nothing is sent on the connection, so it carries no SIP message and is in nobody's figures.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256

from adapters.probe.tls_client import TlsClient, TlsFailed, TlsFiles
from domain.errors import Unreachable


async def served_leaf(
    address: str, port: int, server_name: str | None, *, anchors: Path, timeout_s: float, where: str
) -> str:
    """SHA-256 of the leaf, also when the chain is not trusted or the server then asks for a certificate of ours.

    Raises `Unreachable` when no certificate is presented in time, `SettingsInvalid` for anchors that cannot be read.
    """
    context, failure = TlsFiles(anchors).context(), "timeout"
    try:
        async with asyncio.timeout(timeout_s):
            connected = await _connected(address, port)
            client = TlsClient(connected, context, server_name)
            try:
                await client.handshake()
            except TlsFailed as failed:
                failure = failed.cause
            finally:
                client.close()
            if client.chain:
                return client.chain[0].fingerprint(SHA256()).hex()
    except TimeoutError:
        pass
    except OSError as error:
        failure = error.strerror or type(error).__name__
    raise Unreachable(
        "the listener presents no certificate",
        where=where,
        seen=f"{address}:{port}: {failure.lower()}",
        action="check that it runs there and that the worker's host may connect to it",
    )


async def _connected(address: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, found = (await loop.getaddrinfo(address, port, type=socket.SOCK_STREAM))[0]
    connecting = socket.socket(family, kind, protocol)
    connecting.setblocking(False)
    try:
        await loop.sock_connect(connecting, found)
    except BaseException:
        connecting.close()
        raise
    return connecting
