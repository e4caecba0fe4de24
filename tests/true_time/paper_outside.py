"""The rest of the world on paper: carrier, DNS zone, the people who are told, and our own prober."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from adapters.dns.base import SrvSet
from adapters.notify.base import Notice
from adapters.probe.base import ProbeResult, ProbeTarget
from domain.errors import ConcurrentEdit, Unreachable
from domain.handshakes import Reading, Reporter
from domain.plan import Endpoint
from tests.true_time.history import History
from tests.true_time.paper_edge import PaperEdge, Probed

Clock = Callable[[], datetime]


class PaperCarrier:
    """Counts what its own side did; it never resets its counters."""

    profile = "acme"

    def __init__(self, edges: Mapping[str, PaperEdge], clock: Clock) -> None:
        self._edges, self._clock = edges, clock

    async def check_access(self, endpoint: Endpoint) -> tuple[str, ...]:
        return ()

    async def reading(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        traffic = self._edges[endpoint.platform].traffic
        assert traffic is not None
        samples = traffic.samples(Reporter.CARRIER, since, until)
        return Reading(
            endpoint=endpoint.name,
            reporter=Reporter.CARRIER,
            since=since,
            until=until,
            read_at=self._clock(),
            samples=samples,
        )

    async def close(self) -> None:
        pass


class PaperZone:
    """One SRV record set."""

    profile = "corp-dns"

    def __init__(self, records: SrvSet, clock: Clock, at: datetime) -> None:
        self.records = History(at, records)
        self._clock = clock

    def preferred(self, moment: datetime) -> str:
        """The target that carriers use at that moment."""
        return min(self.records.at(moment).records, key=lambda record: record.priority).target

    async def read(self, name: str) -> SrvSet:
        return self.records.now

    async def replace(self, expected: SrvSet, wanted: SrvSet) -> SrvSet:
        if self.records.now != wanted:
            if self.records.now != expected:
                raise ConcurrentEdit("somebody else wrote", where=expected.name)
            self.records.change(self._clock(), wanted)
        return self.records.now

    async def check_access(self) -> tuple[str, ...]:
        return ()


class PaperPeople:
    """Desks that read every notice, each once; those in `deaf` cannot be reached."""

    def __init__(self) -> None:
        self.deaf: set[str] = set()
        self._read: dict[str, dict[str, Notice]] = {}

    def read_at(self, profile: str) -> list[Notice]:
        """What was read at a desk, in order."""
        return [*self._read.get(profile, {}).values()]

    def desk(self, profile: str) -> PaperDesk:
        """The desk of a profile."""
        return PaperDesk(profile, self)

    def take(self, profile: str, notice: Notice) -> None:
        if profile in self.deaf:
            raise Unreachable("nobody answers", where=f"[notify.{profile}]")
        self._read.setdefault(profile, {}).setdefault(notice.id, notice)


class PaperDesk:
    """One desk."""

    def __init__(self, profile: str, people: PaperPeople) -> None:
        self.profile = profile
        self._people = people

    async def send(self, notice: Notice, link: str | None = None) -> None:
        self._people.take(self.profile, notice)

    async def close(self) -> None:
        pass


class PaperProber:
    """Sees what the edge serves, and is counted by it."""

    def __init__(self, edges: Sequence[PaperEdge], pems: Callable[[str], str], clock: Clock) -> None:
        self._edges = {(node.address, node.port): edge for edge in edges for node in edge.endpoint.nodes}
        self._pems, self._clock = pems, clock

    async def probe(self, target: ProbeTarget) -> ProbeResult:
        edge = self._edges[target.address, target.port]
        sha256, now = edge.served(target.port, target.server_name), self._clock()
        edge.probed.append(Probed(now, sha256, target.test_call is not None))
        return ProbeResult(
            target=target,
            at=now,
            leaf_sha256=sha256,
            leaf_pem=self._pems(sha256),
            version="TLSv1.3",
            handshake_ms=3.0,
            chain_verified=True,
            identity_matches=True,
            options_status=200,
            call_status=200 if target.test_call else None,
        )
