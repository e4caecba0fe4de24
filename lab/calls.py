"""Calls on one SIP connection, from either side: the user agent of RFC 3261 as far as a trunk needs it.

A call set up by the caller: INVITE, 100, 180, 200, ACK, perhaps a re-INVITE, and a BYE from either side. The
header `X-Lab-Bye-After: <seconds>` on the INVITE asks the callee for the BYE; otherwise it is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from aiosipua import (
    Dialog,
    DialogState,
    SipRequest,
    SipResponse,
    create_dialog_from_request,
    generate_call_id,
    generate_tag,
    stringify_uri,
)
from aiosipua.dialog import dialog_matches, remote_cseq_valid

from lab.dialogs import Call, Dialogs, Redial, Side
from lab.ledger import USER_REJECTIONS
from lab.sip import ConnectionLost, SipConnection
from lab.tls_stream import TlsStream

BYE_AFTER = "X-Lab-Bye-After"
CALLEE_GRACE_S = 5.0
"""How long a caller waits for a BYE that the callee owes, and a callee for the ACK."""

_ANSWERED_AGAIN_S = (0.5, 1.0, 2.0, CALLEE_GRACE_S - 3.5)
"""T1, doubled each time: the pauses after each 200 to an INVITE, on a reliable transport as well (13.3.1.4)."""


_CALM_S = 2.0
_LOOK_AGAIN_S = 0.005
_ALLOW = "INVITE, ACK, BYE, OPTIONS"

SendElsewhere = Callable[[SipResponse, str], Awaitable[None]]
"""Sends a response over another connection; its request came from that address. Raises ConnectionLost."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """How a call went, as its caller saw it.

    `status` is the final answer to the INVITE (408 and 503 also when made up locally: no answer in time,
    transport lost); None when no INVITE could be sent or the handshake turned out to have failed. `loss` is
    None when the call ended as intended, a user's rejection included; otherwise the cause, such as `tls
    unknown_ca`, `tcp refused`, `sip 403`, `dropped connection_reset`.
    """

    status: int | None
    loss: str | None = None

    @property
    def answered(self) -> bool:
        """The callee picked up."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def completed(self) -> bool:
        """The call was not lost."""
        return self.loss is None


class UserAgent:
    """Both roles on one connection: places calls with `call`, and answers what comes in.

    `screen` gives the status for an initial INVITE (200 to accept). `on_setup` gets the final status of every
    initial INVITE, placed or answered. `domain` is this side's SIP domain, `leaf` the certificate (SHA-256)
    under which the calls of this connection are counted. `ring_s` is the time between 180 and 200. Confirmed calls
    outlive the connection in `dialogs`; without it they are lost with the connection. `elsewhere` sends the answer to
    an INVITE whose connection has closed (RFC 3261, 18.2.2); without it such a call is lost.
    """

    def __init__(
        self,
        stream: TlsStream,
        *,
        domain: str,
        leaf: str | None = None,
        screen: Callable[[], int] = lambda: 200,
        on_setup: Callable[[int], None] = lambda status: None,
        on_answered: Callable[[], None] = lambda: None,
        on_unanswered: Callable[[str], None] = lambda cause: None,
        ring_s: float = 0.02,
        dialogs: Dialogs | None = None,
        elsewhere: SendElsewhere | None = None,
    ) -> None:
        self.leaf = leaf
        self._dialogs, self._elsewhere = dialogs, elsewhere
        self._closing = False
        self._domain, self._screen, self._on_setup, self._ring_s = domain, screen, on_setup, ring_s
        self._calls: dict[str, Call] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.connection = SipConnection(
            stream,
            on_request=self._take_request,
            on_lost=self._lose_calls,
            on_answered=on_answered,
            on_unanswered=on_unanswered,
        )

    @property
    def active_calls(self) -> int:
        """Live dialogs on this connection, early ones included."""
        return len(self._calls)

    @property
    def usable(self) -> bool:
        """The connection is up and not about to close."""
        return self.connection.lost is None and not self._closing

    @property
    def calm(self) -> bool:
        """No call is being set up and no request waits for its answer: a close harms nothing."""
        early = any(call.dialog.state is not DialogState.CONFIRMED for call in self._calls.values())
        return not early and not self.connection.waiting

    def hang_up_all(self) -> None:
        """Ends every call of this connection with a BYE; those still being set up as soon as answered."""
        for call in [*self._calls.values()]:
            if not call.hang_up_asked:
                call.hang_up_asked = True
                call.wake()
                if call.side == "callee" and call.dialog.state is DialogState.CONFIRMED:
                    self._leave(call)

    async def close(self) -> None:
        """Closes the connection; calls on it are dropped, or wait in `dialogs`. Never raises."""
        self._closing = True
        self._lose_calls("connection_reset")  # at once: their next request may come before the socket is closed
        await self.connection.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def grow_calm(self) -> None:
        """Returns when the connection is calm, or after 2 s; meanwhile nobody begins anything new on our side."""
        self._closing = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CALM_S):
                while not self.calm:
                    await asyncio.sleep(_LOOK_AGAIN_S)

    async def close_orderly(self) -> None:
        """Closes with close_notify when calm. Never raises."""
        await self.grow_calm()
        await self.close()

    def adopt(self, call: Call) -> None:
        """Takes over a call whose connection has closed, or is about to."""
        self._release(call)
        call.home, self._calls[call.dialog.call_id] = self, call
        if self._dialogs is not None:
            self._dialogs.add(call)
        if call.side == "callee" and call.hang_up_asked:
            call.stop_timer()

    def _release(self, call: Call) -> None:
        """The call is on no connection any more."""
        if call.home is not None:
            call.home._calls.pop(call.dialog.call_id, None)
            call.home = None

    # The caller.

    async def call(
        self,
        *,
        to_domain: str,
        hold_s: float,
        reinvite: bool = False,
        bye_from: Side = "caller",
        timeout_s: float = 8.0,
        redial: Redial | None = None,
    ) -> CallResult:
        """Places one call and stays with it to its end. Losses are results, not exceptions.

        With `redial` the call outlives its connection: the next request goes over another one.
        """
        call = self._new_call(to_domain, redial)
        self.adopt(call)
        try:
            return await self._place(call, hold_s, reinvite, bye_from, timeout_s)
        finally:
            self._forget(call)

    async def _place(
        self,
        call: Call,
        hold_s: float,
        reinvite: bool,
        bye_from: Side,
        timeout_s: float,
    ) -> CallResult:
        try:
            answer = await self._set_up(call, f"{hold_s:.3f}" if bye_from == "callee" else None, timeout_s)
        except ConnectionLost as lost:
            if not lost.answered:
                return CallResult(None, f"tls {lost.cause}")
            self._on_setup(503)
            return CallResult(503, f"dropped {lost.cause} before an answer")
        except TimeoutError:
            self._on_setup(408)
            return CallResult(408, "sip 408")
        home = call.home or self
        status = answer.status_code
        home._on_setup(status)
        if status >= 300:
            return CallResult(status, None if status in USER_REJECTIONS else f"sip {status}")
        call.dialog.remote_tag = (answer.to_addr.tag if answer.to_addr else None) or ""
        if answer.contact:
            call.dialog.remote_target = stringify_uri(answer.contact[0].uri)
        call.dialog.route_set = [*reversed(answer.headers.get("record-route"))]
        call.dialog.confirm()
        return CallResult(status, await home._converse(call, hold_s, reinvite, bye_from))

    async def _set_up(self, call: Call, bye_after: str | None, timeout_s: float) -> SipResponse:
        """The INVITE's final answer. A connection that had served and is gone is replaced once (RFC 3263, 4.3).

        The second INVITE begins another dialog: the first may have arrived, and its answer found no connection any
        more. Its callee hears no ACK, and ends that dialog by itself (RFC 3261, 13.3.1.4).
        """
        try:
            return await self._send_invite(call, bye_after, timeout_s)
        except ConnectionLost as lost:
            if call.redial is None or not lost.answered:
                raise
            try:
                other = await call.redial()
            except ConnectionLost:
                raise lost from None
        self._begin_anew(call)
        other.adopt(call)
        return await other._send_invite(call, bye_after, timeout_s)

    def _begin_anew(self, call: Call) -> None:
        self._release(call)
        if self._dialogs is not None:
            self._dialogs.remove(call)
        call.lost = None
        call.dialog = dataclasses.replace(
            call.dialog, call_id=generate_call_id(self._domain), local_tag=generate_tag(), local_cseq=0
        )

    async def _send_invite(self, call: Call, bye_after: str | None, timeout_s: float) -> SipResponse:
        invite = self._invite(call.dialog)
        if bye_after is not None:
            invite.headers.set_single(BYE_AFTER, bye_after)
        return await self.connection.request(invite, timeout_s=timeout_s)

    async def _converse(self, call: Call, hold_s: float, reinvite: bool, bye_from: Side) -> str | None:
        """From the ACK to the end of the call; the cause when it was lost."""
        try:
            self._acknowledge(call.dialog)
            remaining = hold_s
            if reinvite:
                await call.talk(hold_s / 2)
                remaining -= hold_s / 2
                if not call.over and (refused := await self._reinvite(call)):
                    return refused
            await call.talk(remaining + (CALLEE_GRACE_S if bye_from == "callee" and not call.cut else 0))
            if call.peer_hung_up:
                return None
            # A callee that owes the BYE cannot dial: after a cut its caller hangs up.
            overdue = bye_from == "callee" and not call.over and not call.cut
            forgotten_is_fine = bye_from == "callee" and call.cut
            lost = await self._bye(call, forgotten_is_fine=forgotten_is_fine)
            return lost or ("no BYE from the callee" if overdue else None)
        except ConnectionLost as lost_connection:
            return None if call.peer_hung_up else f"dropped {lost_connection.cause}"

    async def _reinvite(self, call: Call) -> str | None:
        try:
            answer, _ = await _ask(call, "INVITE")
        except TimeoutError:
            return "re-INVITE timeout"
        if answer.status_code < 300:
            (call.home or self)._acknowledge(call.dialog)
            return None
        return None if call.peer_hung_up else f"re-INVITE sip {answer.status_code}"

    async def _bye(self, call: Call, *, forgotten_is_fine: bool = False) -> str | None:
        """Hangs up. None when the call is over as intended: BYEs that cross end it too."""
        if call.lost is not None:
            return f"dropped {call.lost}"
        try:
            answer, repeated = await _ask(call, "BYE")
        except TimeoutError:
            return None if call.peer_hung_up else "BYE timeout"
        forgotten = answer.status_code == 481 and (repeated or forgotten_is_fine)
        fine = answer.status_code < 300 or forgotten or call.peer_hung_up
        return None if fine else f"BYE sip {answer.status_code}"

    def _new_call(self, to_domain: str, redial: Redial | None) -> Call:
        return Call(
            Dialog(
                call_id=generate_call_id(self._domain),
                local_tag=generate_tag(),
                local_uri=f"sip:trunk@{self._domain}",
                remote_uri=f"sip:trunk@{to_domain}",
                remote_target=f"sip:trunk@{to_domain};transport=tls",
            ),
            "caller",
            redial,
        )

    def _invite(self, dialog: Dialog) -> SipRequest:
        invite = self._in_dialog(dialog, "INVITE")
        invite.headers.set_single("Contact", self._contact())
        invite.headers.set_single("Allow", _ALLOW)
        invite.headers.set_single("Content-Type", "application/sdp")
        invite.body = self._session_description()
        return invite

    def _acknowledge(self, dialog: Dialog) -> None:
        """The ACK of a 2xx: a request of its own that carries the INVITE's CSeq number (13.2.2.4)."""
        ack = self._in_dialog(dialog, "ACK")
        dialog.local_cseq -= 1
        ack.headers.set_single("CSeq", f"{dialog.local_cseq} ACK")
        self.connection.send(ack)

    def _in_dialog(self, dialog: Dialog, method: str) -> SipRequest:
        host, port = self.connection.local_address
        return dialog.create_request(method, via_host=host, via_port=port, via_transport="TLS")

    def _contact(self) -> str:
        host, port = self.connection.local_address
        return f"<sip:trunk@{host}:{port};transport=tls>"

    def _session_description(self) -> bytes:
        host = self.connection.local_address[0]
        lines = (
            "v=0",
            f"o=- 0 0 IN IP4 {host}",
            "s=-",
            f"c=IN IP4 {host}",
            "t=0 0",
            "m=audio 40000 RTP/AVP 8",
            "",
        )
        return "\r\n".join(lines).encode()

    # The callee.

    def _take_request(self, request: SipRequest) -> None:
        call = self._find(request)
        match request.method:
            case "ACK":
                if call is not None and call.side == "callee":
                    self._take_ack(call)
            case "OPTIONS":
                self._reply(request, 200)
            case "INVITE" if not _in_dialog(request):
                self._ring(request)
            case "INVITE" | "BYE":
                self._take_in_dialog(call, request)
            case _:
                self._reply(request, 405)

    def _find(self, request: SipRequest) -> Call | None:
        """The call that the request belongs to, wherever it was: its dialog goes on here."""
        call = self._calls.get(request.call_id or "")
        if call is not None or self._dialogs is None or not _in_dialog(request):
            return call
        call = self._dialogs.find(request.call_id or "")
        if call is not None:
            self.adopt(call)
        return call

    def _take_in_dialog(self, call: Call | None, request: SipRequest) -> None:
        if call is None or not dialog_matches(call.dialog, request):
            self._reply(request, 481)
        elif not _in_order(call.dialog, request):
            self._reply(request, 500)
        elif request.method == "BYE":
            self._reply(request, 200)
            call.peer_hung_up = True
            call.wake()
            if call.side == "callee":
                self._forget(call)
        else:
            self._reply(request, 100)
            self._reply(request, 200, call)
            if call.side == "callee" and call.hang_up_asked:
                self._leave(call)

    def _ring(self, request: SipRequest) -> None:
        call = Call(create_dialog_from_request(request), "callee")
        call.dialog.route_set = [*request.headers.get("record-route")]  # in their order (RFC 3261, 12.1.1)
        self._reply(request, 100)
        status = self._screen()
        if status >= 300:
            self._reply(request, status, call)
            self._on_setup(status)
            return
        self.adopt(call)
        self._reply(request, 180, call)
        call.timer = asyncio.get_running_loop().call_later(self._ring_s, self._pick_up, call, request)

    def _pick_up(self, call: Call, request: SipRequest) -> None:
        call.dialog.metadata["bye-after"] = request.get_header(BYE_AFTER) or ""
        self._on_setup(200)
        self._answer(call, self._response(request, 200, call), _ANSWERED_AGAIN_S)

    def _answer(self, call: Call, response: SipResponse, pauses: Sequence[float]) -> None:
        """Sends a 200, and again until the ACK comes: over another connection where its own has closed."""
        if self.connection.lost is not None:
            self._begin(self._answer_elsewhere(call, response))
        else:
            with contextlib.suppress(ConnectionLost):
                self.connection.send(response)
        pause, *later = pauses
        again = partial(self._answer, call, response, later) if later else partial(self._give_up, call)
        call.timer = asyncio.get_running_loop().call_later(pause, again)

    async def _answer_elsewhere(self, call: Call, response: SipResponse) -> None:
        """The caller has no other way to learn that the call was answered (18.2.2)."""
        assert self._elsewhere is not None
        try:
            await self._elsewhere(response, self.connection.peer_address[0])
        except ConnectionLost:
            self._forget(call)

    def _give_up(self, call: Call) -> None:
        """No ACK came: the callee ends the session with a BYE (13.3.1.4)."""
        call.dialog.confirm()
        self._leave(call)

    def _take_ack(self, call: Call) -> None:
        if call.dialog.state is not DialogState.EARLY:
            return  # the ACK of a re-INVITE
        call.stop_timer()
        call.dialog.confirm()
        bye_after = call.dialog.metadata["bye-after"]
        if call.hang_up_asked:
            self._leave(call)
        elif bye_after.replace(".", "", 1).isdigit():
            call.timer = asyncio.get_running_loop().call_later(float(bye_after), self._leave, call)

    def _leave(self, call: Call) -> None:
        """The callee hangs up, where it has a connection; how its BYE ends matters to the caller only."""
        home = call.home
        if home is None:
            if self._dialogs is not None:
                self._dialogs.leave_later(call)
        elif not call.leaving:
            call.leaving = True
            call.stop_timer()
            home._begin(home._say_goodbye(call))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _say_goodbye(self, call: Call) -> None:
        try:
            await self._bye(call)
        except ConnectionLost:
            if call.home is None and call.lost is None:
                return  # it waits for its caller
        self._forget(call)

    def _forget(self, call: Call) -> None:
        call.stop_timer()
        call.dialog.terminate()
        self._release(call)
        if self._dialogs is not None:
            self._dialogs.remove(call)

    def _reply(self, request: SipRequest, status: int, call: Call | None = None) -> None:
        self.connection.send(self._response(request, status, call))

    def _response(self, request: SipRequest, status: int, call: Call | None) -> SipResponse:
        dialog = call.dialog if call else create_dialog_from_request(request)
        response = dialog.create_response(request, status, contact=self._contact() if status < 300 else None)
        if status == 100:
            response.headers.set_single("To", request.headers.get_first("to") or "")
        if request.method == "OPTIONS" or status == 405:
            response.headers.set_single("Allow", _ALLOW)
        if request.method == "INVITE" and 100 < status < 300:
            for route in request.headers.get("record-route"):
                response.headers.append("Record-Route", route)
        if request.method == "INVITE" and status == 200:
            response.headers.set_single("Content-Type", "application/sdp")
            response.body = self._session_description()
        return response

    def _lose_calls(self, cause: str) -> None:
        for call in [*self._calls.values()]:
            if self._dialogs is not None and (call.survives or self._rings(call)):
                del self._calls[call.dialog.call_id]
                self._dialogs.wait(call)
                continue
            call.lost = cause
            call.wake()
            if call.side == "callee":
                self._forget(call)

    def _rings(self, call: Call) -> bool:
        """A callee that has not answered yet, and can without this connection."""
        return call.side == "callee" and call.dialog.state is DialogState.EARLY and self._elsewhere is not None


def _in_order(dialog: Dialog, request: SipRequest) -> bool:
    """Not of an earlier CSeq (12.2.2); a proxy that saw no answer to one may send the same once more."""
    again = request.cseq is not None and request.cseq.seq == dialog.remote_cseq
    return again or remote_cseq_valid(dialog, request)


def _in_dialog(request: SipRequest) -> bool:
    return request.to_addr is not None and request.to_addr.tag is not None


async def _ask(call: Call, method: str) -> tuple[SipResponse, bool]:
    """A request inside the dialog, on its connection or on a new one, and whether it had to be sent twice.

    Raises ConnectionLost and TimeoutError.
    """
    repeated = False
    while True:
        home = await _home(call)
        request = home._invite(call.dialog) if method == "INVITE" else home._in_dialog(call.dialog, method)
        try:
            return await home.connection.request(request), repeated
        except ConnectionLost:
            if repeated or call.redial is None or call.lost is not None:
                raise
            repeated = True


async def _home(call: Call) -> UserAgent:
    """The call's connection: its own while that is usable, otherwise another one. Raises ConnectionLost."""
    if call.home is not None and (call.home.usable or call.redial is None):
        return call.home
    if call.redial is None or call.lost is not None:
        raise ConnectionLost(call.lost or "connection_reset", answered=True)
    agent = await call.redial()
    call.cut = True
    agent.adopt(call)
    return agent
