"""The carrier's SBC: it calls every trunk all the time, answers the platform, and counts what it saw."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

from aiosipua import SipResponse

from lab.call_mix import CallMix, CallShape
from lab.calls import CallResult, UserAgent
from lab.carrier_trust import CarrierTrust
from lab.carrier_view import CarrierView
from lab.dialing import Dial, DialFailure, Line, SharedConnections, TcpConnection, connect_tcp
from lab.dialogs import Dialogs, Side
from lab.ledger import Direction, Ledger
from lab.listening import Listener
from lab.sip import ConnectionLost
from lab.sip_identity import sip_domains
from lab.tls_contexts import Identity
from lab.tls_stream import TlsFailure, TlsStream

log = logging.getLogger(__name__)

Target = tuple[str, int]
Resolve = Callable[[str], Awaitable[Sequence[Target]]]
"""Trunk name to (host, port), the most preferred first, as SRV records give them."""

SIPS_PORT = 5061
_LOSSES_KEPT = 20
_LOOK_AGAIN_S = 0.05


class PlaceOutbound(Protocol):
    """How the carrier asks the platform for a call towards it: `Edge.place_call`."""

    async def __call__(
        self,
        target_host: str,
        target_port: int,
        *,
        server_name: str,
        hold_s: float,
        reinvite: bool,
        bye_from: Side,
        new_connection: bool,
    ) -> CallResult: ...


@dataclass(frozen=True)
class CarrierTrunk:
    """A trunk as the carrier has it configured.

    `mutual`: the carrier shows its certificate when it calls, and demands the platform's when it is called,
    for one of `allowed_names` (default: the FQDN). `place_outbound` is None where the platform places no
    calls. `calls_per_s` counts both directions. `outbound_port` is where the platform's calls arrive; 0 takes
    any free one.
    """

    name: str
    fqdn: str
    mutual: bool
    place_outbound: PlaceOutbound | None = None
    allowed_names: frozenset[str] = frozenset()
    calls_per_s: float = 5.0
    mix: CallMix = field(default_factory=CallMix)
    outbound_port: int = 0


@dataclass(frozen=True, slots=True)
class Loss:
    """One lost call; `cause` as in CallResult."""

    at: datetime
    direction: Direction
    cause: str


@dataclass(frozen=True, slots=True)
class CallStatistics:
    """Calls of one trunk, both directions; placed = completed + lost + active.

    `answered` counts calls that have ended.
    """

    placed: int
    answered: int
    completed: int
    lost: int
    active: int
    losses: tuple[Loss, ...]


class _Trunk:
    """The carrier's state of one trunk."""

    def __init__(self, settings: CarrierTrunk, trust: CarrierTrust, listener: Listener) -> None:
        self.settings, self.trust, self.listener = settings, trust, listener
        self.allowed_names = {name.lower() for name in settings.allowed_names or {settings.fqdn}}
        self.calls_per_s = settings.calls_per_s
        self.quiet = False
        self.session: object = None
        self.ledger = Ledger()
        self.shared = SharedConnections()
        self.persistent = False
        self.dialogs = Dialogs()
        self.callees: set[UserAgent] = set()
        self.calls: set[asyncio.Task[CallResult]] = set()
        self.placed = self.answered = self.completed = self.lost = 0
        self.losses: deque[Loss] = deque(maxlen=_LOSSES_KEPT)

    def settle(self, shape: CallShape, result: CallResult) -> None:
        """Counts a call that has ended."""
        self.answered += result.answered
        if result.loss is None:
            self.completed += 1
        else:
            self.lost += 1
            self.losses.append(Loss(datetime.now(UTC), shape.direction, result.loss))


class Carrier:
    """A carrier with its own identity (a certificate for `name`, client and server) and its own trust store.

    `trust_pem` holds the root that it trusts on every trunk. `resolve` answers where a trunk's edge is.
    Leaves in `reject_invites_on` (SHA-256) get 403 for every INVITE of a connection on which the platform
    presented them. `address` is where its connections come from, 127.0.0.2 unless given.
    """

    def __init__(
        self,
        identity: Identity,
        *,
        name: str,
        trust_pem: str,
        trunks: Sequence[CarrierTrunk],
        resolve: Resolve,
        address: str | None = None,
    ) -> None:
        self.name = name
        self.address = address or _own_address()
        self.reject_invites_on: set[str] = set()
        self._view: CarrierView | None = None
        self._resolve = resolve
        self._trunks = {trunk.name: self._trunk(trunk, identity, trust_pem) for trunk in trunks}
        self._load: set[asyncio.Task[None]] = set()

    async def start(self, *, placing: bool = True) -> None:
        """Listens for every trunk's outbound calls and, if `placing`, starts to call. Raises OSError."""
        for trunk in self._trunks.values():
            await trunk.listener.open()
            trunk.shared = SharedConnections()
            trunk.shared.persistent = trunk.persistent
            trunk.quiet = not placing
            self._load.add(asyncio.create_task(self._keep_calling(trunk)))

    async def stop(self) -> None:
        """Ends everything within 2 s; active calls are lost: `drain` first to end them properly."""
        tasks = [*self._load, *(call for trunk in self._trunks.values() for call in trunk.calls)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._load.clear()
        for trunk in self._trunks.values():
            trunk.listener.refuse()
        await asyncio.gather(
            *(trunk.shared.close() for trunk in self._trunks.values()),
            *(agent.close() for trunk in self._trunks.values() for agent in trunk.callees),
        )
        await asyncio.gather(*(trunk.listener.close() for trunk in self._trunks.values()))
        for trunk in self._trunks.values():
            trunk.dialogs.lose_all("connection_reset")

    def stop_placing(self) -> None:
        """No new calls on any trunk; those that are active go on."""
        for trunk in self._trunks.values():
            trunk.quiet = True

    async def drain(self, timeout_s: float) -> bool:
        """Hangs up every call with a BYE. True when all have ended in time; call `stop_placing` first."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while calls := [call for trunk in self._trunks.values() for call in trunk.calls]:
                    for trunk in self._trunks.values():
                        for agent in [*trunk.shared.agents(), *trunk.callees]:
                            agent.hang_up_all()
                        trunk.dialogs.hang_up_all()
                    await asyncio.wait(calls, timeout=_LOOK_AGAIN_S)
        return not any(trunk.calls for trunk in self._trunks.values())

    def set_quiet(self, trunk: str, on: bool) -> None:
        """Stops to place calls on one trunk, or starts again."""
        self._trunks[trunk].quiet = on

    def set_rate(self, trunk: str, calls_per_s: float) -> None:
        """Calls per second on one trunk, both directions together."""
        self._trunks[trunk].calls_per_s = calls_per_s

    def set_persistent(self, trunk: str, on: bool) -> None:
        """All calls that the carrier places on the trunk go over one TLS connection that never ages out."""
        self._trunks[trunk].persistent = on
        self._trunks[trunk].shared.persistent = on

    def set_trust(self, anchors_pem: str, partial_chain: bool = False, *, trunk: str | None = None) -> None:
        """Fault: other trust anchors for new handshakes, on one trunk or all.

        With `partial_chain` and intermediate A as the only anchor, a leaf of intermediate B is refused
        (unknown_ca).
        """
        for each in self._selected(trunk):
            each.trust.set_anchors(anchors_pem, partial_chain=partial_chain)

    def refuse_share(self, trunk: str, share: float, *, spared_pem: str | None = None) -> None:
        """Fault: refuses this share (0–1) of the handshakes, both ways, on certificates that are not spared.

        `spared_pem` holds leaves or their direct issuers; None spares every leaf that the carrier accepted so
        far, so that the share is of handshakes on a new certificate. Share 0 ends the fault.
        """
        self._trunks[trunk].trust.refuse_share(share, spared_pem)

    def set_view(self, view: CarrierView | None) -> None:
        """Fault: judges the platform's certificates in another way than usual, on every trunk; None ends it."""
        self._view = view
        for trunk in self._trunks.values():
            trunk.trust.set_view(view)
            trunk.session = None

    def outbound_target(self, trunk: str) -> Target:
        """Where the platform's calls of a trunk arrive; the name on the certificate is `name`."""
        return self.address, self._trunks[trunk].listener.port

    def open_dialogs(self, trunk: str) -> int:
        """Calls of a trunk, both ways, that the carrier has not forgotten yet, with a connection or without."""
        return len(self._trunks[trunk].dialogs)

    def ledger(self, trunk: str) -> Ledger:
        """What the carrier counted on a trunk, by the platform's leaf that it was shown (None: none was)."""
        return self._trunks[trunk].ledger

    def stats(self) -> dict[str, CallStatistics]:
        """The calls of every trunk, and the last 20 losses of each."""
        return {
            name: CallStatistics(
                t.placed, t.answered, t.completed, t.lost, t.placed - t.completed - t.lost, tuple(t.losses)
            )
            for name, t in self._trunks.items()
        }

    async def place_call(self, trunk: str, shape: CallShape) -> CallResult:
        """Places one call and waits for its end; it counts like those of the load."""
        return await self._begin_call(self._trunks[trunk], shape)

    # The load.

    async def _keep_calling(self, trunk: _Trunk) -> None:
        loop, mix = asyncio.get_running_loop(), trunk.settings.mix
        number, next_call, next_long = 0, loop.time(), loop.time()
        while True:
            if trunk.quiet or trunk.calls_per_s <= 0:
                await asyncio.sleep(_LOOK_AGAIN_S)
                next_call = loop.time()
                continue
            long = loop.time() >= next_long
            if long:
                next_long = loop.time() + mix.long_every_s
            self._begin_call(trunk, mix.shape(number, long=long))
            number += 1
            # A pause of the process is not made up for with a burst.
            next_call = max(next_call + 1 / trunk.calls_per_s, loop.time() - 0.5)
            await asyncio.sleep(max(0.0, next_call - loop.time()))

    def _begin_call(self, trunk: _Trunk, shape: CallShape) -> asyncio.Task[CallResult]:
        task = asyncio.create_task(self._call(trunk, shape))
        trunk.calls.add(task)
        task.add_done_callback(trunk.calls.discard)
        return task

    async def _call(self, trunk: _Trunk, shape: CallShape) -> CallResult:
        place = self._place_outbound if shape.direction == "OUTBOUND" else self._place_inbound
        trunk.placed += 1
        result = CallResult(None, "cut off when the carrier stopped")
        try:
            result = await place(trunk, shape)
        except Exception as error:
            log.exception("a call on trunk %s failed unexpectedly", trunk.settings.name)
            result = CallResult(None, f"error {type(error).__name__}")
        finally:
            trunk.settle(shape, result)
        return result

    async def _place_outbound(self, trunk: _Trunk, shape: CallShape) -> CallResult:
        """Asks the platform to call; the platform is the caller."""
        if trunk.settings.place_outbound is None:
            return await self._place_inbound(trunk, shape)
        return await trunk.settings.place_outbound(
            *self.outbound_target(trunk.settings.name),
            server_name=self.name,
            hold_s=shape.hold_s,
            reinvite=shape.reinvite,
            bye_from=shape.bye_from,
            new_connection=shape.new_connection,
        )

    async def _place_inbound(self, trunk: _Trunk, shape: CallShape) -> CallResult:
        async def choose() -> tuple[Hashable, Dial]:
            targets = await self._targets(trunk)

            async def dial() -> UserAgent:
                return await self._dial(trunk, targets)

            return targets[0], dial

        line = Line(trunk.shared, choose, new=shape.new_connection)
        try:
            agent = await line.open()
        except DialFailure as failure:
            return CallResult(None, failure.cause)
        try:
            return await agent.call(
                to_domain=trunk.settings.fqdn,
                hold_s=shape.hold_s,
                reinvite=shape.reinvite,
                bye_from=shape.bye_from,
                redial=line.redial,
            )
        finally:
            await line.close()

    async def _targets(self, trunk: _Trunk) -> Sequence[Target]:
        try:
            targets = await self._resolve(trunk.settings.name)
        except Exception as error:
            raise DialFailure(f"dns {type(error).__name__}") from error
        if not targets:
            raise DialFailure("dns no target")
        return targets

    async def _dial(self, trunk: _Trunk, targets: Sequence[Target]) -> UserAgent:
        host, tcp = await self._first_that_connects(targets)
        try:
            with trunk.trust.handshake() as verification:
                name, context = trunk.settings.fqdn, verification.client_context
                if self._view is not None:
                    name = self._view.name_expected(tcp.writer.get_extra_info("peername")[1], name)
                stream = await TlsStream.connect(*tcp, context, server_name=name, session=trunk.session)
                verification.accepted(stream)
        except TlsFailure as failure:
            trunk.ledger.handshake("INBOUND", failure.peer_leaf, host, failure.cause)
            raise DialFailure(f"tls {failure.cause}") from failure

        def count(cause: str | None) -> None:
            if not stream.resumed:
                trunk.ledger.handshake("INBOUND", stream.peer_leaf, host, cause)

        if not trunk.settings.mutual:
            count(None)
            return self._user_agent(trunk, stream, "INBOUND", host)

        # The edge may still refuse our certificate: good is counted at the first SIP answer.
        def good() -> None:
            count(None)
            resumes = self._view is not None and stream.peer_leaf in self._view.resumes_on
            trunk.session = stream.session if resumes else None

        return self._user_agent(trunk, stream, "INBOUND", host, on_answered=good, on_unanswered=count)

    async def _first_that_connects(self, targets: Sequence[Target]) -> tuple[str, TcpConnection]:
        """TCP to the most preferred target that accepts it. Raises the last DialFailure."""
        failure = DialFailure("dns no target")
        for host, port in targets:
            try:
                return host, await connect_tcp(host, port, source=self.address)
            except DialFailure as refused:
                failure = refused
        raise failure

    # The platform's calls.

    async def _answer(
        self,
        trunk: _Trunk,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """One connection from the platform, from its handshake to its end."""
        mutual, peer = trunk.settings.mutual, str(writer.get_extra_info("peername")[0])
        try:
            with trunk.trust.handshake() as verification:
                stream = await TlsStream.accept(reader, writer, verification.server_context)
                verification.accepted(stream)
        except TlsFailure as failure:
            if mutual and failure.client_hello:
                trunk.ledger.handshake("OUTBOUND", failure.peer_leaf, peer, failure.cause)
            return
        if mutual and not stream.resumed:
            trunk.ledger.handshake("OUTBOUND", stream.peer_leaf, peer)
        agent = self._user_agent(trunk, stream, "OUTBOUND", peer)
        trunk.callees.add(agent)
        try:
            await agent.connection.ended()
        finally:
            await agent.close()
            trunk.callees.discard(agent)

    def _user_agent(
        self,
        trunk: _Trunk,
        stream: TlsStream,
        direction: Direction,
        peer: str,
        *,
        on_answered: Callable[[], None] = lambda: None,
        on_unanswered: Callable[[str], None] = lambda cause: None,
    ) -> UserAgent:
        leaf = stream.peer_leaf
        der = stream.peer_leaf_der
        # A name that does not fit passes the TLS handshake and fails as SIP: 403 (guide section 1).
        stranger = direction == "OUTBOUND" and der is not None and not sip_domains(der) & trunk.allowed_names
        stranger = stranger or (direction == "OUTBOUND" and self._view is not None and leaf in self._view.other_name_on)
        return UserAgent(
            stream,
            domain=self.name,
            leaf=leaf,
            screen=lambda: 403 if stranger or leaf in self.reject_invites_on else 200,
            on_setup=lambda status: trunk.ledger.call_setup(direction, leaf, peer, status),
            on_answered=on_answered,
            on_unanswered=on_unanswered,
            dialogs=trunk.dialogs,
            elsewhere=functools.partial(self._send_elsewhere, trunk),
        )

    async def _send_elsewhere(self, trunk: _Trunk, response: SipResponse, source: str) -> None:
        """A response whose connection has closed: to where its request came from, or to whom it names (18.2.2)."""
        via = response.via[0]
        port = via.port or SIPS_PORT
        targets = [(source, port), (via.host, port)]

        async def choose() -> tuple[Hashable, Dial]:
            return targets[-1], functools.partial(self._dial, trunk, targets)

        line = Line(trunk.shared, choose, new=False)
        try:
            agent = await line.open()
        except DialFailure as failure:
            raise ConnectionLost(failure.cause, answered=True) from failure
        try:
            agent.connection.send(response)
        finally:
            await line.close()

    def _trunk(self, settings: CarrierTrunk, identity: Identity, trust_pem: str) -> _Trunk:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._answer(self._trunks[settings.name], reader, writer)

        trust = CarrierTrust(identity, mutual=settings.mutual, anchors_pem=trust_pem)
        return _Trunk(settings, trust, Listener(self.address, settings.outbound_port, serve))

    def _selected(self, trunk: str | None) -> list[_Trunk]:
        return [*self._trunks.values()] if trunk is None else [self._trunks[trunk]]


def _own_address() -> str:
    """127.0.0.2 where it can be bound: so the platform can tell the carrier from a prober on 127.0.0.1."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.2", 0))
        except OSError:
            return "127.0.0.1"
    return "127.0.0.2"
