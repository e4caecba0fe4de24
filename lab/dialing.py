"""Opening a connection for calls, and sharing one between several calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import NamedTuple

from lab.calls import UserAgent
from lab.sip import ConnectionLost

CONNECT_TIMEOUT_S = 2.0
_ONE_FOR_ALL = "one for all"


class DialFailure(Exception):
    """No connection. `cause` reads like a call's loss: `tcp refused`, `tcp timeout`, `tls unknown_ca`."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class TcpConnection(NamedTuple):
    """An open TCP connection that has not spoken TLS yet."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter


async def connect_tcp(host: str, port: int, *, source: str) -> TcpConnection:
    """TCP from the address `source`. Raises DialFailure."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return TcpConnection(*await asyncio.open_connection(host, port, local_addr=(source, 0)))
    except TimeoutError:
        raise DialFailure("tcp timeout") from None
    except ConnectionRefusedError:
        raise DialFailure("tcp refused") from None
    except OSError as error:
        raise DialFailure(f"tcp {type(error).__name__}") from error


Dial = Callable[[], Awaitable[UserAgent]]
"""Opens a connection. Raises DialFailure."""


class SharedConnections:
    """Connections for several calls each, for `max_age_s` seconds: then the last call on it closes it.

    While `persistent` is on, all calls share one connection, whatever their key; it never ages, and only its loss ends
    it. Switching it off lets that connection go with its last call.
    """

    def __init__(self, max_age_s: float = 10.0) -> None:
        self._max_age_s = max_age_s
        self._persistent = False
        self._current: dict[Hashable, UserAgent] = {}
        self._users: dict[UserAgent, int] = {}
        self._retirements: dict[UserAgent, asyncio.TimerHandle | None] = {}
        self._dialling = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def persistent(self) -> bool:
        """All calls share one connection that never ages."""
        return self._persistent

    @persistent.setter
    def persistent(self, on: bool) -> None:
        self._persistent = on
        if not on and (agent := self._current.get(_ONE_FOR_ALL)) is not None:
            self._retire(_ONE_FOR_ALL, agent)

    async def borrow(self, key: Hashable, dial: Dial, *, new: bool) -> UserAgent:
        """The connection for `key`, dialled when there is none; always a private one when `new`.

        Every borrowed connection must be given back. Raises what `dial` raises.
        """
        if not self._persistent:
            return await self._borrow(key, dial, new=new)
        async with self._dialling:
            return await self._borrow(_ONE_FOR_ALL, dial, new=False)

    async def _borrow(self, key: Hashable, dial: Dial, *, new: bool) -> UserAgent:
        agent = None if new else self._current.get(key)
        if agent is not None and not agent.usable:
            self._retire(key, agent)
            agent = None
        if agent is None:
            agent = await dial()
            if self._closed:
                await agent.close()
                raise DialFailure("stopped")
            self._users[agent] = 0
            if not new and key not in self._current:
                self._current[key] = agent
                ages = key is not _ONE_FOR_ALL
                loop = asyncio.get_running_loop()
                self._retirements[agent] = loop.call_later(self._max_age_s, self._retire, key, agent) if ages else None
        self._users[agent] += 1
        return agent

    async def give_back(self, agent: UserAgent) -> None:
        """One call less on it. Closes the connection when nobody can use it any more."""
        self._users[agent] -= 1
        if self._users[agent] == 0 and agent not in self._retirements:
            del self._users[agent]
            await agent.close()

    async def close(self) -> None:
        """Closes all connections, under their calls if any are left; nothing can be borrowed any more."""
        self._closed = True
        for timer in self._retirements.values():
            if timer is not None:
                timer.cancel()
        self._current.clear()
        self._retirements.clear()
        await asyncio.gather(*(agent.close() for agent in [*self._users]), *self._closing)

    def agents(self) -> list[UserAgent]:
        """The user agents of all connections that are open."""
        return [*self._users]

    def _retire(self, key: Hashable, agent: UserAgent) -> None:
        timer = self._retirements.pop(agent)
        if timer is not None:
            timer.cancel()
        if self._current.get(key) is agent:
            del self._current[key]
        if self._users[agent] == 0:
            del self._users[agent]
            task = asyncio.create_task(agent.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class Line:
    """The connection of one call: borrowed, and borrowed anew when it closes under the call.

    `choose` says where to: the key of the shared connection, and how to dial. It is asked at every opening, so that a
    call that dials again goes where calls go then.
    """

    def __init__(
        self, connections: SharedConnections, choose: Callable[[], Awaitable[tuple[Hashable, Dial]]], *, new: bool
    ) -> None:
        self._connections, self._choose, self._new = connections, choose, new
        self._agent: UserAgent | None = None

    async def open(self) -> UserAgent:
        """Raises DialFailure."""
        key, dial = await self._choose()
        self._agent = await self._connections.borrow(key, dial, new=self._new)
        return self._agent

    async def redial(self) -> UserAgent:
        """Another connection for the same call. Raises ConnectionLost."""
        await self.close()
        try:
            return await self.open()
        except DialFailure as failure:
            raise ConnectionLost(failure.cause, answered=True) from failure

    async def close(self) -> None:
        """Gives back what is borrowed."""
        agent, self._agent = self._agent, None
        if agent is not None:
            await self._connections.give_back(agent)
