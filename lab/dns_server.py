"""A small authoritative DNS server on loopback, UDP and TCP: questions, and updates with TSIG (RFC 8945)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdataclass
import dns.rrset
import dns.tsig
import dns.update
from dns.rdtypes.ANY.TSIG import TSIG

from lab.dns_zone import UpdateRefused, Zone
from lab.ports import LOOPBACK

_ATTEMPTS = 50
_TCP_IDLE_S = 10.0

Reply = Callable[[bytes], "dns.message.Message | None"]
Tap = Callable[[bytes, Reply], Awaitable["dns.message.Message | None"]]
"""Stands before the server: given a message and how to answer it. None: no reply, the connection is closed."""


@dataclass(frozen=True)
class UpdateKey:
    """A TSIG key, hmac-sha256; `secret` is the raw key."""

    name: str
    secret: bytes = field(repr=False)

    def for_dnspython(self) -> dns.tsig.Key:
        """The same key as dnspython wants it (whose own repr shows the secret: do not keep or log it)."""
        return dns.tsig.Key(self.name, self.secret, dns.tsig.HMAC_SHA256)


class DnsServer:
    """Serves one zone. Updates need a good signature by `key`; questions may be signed."""

    def __init__(self, zone: Zone, key: UpdateKey, tap: Tap | None = None) -> None:
        self.zone = zone
        self._tap = tap
        self.address = LOOPBACK
        self._key = key
        self._tcp_socket, self._udp_socket = _twin_sockets()
        self.port = int(self._udp_socket.getsockname()[1])
        """The port, the same for UDP and TCP; known before the start."""
        self._udp: asyncio.DatagramTransport | None = None
        self._tcp: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Answer from now on."""
        loop = asyncio.get_running_loop()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), sock=self._udp_socket)
        self._tcp = await asyncio.start_server(self._serve_tcp, sock=self._tcp_socket)

    async def stop(self) -> None:
        """Close both ports and every connection."""
        if self._tcp is not None:
            self._tcp.close()
        if self._udp is not None:
            self._udp.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._tcp is not None:
            await self._tcp.wait_closed()
        self._tcp_socket.close()
        self._udp_socket.close()

    def reply(self, wire: bytes) -> dns.message.Message | None:
        """The reply to one message; None when it is no DNS message, or itself a reply."""
        try:
            message = dns.message.from_wire(wire, keyring={dns.name.from_text(self._key.name): self._dns_key()})
        except (dns.message.UnknownTSIGKey, dns.tsig.BadKey, dns.tsig.BadAlgorithm):
            return self._unauthentic(wire, dns.rcode.BADKEY)
        except dns.tsig.BadSignature:
            return self._unauthentic(wire, dns.rcode.BADSIG)
        except dns.tsig.BadTime:
            return self._unauthentic(wire, dns.rcode.BADTIME)
        except dns.exception.DNSException:
            return _format_error(wire)
        if message.flags & dns.flags.QR:
            return None
        response = dns.message.make_response(message)
        if isinstance(message, dns.update.UpdateMessage):
            self._take_update(message, response)
        elif message.opcode() == dns.opcode.QUERY:
            self._take_question(message, response)
        else:
            response.set_rcode(dns.rcode.NOTIMP)
        return response

    def owns(self, task: asyncio.Task[None]) -> None:
        """Ends the task when the server stops."""
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)

    async def answer(self, wire: bytes) -> dns.message.Message | None:
        """The reply to one message, through the tap if there is one."""
        return self.reply(wire) if self._tap is None else await self._tap(wire, self.reply)

    def _take_update(self, message: dns.update.UpdateMessage, response: dns.message.Message) -> None:
        if not message.had_tsig:
            response.set_rcode(dns.rcode.REFUSED)
            return
        try:
            self.zone.update(message)
        except UpdateRefused as refused:
            response.set_rcode(refused.rcode)

    def _take_question(self, message: dns.message.Message, response: dns.message.Message) -> None:
        if len(message.question) != 1:
            response.set_rcode(dns.rcode.FORMERR)
            return
        question = message.question[0]
        if question.rdclass != dns.rdataclass.IN:
            response.set_rcode(dns.rcode.REFUSED)
            return
        found = self.zone.answer(question.name, question.rdtype)
        response.set_rcode(found.rcode)
        response.answer, response.authority = found.answer, found.authority
        response.additional = found.additional
        if found.rcode != dns.rcode.REFUSED:
            response.flags |= dns.flags.AA

    def _unauthentic(self, wire: bytes, error: dns.rcode.Rcode) -> dns.message.Message:
        """NOTAUTH with the TSIG error (RFC 8945 section 5.2); only BADTIME is signed, and tells our time."""
        message = dns.message.from_wire(wire, keyring=False)
        response = dns.message.make_response(message)
        response.set_rcode(dns.rcode.NOTAUTH)
        signature = message.tsig[0] if message.tsig is not None else None
        if not isinstance(signature, TSIG) or message.tsig is None:
            return response
        if error == dns.rcode.BADTIME:
            now = struct.pack("!Q", int(time.time()))[2:]
            response.use_tsig(self._dns_key(), tsig_error=error, other_data=now, original_id=message.id)
            response.request_mac = signature.mac
            return response
        rdata = signature.replace(mac=b"", original_id=message.id, error=error, other=b"")
        response.tsig = dns.rrset.from_rdata(message.tsig.name, 0, rdata)
        return response

    def _dns_key(self) -> dns.tsig.Key:
        return self._key.for_dnspython()

    async def _serve_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, TimeoutError, ConnectionError):
                while True:
                    async with asyncio.timeout(_TCP_IDLE_S):
                        (length,) = struct.unpack("!H", await reader.readexactly(2))
                        wire = await reader.readexactly(length)
                    response = await self.answer(wire)
                    if response is None:
                        return
                    writer.write(response.to_wire(prepend_length=True))
                    await writer.drain()
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._connections.discard(task)


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # asyncio's own datagram transport is no subclass of DatagramTransport before Python 3.12.
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        task = asyncio.ensure_future(self._answer(data, address))
        self._server.owns(task)

    async def _answer(self, data: bytes, address: tuple[str, int]) -> None:
        response = await self._server.answer(data)
        if response is not None:
            self._transport.sendto(_fitting(response), address)


def _fitting(response: dns.message.Message) -> bytes:
    """The wire form within the asker's UDP size, else a truncated reply (RFC 1035 section 4.2.1)."""
    try:
        return response.to_wire(max_size=response.request_payload or 512)
    except dns.exception.TooBig:
        response.flags |= dns.flags.TC
        response.answer, response.authority, response.additional = [], [], []
        return response.to_wire()


def _format_error(wire: bytes) -> dns.message.Message | None:
    """FORMERR for something with a readable header."""
    if len(wire) < 12 or wire[2] & 0x80:
        return None
    response = dns.message.Message(id=struct.unpack("!H", wire[:2])[0])
    response.flags = dns.flags.Flag(dns.flags.QR)
    response.set_opcode(dns.opcode.from_flags(struct.unpack("!H", wire[2:4])[0]))
    response.set_rcode(dns.rcode.FORMERR)
    return response


def _twin_sockets() -> tuple[socket.socket, socket.socket]:
    """A TCP and a UDP socket on the same free loopback port."""
    for _ in range(_ATTEMPTS):
        tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        tcp.bind((LOOPBACK, 0))
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
            continue
        udp.setblocking(False)
        return tcp, udp
    raise OSError("no port is free for both TCP and UDP")
