"""One platform of the lab over HTTP, with one trunk on a real TLS listener, and the adapter that speaks to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from adapters.edges.base import Canary, Edge
from adapters.edges.cxone import CxoneEdge
from adapters.edges.genesys import GenesysEdge
from adapters.probe.base import ProbeResult, ProbeTarget
from adapters.probe.sip_tls import SipTlsProber
from domain.plan import Endpoint
from lab.api_guard import RequestLog
from lab.cxone_api import CxoneApi
from lab.edge import Edge as LabEdge
from lab.genesys_api import GenesysApi
from lab.http_service import HttpService
from lab.ledger import Ledger
from lab.platform_state import PlatformState
from lab.tokens import SCOPES, ApiClient, Tokens
from lab.trunk import Binding, Trunk
from settings import CxoneProfile, GenesysProfile, ProbeSettings
from tests.adapters.endpoints import endpoint
from tests.adapters.trunk_leaves import TrunkLeaf, root

FQDN = "trunk.example.com"
SUITES = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]


class UnreliableTransport(httpx.AsyncBaseTransport):
    """Real HTTP. `lose` loses the answers of these methods once each, or with `lose_one` the first of them.

    `before` runs before the next request of a method. With `instead` every request goes to that port of this host, and
    is waited for no longer than 0.3 s.
    """

    def __init__(self) -> None:
        self._wire = httpx.AsyncHTTPTransport()
        self.lose: list[str] = []
        self.lose_one = False
        self.before: dict[str, Callable[[], None]] = {}
        self.instead: int | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.instead is not None:
            request.url = request.url.copy_with(port=self.instead)
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write", "pool"), 0.3)
        if request.method in self.before:
            self.before.pop(request.method)()
        response = await self._wire.handle_async_request(request)
        if request.method in self.lose and "token" not in request.url.path:
            self.lose.remove(request.method)
            if self.lose_one:
                self.lose, self.lose_one = [], False
            await response.aread()
            await response.aclose()
            raise httpx.ReadTimeout("the answer is lost", request=request)
        return response

    async def aclose(self) -> None:
        await self._wire.aclose()


@dataclass
class ArmedFaults:
    """The faults of the lab's APIs, set by hand."""

    status: int | None = None
    invalid: set[str] = field(default_factory=set)
    silent: bool = False

    def request_fault(self, service: str) -> int | None:
        return self.status

    def reports_invalid(self, sha256: str) -> bool:
        return sha256 in self.invalid

    def metrics_empty(self) -> bool:
        return self.silent

    def refuses_change(self, before: frozenset[str], after: frozenset[str]) -> bool:
        return False


@dataclass
class PlatformLab:
    """The adapter, and the inside of the platform that it speaks to."""

    edge: Edge
    platform: PlatformState
    trunk: Trunk
    tokens: Tokens
    log: RequestLog
    faults: ArmedFaults
    transport: UnreliableTransport
    prober: SipTlsProber
    kind: Canary
    url: str
    name: str
    """The trunk as a plan writes it."""
    endpoint: Endpoint

    def writes(self) -> list[str]:
        """The requests that change something, as far as they were carried out."""
        return [
            f"{entry.method} {entry.path.rpartition('/')[2]}"
            for entry in self.log.entries
            if entry.method != "GET" and "token" not in entry.path and entry.status < 300
        ]

    async def probe(self, *, canary: bool = False) -> ProbeResult:
        """Our own handshake and OPTIONS, on the canary path or on the trunk's usual one."""
        server_name, port = FQDN, self.trunk.edge.primary_port
        if canary:
            path = (await self.edge.read_trunk(self.name)).canary_path
            assert path is not None
            server_name, port = path.server_name or FQDN, path.port or port
        return await self.prober.probe(
            ProbeTarget(address="127.0.0.1", port=port, server_name=server_name, identity=FQDN)
        )


@asynccontextmanager
async def platform_lab(
    kind: Canary, a: TrunkLeaf, folder: Path, *, scopes: tuple[str, ...] = SCOPES, secret: str = "s3cret"
) -> AsyncIterator[PlatformLab]:
    """The platform whose canary is of that kind, its one trunk presenting A. `secret` is what the platform knows."""
    anchors = folder / "root.pem"
    anchors.write_text(root().pem)
    ports = (0, 0) if kind is Canary.PORT else (0,)
    lab_edge = LabEdge("one", FQDN, mutual=False, peer_trust_pem=anchors.read_text(), ledger=Ledger(), ports=ports)
    await lab_edge.start()
    platform = PlatformState("platform", [root().certificate])
    tokens, log, faults = Tokens([ApiClient("id-1", secret, scopes)], 3600), RequestLog(), ArmedFaults()
    held = platform.register("CERT-A", a.chain_pem, a.private_key.get_secret_value())
    if kind is Canary.SNI:
        trunk_id, name = "trunk-1", "edge-1/trunk-1"
        app = GenesysApi(platform, "edge-1", tokens, log, faults).application
        settings = _genesys_trunk(held.id, lab_edge)
    else:
        trunk_id, name = "4711", "4711"
        app = CxoneApi(platform, tokens, log, faults).application
        settings = _cxone_trunk(held.id, lab_edge)
    trunk = Trunk(trunk_id, lab_edge, settings, Binding((held,), on_primary=(held,)))
    platform.add_trunk(trunk)
    service, transport = HttpService(app), UnreliableTransport()
    await service.start()
    edge = cloud_adapter(kind, service.url, transport)
    try:
        yield PlatformLab(
            edge=edge,
            platform=platform,
            trunk=trunk,
            tokens=tokens,
            log=log,
            faults=faults,
            transport=transport,
            prober=SipTlsProber(ProbeSettings.model_validate({"timeout": "10s"}), anchors),
            kind=kind,
            url=service.url,
            name=name,
            endpoint=endpoint(trunk=name, probe_addresses=["127.0.0.1"]),
        )
    finally:
        await edge.close()
        await service.stop()
        await lab_edge.stop()


def cloud_adapter(
    kind: Canary, url: str, transport: httpx.AsyncBaseTransport, *, secret_in: str = "TEST_LAB_SECRET"
) -> Edge:
    """The adapter of the platform whose canary is of that kind; its secret comes from that environment variable."""
    secret = {"env": secret_in}
    shared = {"base_url": url, "lab": True, "timeout": "10s"}
    if kind is Canary.SNI:
        genesys = {"kind": "genesys", "login_url": url, "client_id": "id-1", "client_secret": secret}
        return GenesysEdge("lab", GenesysProfile.model_validate({**genesys, **shared}), transport=transport)
    cxone = {"kind": "cxone", "auth_url": url, "access_key_id": "id-1", "access_key_secret": secret}
    return CxoneEdge("lab", CxoneProfile.model_validate({**cxone, **shared}), transport=transport)


def _genesys_trunk(certificate_id: str, edge: LabEdge) -> dict[str, Any]:
    return {
        "id": "trunk-1",
        "version": 7,
        "name": "CARRIER-EU",
        "enabled": True,
        "certificateIds": [certificate_id],
        "transport": "TLS",
        "sipsUri": f"sip:{FQDN}:{edge.primary_port}",
        "retransmissionTimeoutSeconds": None,
        "tlsCipherSuites": SUITES,
        "tlsSessionTicketLifetimeSeconds": 7200,
        "tlsCanary": None,
        "mutualTls": False,
        "inboundSite": "frankfurt",
        "maxConcurrentCalls": 480,
    }


def _cxone_trunk(certificate_id: str, edge: LabEdge) -> dict[str, Any]:
    return {
        "trunkId": "4711",
        "version": 3,
        "name": "CARRIER-US",
        "enabled": True,
        "transport": "TLS",
        "sipDomain": FQDN,
        "primaryCertificateId": certificate_id,
        "secondaryCertificateId": None,
        "retransmissionTimeoutSeconds": None,
        "tlsCipherSuites": SUITES,
        "tlsSessionTicketLifetimeSeconds": 7200,
        "mutualTls": False,
        "listeners": {"primaryPort": edge.primary_port, "secondaryPort": edge.secondary_port},
        "routingProfile": "gold",
        "tags": ["us"],
    }
