"""The world in which a rotation takes its true time: everything outside on paper, by the server's clock.

Real X.509 chains and dates, no socket: the lab and its certificates live by the wall clock and cannot skip.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace

from cryptography.hazmat.primitives.asymmetric import ec

from adapters.dns.base import SrvRecord, SrvSet
from adapters.metrics.platform import PlatformMetrics
from domain.certificates import facts
from domain.plan import Endpoint, Plan
from settings import ProbeSettings
from tests.true_time.paper_edge import PaperEdge
from tests.true_time.paper_outside import PaperCarrier, PaperDesk, PaperPeople, PaperProber, PaperZone
from tests.true_time.paper_pki import PaperAuthority, PaperCustody
from tests.true_time.paper_traffic import PaperTraffic
from tests.true_time.script import Script
from tests.true_time.server_clock import server_time


class PaperWorld:
    """Has the methods of `adapters.registry.Adapters`; no profile is marked `lab` unless a test says so."""

    def __init__(self, plan: Plan, started_at: datetime, clock: Callable[[], datetime] = server_time) -> None:
        self.settings = SimpleNamespace(probe=ProbeSettings())
        self.lab = False
        self.script = Script()
        self.pki = PaperAuthority(started_at, clock)
        self.custody = PaperCustody()
        self.people = PaperPeople()
        spec = plan.certificate
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        sixty_days_ago = started_at - timedelta(days=60)
        self.a_pem = self.pki.issue(
            key, spec.common_name, spec.dns_names, spec.ip_addresses, sixty_days_ago, timedelta(days=120)
        )
        self.a = facts(self.a_pem).sha256
        self._pems: dict[str, str] = {}
        self.edges = {e.platform: PaperEdge(e, self.a_pem, self.script, clock, started_at) for e in plan.endpoints}
        self._zones = {e.srv.dns: PaperZone(_srv(e), clock, started_at) for e in plan.endpoints if e.srv is not None}
        for edge in self.edges.values():
            edge.traffic = self._traffic(edge)
        self._carrier = PaperCarrier(self.edges, clock)
        self._prober = PaperProber(list(self.edges.values()), self._pem, clock)

    def pools(self) -> list[tuple[str, ...]]:
        """The pool of every trunk now."""
        return [edge.pool.now for edge in self.edges.values()]

    def edge(self, profile: str) -> PaperEdge:
        return self.edges[profile]

    def metrics(self, profile: str) -> PlatformMetrics:
        return PlatformMetrics(self.edges[profile])

    def carrier(self, profile: str) -> PaperCarrier:
        return self._carrier

    def notifier(self, profile: str) -> PaperDesk:
        return self.people.desk(profile)

    def time_servers(self) -> None:
        """Without `[ntp]`."""

    def page_of(self, namespace: str, workflow_id: str, run_id: str) -> None:
        """Nobody reads on paper."""

    def authority(self, profile: str) -> PaperAuthority:
        return self.pki

    def custodian(self, profile: str) -> PaperCustody:
        return self.custody

    def zone(self, profile: str) -> PaperZone:
        return self._zones[profile]

    def prober(self) -> PaperProber:
        return self._prober

    def is_lab(self, section: str, profile: str) -> bool:
        return self.lab

    async def close(self) -> None:
        pass

    def _pem(self, sha256: str) -> str:
        if sha256 not in self._pems:
            self._pems = {facts(pem).sha256: pem for pem in (self.a_pem, *self.pki.signed)}
        return self._pems[sha256]

    def _traffic(self, edge: PaperEdge) -> PaperTraffic:
        endpoint, srv = edge.endpoint, edge.endpoint.srv
        if srv is None:
            return PaperTraffic(endpoint, self.a, self.script, lambda at: edge.pool.at(at)[0], [edge.pool])
        zone = self._zones[srv.dns]

        def chosen(at: datetime) -> str:
            pool = edge.pool.at(at)
            return pool[1] if len(pool) > 1 and zone.preferred(at) == srv.target_b else pool[0]

        return PaperTraffic(endpoint, self.a, self.script, chosen, [edge.pool, zone.records])


def _srv(endpoint: Endpoint) -> SrvSet:
    srv = endpoint.srv
    assert srv is not None
    ports = {node.target: node.port for node in endpoint.nodes}
    order = ((srv.target_a, srv.preferred_priority), (srv.target_b, srv.other_priority))
    return SrvSet(
        name=srv.name,
        ttl=60,
        records=tuple(SrvRecord(priority=p, weight=10, port=ports[target], target=target) for target, p in order),
    )
