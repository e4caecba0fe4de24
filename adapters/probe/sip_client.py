"""OPTIONS and one test call on one TLS connection, as a client sees them."""

from __future__ import annotations

from collections import deque

from aiosipua import SipRequest, SipResponse

from adapters.probe.sip_messages import ProbeDialog, SipFraming, answers, bracketed, reply
from adapters.probe.tls_client import TlsClient


class SipClient:
    """Sends one request after the other and waits for each final answer. Raises `TlsFailed` and `NotSip`.

    `answered` tells whether any SIP answer came: only then a TLS 1.3 server has accepted our certificate for sure.
    """

    def __init__(self, tls: TlsClient, identity: str) -> None:
        self.answered = False
        self._tls, self._identity = tls, identity
        self._framing = SipFraming()
        self._waiting: deque[SipRequest | SipResponse] = deque()
        self._dialog: ProbeDialog | None = None
        self._invite: SipRequest | None = None
        self._talking = False

    async def options(self) -> int:
        """The final status of an OPTIONS for the SIP domain."""
        dialog = ProbeDialog(f"sip:{bracketed(self._identity)}", self._identity, self._tls.local_address)
        return (await self._final_answer(dialog.options())).status_code

    async def invite(self, uri: str) -> int:
        """The final status of an INVITE, acknowledged. After a 2xx a call is up, and `bye` ends it."""
        dialog = self._dialog = ProbeDialog(uri, self._identity, self._tls.local_address)
        invite = self._invite = dialog.invite()
        return await self._settled(dialog, invite, await self._final_answer(invite))

    async def bye(self) -> int:
        """The final status of the BYE; 481 when the other side hung up at the same moment."""
        assert self._dialog is not None
        self._talking = False
        return (await self._final_answer(self._dialog.bye())).status_code

    async def give_up(self) -> None:
        """Takes back an INVITE that nobody answered: CANCEL, and a BYE when a 2xx crosses it (section 9.1)."""
        if self._dialog is not None and self._invite is not None:
            invite = self._invite
            await self._tls.send(bytes(self._dialog.cancel(invite)))
            await self._settled(self._dialog, invite, await self._awaited(invite))
        if self._talking:
            await self.bye()

    def leave(self) -> None:
        """Says CANCEL or BYE without waiting, for a prober that is stopped in the middle of a call."""
        if self._dialog is not None and self._invite is not None:
            self._tls.send_at_once(bytes(self._dialog.cancel(self._invite)))
        elif self._dialog is not None and self._talking:
            self._tls.send_at_once(bytes(self._dialog.bye()))
        self._invite, self._talking = None, False

    async def _settled(self, dialog: ProbeDialog, invite: SipRequest, answer: SipResponse) -> int:
        self._invite, self._talking = None, answer.status_code < 300
        await self._tls.send(bytes(dialog.acknowledge(invite, answer)))
        return answer.status_code

    async def _final_answer(self, request: SipRequest) -> SipResponse:
        await self._tls.send(bytes(request))
        return await self._awaited(request)

    async def _awaited(self, request: SipRequest) -> SipResponse:
        while True:
            message = await self._next()
            if isinstance(message, SipRequest):
                await self._take(message)
            elif answers(message, request):
                self.answered = True
                if message.status_code >= 200:
                    return message

    async def _take(self, request: SipRequest) -> None:
        """What the other side asks: its own OPTIONS and BYE are answered well, an ACK not at all."""
        if request.method == "BYE":
            self._talking = False
        if request.method != "ACK":
            known = request.method in ("BYE", "OPTIONS")
            await self._tls.send(bytes(reply(request, 200 if known else 501, "OK" if known else "Not Implemented")))

    async def _next(self) -> SipRequest | SipResponse:
        while not self._waiting:
            self._waiting.extend(self._framing.feed(await self._tls.receive()))
        return self._waiting.popleft()
