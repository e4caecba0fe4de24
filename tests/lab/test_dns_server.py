"""The lab's DNS server follows RFC 1035, RFC 2136 and RFC 8945 as far as a rotation meets them."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator
from unittest import mock

import dns.asyncquery
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.tsig
import dns.update
import pytest

from lab.dns_server import DnsServer, UpdateKey
from lab.dns_zone import Zone
from lab.lab_names import CXONE, CXONE_TARGET_A, CXONE_TARGET_B, GENESYS, SRV_NAMES
from lab.resolver import NameNotFound, Resolver
from lab.world_dns import lab_zone

SRV = SRV_NAMES[CXONE]
A_FIRST = {f"10 100 5061 {CXONE_TARGET_A}.", f"20 100 5062 {CXONE_TARGET_B}."}
B_FIRST = {f"20 100 5061 {CXONE_TARGET_A}.", f"10 100 5062 {CXONE_TARGET_B}."}
SECRET = secrets.token_bytes(32)


@pytest.fixture
async def server() -> AsyncIterator[DnsServer]:
    zone = lab_zone("127.0.0.1", genesys_ports=[5060], cxone_ports=(5061, 5062))
    running = DnsServer(zone, UpdateKey("rotator", SECRET))
    await running.start()
    yield running
    await running.stop()


def key(name: str = "rotator", secret: bytes = SECRET, algorithm: dns.name.Name = dns.tsig.HMAC_SHA256) -> dns.tsig.Key:
    return dns.tsig.Key(name, secret, algorithm)


def update(signed_by: dns.tsig.Key | None = None, zone: str = "lab.example") -> dns.update.UpdateMessage:
    message = dns.update.UpdateMessage(zone)
    if signed_by is not None:
        message.use_tsig(signed_by)
    return message


def prefer_b() -> dns.update.UpdateMessage:
    message = update(key())
    message.present(f"{SRV}.", "SRV", f"10 100 5061 {CXONE_TARGET_A}.")
    message.present(f"{SRV}.", "SRV", f"20 100 5062 {CXONE_TARGET_B}.")
    message.delete(f"{SRV}.", "SRV")
    for record in B_FIRST:
        message.add(f"{SRV}.", 1, "SRV", record)
    return message


async def ask(server: DnsServer, message: dns.message.Message, *, tcp: bool = False) -> dns.message.Message:
    send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await send(message, server.address, port=server.port, timeout=5)


async def query(server: DnsServer, name: str, rdtype: str, *, tcp: bool = False) -> dns.message.Message:
    return await ask(server, dns.message.make_query(name, rdtype), tcp=tcp)


async def srv(server: DnsServer) -> set[str]:
    answer = await query(server, SRV, "SRV")
    return {rdata.to_text() for rdata in answer.answer[0]}


# Questions


@pytest.mark.parametrize("tcp", [False, True])
async def test_srv_records_are_answered_with_authority_and_their_targets_addresses(
    server: DnsServer, tcp: bool
) -> None:
    answer = await query(server, SRV, "SRV", tcp=tcp)
    assert answer.flags & dns.flags.AA
    assert {rdata.to_text() for rdata in answer.answer[0]} == A_FIRST
    assert answer.answer[0].ttl == 1
    assert {rrset.name.to_text(True) for rrset in answer.additional} == {CXONE_TARGET_A, CXONE_TARGET_B}


async def test_soa_ns_and_a_are_answered(server: DnsServer) -> None:
    soa = (await query(server, "lab.example", "SOA")).answer[0][0]
    assert soa.serial == server.zone.serial == 1
    assert (await query(server, "lab.example", "NS")).answer[0][0].to_text() == "ns.lab.example."
    assert (await query(server, CXONE_TARGET_B, "A")).answer[0][0].to_text() == "127.0.0.1"


async def test_what_is_not_there_is_told_apart_from_what_has_another_type(server: DnsServer) -> None:
    missing = await query(server, "nobody.lab.example", "A")
    assert missing.rcode() == dns.rcode.NXDOMAIN
    assert missing.authority[0].rdtype == dns.rdatatype.SOA
    for name in (CXONE_TARGET_A, "_tcp.trunk.cxone.lab.example"):
        empty = await query(server, name, "AAAA")
        assert (empty.rcode(), empty.answer) == (dns.rcode.NOERROR, [])


async def test_other_zones_and_transfers_are_refused(server: DnsServer) -> None:
    for name, rdtype in (("example.com", "A"), ("lab.example", "AXFR"), ("lab.example", "ANY")):
        answer = await query(server, name, rdtype, tcp=True)
        assert answer.rcode() == dns.rcode.REFUSED
        assert not answer.flags & dns.flags.AA


async def test_nonsense_gets_a_format_error_or_nothing(server: DnsServer) -> None:
    wire = dns.message.make_query(SRV, "SRV").to_wire()
    truncated = server.reply(wire[:-3])
    assert truncated is not None
    assert truncated.rcode() == dns.rcode.FORMERR
    assert server.reply(b"short") is None
    reply = dns.message.make_response(dns.message.make_query(SRV, "SRV")).to_wire()
    assert server.reply(reply) is None


# Updates


@pytest.mark.parametrize("tcp", [False, True])
async def test_a_signed_update_changes_the_zone_and_its_serial_and_the_reply_is_signed(
    server: DnsServer, tcp: bool
) -> None:
    answer = await ask(server, prefer_b(), tcp=tcp)
    assert answer.rcode() == dns.rcode.NOERROR
    assert answer.had_tsig
    assert await srv(server) == B_FIRST
    assert server.zone.serial == 2


async def test_an_update_that_changes_nothing_keeps_the_serial(server: DnsServer) -> None:
    message = update(key())
    message.add(f"{SRV}.", 1, "SRV", f"10 100 5061 {CXONE_TARGET_A}.")
    assert (await ask(server, message)).rcode() == dns.rcode.NOERROR
    assert server.zone.serial == 1


async def test_an_unsigned_update_is_refused(server: DnsServer) -> None:
    message = update()
    message.delete(f"{SRV}.", "SRV")
    assert (await ask(server, message)).rcode() == dns.rcode.REFUSED
    assert await srv(server) == A_FIRST


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (key("stranger"), dns.tsig.PeerBadKey),
        (key(secret=b"x" * 32), dns.tsig.PeerBadSignature),
        (key(algorithm=dns.tsig.HMAC_SHA1), dns.tsig.PeerBadKey),
    ],
)
async def test_a_wrong_key_gets_notauth_with_the_tsig_error(
    server: DnsServer, wrong: dns.tsig.Key, error: type[Exception]
) -> None:
    message = update(wrong)
    message.delete(f"{SRV}.", "SRV")
    with pytest.raises(error):
        await ask(server, message)
    reply = server.reply(message.to_wire())
    assert reply is not None
    assert reply.rcode() == dns.rcode.NOTAUTH
    assert await srv(server) == A_FIRST


async def test_an_update_signed_an_hour_ago_gets_badtime(server: DnsServer) -> None:
    message = update(key())
    message.delete(f"{SRV}.", "SRV")
    with mock.patch("dns.message.time.time", return_value=time.time() - 3600):
        wire = message.to_wire()
    reply = server.reply(wire)
    assert reply is not None
    assert reply.rcode() == dns.rcode.NOTAUTH
    assert reply.tsig_error == dns.rcode.BADTIME
    assert await srv(server) == A_FIRST


async def test_an_update_of_another_zone_gets_notauth_and_of_a_foreign_name_notzone(server: DnsServer) -> None:
    other = update(key(), "example.com")
    other.delete("www.example.com.", "A")
    assert (await ask(server, other)).rcode() == dns.rcode.NOTAUTH
    foreign = update(key())
    foreign.add("www.example.com.", 1, "A", "127.0.0.1")
    assert (await ask(server, foreign)).rcode() == dns.rcode.NOTZONE


async def test_an_update_whose_prerequisite_fails_changes_nothing(server: DnsServer) -> None:
    assert (await ask(server, prefer_b())).rcode() == dns.rcode.NOERROR
    assert (await ask(server, prefer_b())).rcode() == dns.rcode.NXRRSET
    assert server.zone.serial == 2


async def test_every_prerequisite_has_its_own_answer(server: DnsServer) -> None:
    outcomes = {}
    for name, wanted, rdtype in (
        ("name in use, and it is", f"{SRV}.", None),
        ("name in use, and it is not", "nobody.lab.example.", None),
        ("record set exists, and it does", f"{SRV}.", "SRV"),
        ("record set exists, and it does not", f"{SRV}.", "TXT"),
    ):
        message = update(key())
        message.present(wanted, *([rdtype] if rdtype else []))
        outcomes[name] = (await ask(server, message)).rcode()
    for name, wanted, rdtype in (
        ("name not in use, and it is not", "nobody.lab.example.", None),
        ("name not in use, but it is", f"{SRV}.", None),
        ("no record set, and there is none", f"{SRV}.", "TXT"),
        ("no record set, but there is one", f"{SRV}.", "SRV"),
    ):
        message = update(key())
        message.absent(wanted, rdtype)
        outcomes[name] = (await ask(server, message)).rcode()
    assert outcomes == {
        "name in use, and it is": dns.rcode.NOERROR,
        "name in use, and it is not": dns.rcode.NXDOMAIN,
        "record set exists, and it does": dns.rcode.NOERROR,
        "record set exists, and it does not": dns.rcode.NXRRSET,
        "name not in use, and it is not": dns.rcode.NOERROR,
        "name not in use, but it is": dns.rcode.YXDOMAIN,
        "no record set, and there is none": dns.rcode.NOERROR,
        "no record set, but there is one": dns.rcode.YXRRSET,
    }


async def test_a_record_set_prerequisite_wants_exactly_these_records(server: DnsServer) -> None:
    message = update(key())
    message.present(f"{SRV}.", "SRV", f"10 100 5061 {CXONE_TARGET_A}.")
    message.delete(f"{SRV}.")
    assert (await ask(server, message)).rcode() == dns.rcode.NXRRSET
    assert await srv(server) == A_FIRST


async def test_single_records_and_whole_names_can_be_deleted(server: DnsServer) -> None:
    message = update(key())
    message.delete(f"{SRV}.", "SRV", f"20 100 5062 {CXONE_TARGET_B}.")
    await ask(server, message)
    assert await srv(server) == {f"10 100 5061 {CXONE_TARGET_A}."}
    message = update(key())
    message.delete(f"{SRV}.")
    await ask(server, message)
    assert (await query(server, SRV, "SRV")).rcode() == dns.rcode.NXDOMAIN


async def test_the_apex_keeps_its_soa_and_a_name_server_whatever_is_asked(server: DnsServer) -> None:
    for removal in ([], ["NS"], ["SOA"], ["NS", "ns.lab.example."]):
        message = update(key())
        message.delete("lab.example.", *removal)
        assert (await ask(server, message)).rcode() == dns.rcode.NOERROR
    assert (await query(server, "lab.example", "SOA")).answer
    assert (await query(server, "lab.example", "NS")).answer


async def test_an_alias_is_not_added_beside_other_data(server: DnsServer) -> None:
    message = update(key())
    message.add(f"{CXONE_TARGET_A}.", 1, "CNAME", f"{CXONE_TARGET_B}.")
    assert (await ask(server, message)).rcode() == dns.rcode.NOERROR
    assert not (await query(server, CXONE_TARGET_A, "CNAME")).answer


async def test_the_serial_wraps_and_an_older_soa_is_ignored() -> None:
    zone = Zone("lab.example", name_server="ns.lab.example", address="127.0.0.1")
    for wanted, expected in ((2**31 - 1, 2**31 - 1), (5, 2**31 - 1), (2**32 - 2, 2**32 - 2)):
        message = update()
        message.replace("lab.example.", 60, "SOA", f"ns.lab.example. x.lab.example. {wanted} 60 10 3600 1")
        parsed = dns.message.from_wire(message.to_wire())
        assert isinstance(parsed, dns.update.UpdateMessage)
        zone.update(parsed)
        assert zone.serial == expected
    for expected in (2**32 - 1, 1):
        message = update()
        message.add(f"host{expected}.lab.example.", 1, "A", "127.0.0.1")
        parsed = dns.message.from_wire(message.to_wire())
        assert isinstance(parsed, dns.update.UpdateMessage)
        zone.update(parsed)
        assert zone.serial == expected


# The carrier's resolver


async def test_the_resolver_prefers_the_lowest_priority_and_asks_again_when_the_ttl_is_over(
    server: DnsServer,
) -> None:
    clock = mock.Mock(return_value=100.0)
    resolver = Resolver(server.address, server.port, SRV_NAMES, clock)
    assert await resolver.resolve(CXONE) == [("127.0.0.1", 5061), ("127.0.0.1", 5062)]
    assert await resolver.resolve(GENESYS) == [("127.0.0.1", 5060)]
    await ask(server, prefer_b())
    clock.return_value = 100.9
    assert await resolver.resolve(CXONE) == [("127.0.0.1", 5061), ("127.0.0.1", 5062)]
    clock.return_value = 101.0
    assert await resolver.resolve(CXONE) == [("127.0.0.1", 5062), ("127.0.0.1", 5061)]


async def test_the_resolver_says_that_a_name_is_gone(server: DnsServer) -> None:
    message = update(key())
    message.delete(f"{SRV}.")
    await ask(server, message)
    with pytest.raises(NameNotFound, match="NXDOMAIN"):
        await Resolver(server.address, server.port, SRV_NAMES).resolve(CXONE)
