"""A Kamailio edge with its adapter, and hands on what lies between them: lost answers, files edited by others."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from adapters.edges.base import TrunkChange, TrunkState
from adapters.edges.kamailio.edge import KamailioEdge
from adapters.files.local import LocalFiles
from domain.errors import Unreachable
from settings import FilesSource, KamailioHost, KamailioProfile, LocalDirectory, PrometheusSource, SecretSource
from tests.adapters.trunk_leaves import TrunkLeaf, root, trunk_leaf
from tests.sip.kamailio_node import CANARY_NAME, TOKEN, TRUNK, KamailioNode, kamailio_edge
from tests.sip.sip_carrier import CarrierServer
from tests.sip.sip_peers import Caller, Core

A, B = trunk_leaf("A"), trunk_leaf("B")
CALLS_FROM = "127.0.0.2"
"""The carrier's address."""
NAME = "rotation-b-0123456789ab"
BIND = TrunkChange(pool=(A.sha256, B.sha256), canary=B.sha256)
PREFER = TrunkChange(pool=(B.sha256, A.sha256))
REMOVE = TrunkChange(pool=(B.sha256,), canary="")
BACK = TrunkChange(pool=(A.sha256, B.sha256), canary="")
A_ALONE = TrunkChange(pool=(A.sha256,), canary="", always=True)

Deed = Callable[[str], None]
"""Called with what is about to be done or has been done; raises to stop it there."""


def nothing(_: str) -> None:
    """Lets it happen."""


@dataclass
class Interference:
    """What happens around every change that the adapter makes; `done` lists them in order."""

    before: Deed = nothing
    after: Deed = nothing
    done: list[str] = field(default_factory=list)

    def __call__(self, what: str) -> None:
        self.done.append(what)
        self.after(what)


class TappedFiles(LocalFiles):
    """The node's directory, every write and removal with interference."""

    def __init__(self, directory: Path, tap: Interference) -> None:
        super().__init__(directory)
        self._tap = tap

    async def write(self, name: str, content: bytes) -> None:
        self._tap.before(f"write {name}")
        await super().write(name, content)
        self._tap(f"write {name}")

    async def remove(self, name: str) -> bool:
        self._tap.before(f"remove {name}")
        removed = await super().remove(name)
        if removed:
            self._tap(f"remove {name}")
        return removed


class TappedHttp(httpx.AsyncBaseTransport):
    """Real HTTP, every command that changes something with interference. With `port`, all goes to that port instead."""

    def __init__(self, tap: Interference, ca_file: Path | None = None) -> None:
        self._wire = httpx.AsyncHTTPTransport(verify=ssl.create_default_context(cafile=ca_file))
        self._tap = tap
        self.port: int | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.port is not None:
            request.url = request.url.copy_with(port=self.port)
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), 0.3)
        what = _command(request)
        if what is not None:
            self._tap.before(what)
        response = await self._wire.handle_async_request(request)
        if what is not None:
            await response.aread()
            self._tap(what)
        return response

    async def aclose(self) -> None:
        await self._wire.aclose()


def _command(request: httpx.Request) -> str | None:
    """`tls.reload`, `htable.sets`, `/rotation/close`; None for what only asks."""
    if request.method != "POST":
        return None
    if request.url.path.startswith("/rotation/close/"):
        return "close"
    return next((name for name in ("tls.reload", "htable.sets") if name in request.content.decode()), None)


def lose_answer_of(what: str) -> Deed:
    """The answer of the first such change is lost; the change is made."""
    left = [what]

    def lose(done: str) -> None:
        if left and done == left[0]:
            left.clear()
            raise Unreachable("the answer is lost", where="test")

    return lose


@dataclass
class Rig:
    """The edge on its nodes, the core behind it, and the carrier's own listener where calls go out."""

    nodes: list[KamailioNode]
    edge: KamailioEdge
    core: Core
    tap: Interference
    http: TappedHttp
    carrier: CarrierServer | None = None
    callers: list[Caller] = field(default_factory=list)

    def caller(self, source: str = CALLS_FROM, number: int = 0) -> Caller:
        """A carrier's connection to a node, closed at the end at the latest."""
        node = self.nodes[number]
        self.callers.append(Caller((node.address, node.ports["sips"]), source=source))
        return self.callers[-1]

    @property
    def node(self) -> KamailioNode:
        return self.nodes[0]

    async def state(self) -> TrunkState:
        return await self.edge.read_trunk(TRUNK)

    async def change(self, change: TrunkChange) -> TrunkState:
        return await self.edge.update_trunk(TRUNK, change)

    async def upload_b(self) -> None:
        await self.edge.upload(NAME, B.chain_pem, B.private_key)

    def reloads(self) -> int:
        """How often Kamailio itself says that it loaded tls.cfg, its starts apart."""
        return sum(node.log.count("TLSs<default>: tls_method") - node.log.count("Listening on") for node in self.nodes)

    def served(self, number: int = 0, *, canary: bool = False) -> str:
        """The leaf that a handshake gets, with Python's own TLS."""
        node = self.nodes[number]
        by_port = "server_name" not in node.tls_cfg.read_text()
        port = node.ports["canary" if canary and by_port else "sips"]
        return leaf_at(node.address, port, CANARY_NAME if canary and not by_port else "trunk.example.com")

    def files(self, number: int = 0) -> list[str]:
        return sorted(path.name for path in self.nodes[number].tls_directory.iterdir())


def leaf_at(address: str, port: int, server_name: str) -> str:
    """SHA-256 of the leaf that is served there."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((address, port), 5) as plain,
        context.wrap_socket(plain, server_hostname=server_name) as tls,
    ):
        return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def ticket_of(rig: Rig) -> tuple[ssl.SSLContext, ssl.SSLSession]:
    """A session that was begun now, with which a client may come back (TLS 1.2: the ticket comes in the handshake)."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((rig.node.address, rig.node.ports["sips"]), 5) as plain,
        context.wrap_socket(plain) as tls,
    ):
        assert tls.session is not None
        return context, tls.session


def resumed(rig: Rig, context: ssl.SSLContext, session: ssl.SSLSession) -> bool:
    """Whether the edge takes the session up again."""
    with (
        socket.create_connection((rig.node.address, rig.node.ports["sips"]), 5) as plain,
        context.wrap_socket(plain, session=session) as tls,
    ):
        return bool(tls.session_reused)


@asynccontextmanager
async def kamailio_rig(
    folder: Path,
    *,
    canary: str | None = "sni",
    nodes: int = 1,
    outbound: bool = False,
    metrics_url: str = "http://127.0.0.1:9",
    changes: Callable[[str], str] = lambda text: text,
    control: tuple[str, str, str] | None = None,
    ca_file: Path | None = None,
    longest_call_s: int = 14400,
    shared_memory_mb: int = 128,
) -> AsyncIterator[Rig]:
    """Everything up, A alone served."""
    core = Core()
    carrier = carrier_of(folder) if outbound else None
    kamailios = [
        kamailio_edge(
            folder / f"node{number}",
            chain_pem=A.chain_pem,
            key_pem=A.private_key.get_secret_value(),
            core_uri=core.uri,
            carrier_uri=carrier.uri if carrier else "sip:127.0.0.1:9;transport=tls",
            carrier_roots_pem=root().pem if outbound else None,
            canary=canary,
            changes=changes,
            control=control,
            longest_call_s=longest_call_s,
        )
        for number in range(nodes)
    ]
    for node in kamailios:
        node.shared_memory_mb = shared_memory_mb
    tap = Interference()
    http = TappedHttp(tap, ca_file)
    edge = KamailioEdge(
        "edge",
        profile(folder, kamailios, canary=canary, outbound=outbound, metrics_url=metrics_url, ca_file=ca_file),
        transport=http,
        open_files=lambda source: TappedFiles(_directory(source), tap),
    )
    running = Rig(kamailios, edge, core, tap, http, carrier)
    try:
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in kamailios))
        core.edge = (kamailios[0].address, kamailios[0].ports["core"])
        yield running
    finally:
        await edge.close()
        for caller in running.callers:
            caller.close()
        core.close()
        if carrier is not None:
            carrier.close()
        for node in kamailios:
            node.kill()


def profile(
    folder: Path,
    nodes: Sequence[KamailioNode],
    *,
    canary: str | None = "sni",
    outbound: bool = False,
    metrics_url: str = "http://127.0.0.1:9",
    token: str = TOKEN,
    ca_file: Path | None = None,
) -> KamailioProfile:
    """The settings of an edge on these nodes."""
    (folder / "roots.pem").write_text(root().pem)
    (folder / "token").write_text(token)
    return KamailioProfile(
        kind="kamailio",
        trunk=TRUNK,
        nodes=tuple(
            KamailioHost(
                name=node.directory.name,
                base_url=node.control_url,
                listener=f"{node.address}:{node.ports['sips']}",
                files=LocalDirectory(kind="local", directory=node.tls_directory),
            )
            for node in nodes
        ),
        token=SecretSource(file=folder / "token"),
        trust_anchor_file=folder / "roots.pem",
        client="client:default" if outbound else None,
        canary=_canary(canary, nodes[0]),  # type: ignore[arg-type]
        metrics=PrometheusSource(base_url=metrics_url, lab=True),
        ca_file=ca_file,
        lab=ca_file is None,
    )


def carrier_of(folder: Path, leaf: TrunkLeaf | None = None) -> CarrierServer:
    """A carrier's listener that demands a certificate under the edge's root."""
    own = leaf or trunk_leaf("carrier")
    folder.mkdir(exist_ok=True)
    for name, text in {
        "carrier.pem": own.chain_pem,
        "carrier.key": own.private_key.get_secret_value(),
        "roots.pem": root().pem,
    }.items():
        (folder / name).touch(0o600)
        (folder / name).write_text(text)
    return CarrierServer(folder / "carrier.pem", folder / "carrier.key", folder / "roots.pem")


def _directory(source: FilesSource) -> Path:
    assert isinstance(source, LocalDirectory)
    return source.directory


def _canary(canary: str | None, node: KamailioNode) -> dict[str, object] | None:
    if canary is None:
        return None
    return (
        {"kind": "sni", "server_name": CANARY_NAME}
        if canary == "sni"
        else {"kind": "port", "port": node.ports["canary"]}
    )
