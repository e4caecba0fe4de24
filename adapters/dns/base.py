"""The role `DnsZone`: reads and writes one SRV record set so that concurrent edits are refused, not overwritten."""

from __future__ import annotations

from typing import Protocol

from domain.handshakes import Record


class SrvRecord(Record):
    """One SRV record (RFC 2782). `target` is absolute without the final dot."""

    priority: int
    weight: int
    port: int
    target: str


class SrvSet(Record):
    """An SRV record set; `ttl` in seconds. Records are kept sorted by priority, weight, target."""

    name: str
    ttl: int
    records: tuple[SrvRecord, ...]


class DnsZone(Protocol):
    """One DNS profile. Methods raise `domain.errors.RotatorError`s only."""

    profile: str

    async def read(self, name: str) -> SrvSet:
        """The record set as the authoritative server has it. Raises `RequestRefused` when there is none."""
        ...

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The A and AAAA records of a host in the zone as the authoritative server has them; none is an answer."""
        ...

    async def replace(self, expected: SrvSet, wanted: SrvSet) -> SrvSet:
        """Writes `wanted` if the server still has `expected` (prerequisite, RFC 2136 section 2.4) and reads back.

        Already there: nothing is sent. Raises `ConcurrentEdit` when the set is neither.
        """
        ...

    async def check_access(self) -> tuple[str, ...]:
        """Reads the zone and proves that the update key is accepted; returns what is missing, in words."""
        ...
