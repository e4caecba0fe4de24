"""The edge as a TLS client, and as one that demands certificates: ours is part of the pool there, too."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.carrier_ca import CarrierCa
from tests.adapters.trunk_leaves import root
from tests.sip.haproxy_counts import reaches
from tests.sip.haproxy_rig import (
    NAMES,
    PREFER,
    REMOVE,
    TRUNK,
    A,
    HaproxyRig,
    answers,
    client_context,
    connected,
    haproxy_rig,
    ramp,
)

pytestmark = pytest.mark.sip


@dataclass
class Carrier:
    """A carrier that demands client certificates of our root. `shown` are the leaves that it was shown, in order.

    `resumed` counts connections that went on with an older session, and so showed none.
    """

    context: ssl.SSLContext
    port: int = 0
    shown: list[str] = field(default_factory=list)
    resumed: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await writer.start_tls(self.context)
            tls = writer.get_extra_info("ssl_object")
            self.resumed += tls.session_reused
            self.shown.append(NAMES[hashlib.sha256(tls.getpeercert(True)).hexdigest()])
            while data := await reader.read(4096):
                writer.write(data)
                await writer.drain()
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def carrier_of(folder: Path) -> AsyncIterator[tuple[Carrier, str]]:
    """A running carrier, and the root that verifies it."""
    ca = CarrierCa()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity = ca.issue("carrier.example.com")
    (folder / "carrier.pem").write_text(identity.certificate_pem + identity.key_pem)
    context.load_cert_chain(folder / "carrier.pem")
    context.load_verify_locations(cadata=root().pem)
    context.verify_mode = ssl.CERT_REQUIRED
    carrier = Carrier(context)
    server = await asyncio.start_server(carrier.serve, "127.0.0.1", 0)
    carrier.port = server.sockets[0].getsockname()[1]
    try:
        yield carrier, ca.certificate_pem
    finally:
        server.close()


def say(address: tuple[str, int]) -> socket.socket:
    """What the SIP server does: a connection on which the carrier has answered."""
    plain = socket.create_connection(address, 10)
    try:
        plain.sendall(b"OPTIONS")
        answer = plain.recv(100)
    except ConnectionError:
        answer = b""
    if answer != b"OPTIONS":
        plain.close()
        raise ConnectionError("the carrier did not answer")
    return plain


async def test_the_client_certificate_of_outbound_calls_follows_the_pool(tmp_path: Path) -> None:
    async with (
        carrier_of(tmp_path) as (carrier, roots),
        haproxy_rig(tmp_path, carrier=f"127.0.0.1:{carrier.port}", carrier_roots_pem=roots) as rig,
    ):
        address = (rig.node.address, rig.node.ports["out"])

        async def shown(times: int = 4) -> list[str]:
            carrier.shown.clear()
            for _ in range(times):
                (await asyncio.to_thread(say, address)).close()
            return carrier.shown

        assert await shown() == ["A"] * 4
        await rig.bound()
        assert await shown() == ["A"] * 4
        await rig.change(ramp(50))
        assert sorted(await shown()) == ["A", "A", "B", "B"]
        lasting = await asyncio.to_thread(say, address)
        on = carrier.shown[-1]
        await rig.change(PREFER)
        assert await shown() == ["B"] * 4
        assert (await rig.calls())[on] == 1
        if on == "A":
            assert await rig.edge.close_connections(TRUNK, A.sha256) == 1
            assert await asyncio.to_thread(lasting.recv, 1) == b""
        lasting.close()
        await rig.node.restart(killed=True)
        assert await shown() == ["B"] * 4
        await rig.change(REMOVE)
        await rig.edge.delete_certificate(A.sha256)
        assert await shown() == ["B"] * 4
        assert await rig.node.weights("out-pool") == {"two": 100}
        assert carrier.resumed == 0


async def test_outbound_handshakes_count_with_the_first_answer(tmp_path: Path) -> None:
    """A carrier that does not trust our root says so only after a TLS 1.3 client believes the handshake was good."""
    async with (
        carrier_of(tmp_path) as (carrier, roots),
        haproxy_rig(tmp_path, carrier=f"127.0.0.1:{carrier.port}", carrier_roots_pem=roots) as rig,
    ):
        address = (rig.node.address, rig.node.ports["out"])
        await rig.bound()
        lasting = [await asyncio.to_thread(say, address) for _ in range(3)]
        await reaches(rig.node, {("one", "127.0.0.1"): (3, 0)}, "outbound")
        await rig.change(PREFER)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            strange = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            strange.load_cert_chain(tmp_path / "carrier.pem")
            strange.load_verify_locations(cadata=roots)
            strange.verify_mode, strange.maximum_version = ssl.CERT_REQUIRED, version
            carrier.context = strange
            with pytest.raises(ConnectionError):
                await asyncio.to_thread(say, address)
        await reaches(rig.node, {("one", "127.0.0.1"): (3, 0), ("two", "127.0.0.1"): (0, 2)}, "outbound")
        for one in lasting:
            one.close()
        await reaches(rig.node, {("one", "127.0.0.1"): (3, 0), ("two", "127.0.0.1"): (0, 2)}, "outbound")


async def test_mutual_tls_is_demanded_by_both_slots(tmp_path: Path) -> None:
    ca = CarrierCa()
    mine = ca.issue("carrier.example.com")
    (tmp_path / "mine.pem").write_text(mine.certificate_pem + mine.key_pem)
    async with haproxy_rig(tmp_path, mutual=True, carrier_roots_pem=ca.certificate_pem) as rig:
        await rig.bound()
        for port in ("public", "canary"):
            context = client_context()
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asyncio.to_thread(said, rig, port, context)
            context.load_cert_chain(tmp_path / "mine.pem")
            assert await asyncio.to_thread(said, rig, port, context)


def said(rig: HaproxyRig, port: str, context: ssl.SSLContext) -> bool:
    """Whether a carrier with that context gets an answer."""
    with connected(rig.node.address, rig.node.ports[port], context=context) as tls:
        return answers(tls)
