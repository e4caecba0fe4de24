"""Starts and stops the lab in one event loop: PKI, two platforms with their edges, a carrier that calls, and DNS."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from lab.api_guard import RequestLog
from lab.bao import Bao
from lab.call_mix import INBOUND_ONLY, CallMix, CallShape
from lab.carrier import Carrier, CarrierTrunk
from lab.carrier_api import CarrierApi
from lab.carrier_ca import CarrierCa
from lab.control_api import ControlApi
from lab.cxone_api import CxoneApi
from lab.dialogs import Dialogs
from lab.dns_server import DnsServer, UpdateKey
from lab.edge import ADDRESS, Edge
from lab.external_trunks import ExternalTargets, ExternalTrunk, ExternalTrunks, external_files
from lab.faults import FAULTS, Faults
from lab.genesys_api import GenesysApi
from lab.http_service import HttpService
from lab.lab_names import (
    API_CLIENT,
    CARRIER_NAME,
    CERTIFICATE_ADDRESSES,
    CERTIFICATE_DNS_NAMES,
    CXONE,
    CXONE_FQDN,
    DORMANT_ADDRESS,
    DORMANT_NAME,
    EDGE_ID,
    GENESYS,
    GENESYS_FQDN,
    OBSERVED_TRUNK,
    OBSERVER,
    OBSERVER_NAME,
    OTHER_TRUNK,
    PROBER_NAME,
    SRV_NAMES,
    TSIG_KEY,
)
from lab.ledger import Ledger
from lab.ntp_server import NtpServer
from lab.pki_desk import PkiDesk
from lab.plan_text import Speed, plan_text
from lab.promise import PromiseCheck
from lab.resolver import Resolver
from lab.settings_text import Addresses, settings_text
from lab.tap import Taps
from lab.tap_dns import DnsTap
from lab.tls_contexts import Identity
from lab.tokens import ApiClient, Tokens
from lab.trunk import Trunk
from lab.vault_setup import VaultLab, set_up
from lab.world_causes import Causes
from lab.world_dns import lab_zone
from lab.world_faults import CarrierAnchors, connect_faults
from lab.world_files import (
    WorldSecrets,
    prepare_directory,
    remove_lab_file,
    write_files,
    write_lab_file,
)
from lab.world_metrics import monitoring_of
from lab.world_observer import Observer, observer_of
from lab.world_parts import World
from lab.world_taps import tapped
from lab.world_trunks import add_other_trunk, cxone_trunk, genesys_trunk


@dataclass(frozen=True)
class WorldOptions:
    """How to run. Without `vault` (address and root token) the world starts its own OpenBao.

    `call_rate` is calls per second on each trunk; `long_call_s` is the length of one extra call per trunk, placed at
    the start, in seconds. `--speed test` also shortens the load's own long calls. `nodes` is how many nodes the
    Genesys trunk has; with `other_trunk` a second one, on which nobody calls, presents A too. On the trunks in
    `persistent` all calls share one connection. With `dormant_peer` a second carrier is known to the Genesys trunk's
    plan; it trusts intermediate A alone and calls when told. With `observed` the Genesys trunk's other end has an
    observer, Genesys' published API, which the plan names. The edges of the `external` trunks are somebody else's.
    """

    directory: Path
    faults: tuple[str, ...] = ()
    vault: tuple[str, str] | None = field(default=None, repr=False)
    approvals: bool = False
    speed: Speed = "demo"
    call_rate: float = 4.0
    long_call_s: float | None = None
    web_ui: str = "http://127.0.0.1:8233"
    nodes: int = 1
    other_trunk: bool = False
    persistent: tuple[str, ...] = ()
    dormant_peer: bool = False
    observed: bool = False
    external: tuple[ExternalTrunk, ...] = ()
    tap: bool = False
    """The worker's settings name taps (`lab.tap`) instead of the services."""


@contextlib.asynccontextmanager
async def running_world(options: WorldOptions) -> AsyncIterator[World]:
    """Start everything and write the directory; at the end stop everything, whatever happened.

    Raises `DirectoryInUse`, `BaoFailed`, `VaultNotFresh`, KeyError for an unknown fault, or OSError.
    """
    directory = options.directory.resolve()
    secrets, ca = WorldSecrets(), CarrierCa()
    faulty = set(options.faults) - set(FAULTS)
    if faulty:
        raise KeyError(", ".join(sorted(faulty)))
    async with contextlib.AsyncExitStack() as stack:
        prepare_directory(directory)
        vault, pki, bao_pid = await _start_vault(stack, options, directory)
        edges = await _start_edges(stack, ca, options)
        taps = Taps() if options.tap else None
        dns = await _start_dns(stack, edges, secrets, taps)
        starting = _Starting(options, vault, pki, ca, edges, dns, secrets, taps)
        world = starting.world
        await _start_calls(stack, world, options)
        facts = {"bao_pid": bao_pid, **await _start_services(stack, starting, directory)}
        write_lab_file(directory, facts)
        stack.callback(remove_lab_file, directory)
        world.facts.update(facts)
        yield world


@dataclass(frozen=True)
class _Edges:
    genesys: tuple[Edge, ...]
    cxone: Edge
    other: Edge | None

    @property
    def genesys_ports(self) -> list[int]:
        return [edge.primary_port for edge in self.genesys]

    @property
    def cxone_ports(self) -> tuple[int, int]:
        assert self.cxone.secondary_port is not None
        return self.cxone.primary_port, self.cxone.secondary_port


async def _start_vault(
    stack: contextlib.AsyncExitStack, options: WorldOptions, directory: Path
) -> tuple[VaultLab, PkiDesk, int | None]:
    """The PKI, its administrator, and the process id of our own OpenBao if there is one."""
    given, pid = options.vault, None
    if given is None:
        bao = Bao(directory)
        stack.push_async_callback(asyncio.to_thread, bao.stop)
        await asyncio.to_thread(bao.start)
        given, pid = (bao.address, bao.root_token), bao.pid
    vault = await asyncio.to_thread(
        set_up,
        *given,
        common_name=GENESYS_FQDN,
        dns_names=(*CERTIFICATE_DNS_NAMES, *(trunk.fqdn for trunk in options.external)),
        ip_addresses=CERTIFICATE_ADDRESSES,
    )
    return vault, PkiDesk(*given), pid


async def _start_edges(stack: contextlib.AsyncExitStack, ca: CarrierCa, options: WorldOptions) -> _Edges:
    trust = ca.certificate_pem
    ledger, dialogs = Ledger(), Dialogs()
    edges = _Edges(
        tuple(
            Edge(GENESYS, GENESYS_FQDN, mutual=True, peer_trust_pem=trust, ledger=ledger, dialogs=dialogs)
            for _ in range(options.nodes)
        ),
        Edge(CXONE, CXONE_FQDN, mutual=False, peer_trust_pem=trust, ledger=Ledger(), ports=(0, 0)),
        Edge(OTHER_TRUNK, GENESYS_FQDN, mutual=True, peer_trust_pem=trust, ledger=Ledger())
        if options.other_trunk
        else None,
    )
    for edge in filter(None, (*edges.genesys, edges.cxone, edges.other)):
        stack.push_async_callback(edge.stop)
        await edge.start()
    return edges


async def _start_dns(
    stack: contextlib.AsyncExitStack, edges: _Edges, secrets: WorldSecrets, taps: Taps | None
) -> DnsServer:
    zone = lab_zone(ADDRESS, genesys_ports=edges.genesys_ports, cxone_ports=edges.cxone_ports)
    dns = DnsServer(zone, UpdateKey(TSIG_KEY, secrets.tsig), DnsTap(taps) if taps else None)
    stack.push_async_callback(dns.stop)
    await dns.start()
    return dns


class _Starting:
    """The world while it is put together: the parts that need to know one another."""

    def __init__(
        self,
        options: WorldOptions,
        vault: VaultLab,
        pki: PkiDesk,
        ca: CarrierCa,
        edges: _Edges,
        dns: DnsServer,
        secrets: WorldSecrets,
        taps: Taps | None,
    ) -> None:
        self.options, self.vault, self.ca, self.edges, self.dns, self.secrets = options, vault, ca, edges, dns, secrets
        self.taps, self.pki = taps, pki
        roots = x509.load_pem_x509_certificates(vault.root_pem.encode())
        first, *more = edges.genesys
        self.genesys, genesys = genesys_trunk(first, roots, vault.certificate_a, more_nodes=more)
        if edges.other is not None:
            add_other_trunk(self.genesys, genesys, edges.other)
        self.cxone, cxone = cxone_trunk(edges.cxone, roots, vault.certificate_a)
        trunks = {GENESYS: genesys, CXONE: cxone}
        resolver = Resolver(dns.address, dns.port, SRV_NAMES)
        self.targets = ExternalTargets(options.external, resolver.resolve)
        self.world = self._world(trunks)
        if options.observed:
            self.world.observer = self._observer(genesys)
            self.world.tokens[OBSERVER] = self.world.observer.tokens

    def _world(self, trunks: dict[str, Trunk]) -> World:
        a = trunks[GENESYS].pool[0]
        carrier = self._carrier(trunks)
        external = self._external(carrier)
        anchors = CarrierAnchors(carrier, self.vault.root_pem, self.vault.intermediate_a_pem)
        faults, log = Faults(a.sha256, self.options.faults), RequestLog()
        leaf_a_pem = a.chain.leaf.public_bytes(Encoding.PEM).decode()
        edges = (*self.edges.genesys, self.edges.cxone)
        connect_faults(faults, carrier=carrier, anchors=anchors, edges=edges, leaf_a_pem=leaf_a_pem)
        causes = Causes(faults, carrier, trunks, edges, self.dns.zone, self.pki)
        promise = PromiseCheck(anchors.current)
        for trunk in trunks.values():
            # Faults first: a fault that this very change turns on belongs to what the promise is measured against.
            trunk.observe(lambda changed: faults.pool_changed(one.sha256 for one in changed.pool))
            promise.watch(trunk)
        causes.connect()
        return World(
            certificate_a=a.sha256,
            trunks=trunks,
            tokens={
                GENESYS: Tokens([ApiClient(API_CLIENT, self.secrets.genesys)], 86400),
                CXONE: Tokens([ApiClient(API_CLIENT, self.secrets.cxone)], 3600),
            },
            zone=self.dns.zone,
            carrier=carrier,
            dormant=self._dormant(trunks[GENESYS]) if self.options.dormant_peer else None,
            carrier_api=self._carrier_api(trunks, external, faults, log),
            faults=faults,
            promise=promise,
            log=log,
            external=external,
            ntp=NtpServer(),
        )

    def _carrier(self, trunks: dict[str, Trunk]) -> Carrier:
        identity = self.ca.issue(CARRIER_NAME)
        mix = CallMix(long_s=3.0) if self.options.speed == "test" else CallMix()
        return Carrier(
            Identity(identity.certificate_pem, identity.key_pem),
            name=CARRIER_NAME,
            trust_pem=self.vault.root_pem,
            trunks=[
                CarrierTrunk(
                    name,
                    trunk.edge.fqdn,
                    mutual=trunk.edge.mutual,
                    place_outbound=trunk.place_call,
                    calls_per_s=self.options.call_rate,
                    mix=mix,
                )
                for name, trunk in trunks.items()
            ]
            + [trunk.as_carrier_trunk() for trunk in self.options.external],
            resolve=self.targets.resolve,
        )

    def _external(self, carrier: Carrier) -> ExternalTrunks:
        return ExternalTrunks(
            self.options.external,
            self.targets,
            carrier,
            self.options.call_rate,
            self.vault.root_pem,
            self.vault.intermediate_a_pem,
        )

    def _observer(self, trunk: Trunk) -> Observer:
        identity = self.ca.issue(OBSERVER_NAME)
        return observer_of(
            self.edges.genesys,
            root_pem=self.vault.root_pem,
            secret=self.secrets.observer,
            identity=Identity(identity.certificate_pem, identity.key_pem),
            calls=lambda: (sum(trunk.live_calls().values()), 0),
        )

    def _dormant(self, trunk: Trunk) -> Carrier:
        """A second carrier on the Genesys trunk. It trusts A's issuer and no root, so that it will refuse B."""
        identity = self.ca.issue(DORMANT_NAME)
        known = CarrierTrunk(
            GENESYS, trunk.edge.fqdn, mutual=trunk.edge.mutual, calls_per_s=self.options.call_rate, mix=INBOUND_ONLY
        )
        carrier = Carrier(
            Identity(identity.certificate_pem, identity.key_pem),
            name=DORMANT_NAME,
            trust_pem=self.vault.root_pem,
            trunks=[known],
            resolve=Resolver(self.dns.address, self.dns.port, SRV_NAMES).resolve,
            address=DORMANT_ADDRESS,
        )
        carrier.set_trust(self.vault.intermediate_a_pem, True)
        return carrier

    def _carrier_api(
        self, trunks: dict[str, Trunk], external: ExternalTrunks, faults: Faults, log: RequestLog
    ) -> CarrierApi:
        directions = {name: trunk.directions for name, trunk in trunks.items()}
        directions |= {trunk.name: trunk.directions for trunk in external.trunks}
        return CarrierApi(
            {name: (external.carrier.ledger(name), its) for name, its in directions.items()},
            carrier_token=self.secrets.carrier_token,
            operations_token=self.secrets.operations_token,
            log=log,
            trunk_up=lambda name: trunks[name].up() if name in trunks else external.up(name),
            health_down=faults.carrier_health_down,
        )


async def _start_calls(stack: contextlib.AsyncExitStack, world: World, options: WorldOptions) -> None:
    """The promise check, the load, and the one long call per trunk that was asked for."""
    _run_until_stopped(stack, world.promise.run())
    stack.push_async_callback(world.carrier.stop)
    for name in options.persistent:
        world.set_persistent(name, True)
    await world.carrier.start()
    if world.dormant is not None:
        stack.push_async_callback(world.dormant.stop)
        await world.dormant.start(placing=False)
    if options.long_call_s is not None:
        seconds = options.long_call_s
        shape = CallShape("INBOUND", seconds, reinvite=False, bye_from="caller", new_connection=True)
        for name in world.trunks:
            _run_until_stopped(stack, world.carrier.place_call(name, shape))


async def _start_services(stack: contextlib.AsyncExitStack, starting: _Starting, directory: Path) -> dict[str, object]:
    """Open the APIs, write everything but `lab.json`, and return what that says."""
    world, edges, dns = starting.world, starting.edges, starting.dns
    genesys_api = GenesysApi(starting.genesys, EDGE_ID, world.tokens[GENESYS], world.log, world.faults)
    cxone_api = CxoneApi(starting.cxone, world.tokens[CXONE], world.log, world.faults)
    control = await _serve(stack, HttpService(ControlApi(world, starting.taps).application))
    observer_url = None
    if (observer := world.observer) is not None:
        observer_url = await _serve(stack, HttpService(observer.api(world.log, world.faults).application))
        _run_until_stopped(stack, observer.pinger.run())
    monitoring = monitoring_of(world, starting.secrets)
    exposition = await _serve(stack, HttpService(monitoring.exposition.application))
    stack.push_async_callback(world.ntp.stop)
    await world.ntp.start()
    addresses = Addresses(
        vault=starting.vault.address,
        genesys=await _serve(stack, HttpService(genesys_api.application)),
        cxone=await _serve(stack, HttpService(cxone_api.application)),
        carrier=await _serve(stack, HttpService(world.carrier_api.application)),
        datadog=await _serve(stack, HttpService(monitoring.datadog.application)),
        dns=(dns.address, dns.port),
        ntp=(world.ntp.address, world.ntp.port),
        web_ui=starting.options.web_ui,
        observer=observer_url,
    )
    named = addresses if starting.taps is None else await tapped(stack, starting.taps, addresses)
    write_files(directory, _files(starting, directory, named))
    return {
        "pid": os.getpid(),
        "control": control,
        "vault": addresses.vault,
        "genesys": addresses.genesys,
        "cxone": addresses.cxone,
        "carrier": addresses.carrier,
        "datadog": addresses.datadog,
        "exposition": f"{exposition}/metrics",
        "observer": addresses.observer,
        "dns": {"address": dns.address, "port": dns.port},
        "ntp": {"address": world.ntp.address, "port": world.ntp.port},
        "trunks": {
            GENESYS: {
                "address": ADDRESS,
                "primary_port": edges.genesys_ports[0],
                "secondary_port": None,
                "node_ports": edges.genesys_ports,
            },
            CXONE: {
                "address": ADDRESS,
                "primary_port": edges.cxone_ports[0],
                "secondary_port": edges.cxone_ports[1],
            },
        },
        "external": world.external.facts(),
        "certificate_a": world.certificate_a,
        "peer_address": world.carrier.address,
        "dormant_address": world.dormant.address if world.dormant else None,
        "plan": str(directory / "plan.toml"),
        "settings": str(directory / "settings.toml"),
    }


def _files(starting: _Starting, directory: Path, addresses: Addresses) -> dict[str, str]:
    options, prober = starting.options, starting.ca.issue(PROBER_NAME)
    return {
        **starting.secrets.files(),
        **(external_files(starting.vault.certificate_a, starting.ca) if options.external else {}),
        "secret-id": starting.vault.secret_id,
        "root.pem": starting.vault.root_pem,
        "prober.pem": prober.certificate_pem,
        "prober.key": prober.key_pem,
        "settings.toml": settings_text(directory, addresses, starting.vault.role_id),
        "plan.toml": plan_text(
            speed=options.speed,
            approvals=options.approvals,
            genesys_peers=starting.world.peers(GENESYS),
            cxone_peers=starting.world.peers(CXONE),
            genesys_ports=starting.edges.genesys_ports,
            cxone_ports=starting.edges.cxone_ports,
            observed=OBSERVED_TRUNK if options.observed else None,
        ),
    }


async def _serve(stack: contextlib.AsyncExitStack, service: HttpService) -> str:
    stack.push_async_callback(service.stop)
    await service.start()
    return service.url


def _run_until_stopped(stack: contextlib.AsyncExitStack, work: Coroutine[object, object, object]) -> None:
    task = asyncio.ensure_future(work)

    async def stop() -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    stack.push_async_callback(stop)
