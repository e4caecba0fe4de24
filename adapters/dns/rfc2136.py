"""A zone on a DNS server that takes dynamic updates (RFC 2136), every message signed with TSIG (RFC 8945).

An update replaces the record set under the prerequisite that the old one is there word for word (RFC 2136 section
2.4.2), all in one message, so that somebody else's edit is refused and never overwritten. Reads and updates go over
TCP, which every server must speak (RFC 7766): nothing is truncated, and no lost datagram leaves an update in doubt.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
from typing import Final, NoReturn

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update

from adapters.access_check import access_problems
from adapters.dns.base import SrvRecord, SrvSet
from adapters.fence import ensure_in_time
from domain.errors import (
    ConcurrentEdit,
    CredentialsRefused,
    NotAsWritten,
    PermissionMissing,
    RequestRefused,
    ServerFailed,
    SettingsInvalid,
    UnexpectedAnswer,
    Unreachable,
)
from settings import Rfc2136Profile

_PREREQUISITE_FAILED: Final = frozenset({dns.rcode.NXRRSET, dns.rcode.YXRRSET, dns.rcode.NXDOMAIN, dns.rcode.YXDOMAIN})
_PEER_ERRORS: Final = {
    dns.tsig.PeerBadKey: ("BADKEY", "check key_name, and that the server knows this key"),
    dns.tsig.PeerBadSignature: ("BADSIG", "check key_secret, and that the key is an hmac-sha256 key"),
    dns.tsig.PeerBadTime: ("BADTIME", "set the clocks: the server's and ours differ by more than 5 minutes"),
    dns.tsig.PeerBadTruncation: ("BADTRUNC", "let the server accept whole hmac-sha256 signatures"),
}
_NOT_OUR_KEY: Final = (
    dns.tsig.BadSignature,
    dns.tsig.BadKey,
    dns.tsig.BadAlgorithm,
    dns.tsig.BadTime,
    dns.message.UnknownTSIGKey,
)


class Rfc2136Zone:
    """One `[dns.…]` profile of kind `rfc2136`. All methods raise `domain.errors.RotatorError`s only."""

    def __init__(self, profile: str, settings: Rfc2136Profile) -> None:
        self.profile = profile
        self._settings = settings

    async def read(self, name: str) -> SrvSet:
        """The SRV set as the authoritative server has it (its AA bit is demanded), TTL in seconds.

        Raises `RequestRefused` when there is none, `UnexpectedAnswer` when the server only repeats what it heard.
        """
        owner = self._owner(name)
        answer = await self._query(owner, dns.rdatatype.SRV)
        rrset = answer.get_rrset(answer.answer, owner, dns.rdataclass.IN, dns.rdatatype.SRV)
        if rrset is None:
            raise RequestRefused(
                "there is no SRV record set of this name",
                where=self._where(name),
                seen=dns.rcode.to_text(answer.rcode()),
                action="check the name and the zone",
            )
        records = [SrvRecord(priority=r.priority, weight=r.weight, port=r.port, target=_text(r.target)) for r in rrset]
        return _canonical(SrvSet(name=_text(owner), ttl=rrset.ttl, records=tuple(records)))

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The A and AAAA records of a host of the zone, sorted; none when it has none. Raises as `read` does."""
        owner = self._owner(host)
        found: set[str] = set()
        for kind in (dns.rdatatype.A, dns.rdatatype.AAAA):
            answer = await self._query(owner, kind)
            rrset = answer.get_rrset(answer.answer, owner, dns.rdataclass.IN, kind)
            found.update(record.to_text() for record in rrset or ())
        return tuple(sorted(found))

    async def replace(self, expected: SrvSet, wanted: SrvSet) -> SrvSet:
        """Writes `wanted` where the server has `expected`, and reads back; nothing is sent when it is there already.

        The TTL is written but not expected: a prerequisite compares records alone. Raises `ConcurrentEdit` that shows
        what is there instead, `PermissionMissing`, `CredentialsRefused`, or `NotAsWritten` after the read-back.
        """
        expected, wanted = _canonical(expected), _canonical(wanted)
        if expected.name != wanted.name or not wanted.records:
            raise RequestRefused(
                "a replacement keeps the name, and at least one target",
                where=self._where(expected.name),
                seen=f"{wanted.name} with {len(wanted.records)} records",
            )
        there = await self.read(wanted.name)
        if there == wanted:
            return there
        if there.records != expected.records:
            raise self._edited(there)
        answer = await self._exchange(self._replacement(expected, wanted))
        if answer.rcode() in _PREREQUISITE_FAILED:
            raise self._edited(await self.read(wanted.name))
        self._demand(answer, self._where(wanted.name))
        written = await self.read(wanted.name)
        if written != wanted:
            raise NotAsWritten(
                "read back after the update, the record set is another one",
                where=self._where(wanted.name),
                seen=shown(written),
                action=f"find out who edits it; wanted was {shown(wanted)}",
            )
        return written

    async def check_access(self) -> tuple[str, ...]:
        """Reads the zone's SOA, then sends a signed update that demands that SOA and changes nothing.

        Returns what is missing in words. It proves the key; that the key may change this very name, a server tells
        only when it is tried. Raises what passes by itself: `Unreachable`, `ServerFailed`.
        """
        return await access_problems(self._read_soa, self._empty_update)

    async def _read_soa(self) -> None:
        zone = self._zone()
        answer = await self._query(zone, dns.rdatatype.SOA)
        if answer.get_rrset(answer.answer, zone, dns.rdataclass.IN, dns.rdatatype.SOA) is None:
            raise RequestRefused("the server does not have this zone", where=self._where(), action="check zone")

    async def _empty_update(self) -> None:
        update = self._update()
        update.present(self._zone(), dns.rdatatype.SOA)
        self._demand(await self._exchange(update), self._where())

    async def _query(self, owner: dns.name.Name, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        """A signed query's answer, authoritative and either NOERROR or NXDOMAIN."""
        query = dns.message.make_query(owner, kind, flags=0)
        query.use_tsig(self._key())
        answer = await self._exchange(query)
        if answer.rcode() != dns.rcode.NXDOMAIN:
            self._demand(answer, self._where(_text(owner)))
        if not answer.flags & dns.flags.AA:
            raise UnexpectedAnswer(
                "the server is not authoritative for this name",
                where=self._where(_text(owner)),
                action="name the zone's primary server, not a resolver",
            )
        return answer

    def _replacement(self, expected: SrvSet, wanted: SrvSet) -> dns.update.UpdateMessage:
        owner, update = self._owner(wanted.name), self._update()
        update.present(owner, *(self._rdata(record) for record in expected.records))
        update.delete(owner, dns.rdatatype.SRV)
        update.add(owner, wanted.ttl, *(self._rdata(record) for record in wanted.records))
        return update

    async def _exchange(self, message: dns.message.Message) -> dns.message.Message:
        """One message and its verified answer. Raises `Unreachable`, `CredentialsRefused`, `UnexpectedAnswer`."""
        timeout_s = self._settings.timeout.total_seconds()
        try:
            wire = message.to_wire()
            async with asyncio.timeout(timeout_s):
                raw = await self._over_tcp(wire, writes=isinstance(message, dns.update.UpdateMessage))
        except TimeoutError:
            raise Unreachable("no answer in time", where=self._where(), seen=f"timeout after {timeout_s:g} s") from None
        except (OSError, EOFError) as error:
            number = getattr(error, "errno", None)
            seen = os.strerror(number) if number else "the connection was closed without an answer"
            raise Unreachable("no connection", where=self._where(), seen=seen) from None
        answer = self._verified(raw, message)
        if not message.is_response(answer):
            raise UnexpectedAnswer("the answer belongs to another message", where=self._where())
        return answer

    async def _over_tcp(self, wire: bytes, *, writes: bool) -> bytes:
        reader, writer = await asyncio.open_connection(self._settings.server, self._settings.port)
        try:
            if writes:
                ensure_in_time(self._where())
            writer.write(len(wire).to_bytes(2, "big") + wire)
            await writer.drain()
            return await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _verified(self, raw: bytes, message: dns.message.Message) -> dns.message.Message:
        """The answer, its signature checked; unsigned, it is believed only when it says no (RFC 8945 section 5.3)."""
        try:
            return dns.message.from_wire(raw, keyring=self._key(), request_mac=message.mac)
        except dns.tsig.PeerError as error:
            seen, action = _PEER_ERRORS.get(type(error), ("an unknown TSIG error", "look at the server's log"))
            raise CredentialsRefused(
                f"the server refuses key {self._settings.key_name}", where=self._where(), seen=seen, action=action
            ) from None
        except _NOT_OUR_KEY as error:
            raise UnexpectedAnswer(
                "the answer is not signed with our key",
                where=self._where(),
                seen=type(error).__name__,
                action="check that nobody stands between us and the server",
            ) from None
        except dns.exception.DNSException as error:
            refusal = raw[3] & 0x0F if len(raw) >= 12 else 0
            if refusal:
                self._refuse(dns.rcode.Rcode(refusal), self._where())
            raise UnexpectedAnswer("the answer cannot be read", where=self._where(), seen=str(error)) from None

    def _demand(self, answer: dns.message.Message, where: str) -> None:
        if answer.rcode() != dns.rcode.NOERROR:
            self._refuse(answer.rcode(), where)

    def _refuse(self, rcode: dns.rcode.Rcode, where: str) -> NoReturn:
        """The failure behind an RCODE (RFC 1035 section 4.1.1, RFC 2136 section 2.2)."""
        seen, key, zone = dns.rcode.to_text(rcode), self._settings.key_name, self._settings.zone
        if rcode == dns.rcode.REFUSED:
            action = f"allow key {key} to read and update {zone}"
            raise PermissionMissing("the server refuses", where=where, seen=seen, action=action)
        if rcode == dns.rcode.NOTAUTH:
            action = f"name the primary server of {zone}, and allow key {key} there"
            raise PermissionMissing("not the zone's server, or not our key's", where=where, seen=seen, action=action)
        if rcode == dns.rcode.SERVFAIL:
            raise ServerFailed("the server failed", where=where, seen=seen, action="look at its log")
        raise RequestRefused("the server does not take the message", where=where, seen=seen)

    def _edited(self, there: SrvSet) -> ConcurrentEdit:
        return ConcurrentEdit(
            "the record set is not the one that was expected: somebody edited it",
            where=self._where(there.name),
            seen=shown(there),
            action="look who edits this name, then read it again",
        )

    def _update(self) -> dns.update.UpdateMessage:
        update = dns.update.UpdateMessage(self._zone())
        update.use_tsig(self._key())
        return update

    def _key(self) -> dns.tsig.Key:
        """Made for each message: its repr shows the secret, so it is kept nowhere."""
        field = f"[dns.{self.profile}] key_secret"
        secret = self._settings.key_secret.read(field).get_secret_value()
        try:
            return dns.tsig.Key(
                dns.name.from_text(self._settings.key_name),
                base64.b64decode(secret, validate=True),
                dns.tsig.HMAC_SHA256,
            )
        except (binascii.Error, ValueError):
            pass  # the exception may hold the secret
        raise SettingsInvalid("the TSIG key cannot be used", where=field, seen="its secret is not base64")

    def _zone(self) -> dns.name.Name:
        return self._name(self._settings.zone)

    def _owner(self, name: str) -> dns.name.Name:
        owner = self._name(name)
        if not owner.is_subdomain(self._zone()):
            raise RequestRefused("the name lies outside the zone", where=self._where(name), action="check dns and zone")
        return owner

    def _name(self, text: str) -> dns.name.Name:
        try:
            return dns.name.from_text(text)
        except dns.exception.DNSException as error:
            raise RequestRefused("not a DNS name", where=self._where(), seen=f"{text!r}: {error}") from None

    def _rdata(self, record: SrvRecord) -> dns.rdata.Rdata:
        text = f"{record.priority} {record.weight} {record.port} {self._name(record.target)}"
        try:
            return dns.rdata.from_text(dns.rdataclass.IN, dns.rdatatype.SRV, text)
        except dns.exception.DNSException as error:
            raise RequestRefused("not an SRV record", where=self._where(), seen=f"{text}: {error}") from None

    def _where(self, name: str = "") -> str:
        s = self._settings
        return f"[dns.{self.profile}] at {s.server} port {s.port}, {name or f'zone {s.zone}'}"


def shown(records: SrvSet) -> str:
    """An SRV set for people, as priority weight port target."""
    lines = [f"{r.priority} {r.weight} {r.port} {r.target}" for r in records.records]
    return f"{records.name} TTL {records.ttl}: {', '.join(lines) or 'nothing'}"


def _canonical(records: SrvSet) -> SrvSet:
    """Lower-case names without final dot (RFC 4343), records in the order that the role's contract states."""
    lowered = [r.model_copy(update={"target": _plain(r.target)}) for r in records.records]
    ordered = sorted(lowered, key=lambda r: (r.priority, r.weight, r.target, r.port))
    return SrvSet(name=_plain(records.name), ttl=records.ttl, records=tuple(ordered))


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _text(name: dns.name.Name) -> str:
    return _plain(name.to_text())
