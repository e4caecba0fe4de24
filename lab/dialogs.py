"""Dialogs: a call as one side holds it, and those that wait for a new connection after theirs closed.

A dialog is not bound to a connection (RFC 3261 section 12): its next request opens one, with the certificate that is
served then. Only the caller's side can dial, so the callee's half waits until the caller's next request arrives.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal

from aiosipua import Dialog, DialogState

if TYPE_CHECKING:
    from lab.calls import UserAgent

Side = Literal["caller", "callee"]
Redial = Callable[[], Awaitable["UserAgent"]]
"""Another connection for a call whose own has closed. Raises ConnectionLost."""

FORGOTTEN_S = 30.0
"""How long a callee that wants to hang up waits for its caller's new connection."""


class Call:
    """One dialog as one side holds it, from the INVITE to the BYE's answer.

    `home` is the user agent of the connection that it is on, None while it has none. `cut` is true once a connection
    has closed under it.
    """

    def __init__(self, dialog: Dialog, side: Side, redial: Redial | None = None) -> None:
        self.dialog = dialog
        self.side = side
        self.redial = redial
        self.home: UserAgent | None = None
        self.cut = False
        self.peer_hung_up = False
        self.hang_up_asked = False
        self.leaving = False
        self.lost: str | None = None
        self.timer: asyncio.TimerHandle | None = None
        self._woken = asyncio.Event()

    @property
    def over(self) -> bool:
        """Nothing more to wait for: somebody hung up, is asked to, or the call is lost."""
        return self.peer_hung_up or self.hang_up_asked or self.lost is not None

    @property
    def survives(self) -> bool:
        """The dialog outlives its connection: it is confirmed, and its caller can dial again."""
        able = self.side == "callee" or self.redial is not None
        return able and self.dialog.state is DialogState.CONFIRMED and not self.peer_hung_up

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


class Dialogs:
    """The dialogs of one side of a trunk, on whatever connection; those that have none wait for one."""

    def __init__(self) -> None:
        self._calls: dict[str, Call] = {}

    def __len__(self) -> int:
        return len(self._calls)

    @property
    def waiting(self) -> list[Call]:
        """The calls whose connection has closed."""
        return [call for call in self._calls.values() if call.home is None]

    def add(self, call: Call) -> None:
        """Know the call by its Call-ID."""
        self._calls[call.dialog.call_id] = call

    def remove(self, call: Call) -> None:
        """The dialog is over."""
        self._calls.pop(call.dialog.call_id, None)

    def find(self, call_id: str) -> Call | None:
        """The call of that Call-ID."""
        return self._calls.get(call_id)

    def wait(self, call: Call) -> None:
        """The call's connection has closed; its next request comes on another one."""
        call.home, call.cut = None, True
        if call.leaving:  # whether its BYE arrived is unknown
            call.leaving = False
            self.leave_later(call)

    def leave_later(self, call: Call) -> None:
        """A callee without a connection is to hang up: it does when its caller has dialled, or is forgotten."""
        call.stop_timer()
        call.hang_up_asked = True
        call.timer = asyncio.get_running_loop().call_later(FORGOTTEN_S, self.remove, call)

    def hang_up_all(self) -> None:
        """Waiting callers hang up at once, on a new connection; waiting callees as soon as they have one."""
        for call in self.waiting:
            if call.hang_up_asked:
                continue
            if call.side == "callee":
                self.leave_later(call)
            else:
                call.hang_up_asked = True
                call.wake()

    def lose_all(self, cause: str) -> None:
        """The side itself has gone: every call is lost."""
        for call in self._calls.values():
            call.stop_timer()
            call.lost = cause
            call.wake()
        self._calls.clear()
