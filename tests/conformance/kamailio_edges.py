"""Kamailio for the conformance kit: the real server from the shipped configuration, scraped by a real Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from adapters.edges.base import Edge
from adapters.edges.kamailio.edge import KamailioEdge
from adapters.probe.base import ProbeResult, ProbeTarget
from adapters.probe.sip_tls import SipTlsProber
from domain.errors import Unreachable
from settings import ProbeSettings
from tests.adapters.endpoints import endpoint
from tests.conformance.dead_ends import closed_port, silent_port
from tests.sip.kamailio_node import TOKEN, TRUNK
from tests.sip.kamailio_rig import A, B, Rig, TappedFiles, TappedHttp, kamailio_rig, nothing, profile
from tests.sip.scraping import Prometheus, Target

EDITED = b"# somebody else was here\n"
FQDN = "trunk.example.com"


class KamailioUnderTest:
    """Implements `EdgeUnderTest` over a `Rig` of one node, whose canary path is a name."""

    counts_within_s = 10.0

    def __init__(self, rig: Rig, scraping: Prometheus, folder: Path) -> None:
        self._rig, self._scraping, self._folder = rig, scraping, folder
        self._prober = SipTlsProber(ProbeSettings.model_validate({"timeout": "10s"}), folder / "roots.pem")
        self.edge: Edge = rig.edge
        self.endpoint = endpoint(trunk=TRUNK, probe_addresses=["127.0.0.1"])

    async def probe(self, *, canary: bool = False) -> ProbeResult:
        node, server_name = self._rig.node, FQDN
        if canary:
            path = (await self._rig.state()).canary_path
            assert path is not None
            server_name = path.server_name or FQDN
        target = ProbeTarget(address=node.address, port=node.ports["sips"], server_name=server_name, identity=FQDN)
        return await self._prober.probe(target)

    async def count(self) -> None:
        await self._scraping.start()

    def changes(self) -> int:
        return len(self._rig.tap.done)

    def held(self) -> list[str]:
        names = {"trunk.key": A.sha256}
        return [names.get(name, B.sha256) for name in self._rig.files() if name.endswith(".key")]

    def edited_by_somebody(self) -> None:
        tap, file = self._rig.tap, self._rig.node.tls_cfg

        def edit(what: str) -> None:
            if what.startswith("write tls.cfg"):
                tap.before = nothing
                file.write_bytes(file.read_bytes() + EDITED)

        tap.before = edit

    def edit_survived(self) -> bool:
        return EDITED in self._rig.node.tls_cfg.read_bytes()

    def lose_an_answer(self) -> None:
        tap = self._rig.tap

        def lose(done: str) -> None:
            tap.after = nothing
            raise Unreachable("the answer is lost", where=done)

        tap.after = lose

    @asynccontextmanager
    async def unreachable(self) -> AsyncIterator[None]:
        with closed_port() as self._rig.http.port:
            yield
        self._rig.http.port = None

    @asynccontextmanager
    async def slow(self) -> AsyncIterator[None]:
        with silent_port() as self._rig.http.port:
            yield
        self._rig.http.port = None

    @asynccontextmanager
    async def stranger(self) -> AsyncIterator[Edge]:
        (self._folder / "stranger").mkdir()
        settings = profile(self._folder / "stranger", self._rig.nodes, token="wr0ng")
        edge = KamailioEdge("stranger", settings, transport=httpx.AsyncHTTPTransport())
        yield edge
        await edge.close()

    async def restart(self) -> None:
        await asyncio.to_thread(self._rig.node.restart)


@asynccontextmanager
async def kamailio(folder: Path) -> AsyncIterator[KamailioUnderTest]:
    """One node that presents A, scraped."""
    async with kamailio_rig(folder / "edge") as rig:
        scraping = Prometheus(folder / "prometheus", [Target(rig.node.control_url.removeprefix("http://"), TOKEN)])
        rig.http = TappedHttp(rig.tap)
        rig.edge = KamailioEdge(
            "edge",
            profile(folder / "edge", rig.nodes, metrics_url=scraping.url),
            transport=rig.http,
            open_files=lambda source: TappedFiles(rig.node.tls_directory, rig.tap),
        )
        try:
            yield KamailioUnderTest(rig, scraping, folder / "edge")
        finally:
            await rig.edge.close()
            await scraping.stop()
