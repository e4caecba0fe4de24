"""How the carrier finds a trunk: SRV and A over real UDP DNS, cached for as long as the answers' TTL."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import cast

import dns.asyncquery
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
from dns.rdtypes.IN.A import A
from dns.rdtypes.IN.SRV import SRV

_TIMEOUT_S = 5.0


class NameNotFound(LookupError):
    """The name server has no such record set."""


class Resolver:
    """Trunk name to (host, port), the most preferred first. Weights are not drawn: ties take turns to be first."""

    def __init__(
        self,
        server: str,
        port: int,
        srv_names: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`srv_names` maps trunk names to SRV owner names."""
        self._server, self._port, self._srv_names, self._clock = server, port, dict(srv_names), clock
        self._cache: dict[tuple[str, str], tuple[float, dns.rrset.RRset]] = {}
        self._turn: dict[str, int] = {}

    async def resolve(self, trunk: str) -> list[tuple[str, int]]:
        """Raises `NameNotFound`, `KeyError` for an unknown trunk, and dnspython's and the socket's errors."""
        records = [cast(SRV, one) for one in await self._ask(self._srv_names[trunk], "SRV")]
        records.sort(key=lambda record: (record.priority, -record.weight, record.target, record.port))
        ties = sum((one.priority, one.weight) == (records[0].priority, records[0].weight) for one in records)
        turn = self._turn[trunk] = self._turn.get(trunk, -1) + 1
        records = [records[(turn + n) % ties] for n in range(ties)] + records[ties:]
        targets: list[tuple[str, int]] = []
        missing: NameNotFound | None = None
        for record in records:
            try:
                addresses = await self._ask(record.target.to_text(omit_final_dot=True), "A")
            except NameNotFound as failure:  # the next target is tried (RFC 2782)
                missing = failure
                continue
            targets += [(cast(A, address).address, record.port) for address in addresses]
        if not targets and missing is not None:
            raise missing
        return targets

    async def _ask(self, name: str, rdtype: str) -> dns.rrset.RRset:
        cached = self._cache.get((name, rdtype))
        if cached is not None and self._clock() < cached[0]:
            return cached[1]
        asked_at = self._clock()
        question = dns.message.make_query(name, rdtype)
        answer = await dns.asyncquery.udp(question, self._server, timeout=_TIMEOUT_S, port=self._port)
        owner, wanted = dns.name.from_text(name), dns.rdatatype.from_text(rdtype)
        found = next((one for one in answer.answer if one.name == owner and one.rdtype == wanted), None)
        if answer.rcode() != dns.rcode.NOERROR or found is None:
            self._cache.pop((name, rdtype), None)
            raise NameNotFound(f"{name} {rdtype}: {dns.rcode.to_text(answer.rcode())}")
        self._cache[name, rdtype] = (asked_at + found.ttl, found)
        return found
