"""The TLS client below the prober: what a look that is cut short must not lose."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from adapters.probe.tls_client import TlsClient, TlsFiles
from tests.adapters.probing import FQDN


async def test_a_read_that_is_cancelled_as_its_bytes_arrive_leaves_them_for_the_next(anchors: Path) -> None:
    """asyncio's `sock_recv` drops what it read when the cancellation comes between its callback and its task."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        tls = TlsClient(ours, TlsFiles(anchors).context(), FQDN)
        reading = asyncio.create_task(tls.handshake())
        assert (await asyncio.to_thread(theirs.recv, 65536)).startswith(b"\x16\x03\x01")  # it waits for the ServerHello
        theirs.send(b"a first word")
        loop.call_soon(lambda: loop.call_soon(reading.cancel))
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert ours.recv(64) == b"a first word"
