"""HAProxy turns a command about certificates away while another one runs; who looks often must not fall over that."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.edges.haproxy.runtime import LOCKED, Command, Runtime
from settings import HaproxyHost, LocalDirectory
from tests.adapters.trunk_leaves import trunk_leaf
from tests.sip.haproxy_node import HaproxyNode, haproxy_node

pytestmark = pytest.mark.sip

COMMANDS = 40
ROUNDS = 100


async def asks(node: HaproxyNode, stop: asyncio.Event) -> int:
    """Asks for a certificate again and again, as somebody else does; how often HAProxy turned that away."""
    refused = 0
    while not stop.is_set():
        reader, writer = await asyncio.open_unix_connection(node.master)
        writer.write(f"@1 show ssl cert {node.slot('one')}\n".encode() * COMMANDS)
        writer.write_eof()
        refused += (await reader.read()).count(LOCKED.encode())
        writer.close()
    return refused


async def test_looks_at_the_same_time_all_see_the_certificates(tmp_path: Path) -> None:
    async with haproxy_node(tmp_path, a=trunk_leaf("A")) as node:
        files = LocalDirectory(kind="local", directory=node.sip)
        runtime = Runtime(HaproxyHost(name="edge", runtime=node.runtime, files=files), 5.0, "here")
        stop = asyncio.Event()
        others = [asyncio.create_task(asks(node, stop)) for _ in range(4)]
        try:
            for _ in range(ROUNDS):
                for answer in await runtime.ask([Command(f"show ssl cert {node.slot('one')}")] * 5):
                    assert "Serial:" in answer
        finally:
            stop.set()
            refused = await asyncio.gather(*others)
        assert sum(refused) > 0, "HAProxy turned nobody away: this test shows nothing"
