"""Calls on one SIP connection, from either side: the user agent of RFC 3261 as far as a trunk needs it.

A call set up by the caller: INVITE, 100, 180, 200, ACK, perhaps a re-INVITE, and a BYE from either side. The
header `X-Lab-Bye-After: <seconds>` on the INVITE asks the callee for the BYE; otherwise it is the caller's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aiosipua import (
    Dialog,
    DialogState,
    SipRequest,
    create_dialog_from_request,
    generate_call_id,
    generate_tag,
    stringify_uri,
)
from aiosipua.dialog import dialog_matches, remote_cseq_valid

from lab.ledger import USER_REJECTIONS
from lab.sip import ConnectionLost, SipConnection
from lab.tls_stream import TlsStream

BYE_AFTER = "X-Lab-Bye-After"
CALLEE_GRACE_S = 5.0
"""How long a caller waits for a BYE that the callee owes, and a callee for the ACK."""

_ALLOW = "INVITE, ACK, BYE, OPTIONS"
Side = Literal["caller", "callee"]


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


class Call:
    """One dialog as one side holds it, from the INVITE to the BYE's answer."""

    def __init__(self, dialog: Dialog, side: Side) -> None:
        self.dialog = dialog
        self.side = side
        self.peer_hung_up = False
        self.hang_up_asked = False
        self.leaving = False
        self.lost: str | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._woken = asyncio.Event()

    @property
    def over(self) -> bool:
        """Nothing more to wait for: somebody hung up, is asked to, or the connection is gone."""
        return self.peer_hung_up or self.hang_up_asked or self.lost is not None

    def wake(self) -> None:
        """Tells the waiting caller to look again."""
        self._woken.set()

    async def talk(self, seconds: float) -> None:
        """Returns after `seconds`, or as soon as the call is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.over:
                    self._woken.clear()
                    await self._woken.wait()

    def stop_timer(self) -> None:
        """No ringing, no ACK deadline, no BYE to send by the clock any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class UserAgent:
    """Both roles on one connection: places calls with `call`, and answers what comes in.

    `screen` gives the status for an initial INVITE (200 to accept). `on_setup` gets the final status of every
    initial INVITE, placed or answered. `domain` is this side's SIP domain, `leaf` the certificate (SHA-256)
    under which the calls of this connection are counted. `ring_s` is the time between 180 and 200.
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
    ) -> None:
        self.leaf = leaf
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
        """The connection is still up."""
        return self.connection.lost is None

    def hang_up_all(self) -> None:
        """Ends every call of this connection with a BYE; those still being set up as soon as answered."""
        for call in [*self._calls.values()]:
            if not call.hang_up_asked:
                call.hang_up_asked = True
                call.wake()
                if call.side == "callee" and call.dialog.state is DialogState.CONFIRMED:
                    self._leave(call)

    async def close(self) -> None:
        """Closes the connection; calls that are still on it are dropped. Never raises."""
        await self.connection.close()
        for task in [*self._tasks]:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # The caller.

    async def call(
        self,
        *,
        to_domain: str,
        hold_s: float,
        reinvite: bool = False,
        bye_from: Side = "caller",
        timeout_s: float = 8.0,
    ) -> CallResult:
        """Places one call and stays with it to its end. Losses are results, not exceptions."""
        call = self._new_call(to_domain)
        self._calls[call.dialog.call_id] = call
        try:
            return await self._place(call, hold_s, reinvite, bye_from, timeout_s)
        finally:
            self._calls.pop(call.dialog.call_id, None)

    async def _place(
        self,
        call: Call,
        hold_s: float,
        reinvite: bool,
        bye_from: Side,
        timeout_s: float,
    ) -> CallResult:
        invite = self._invite(call.dialog)
        if bye_from == "callee":
            invite.headers.set_single(BYE_AFTER, f"{hold_s:.3f}")
        try:
            answer = await self.connection.request(invite, timeout_s=timeout_s)
        except ConnectionLost as lost:
            if not lost.answered:
                return CallResult(None, f"tls {lost.cause}")
            self._on_setup(503)
            return CallResult(503, f"dropped {lost.cause} before an answer")
        except TimeoutError:
            self._on_setup(408)
            return CallResult(408, "sip 408")
        status = answer.status_code
        self._on_setup(status)
        if status >= 300:
            return CallResult(status, None if status in USER_REJECTIONS else f"sip {status}")
        call.dialog.remote_tag = (answer.to_addr.tag if answer.to_addr else None) or ""
        if answer.contact:
            call.dialog.remote_target = stringify_uri(answer.contact[0].uri)
        call.dialog.confirm()
        return CallResult(status, await self._converse(call, hold_s, reinvite, bye_from))

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
            await call.talk(remaining + (CALLEE_GRACE_S if bye_from == "callee" else 0))
            if call.peer_hung_up:
                return None
            overdue = bye_from == "callee" and not call.over
            return await self._bye(call) or ("no BYE from the callee" if overdue else None)
        except ConnectionLost as lost:
            return None if call.peer_hung_up else f"dropped {lost.cause}"

    async def _reinvite(self, call: Call) -> str | None:
        try:
            answer = await self.connection.request(self._invite(call.dialog))
        except TimeoutError:
            return "re-INVITE timeout"
        if answer.status_code < 300:
            self._acknowledge(call.dialog)
            return None
        return None if call.peer_hung_up else f"re-INVITE sip {answer.status_code}"

    async def _bye(self, call: Call) -> str | None:
        """Hangs up. None when the call is over as intended: BYEs that cross end it too."""
        if call.lost is not None:
            return f"dropped {call.lost}"
        try:
            answer = await self.connection.request(self._in_dialog(call.dialog, "BYE"))
        except TimeoutError:
            return None if call.peer_hung_up else "BYE timeout"
        return None if answer.status_code < 300 or call.peer_hung_up else f"BYE sip {answer.status_code}"

    def _new_call(self, to_domain: str) -> Call:
        return Call(
            Dialog(
                call_id=generate_call_id(self._domain),
                local_tag=generate_tag(),
                local_uri=f"sip:trunk@{self._domain}",
                remote_uri=f"sip:trunk@{to_domain}",
                remote_target=f"sip:trunk@{to_domain};transport=tls",
            ),
            "caller",
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
        call = self._calls.get(request.call_id or "")
        in_dialog = request.to_addr is not None and request.to_addr.tag is not None
        match request.method:
            case "ACK":
                if call is not None and call.side == "callee":
                    self._take_ack(call)
            case "OPTIONS":
                self._reply(request, 200)
            case "INVITE" if not in_dialog:
                self._ring(request)
            case "INVITE" | "BYE":
                self._take_in_dialog(call, request)
            case _:
                self._reply(request, 405)

    def _take_in_dialog(self, call: Call | None, request: SipRequest) -> None:
        if call is None or not dialog_matches(call.dialog, request):
            self._reply(request, 481)
        elif not remote_cseq_valid(call.dialog, request):
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

    def _ring(self, request: SipRequest) -> None:
        call = Call(create_dialog_from_request(request), "callee")
        self._reply(request, 100)
        status = self._screen()
        if status >= 300:
            self._reply(request, status, call)
            self._on_setup(status)
            return
        self._calls[call.dialog.call_id] = call
        self._reply(request, 180, call)
        call.timer = asyncio.get_running_loop().call_later(self._ring_s, self._pick_up, call, request)

    def _pick_up(self, call: Call, request: SipRequest) -> None:
        call.dialog.metadata["bye-after"] = request.get_header(BYE_AFTER) or ""
        with contextlib.suppress(ConnectionLost):
            self._reply(request, 200, call)
            self._on_setup(200)
            call.timer = asyncio.get_running_loop().call_later(CALLEE_GRACE_S, self._give_up, call)

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
        """The callee hangs up; how its BYE ends matters to the caller only."""
        if not call.leaving:
            call.leaving = True
            call.stop_timer()
            task = asyncio.create_task(self._say_goodbye(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _say_goodbye(self, call: Call) -> None:
        try:
            with contextlib.suppress(ConnectionLost):
                await self._bye(call)
        finally:
            self._forget(call)

    def _forget(self, call: Call) -> None:
        call.stop_timer()
        call.dialog.terminate()
        self._calls.pop(call.dialog.call_id, None)

    def _reply(self, request: SipRequest, status: int, call: Call | None = None) -> None:
        dialog = call.dialog if call else create_dialog_from_request(request)
        response = dialog.create_response(request, status, contact=self._contact() if status < 300 else None)
        if status == 100:
            response.headers.set_single("To", request.headers.get_first("to") or "")
        if request.method == "OPTIONS" or status == 405:
            response.headers.set_single("Allow", _ALLOW)
        if request.method == "INVITE" and status == 200:
            response.headers.set_single("Content-Type", "application/sdp")
            response.body = self._session_description()
        self.connection.send(response)

    def _lose_calls(self, cause: str) -> None:
        for call in [*self._calls.values()]:
            call.lost = cause
            call.wake()
            if call.side == "callee":
                self._forget(call)
