"""The path of a call, of real programs throughout: SIPp → HAProxy as the carrier → the edge → Kamailio → SIPp.

The edge is HAProxy (with Kamailio behind it) or Kamailio itself, on one or more nodes behind one name.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import SecretStr

from lab.ports import LOOPBACK
from tests.adapters.trunk_leaves import TrunkLeaf
from tests.sip.carrier_haproxy import CALLERS_ADDRESS, CarrierHaproxy
from tests.sip.haproxy_node import HaproxyNode, free_ports, haproxy_node
from tests.sip.kamailio_node import TOKEN, TRUNK, KamailioNode, kamailio_behind_haproxy, kamailio_edge
from tests.sip.openssl_watch import OpensslWatch
from tests.sip.scraping import Target
from tests.sip.sipp import CALLER_KINDS, Answerers, Callers, CallKind

LAB_CARRIER_ADDRESS = "127.0.0.2"
Address = tuple[str, int]


@dataclass(frozen=True)
class Parties:
    """Who is who on a trunk.

    `a` is what the edge serves at first, for the name `fqdn`; `root` verifies it and B. The carrier is
    `callers_name`, with the certificate and key `callers_pem`; `carrier_roots_pem` verifies it and the prober, whose
    certificate and key are `prober`. With `mutual` both sides demand certificates. Calls and requests towards the
    carrier go to `outbound` (address and the name on its certificate), by default back to the callers.
    """

    fqdn: str
    chain_pem: str
    key: SecretStr
    root: Path
    callers_name: str
    callers_pem: str
    carrier_roots_pem: str
    prober: tuple[Path, Path]
    mutual: bool = False
    outbound: tuple[Address, str] | None = None

    @property
    def leaf(self) -> TrunkLeaf:
        """A as the edge's nodes take it."""
        certificate = x509.load_pem_x509_certificate(self.chain_pem.encode())
        return TrunkLeaf(self.chain_pem, certificate.fingerprint(SHA256()).hex(), self.key, certificate)


@dataclass
class TrunkPath:
    """A running path. `nodes` are the edge's public listeners, `canaries` the other ones that serve B first.

    `core` is where the SIP server takes calls for the carrier by UDP, `exporters` what Prometheus scrapes. A path has
    either `haproxies` (and the one Kamailio `behind` them) or `kamailios`.
    """

    parties: Parties
    folder: Path
    carrier: CarrierHaproxy
    answerers: Answerers
    nodes: tuple[Address, ...]
    core: Address
    exporters: tuple[Target, ...]
    haproxies: tuple[HaproxyNode, ...] = ()
    kamailios: tuple[KamailioNode, ...] = ()
    behind: KamailioNode | None = None

    def callers(
        self,
        name: str = "callers",
        *,
        rate: float,
        kinds: Sequence[CallKind] = CALLER_KINDS,
        persistent: bool = False,
        calls: int | None = None,
        pause_ms: int = 400,
    ) -> Callers:
        """The carrier's callers, not started yet. One of them may have kinds in which the callee hangs up."""
        reached = any(kind.bye_after_s for kind in kinds)
        return Callers(
            name,
            self.folder,
            target=self.carrier.callers,
            fqdn=self.parties.fqdn,
            rate=rate,
            kinds=kinds,
            persistent=persistent,
            contact=self.carrier.contact if reached else None,
            contact_port=self.carrier.sipp_port if reached else None,
            calls=calls,
            pause_ms=pause_ms,
        )

    def core_callers(self, name: str = "core", *, rate: float, calls: int | None = None) -> Callers:
        """The SIP server's calls to the carrier, not started yet."""
        callee = self.parties.outbound[1] if self.parties.outbound else self.parties.callers_name
        return Callers(
            name,
            self.folder,
            target=self.core,
            fqdn=callee,
            rate=rate,
            kinds=[CallKind(), CallKind(reinvite=True)],
            transport="u1",
            calls=calls,
        )

    def watch(self) -> OpensslWatch:
        """A witness of every node, not started yet."""
        client = self.parties.prober if self.parties.mutual else None
        return OpensslWatch(self.nodes, fqdn=self.parties.fqdn, root=self.parties.root, client=client)


@asynccontextmanager
async def haproxy_path(folder: Path, parties: Parties, *, nodes: int = 1) -> AsyncIterator[TrunkPath]:
    """HAProxy as the edge on so many nodes, one Kamailio behind them all."""
    async with AsyncExitStack() as stack:
        answerers, carrier = await _ends(stack, folder, parties)
        addresses = [f"127.0.1.{n}" for n in range(1, nodes + 1)]
        ports = free_ports(addresses[0])  # the same on every node, as on real hosts
        behind = kamailio_behind_haproxy(
            folder / "behind",
            public=f"{addresses[0]}:{ports['public']}",
            core_uri=answerers.uri,
            carrier_uri=f"sip:{addresses[0]}:{ports['out']};transport=tcp",
        )
        await _started(stack, behind)
        out, out_name = _outbound(parties, carrier)
        haproxies = [
            await stack.enter_async_context(
                haproxy_node(
                    folder / f"haproxy-{n}",
                    a=parties.leaf,
                    sip=(f"{LOOPBACK}:{behind.ports['one']}", f"{LOOPBACK}:{behind.ports['two']}"),
                    carrier=f"{out[0]}:{out[1]}",
                    carrier_name=out_name,
                    carrier_roots_pem=parties.carrier_roots_pem,
                    mutual=parties.mutual,
                    listener=TRUNK,
                    peers=f"{CALLERS_ADDRESS} {LAB_CARRIER_ADDRESS} {LOOPBACK}",
                    address=address,
                    ports=ports,
                )
            )
            for n, address in enumerate(addresses, 1)
        ]
        public = tuple((one.address, one.ports["public"]) for one in haproxies)
        await carrier.start(public)
        yield TrunkPath(
            parties,
            folder,
            carrier,
            answerers,
            nodes=public,
            core=(LOOPBACK, behind.ports["core"]),
            exporters=(*(Target(one.metrics_target) for one in haproxies), _exporter(behind)),
            haproxies=tuple(haproxies),
            behind=behind,
        )


@asynccontextmanager
async def kamailio_path(folder: Path, parties: Parties, *, nodes: int = 1) -> AsyncIterator[TrunkPath]:
    """Kamailio as the edge on so many nodes."""
    async with AsyncExitStack() as stack:
        answerers, carrier = await _ends(stack, folder, parties)
        (host, port), _ = _outbound(parties, carrier)
        kamailios = []
        for n in range(1, nodes + 1):
            edge = kamailio_edge(
                folder / f"kamailio-{n}",
                chain_pem=parties.chain_pem,
                key_pem=parties.key.get_secret_value(),
                core_uri=answerers.uri,
                carrier_uri=f"sip:{host}:{port};transport=tls",
                carrier_roots_pem=parties.carrier_roots_pem,
            )
            if parties.mutual:
                _demand_certificates(edge)
            await _started(stack, edge)
            kamailios.append(edge)
        public = tuple((one.address, one.ports["sips"]) for one in kamailios)
        await carrier.start(public)
        yield TrunkPath(
            parties,
            folder,
            carrier,
            answerers,
            nodes=public,
            core=(LOOPBACK, kamailios[0].ports["core"]),
            exporters=tuple(_exporter(one) for one in kamailios),
            kamailios=tuple(kamailios),
        )


async def _ends(stack: AsyncExitStack, folder: Path, parties: Parties) -> tuple[Answerers, CarrierHaproxy]:
    """The two ends of the path; the carrier starts when the edge does."""
    answerers = Answerers("answerers", folder)
    stack.push_async_callback(answerers.stop)
    await answerers.start()
    carrier = CarrierHaproxy(
        folder / "carrier",
        fqdn=parties.fqdn,
        root=parties.root,
        identity_pem=parties.callers_pem,
        mutual=parties.mutual,
    )
    stack.push_async_callback(carrier.stop)
    return answerers, carrier


async def _started(stack: AsyncExitStack, node: KamailioNode) -> None:
    stack.push_async_callback(asyncio.to_thread, node.kill)
    await asyncio.to_thread(node.start)


def _outbound(parties: Parties, carrier: CarrierHaproxy) -> tuple[Address, str]:
    return parties.outbound or (carrier.inbound, parties.callers_name)


def _exporter(node: KamailioNode) -> Target:
    return Target(node.control_url.removeprefix("http://"), TOKEN)


def _demand_certificates(edge: KamailioNode) -> None:
    """Mutual TLS for who calls, as an operator writes it into [server:…]."""
    text = edge.tls_cfg.read_text()
    demanded = (
        "verify_certificate = yes\nrequire_certificate = yes\n"
        f"verify_depth = 3\nca_list = {edge.tls_directory}/carrier-roots.pem\n"
    )
    servers, client = text.split("[client:default]", 1)
    lenient = "verify_certificate = no\nrequire_certificate = no\n"
    assert lenient in servers, "the shipped tls.cfg has changed"
    edge.tls_cfg.write_text(f"{servers.replace(lenient, demanded)}[client:default]{client}")
