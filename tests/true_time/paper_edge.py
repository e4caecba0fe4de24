"""A platform on paper: one trunk, its pool through time, and what it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from adapters.edges.base import (
    Canary,
    CanaryPath,
    Capabilities,
    CertificateHealth,
    EdgeHealth,
    PlatformCertificate,
    TrunkChange,
    TrunkSettings,
    TrunkState,
)
from domain.certificates import facts
from domain.errors import RequestRefused
from domain.handshakes import Reading, Reporter, Sample, Tally
from domain.plan import Direction, Endpoint
from tests.true_time.history import History
from tests.true_time.paper_traffic import PaperTraffic
from tests.true_time.script import Script


@dataclass(frozen=True)
class Probed:
    """One handshake of our own prober."""

    at: datetime
    sha256: str
    called: bool


class PaperEdge:
    """One trunk on one platform profile."""

    def __init__(self, endpoint: Endpoint, a_pem: str, script: Script, clock: Callable[[], datetime], at: datetime):
        a = facts(a_pem).sha256
        self.endpoint, self.profile = endpoint, endpoint.platform
        self.traffic: PaperTraffic | None = None
        self.store = {a: self._certificate("found at the start", a)}
        self.pool: History[tuple[str, ...]] = History(at, (a,))
        self.probed: list[Probed] = []
        self.writes = 0
        self._script, self._clock = script, clock
        self._canary: str | None = None
        self._settings = TrunkSettings(retransmission_timeout_s=None, cipher_suites=("TLS_AES_128_GCM_SHA256",))
        self.capabilities = Capabilities(
            pool=True,
            prefer=endpoint.srv is None,
            canary=Canary.PORT if endpoint.srv else Canary.SNI,
            per_certificate_handshakes=True,
            active_calls=True,
            ticket_flush=True,
            weights=bool(endpoint.ramp),
        )
        self._shares: tuple[int, ...] | None = (100,) if endpoint.ramp else None

    def served(self, port: int, server_name: str | None) -> str:
        """The leaf that a handshake gets: by canary SNI, by listener, else the preferred one; shares are not drawn."""
        pool = self.pool.now
        if server_name == self._canary_path().server_name and self._canary is not None:
            return self._canary
        second = self.endpoint.srv is not None and port == self.endpoint.nodes[1].port
        return pool[1] if second and len(pool) > 1 else pool[0]

    def physical_trunk(self, trunk: str) -> str:
        return f"paper/{self.profile}/{trunk}"

    async def check_access(self) -> tuple[str, ...]:
        return ()

    async def configuration_problems(self, trunk: str) -> tuple[str, ...]:
        return ()

    async def read_trunk(self, trunk: str, *, reachable_only: bool = False) -> TrunkState:
        return TrunkState(
            trunk=trunk,
            name=self.endpoint.name,
            enabled=True,
            pool=self.pool.now,
            canary=self._canary,
            canary_path=self._canary_path() if self._canary else None,
            settings=self._settings,
            mutual_tls=Direction.OUTBOUND in self.endpoint.directions,
            version=self.writes,
            shares=self._shares,
        )

    async def trunks_presenting(self, sha256: str) -> tuple[str, ...]:
        return (self.endpoint.trunk,) if sha256 in self.pool.now else ()

    async def find_certificate(self, sha256: str) -> PlatformCertificate | None:
        return self.store.get(sha256)

    async def certificates(self) -> tuple[PlatformCertificate, ...]:
        return tuple(self.store.values())

    async def upload(self, name: str, chain_pem: str, private_key: SecretStr) -> PlatformCertificate:
        sha256 = facts(chain_pem).sha256
        return self.store.setdefault(sha256, self._certificate(name, sha256))

    async def update_trunk(self, trunk: str, change: TrunkChange) -> TrunkState:
        self._script.must_write(self.endpoint.name)
        before = await self.read_trunk(trunk)
        if change.pool is not None:
            if not change.pool or any(sha256 not in self.store for sha256 in change.pool):
                raise RequestRefused("the pool names no certificate, or one that is not uploaded", where=trunk)
            if change.pool != self.pool.now:
                self.pool.change(self._clock(), change.pool)
            if self._shares is not None:
                self._shares = change.shares or (100, *(0 for _ in change.pool[1:]))
        if change.canary is not None:
            self._canary = change.canary or None
        self._settings = change.settings or self._settings
        self.writes += change.always or before != await self.read_trunk(trunk)
        return await self.read_trunk(trunk)

    async def health(self, trunk: str) -> EdgeHealth:
        now = self._clock()
        assert self.traffic is not None
        return EdgeHealth(
            listener_up=True,
            certificates=tuple(CertificateHealth(sha256=sha256, valid=True) for sha256 in self.pool.now),
            active_calls={sha256: self.traffic.active_calls(sha256, now) for sha256 in self.store},
            clock=now,
            read_at=now,
        )

    async def reading(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        now = self._clock()
        self._script.must_see(endpoint.name, now)
        assert self.traffic is not None
        reset = self._script.counters_since(now)
        counted = max(since, reset) if reset else since
        return Reading(
            endpoint=endpoint.name,
            reporter=Reporter.PLATFORM,
            since=since,
            until=until,
            read_at=now,
            counters_since=reset,
            samples=(*self.traffic.samples(Reporter.PLATFORM, counted, until), *self._probes(counted, until)),
        )

    async def flush_tickets(self, trunk: str) -> None:
        pass

    async def close_connections(self, trunk: str, sha256: str) -> int:
        raise RequestRefused("this edge closes no connections", where=trunk)

    async def delete_certificate(self, sha256: str) -> bool:
        if sha256 in self.pool.now:
            raise RequestRefused("a trunk uses the certificate", where=self.profile)
        return self.store.pop(sha256, None) is not None

    async def close(self) -> None:
        pass

    def _canary_path(self) -> CanaryPath:
        if self.endpoint.srv is not None:
            return CanaryPath(port=self.endpoint.nodes[1].port)
        return CanaryPath(server_name=f"canary.{self.endpoint.fqdn}")

    def _probes(self, since: datetime, until: datetime) -> tuple[Sample, ...]:
        if not self.probed or self.probed[-1].at < since:
            return ()
        seen = [probe for probe in self.probed if since <= probe.at < until]
        return tuple(
            Sample(
                endpoint=self.endpoint.name,
                reporter=Reporter.PLATFORM,
                direction=Direction.INBOUND,
                sha256=sha256,
                peer=self.endpoint.probe_addresses[0],
                synthetic=True,
                handshakes=_good(sum(probe.sha256 == sha256 for probe in seen)),
                call_setups=_good(sum(probe.sha256 == sha256 and probe.called for probe in seen)),
            )
            for sha256 in {probe.sha256 for probe in seen}
        )

    @staticmethod
    def _certificate(name: str, sha256: str) -> PlatformCertificate:
        return PlatformCertificate(id=f"paper-{sha256[:8]}", name=name, sha256=sha256, valid=True)


def _good(count: int) -> Tally:
    return Tally(attempts=count, successes=count)
