"""Dynamic updates against a real DNS server on loopback: read, replace, refuse somebody else's edit."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import secrets
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dns.flags
import dns.message
import dns.rcode
import dns.update
import pytest

from adapters.dns.base import SrvRecord, SrvSet
from adapters.dns.rfc2136 import Rfc2136Zone
from domain.errors import (
    ConcurrentEdit,
    CredentialsRefused,
    NotAsWritten,
    PermissionMissing,
    RequestRefused,
    RotatorError,
    ServerFailed,
    SettingsInvalid,
    UnexpectedAnswer,
    Unreachable,
)
from lab.dns_server import DnsServer, UpdateKey
from lab.dns_zone import Zone
from lab.ports import LOOPBACK, free_port
from settings import Rfc2136Profile, SecretSource

ZONE = "example.com"
NAME = "_sips._tcp.trunk.example.com"
KEY = UpdateKey("rotator", secrets.token_bytes(32))

Reply = Callable[[bytes, dns.message.Message | None], dns.message.Message | bytes | None]


def record(priority: int, target: str, weight: int = 10, port: int = 5061) -> SrvRecord:
    return SrvRecord(priority=priority, weight=weight, port=port, target=target)


A_PREFERRED = SrvSet(name=NAME, ttl=60, records=(record(10, "a.example.com"), record(20, "b.example.com")))
B_PREFERRED = SrvSet(name=NAME, ttl=30, records=(record(10, "b.example.com"), record(20, "a.example.com")))


class Server(DnsServer):
    """The lab's server; `before` runs before each update, `instead` changes replies."""

    def __init__(self) -> None:
        zone = Zone(ZONE, name_server="ns.example.com", address=LOOPBACK)
        zone.put(NAME, 60, "SRV", "20 10 5061 B.example.com.", "10 10 5061 a.example.com.")
        super().__init__(zone, KEY)
        self.updates = 0
        self.before: Callable[[Zone], None] = lambda zone: None
        self.instead: Reply = lambda wire, reply: reply

    def reply(self, wire: bytes) -> Any:
        if dns.message.from_wire(wire, keyring=False).opcode() == dns.opcode.UPDATE:
            self.updates += 1
            self.before(self.zone)
        changed = self.instead(wire, super().reply(wire))
        return _Raw(changed) if isinstance(changed, bytes) else changed


class _Raw:
    """Bytes that are sent as they are."""

    def __init__(self, wire: bytes) -> None:
        self._wire = wire

    def to_wire(self, **_: object) -> bytes:
        return len(self._wire).to_bytes(2, "big") + self._wire


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def zone(server: Server, tmp_path: Path) -> Rfc2136Zone:
    return zone_on(server.port, tmp_path)


def zone_on(port: int, tmp_path: Path, *, secret: bytes = KEY.secret, **changes: Any) -> Rfc2136Zone:
    path = tmp_path / "tsig"
    path.write_text(base64.b64encode(secret).decode())
    usual: dict[str, Any] = {"zone": ZONE, "key_name": KEY.name, "key_secret": SecretSource(file=path), "timeout": "2s"}
    return Rfc2136Zone("lab", Rfc2136Profile(kind="rfc2136", server=LOOPBACK, port=port, **{**usual, **changes}))


@asynccontextmanager
async def tcp_server(handler: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> AsyncIterator[int]:
    """Something that is no DNS server; its port."""
    server = await asyncio.start_server(handler, LOOPBACK, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_reads_the_record_set_lower_case_and_in_order(zone: Rfc2136Zone) -> None:
    assert await zone.read("_SIPS._tcp.trunk.example.com.") == A_PREFERRED


async def test_a_name_without_srv_records_is_refused(zone: Rfc2136Zone) -> None:
    with pytest.raises(RequestRefused, match="no SRV record set of this name; seen: NXDOMAIN"):
        await zone.read("_sips._tcp.nobody.example.com")
    with pytest.raises(RequestRefused, match="seen: NOERROR"):
        await zone.read("ns.example.com")


async def test_the_addresses_of_a_host_are_those_of_the_zone_and_none_is_an_answer(
    server: Server, zone: Rfc2136Zone
) -> None:
    server.zone.put("b.example.com", 60, "A", "192.0.2.7", "192.0.2.3")
    server.zone.put("b.example.com", 60, "AAAA", "2001:db8::1")
    assert await zone.addresses("B.example.com.") == ("192.0.2.3", "192.0.2.7", "2001:db8::1")
    server.zone.remove("b.example.com", "AAAA")
    server.zone.remove("b.example.com", "A")
    assert await zone.addresses("b.example.com") == ()
    assert await zone.addresses("nobody.example.com") == ()
    with pytest.raises(RotatorError):
        await zone.addresses("b.example.org")


@pytest.mark.parametrize("name", ["_sips._tcp.trunk.example.org", "a..example.com", "x" * 64 + ".example.com"])
async def test_a_name_outside_the_zone_or_no_name_at_all_is_refused(zone: Rfc2136Zone, name: str) -> None:
    with pytest.raises(RequestRefused):
        await zone.read(name)


async def test_replaces_and_reads_back(server: Server, zone: Rfc2136Zone) -> None:
    assert await zone.replace(A_PREFERRED, B_PREFERRED) == B_PREFERRED
    assert [(r.priority, r.target.to_text()) for r in server.zone.srv(NAME)] == [
        (10, "b.example.com."),
        (20, "a.example.com."),
    ]


async def test_what_is_there_already_is_not_sent_again(server: Server, zone: Rfc2136Zone) -> None:
    await zone.replace(A_PREFERRED, B_PREFERRED)
    shouting = B_PREFERRED.model_copy(
        update={"records": tuple(r.model_copy(update={"target": r.target.upper() + "."}) for r in B_PREFERRED.records)}
    )
    assert await zone.replace(A_PREFERRED, shouting) == B_PREFERRED
    assert server.updates == 1


async def test_a_change_of_the_ttl_alone_is_written(server: Server, zone: Rfc2136Zone) -> None:
    shorter = A_PREFERRED.model_copy(update={"ttl": 5})
    assert (await zone.replace(A_PREFERRED, shorter)).ttl == 5
    assert server.updates == 1


async def test_an_edit_that_was_there_before_is_shown_and_not_overwritten(server: Server, zone: Rfc2136Zone) -> None:
    server.zone.put(NAME, 60, "SRV", "5 1 5061 c.example.com.")
    with pytest.raises(ConcurrentEdit, match=r"seen: .*TTL 60: 5 1 5061 c\.example\.com"):
        await zone.replace(A_PREFERRED, B_PREFERRED)
    assert server.updates == 0


async def test_an_edit_between_read_and_write_is_refused_by_the_server(server: Server, zone: Rfc2136Zone) -> None:
    server.before = lambda zone: zone.put(NAME, 60, "SRV", "5 1 5061 c.example.com.", "10 10 5061 a.example.com.")
    with pytest.raises(ConcurrentEdit, match=r"5 1 5061 c\.example\.com, 10 10 5061 a\.example\.com"):
        await zone.replace(A_PREFERRED, B_PREFERRED)
    assert len(server.zone.srv(NAME)) == 2
    assert server.updates == 1


async def test_a_record_that_vanished_between_read_and_write_is_refused(server: Server, zone: Rfc2136Zone) -> None:
    server.before = lambda zone: zone.put(NAME, 60, "SRV", "10 10 5061 a.example.com.")
    with pytest.raises(ConcurrentEdit):
        await zone.replace(A_PREFERRED, B_PREFERRED)


async def test_of_two_writers_at_once_none_overwrites_the_other(server: Server, tmp_path: Path) -> None:
    others = SrvSet(name=NAME, ttl=60, records=(record(1, "c.example.com"),))
    both = (zone_on(server.port, tmp_path), zone_on(server.port, tmp_path))
    results = await asyncio.gather(
        both[0].replace(A_PREFERRED, B_PREFERRED), both[1].replace(A_PREFERRED, others), return_exceptions=True
    )
    assert sorted(type(result).__name__ for result in results) == ["ConcurrentEdit", "SrvSet"]


async def test_an_update_whose_answer_was_lost_is_found_done_by_the_retry(server: Server, zone: Rfc2136Zone) -> None:
    def lose(wire: bytes, reply: dns.message.Message | None) -> dns.message.Message | None:
        return None if isinstance(reply, dns.update.UpdateMessage) else reply

    server.instead = lose
    with pytest.raises(Unreachable, match="closed without an answer"):
        await zone.replace(A_PREFERRED, B_PREFERRED)
    assert await zone.replace(A_PREFERRED, B_PREFERRED) == B_PREFERRED
    assert server.updates == 1


async def test_a_server_that_says_yes_and_does_nothing_is_noticed(server: Server, zone: Rfc2136Zone) -> None:
    server.before = lambda zone: setattr(zone, "update", lambda message: None)
    with pytest.raises(NotAsWritten, match=r"10 10 5061 a\.example\.com, 20 10 5061 b\.example\.com"):
        await zone.replace(A_PREFERRED, B_PREFERRED)


@pytest.mark.parametrize(
    "wanted",
    [
        SrvSet(name=NAME, ttl=60, records=()),
        SrvSet(name="_sip._tcp.trunk.example.com", ttl=60, records=A_PREFERRED.records),
    ],
)
async def test_a_trunk_is_never_left_without_a_target(server: Server, zone: Rfc2136Zone, wanted: SrvSet) -> None:
    with pytest.raises(RequestRefused):
        await zone.replace(A_PREFERRED, wanted)
    assert server.updates == 0


async def test_a_record_that_cannot_be_is_refused(server: Server, zone: Rfc2136Zone) -> None:
    with pytest.raises(RequestRefused, match="not an SRV record"):
        await zone.replace(A_PREFERRED, SrvSet(name=NAME, ttl=60, records=(record(70000, "a.example.com"),)))
    assert server.updates == 0


async def test_access_is_proved_by_an_update_that_changes_nothing(server: Server, zone: Rfc2136Zone) -> None:
    serial = server.zone.serial
    assert await zone.check_access() == ()
    assert server.updates == 1
    assert server.zone.serial == serial


@pytest.mark.parametrize(
    ("changes", "seen"),
    [({"secret": b"x" * 32}, "BADSIG"), ({"key_name": "somebody"}, "BADKEY")],
)
async def test_a_wrong_key_is_a_refused_credential(
    server: Server, tmp_path: Path, changes: dict[str, Any], seen: str
) -> None:
    zone = zone_on(server.port, tmp_path, **changes)
    with pytest.raises(CredentialsRefused, match=f"seen: {seen}"):
        await zone.read(NAME)
    with pytest.raises(CredentialsRefused, match=f"seen: {seen}"):
        await zone.replace(A_PREFERRED, B_PREFERRED)
    (problem,) = await zone.check_access()
    assert seen in problem


async def test_clocks_that_differ_are_told(zone: Rfc2136Zone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server reads the clock when it verifies, after we have signed."""
    real, calls = time.time, iter([0.0])
    monkeypatch.setattr(dns.message.time, "time", lambda: real() - 3600 * next(calls, 1.0))
    with pytest.raises(CredentialsRefused, match=r"BADTIME.*set the clocks"):
        await zone.read(NAME)


async def test_a_secret_that_is_not_base64_is_told_without_it(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_text("not*base64*at*all")
    zone = zone_on(server.port, tmp_path, key_secret=SecretSource(file=path))
    with pytest.raises(SettingsInvalid, match=r"\[dns.lab\] key_secret") as raised:
        await zone.read(NAME)
    assert "base64*at" not in str(raised.value)
    assert raised.value.__context__ is None


async def test_a_zone_that_the_server_does_not_have_is_a_missing_permission(server: Server, tmp_path: Path) -> None:
    zone = zone_on(server.port, tmp_path, zone="example.org")
    with pytest.raises(PermissionMissing, match="seen: REFUSED"):
        await zone.read("_sips._tcp.trunk.example.org")
    (problem,) = await zone.check_access()
    assert "REFUSED" in problem


@pytest.mark.parametrize(
    ("rcode", "kind"),
    [
        (dns.rcode.REFUSED, PermissionMissing),
        (dns.rcode.NOTAUTH, PermissionMissing),
        (dns.rcode.SERVFAIL, ServerFailed),
        (dns.rcode.NOTZONE, RequestRefused),
        (dns.rcode.FORMERR, RequestRefused),
        (dns.rcode.NOTIMP, RequestRefused),
        (dns.rcode.NXRRSET, ConcurrentEdit),
        (dns.rcode.YXRRSET, ConcurrentEdit),
        (dns.rcode.NXDOMAIN, ConcurrentEdit),
        (dns.rcode.YXDOMAIN, ConcurrentEdit),
    ],
)
async def test_every_refusal_of_an_update_has_its_failure(
    server: Server, zone: Rfc2136Zone, rcode: dns.rcode.Rcode, kind: type[RotatorError]
) -> None:
    def refuse(wire: bytes, reply: dns.message.Message | None) -> dns.message.Message | None:
        if isinstance(reply, dns.update.UpdateMessage):
            reply.set_rcode(rcode)
        return reply

    server.instead = refuse
    with pytest.raises(RotatorError) as raised:
        await zone.replace(A_PREFERRED, B_PREFERRED)
    assert type(raised.value) is kind


@pytest.mark.parametrize("rcode", [dns.rcode.REFUSED, dns.rcode.NOERROR])
async def test_an_unsigned_answer_is_believed_only_when_it_says_no(
    server: Server, zone: Rfc2136Zone, rcode: dns.rcode.Rcode
) -> None:
    def strip(wire: bytes, reply: dns.message.Message | None) -> dns.message.Message:
        response = dns.message.make_response(dns.message.from_wire(wire, keyring=False))
        response.tsig = None
        response.set_rcode(rcode)
        return response

    server.instead = strip
    expected = PermissionMissing if rcode == dns.rcode.REFUSED else UnexpectedAnswer
    with pytest.raises(expected):
        await zone.read(NAME)


async def test_a_server_that_is_not_authoritative_is_not_believed(server: Server, zone: Rfc2136Zone) -> None:
    def resolver(wire: bytes, reply: dns.message.Message | None) -> dns.message.Message | None:
        if reply is not None:
            reply.flags &= ~dns.flags.AA
        return reply

    server.instead = resolver
    with pytest.raises(UnexpectedAnswer, match=r"not authoritative.*primary server"):
        await zone.read(NAME)


async def test_a_closed_port_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="Connection refused"):
        await zone_on(free_port(), tmp_path).read(NAME)


async def test_a_silent_server_is_unreachable_after_the_timeout(tmp_path: Path) -> None:
    with socket.create_server((LOOPBACK, 0)) as silent:
        zone = zone_on(silent.getsockname()[1], tmp_path, timeout="150ms")
        with pytest.raises(Unreachable, match=r"timeout after 0\.15 s"):
            await zone.check_access()


async def test_what_is_no_dns_answer_is_unexpected(tmp_path: Path) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1024)
        writer.write(b"\x00\x05HTTP/")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async with tcp_server(babble) as port:
        with pytest.raises(UnexpectedAnswer):
            await zone_on(port, tmp_path).read(NAME)


async def test_the_secret_reaches_neither_log_nor_text(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    zone = zone_on(server.port, tmp_path, key_name="somebody")
    with caplog.at_level(logging.DEBUG), pytest.raises(CredentialsRefused) as raised:
        await zone.replace(A_PREFERRED, B_PREFERRED)
    shown = caplog.text + str(raised.value) + repr(zone) + repr(vars(zone))
    assert base64.b64encode(KEY.secret).decode() not in shown
    assert repr(KEY.secret) not in shown
