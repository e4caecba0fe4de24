"""One DNS zone in memory: what it answers, and how it takes a dynamic update (RFC 2136, sections 3.2-3.4)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import cast

import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
import dns.update
from dns.rdtypes.ANY.SOA import SOA
from dns.rdtypes.IN.SRV import SRV


@dataclass(frozen=True)
class Records:
    """A record set: TTL in seconds and the records, which are a set (RFC 2181 section 5)."""

    ttl: int
    rdatas: frozenset[dns.rdata.Rdata]


Node = dict[dns.rdatatype.RdataType, Records]

_IN = dns.rdataclass.IN
_QUERY_TYPES = {
    dns.rdatatype.ANY,
    dns.rdatatype.AXFR,
    dns.rdatatype.IXFR,
    dns.rdatatype.MAILA,
    dns.rdatatype.MAILB,
}
_APEX_TYPES = {dns.rdatatype.SOA, dns.rdatatype.NS}


class UpdateRefused(Exception):
    """The update changes nothing; `rcode` is the answer."""

    def __init__(self, rcode: dns.rcode.Rcode) -> None:
        super().__init__(dns.rcode.to_text(rcode))
        self.rcode = rcode


@dataclass
class Answer:
    """What the zone says to a question."""

    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    answer: list[dns.rrset.RRset] = field(default_factory=list)
    authority: list[dns.rrset.RRset] = field(default_factory=list)
    additional: list[dns.rrset.RRset] = field(default_factory=list)


class Zone:
    """The zone `origin`. It always has its SOA and at least one NS record at the apex."""

    def __init__(self, origin: str, *, name_server: str, address: str) -> None:
        """`name_server` is this server's host name, which lies in the zone, and `address` its address."""
        self.origin = dns.name.from_text(origin)
        self._nodes: dict[dns.name.Name, Node] = {}
        soa = f"{name_server}. hostmaster.{origin}. 1 60 10 3600 1"
        self.put(origin, 60, "SOA", soa)
        self.put(origin, 60, "NS", f"{name_server}.")
        self.put(name_server, 60, "A", address)

    def put(self, name: str, ttl: int, rdtype: str, *texts: str) -> None:
        """Set a record set, from its presentation format; the serial stays (this is no update)."""
        kind = dns.rdatatype.from_text(rdtype)
        records = Records(ttl, frozenset(dns.rdata.from_text(_IN, kind, text) for text in texts))
        self._nodes.setdefault(dns.name.from_text(name), {})[kind] = records

    def remove(self, name: str, rdtype: str) -> None:
        """Take a record set away, if there is one; the serial stays."""
        self._nodes.get(dns.name.from_text(name), {}).pop(dns.rdatatype.from_text(rdtype), None)

    @property
    def serial(self) -> int:
        """The SOA's serial number."""
        return self._soa().serial

    def srv(self, name: str) -> list[SRV]:
        """The SRV records of `name`, the most preferred first."""
        found = self._nodes.get(dns.name.from_text(name), {}).get(dns.rdatatype.SRV)
        records = [cast(SRV, rdata) for rdata in (found.rdatas if found else ())]
        return sorted(records, key=lambda record: (record.priority, -record.weight, record.target))

    # Questions

    def answer(self, name: dns.name.Name, rdtype: dns.rdatatype.RdataType) -> Answer:
        """Answer a question of class IN; REFUSED outside the zone and for transfers."""
        if not name.is_subdomain(self.origin) or rdtype in _QUERY_TYPES:
            return Answer(dns.rcode.REFUSED)
        records = self._nodes.get(name, {}).get(rdtype)
        if records is not None:
            return Answer(answer=[_rrset(name, records)], additional=self._addresses(records))
        alias = self._nodes.get(name, {}).get(dns.rdatatype.CNAME)
        if alias is not None:
            return Answer(answer=[_rrset(name, alias)])
        soa = self._nodes[self.origin][dns.rdatatype.SOA]
        exists = any(node.is_subdomain(name) for node in self._nodes)
        rcode = dns.rcode.NOERROR if exists else dns.rcode.NXDOMAIN
        return Answer(rcode, authority=[_rrset(self.origin, soa)])

    def _addresses(self, records: Records) -> list[dns.rrset.RRset]:
        """Addresses of SRV targets, which spare the asker a question."""
        targets = {rdata.target for rdata in records.rdatas if isinstance(rdata, SRV)}
        found = {target: self._nodes.get(target, {}).get(dns.rdatatype.A) for target in sorted(targets)}
        return [_rrset(target, addresses) for target, addresses in found.items() if addresses is not None]

    # Updates

    def update(self, message: dns.update.UpdateMessage) -> None:
        """Carry out an update as a whole, or raise `UpdateRefused` and do nothing; who asks is not judged."""
        if len(message.zone) != 1 or message.zone[0].rdtype != dns.rdatatype.SOA:
            raise UpdateRefused(dns.rcode.FORMERR)
        if message.zone[0].name != self.origin or message.zone[0].rdclass != _IN:
            raise UpdateRefused(dns.rcode.NOTAUTH)
        self._require(message.prerequisite)
        self._scan(message.update)
        nodes = {name: dict(node) for name, node in self._nodes.items()}
        for change in message.update:
            self._change(nodes, change)
        nodes = {name: node for name, node in nodes.items() if node}
        if nodes == self._nodes:
            return
        before, self._nodes = self.serial, nodes
        if self.serial == before:
            self._set_serial((before % 0xFFFFFFFF) + 1)

    def _require(self, prerequisites: Iterable[dns.rrset.RRset]) -> None:
        """RFC 2136 section 3.2: every prerequisite holds."""
        exact: dict[tuple[dns.name.Name, dns.rdatatype.RdataType], set[dns.rdata.Rdata]] = {}
        for wanted in prerequisites:
            if not wanted.name.is_subdomain(self.origin):
                raise UpdateRefused(dns.rcode.NOTZONE)
            node = self._nodes.get(wanted.name, {})
            if wanted.deleting is None:
                if wanted.ttl != 0 or wanted.rdtype in _QUERY_TYPES:
                    raise UpdateRefused(dns.rcode.FORMERR)
                exact.setdefault((wanted.name, wanted.rdtype), set()).update(wanted)
            elif wanted.deleting == dns.rdataclass.ANY:
                if wanted.rdtype == dns.rdatatype.ANY and not node:
                    raise UpdateRefused(dns.rcode.NXDOMAIN)
                if wanted.rdtype != dns.rdatatype.ANY and wanted.rdtype not in node:
                    raise UpdateRefused(dns.rcode.NXRRSET)
            else:
                if wanted.rdtype == dns.rdatatype.ANY and node:
                    raise UpdateRefused(dns.rcode.YXDOMAIN)
                if wanted.rdtype in node:
                    raise UpdateRefused(dns.rcode.YXRRSET)
        for (name, rdtype), rdatas in exact.items():
            present = self._nodes.get(name, {}).get(rdtype)
            if present is None or present.rdatas != rdatas:
                raise UpdateRefused(dns.rcode.NXRRSET)

    def _scan(self, changes: Iterable[dns.rrset.RRset]) -> None:
        """RFC 2136 section 3.4.1: look at the whole update section before anything is changed."""
        for change in changes:
            if not change.name.is_subdomain(self.origin):
                raise UpdateRefused(dns.rcode.NOTZONE)
            forbidden = _QUERY_TYPES
            if change.deleting == dns.rdataclass.ANY:
                forbidden = _QUERY_TYPES - {dns.rdatatype.ANY}
            elif change.deleting == dns.rdataclass.NONE and change.ttl != 0:
                raise UpdateRefused(dns.rcode.FORMERR)
            if change.rdtype in forbidden:
                raise UpdateRefused(dns.rcode.FORMERR)

    def _change(self, nodes: dict[dns.name.Name, Node], change: dns.rrset.RRset) -> None:
        """RFC 2136 section 3.4.2: one record of the update section."""
        apex = change.name == self.origin
        node = nodes.setdefault(change.name, {})
        if change.deleting is None:
            self._add(node, change, apex=apex)
        elif change.deleting == dns.rdataclass.ANY:
            kept = _APEX_TYPES if apex else set()
            wanted = set(node) if change.rdtype == dns.rdatatype.ANY else {change.rdtype}
            for rdtype in wanted - kept:
                node.pop(rdtype, None)
        elif change.rdtype in node and change.rdtype != dns.rdatatype.SOA:
            present = node.pop(change.rdtype)
            remaining = present.rdatas - set(change)
            if not remaining and apex and change.rdtype == dns.rdatatype.NS:
                remaining = present.rdatas
            if remaining:
                node[change.rdtype] = Records(present.ttl, remaining)

    def _add(self, node: Node, change: dns.rrset.RRset, *, apex: bool) -> None:
        cname = dns.rdatatype.CNAME
        if change.rdtype == dns.rdatatype.SOA:
            newer = apex and 0 < (cast(SOA, change[0]).serial - self.serial) % 2**32 < 2**31
            if not newer:
                return
        elif (change.rdtype == cname and set(node) - {cname}) or (change.rdtype != cname and cname in node):
            return  # CNAME and other data do not live side by side: ignored, says the RFC
        single = change.rdtype in (cname, dns.rdatatype.SOA)
        present = node.get(change.rdtype)
        kept = present.rdatas if present is not None and not single else frozenset()
        node[change.rdtype] = Records(change.ttl, kept | frozenset(change))

    def _soa(self) -> SOA:
        (soa,) = self._nodes[self.origin][dns.rdatatype.SOA].rdatas
        return cast(SOA, soa)

    def _set_serial(self, serial: int) -> None:
        ttl = self._nodes[self.origin][dns.rdatatype.SOA].ttl
        soa = self._soa().replace(serial=serial)
        self._nodes[self.origin][dns.rdatatype.SOA] = Records(ttl, frozenset({soa}))


def _rrset(name: dns.name.Name, records: Records) -> dns.rrset.RRset:
    return dns.rrset.from_rdata_list(name, records.ttl, sorted(records.rdatas))
