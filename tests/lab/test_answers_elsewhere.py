"""A caller whose connection closes while it rings: the answer comes over another one (RFC 3261, 18.2.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiosipua import SipRequest, SipResponse

from lab.ports import LOOPBACK, free_port
from lab.sip import SipFraming
from lab.tls_contexts import Identity, client_context, server_context
from tests.lab.one_trunk import SBC, Pki, Trunk, call_setups, running, until

HEADERS = (
    "From: <sip:platform@trunk.example.com>;tag=1\r\nTo: <sip:trunk@sbc.carrier.example>{tag}\r\n"
    "Call-ID: early@trunk.example.com\r\nCSeq: {number} {method}\r\nMax-Forwards: 70\r\n"
    "Contact: <sip:platform@127.0.0.1:{port};transport=tls>\r\nContent-Length: 0\r\n\r\n"
)


class Platform:
    """A platform's SIP, by hand: requests go out on connections of their own, `port` is where answers may come in."""

    def __init__(self, pki: Pki, target: tuple[str, int]) -> None:
        self.port = free_port()
        self.received: asyncio.Queue[SipRequest | SipResponse] = asyncio.Queue()
        self._root_pem, self._identity = pki.root.pem, Identity(pki.a.chain_pem, pki.a.key_pem)
        self._target = target

    async def listen(self) -> asyncio.Server:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._read(reader, self.received)
            writer.close()

        context = server_context(self._identity, client_trust_pem=self._root_pem)
        return await asyncio.start_server(serve, LOOPBACK, self.port, ssl=context)

    async def ask(
        self, method: str, number: int, *, tag: str = "", until_status: int | None, times: int = 1
    ) -> SipResponse | None:
        """Sends one request and closes its connection when the status has come so often; at once if there is none."""
        context = client_context(self._root_pem, identity=self._identity)
        reader, writer = await asyncio.open_connection(*self._target, ssl=context, server_hostname=SBC)
        via = f"Via: SIP/2.0/TLS {LOOPBACK}:{self.port};branch=z9hG4bK{number}{method}\r\n"
        text = HEADERS.format(tag=tag and f";tag={tag}", number=number, method=method, port=self.port)
        writer.write(f"{method} sip:trunk@{SBC} SIP/2.0\r\n{via}{text}".encode())
        await writer.drain()
        answers: asyncio.Queue[SipRequest | SipResponse] = asyncio.Queue()
        reading = asyncio.create_task(self._read(reader, answers))
        try:
            async with asyncio.timeout(5):
                while until_status is not None:
                    answer = await answers.get()
                    if isinstance(answer, SipResponse) and answer.status_code == until_status:
                        times -= 1
                        if not times:
                            return answer
            return None
        finally:
            writer.close()
            await asyncio.gather(reading, return_exceptions=True)

    async def _read(self, reader: asyncio.StreamReader, into: asyncio.Queue[SipRequest | SipResponse]) -> None:
        framing = SipFraming()
        while data := await reader.read(65536):
            for message in framing.feed(data):
                into.put_nowait(message)


@pytest.fixture(scope="module")
def pki() -> Pki:
    return Pki()


@pytest.fixture
async def trunk(pki: Pki) -> AsyncIterator[Trunk]:
    async with running(pki, mutual=True) as trunk:
        yield trunk


async def test_an_answer_whose_connection_has_closed_comes_to_where_the_via_says(pki: Pki, trunk: Trunk) -> None:
    platform = Platform(pki, trunk.carrier.outbound_target("pstn"))
    server = await platform.listen()
    try:
        await platform.ask("INVITE", 1, until_status=180)
        async with asyncio.timeout(5):
            answer = await platform.received.get()
        assert isinstance(answer, SipResponse)
        assert (answer.status_code, answer.via[0].branch) == (200, "z9hG4bK1INVITE")
        assert answer.to_addr is not None
        tag = answer.to_addr.tag
        assert tag
        await platform.ask("ACK", 1, tag=tag, until_status=None)
        bye = await platform.ask("BYE", 2, tag=tag, until_status=200)
        assert bye is not None
    finally:
        server.close()
    assert call_setups(trunk.carrier_ledger, "OUTBOUND", pki.a.sha256) == (1, {})


async def test_an_answer_is_repeated_until_its_ack_comes(pki: Pki, trunk: Trunk) -> None:
    """Its ACK may have been lost with a connection, on whatever hop (RFC 3261, 13.3.1.4)."""
    platform = Platform(pki, trunk.carrier.outbound_target("pstn"))
    answer = await platform.ask("INVITE", 1, until_status=200, times=3)
    assert answer is not None
    assert answer.to_addr is not None
    tag = answer.to_addr.tag or ""
    await platform.ask("ACK", 1, tag=tag, until_status=None)
    assert await platform.ask("INVITE", 2, tag=tag, until_status=200) is not None
    assert await platform.ask("INVITE", 2, tag=tag, until_status=200) is not None, "sent once more, by a proxy"
    assert await platform.ask("INVITE", 1, tag=tag, until_status=500) is not None, "out of order"
    assert await platform.ask("BYE", 3, tag=tag, until_status=200) is not None
    assert call_setups(trunk.carrier_ledger, "OUTBOUND", pki.a.sha256) == (1, {})


async def test_where_nobody_listens_the_call_is_over(pki: Pki, trunk: Trunk) -> None:
    platform = Platform(pki, trunk.carrier.outbound_target("pstn"))
    await platform.ask("INVITE", 1, until_status=180)
    await until(lambda: trunk.carrier.open_dialogs("pstn") == 0)
    assert await platform.ask("BYE", 2, tag="whatever", until_status=481) is not None
