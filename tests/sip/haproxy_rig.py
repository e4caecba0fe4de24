"""HAProxy nodes with their adapter, a SIP server behind, and hands on what lies between adapter and node."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.edges.base import TrunkChange, TrunkState
from adapters.edges.haproxy.edge import HaproxyEdge
from adapters.edges.haproxy.slots import slot_file
from adapters.files.local import LocalFiles
from settings import FilesSource, HaproxyProfile, LocalDirectory
from tests.adapters.trunk_leaves import root, trunk_leaf
from tests.sip.command_tap import CommandTap, command_tap, nothing
from tests.sip.haproxy_node import HaproxyNode, haproxy_node
from tests.sip.sip_behind import SipBehind, sip_behind

A, B, C = trunk_leaf("A"), trunk_leaf("B"), trunk_leaf("C")
NAMES = {A.sha256: "A", B.sha256: "B", C.sha256: "C"}
TRUNK = "trunk"
PEER = "127.0.0.2"
"""Where the carrier calls from; known to the nodes."""
NAME = "rotation-b-0123456789ab"
BIND = TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256)
PREFER = TrunkChange(pool=(B.sha256, A.sha256))
REMOVE = TrunkChange(pool=(B.sha256,), canary="")
BACK = TrunkChange(pool=(A.sha256, B.sha256), canary="")
A_ALONE = TrunkChange(pool=(A.sha256,), canary="", always=True)


def ramp(share: int) -> TrunkChange:
    """A step of PREFER: that percentage for B."""
    return TrunkChange(pool=(A.sha256, B.sha256), shares=(100 - share, share))


class TappedFiles(LocalFiles):
    """A node's directory. `before` is called with each write and may stop it; `writes` are those carried out."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.before: Callable[[str], None] = nothing
        self.writes: list[str] = []

    async def write(self, name: str, content: bytes) -> None:
        self.before(name)
        await super().write(name, content)
        self.writes.append(name)


@dataclass
class HaproxyRig:
    """The edge on its nodes, and everything that the tests do to them. Node 0 unless a number is given."""

    nodes: list[HaproxyNode]
    edge: HaproxyEdge
    taps: list[CommandTap]
    files: list[TappedFiles]
    behind: dict[str, SipBehind]
    settings: HaproxyProfile
    _connected: list[ssl.SSLSocket] = field(default_factory=list)

    @property
    def node(self) -> HaproxyNode:
        return self.nodes[0]

    async def state(self) -> TrunkState:
        return await self.edge.read_trunk(TRUNK)

    async def change(self, change: TrunkChange) -> TrunkState:
        return await self.edge.update_trunk(TRUNK, change)

    async def upload_b(self) -> None:
        await self.edge.upload(NAME, B.chain_pem, B.private_key)

    async def bound(self) -> TrunkState:
        """B uploaded and bound beside A."""
        await self.upload_b()
        return await self.change(BIND)

    async def served(self, number: int = 0, *, canary: bool = False, times: int = 1) -> Counter[str]:
        """How often fresh handshakes got which certificate."""
        node = self.nodes[number]
        port = node.ports["canary" if canary else "public"]
        return Counter([await asyncio.to_thread(handshake, node.address, port) for _ in range(times)])

    async def connect(self, number: int = 0, *, source: str = PEER, canary: bool = False) -> ssl.SSLSocket:
        """A carrier's connection that stays, one OPTIONS answered on it."""
        node = self.nodes[number]
        port = node.ports["canary" if canary else "public"]
        tls = await asyncio.to_thread(connected, node.address, port, source)
        self._connected.append(tls)
        assert await asyncio.to_thread(answers, tls)
        return tls

    def held(self, number: int = 0) -> dict[str, str]:
        """Slot → certificate in its file; `-` for a placeholder."""
        found = {slot: slot_file(self.nodes[number].slot(slot).read_bytes()).leaf for slot in ("one", "two")}
        return {slot: "-" if leaf is None else NAMES[leaf] for slot, leaf in found.items()}

    def kept_staple(self, slot: str) -> bytes | None:
        """The OCSP response beside the slot's file."""
        path = Path(f"{self.node.slot(slot)}.ocsp")
        return path.read_bytes() if path.exists() else None

    async def calls(self) -> dict[str, int]:
        """Live connections by certificate, as the adapter counts them."""
        found = (await self.edge.health(TRUNK)).active_calls
        return {NAMES.get(leaf, leaf): count for leaf, count in found.items()}

    def disconnect(self) -> None:
        for tls in self._connected:
            tls.close()
        self._connected.clear()


def client_context(*, trusting: bool = True) -> ssl.SSLContext:
    """A carrier that verifies chain and name; one that does not trust our root sends the alert unknown_ca."""
    context = ssl.create_default_context(cadata=root().pem if trusting else None)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def connected(
    address: str, port: int, source: str = PEER, context: ssl.SSLContext | None = None, **changes: Any
) -> ssl.SSLSocket:
    """A TLS connection from that source address, every end of data without close_notify an error."""
    plain = socket.create_connection((address, port), 10, source_address=(source, 0))
    try:
        return (context or client_context()).wrap_socket(
            plain, server_hostname="trunk.example.com", suppress_ragged_eofs=False, **changes
        )
    except BaseException:
        plain.close()
        raise


def handshake(address: str, port: int, source: str = PEER, context: ssl.SSLContext | None = None) -> str:
    """Which certificate a fresh handshake gets."""
    with connected(address, port, source, context) as tls:
        return NAMES[hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()]


def refused_handshake(address: str, port: int, source: str = PEER) -> None:
    """A handshake that ends with the alert unknown_ca, as a carrier without our root sends it."""
    try:
        handshake(address, port, source, client_context(trusting=False))
    except ssl.SSLCertVerificationError:
        return
    raise AssertionError("a certificate of an unknown CA was accepted")


def answers(tls: ssl.SSLSocket) -> bool:
    """Whether an OPTIONS on the connection is answered."""
    tls.sendall(OPTIONS)
    return tls.recv(4096).startswith(b"SIP/2.0 200")


def ended_in_order(tls: ssl.SSLSocket) -> bool:
    """Waits for the end of the connection: True for close_notify, False for a bare end or a reset."""
    tls.settimeout(10)
    try:
        return tls.recv(4096) == b""
    except (ssl.SSLEOFError, ConnectionResetError):
        return False


def reset(tls: ssl.SSLSocket) -> None:
    """Ends the connection without a word (RST)."""
    tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tls.close()


OPTIONS = (
    b"OPTIONS sip:trunk.example.com SIP/2.0\r\nVia: SIP/2.0/TLS 127.0.0.2;branch=z9hG4bK1\r\n"
    b"From: <sip:carrier@example.com>;tag=1\r\nTo: <sip:trunk.example.com>\r\nCall-ID: 1@example.com\r\n"
    b"CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
)


@asynccontextmanager
async def haproxy_rig(
    folder: Path,
    *,
    nodes: int = 1,
    metrics_url: str = "http://127.0.0.1:9",
    changes: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[HaproxyRig]:
    """Everything up, A alone served. `settings` change the profile, `options` are those of `haproxy_node`."""
    async with AsyncExitStack() as stack:
        behind = {slot: await stack.enter_async_context(sip_behind()) for slot in ("one", "two")}
        running = [
            await stack.enter_async_context(
                haproxy_node(
                    folder / f"node{number}",
                    a=A,
                    sip=(behind["one"].address, behind["two"].address),
                    peers=PEER,
                    changes=changes,
                    **options,
                )
            )
            for number in range(nodes)
        ]
        taps = [await stack.enter_async_context(command_tap(node.master)) for node in running]
        files = {str(node.sip): TappedFiles(node.sip) for node in running}
        profile = profile_of(folder, running, taps, metrics_url=metrics_url, **(settings or {}))
        edge = HaproxyEdge("edge", profile, open_files=lambda source: files[_directory(source)])
        stack.push_async_callback(edge.close)
        rig = HaproxyRig(running, edge, taps, list(files.values()), behind, profile)
        stack.callback(rig.disconnect)
        yield rig


def profile_of(
    folder: Path, nodes: Sequence[HaproxyNode], taps: Sequence[CommandTap], *, metrics_url: str, **changes: Any
) -> HaproxyProfile:
    """The settings of an edge on those nodes, spoken to through the taps."""
    (folder / "anchors.pem").write_text(root().pem)
    return HaproxyProfile.model_validate(
        {
            "kind": "haproxy",
            "listener": TRUNK,
            "nodes": [
                {
                    "name": f"node{number}",
                    "runtime": tap.runtime,
                    "files": {"kind": "local", "directory": str(node.sip)},
                }
                for number, (node, tap) in enumerate(zip(nodes, taps, strict=True))
            ],
            "canary_port": nodes[0].ports["canary"],
            "trust_anchor_file": str(folder / "anchors.pem"),
            "metrics": {"base_url": metrics_url, "lab": True},
            "lab": True,
            **changes,
        }
    )


def _directory(source: FilesSource) -> str:
    assert isinstance(source, LocalDirectory)
    return str(source.directory)
