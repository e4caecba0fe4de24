"""HAProxy for the conformance kit: the real server from the shipped configuration, scraped by a real Prometheus."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from adapters.edges.base import Edge
from adapters.edges.haproxy.edge import HaproxyEdge
from adapters.edges.haproxy.slots import slot_file
from adapters.probe.base import ProbeResult, ProbeTarget
from adapters.probe.sip_tls import SipTlsProber
from lab.ports import LOOPBACK
from settings import ProbeSettings
from tests.adapters.endpoints import endpoint
from tests.adapters.sftp_host import SftpHost, new_key
from tests.sip.haproxy_rig import TRUNK, HaproxyRig, haproxy_rig
from tests.sip.scraping import Prometheus, Target

EDITED = b"# somebody else was here\n"
FQDN = "trunk.example.com"


class HaproxyUnderTest:
    """Implements `EdgeUnderTest` over a `HaproxyRig` of one node."""

    counts_within_s = 10.0

    def __init__(self, rig: HaproxyRig, edge: Edge, scraping: Prometheus, folder: Path) -> None:
        self._rig, self._scraping, self._folder = rig, scraping, folder
        self._prober = SipTlsProber(ProbeSettings.model_validate({"timeout": "10s"}), folder / "anchors.pem")
        self.edge = edge
        self.endpoint = endpoint(trunk=TRUNK, probe_addresses=[LOOPBACK])

    async def probe(self, *, canary: bool = False) -> ProbeResult:
        node = self._rig.node
        port: int | None = node.ports["public"]
        if canary:
            path = (await self._rig.state()).canary_path
            assert path is not None
            port = path.port
        target = ProbeTarget(address=node.address, port=port or 0, server_name=FQDN, identity=FQDN)
        return await self._prober.probe(target)

    async def count(self) -> None:
        await self._scraping.start()

    def changes(self) -> int:
        return len(self._rig.taps[0].done) + len(self._rig.files[0].writes)

    def held(self) -> list[str]:
        leaves = [slot_file(self._rig.node.slot(slot).read_bytes()).leaf for slot in ("one", "two")]
        return [leaf for leaf in leaves if leaf is not None]

    def edited_by_somebody(self) -> None:
        """Right after the adapter has looked."""
        files, file = self._rig.files[0], self._rig.node.pool_file
        look = files.read

        async def read(name: str) -> bytes | None:
            content = await look(name)
            if name == file.name:
                files.read = look  # type: ignore[method-assign]
                file.write_bytes(file.read_bytes() + EDITED)
            return content

        files.read = read  # type: ignore[method-assign]

    def edit_survived(self) -> bool:
        return EDITED in self._rig.node.pool_file.read_bytes()

    def lose_an_answer(self) -> None:
        self._rig.taps[0].lose_answer = True

    @asynccontextmanager
    async def unreachable(self) -> AsyncIterator[None]:
        await self._rig.taps[0].close()
        yield
        await self._rig.taps[0].open()

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        self._rig.taps[0].silent = True
        yield
        self._rig.taps[0].silent = False

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator[Edge]:
        """Its SSH key is none that the node knows."""
        folder = self._folder / "stranger"
        folder.mkdir()
        host = SftpHost(self._rig.node.sip, folder)
        await host.start()
        files = host.source(key_file=host.key_file("wr0ng", new_key())).model_dump(mode="json")
        (node,) = self._rig.settings.nodes
        settings = self._rig.settings.model_copy(
            update={"nodes": (type(node).model_validate({**node.model_dump(mode="json"), "files": files}),)}
        )
        edge = HaproxyEdge("stranger", settings)
        yield edge
        await edge.close()
        await host.stop()

    async def restart(self) -> None:
        await self._rig.node.restart()


@asynccontextmanager
async def haproxy(folder: Path) -> AsyncIterator[HaproxyUnderTest]:
    """One node that presents A, scraped."""
    async with haproxy_rig(folder) as rig:
        scraping = Prometheus(folder / "prometheus", [Target(f"{rig.node.address}:{rig.node.ports['metrics']}")])
        metrics = rig.settings.metrics.model_copy(update={"base_url": scraping.url})
        edge = HaproxyEdge(
            "edge", rig.settings.model_copy(update={"metrics": metrics}), open_files=lambda source: rig.files[0]
        )
        try:
            yield HaproxyUnderTest(rig, edge, scraping, folder)
        finally:
            await edge.close()
            await scraping.stop()
