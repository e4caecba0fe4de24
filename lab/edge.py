"""One trunk's SIP TLS edge of a platform: its ports, a pool of certificates, and calls both ways."""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

from lab.calls import CallResult, UserAgent
from lab.dialing import Dial, DialFailure, Line, SharedConnections, connect_tcp
from lab.dialogs import Dialogs, Side
from lab.edge_flaws import EdgeFlaws
from lab.ledger import Direction, Ledger
from lab.listening import Listener
from lab.served_certificate import ServedCertificate, first_valid
from lab.tls_contexts import client_context, server_context
from lab.tls_stream import HandshakeObject, TlsContext, TlsFailure, TlsStream

__all__ = ["CallResult", "Edge", "ServedCertificate"]

ADDRESS = "127.0.0.1"
NO_CERTIFICATE = "none"
"""Key of `Edge.active_calls` for calls whose connection uses none of our certificates."""

Port = Literal["primary", "secondary"]


@dataclass(frozen=True)
class _Served:
    """What new handshakes get; replaced as a whole."""

    pool: tuple[ServedCertificate, ...] = ()
    secondary: ServedCertificate | None = None
    canary: tuple[str, ServedCertificate] | None = None
    ticket_lifetime_s: float = 7200

    def certificate(self, port: Port, server_name: str | None) -> ServedCertificate | None:
        """The certificate for one handshake; None when none of the pool is inside its validity."""
        if port == "secondary" and self.secondary is not None:
            return self.secondary
        if port == "primary" and self.canary is not None:
            name, certificate = self.canary
            if server_name is not None and server_name.lower() == name.lower():
                return certificate
        return first_valid(self.pool)

    def certificates(self) -> list[ServedCertificate]:
        """Every certificate that some handshake may get."""
        extra = [c for c in (self.secondary, self.canary[1] if self.canary else None) if c is not None]
        return [*self.pool, *extra]


class Edge:
    """The platform's edge of one trunk.

    `mutual`: inbound connections must show a client certificate that `peer_trust_pem` verifies, and outbound
    ones present ours. `ports` is the primary port, or primary and secondary; 0 takes any free one. Counts go
    to `ledger` by the rules of the platform contract. Outbound connections come from 127.0.0.1; no media
    flows. Nodes of one trunk share `dialogs`: a call may go on over another of them.
    """

    def __init__(
        self,
        name: str,
        fqdn: str,
        *,
        mutual: bool,
        peer_trust_pem: str,
        ledger: Ledger,
        ports: int | tuple[int] | tuple[int, int] = 0,
        dialogs: Dialogs | None = None,
    ) -> None:
        self.name, self.fqdn, self.mutual, self.ledger = name, fqdn, mutual, ledger
        self.reject_invites_on: set[str] = set()
        self._trust_pem = peer_trust_pem
        self._served = _Served()
        self._flaws = EdgeFlaws()
        self._identities: dict[ServedCertificate, ssl.SSLContext] = {}
        self._clients: dict[ServedCertificate | None, ssl.SSLContext] = {}
        if not mutual:
            self._clients[None] = client_context(peer_trust_pem)
        self._inbound: set[UserAgent] = set()
        self._dialogs = dialogs or Dialogs()
        self._shared = SharedConnections()
        self._persistent = False
        self._running = False
        numbers = (ports,) if isinstance(ports, int) else ports
        self._listeners: dict[Port, Listener] = {"primary": self._listener("primary", numbers[0])}
        if len(numbers) > 1:
            self._listeners["secondary"] = self._listener("secondary", numbers[-1])
        self._fronts: dict[Port, ssl.SSLContext] = {}
        self._strange: dict[ServedCertificate, TlsContext] = {}
        self._fronts_made = 0.0
        self.flush_tickets()

    @property
    def primary_port(self) -> int:
        """The port that serves the pool's first valid certificate; known once started."""
        return self._listeners["primary"].port

    @property
    def secondary_port(self) -> int | None:
        """The port that serves the secondary certificate; None when the edge has one port only."""
        listener = self._listeners.get("secondary")
        return listener.port if listener else None

    async def start(self, *, listening: bool = True) -> None:
        """Opens the ports, unless told otherwise. Raises OSError when one is taken."""
        self._running, self._shared = True, SharedConnections()
        self._shared.persistent = self._persistent
        await self.set_listening(listening)

    async def stop(self) -> None:
        """Closes the ports and every connection, under their calls; done within 2 s."""
        self._running = False
        for listener in self._listeners.values():
            listener.refuse()
        await asyncio.gather(*(agent.close() for agent in [*self._inbound]), self._shared.close())
        await asyncio.gather(*(listener.close() for listener in self._listeners.values()))
        self._dialogs.lose_all("connection_reset")

    async def fail(self) -> None:
        """Fault: the node goes away. Its ports refuse and its connections die without a word, after at most 2 s.

        It goes in a moment in which no call is being set up, so that what fails is the node and not those calls.
        """
        self._running = False
        for listener in self._listeners.values():
            listener.refuse()
        agents = [*self._inbound, *self._shared.agents()]
        await asyncio.gather(*(agent.grow_calm() for agent in agents))
        for agent in [*self._inbound, *self._shared.agents()]:
            agent.connection.abort()
        await asyncio.gather(self._shared.close(), *(listener.close() for listener in self._listeners.values()))

    def set_persistent(self, on: bool) -> None:
        """All calls that this edge places go over one TLS connection that never ages out."""
        self._persistent = self._shared.persistent = on

    def up(self) -> bool:
        """Every port accepts connections."""
        return all(listener.listening for listener in self._listeners.values())

    async def set_listening(self, on: bool, *, only: Port | None = None) -> None:
        """Fault: off, new connections are refused and open ones live on; on again, the ports are the same."""
        for listener in [each for port, each in self._listeners.items() if only in (None, port)]:
            if on:
                await listener.open()
            else:
                listener.refuse()

    def serve(
        self,
        pool: Sequence[ServedCertificate],
        *,
        secondary: ServedCertificate | None = None,
        canary: tuple[str, ServedCertificate] | None = None,
        ticket_lifetime_s: int = 7200,
    ) -> None:
        """Changes at once what new handshakes get; open connections live on.

        The primary port serves the first of `pool` inside its validity; the secondary port serves
        `secondary`, or the same as the primary. A handshake on the primary port whose SNI is the canary's
        name gets the canary's certificate. Tickets older than `ticket_lifetime_s` no longer resume. Raises
        ssl.SSLError, and changes nothing, when a chain or a key cannot be used.
        """
        served = _Served(tuple(pool), secondary, canary, ticket_lifetime_s)
        identities = {one: self._identities.get(one) or self._identity(one) for one in served.certificates()}
        if self.mutual:
            self._clients = {one: self._clients.get(one) or self._client(one) for one in served.pool}
        self._served, self._identities = served, identities

    def set_flaws(self, flaws: EdgeFlaws) -> None:
        """Fault: other mistakes with some leaves, from the next handshake on; without any all is well again."""
        changed = self._flaws.leaves | flaws.leaves
        self._flaws = flaws
        for served in [one for one in self._identities if one.sha256 in changed]:
            self._identities[served] = self._identity(served)
        for presented in [one for one in self._clients if one is not None and one.sha256 in changed]:
            self._clients[presented] = self._client(presented)
        self._strange.clear()

    def leaf_on(self, port: int) -> str | None:
        """The leaf (SHA-256) that a port shows to handshakes without a canary's name; None: the port is not ours."""
        for name, listener in self._listeners.items():
            if listener.port == port:
                shown = self._served.certificate(name, None)
                return shown.sha256 if shown else None
        return None

    def flush_tickets(self) -> None:
        """New ticket keys: sessions from before no longer resume, and their clients make a full handshake."""
        self._fronts = {port: self._front(port) for port in self._listeners}
        self._fronts_made = time.monotonic()

    def active_calls(self) -> dict[str, int]:
        """Live dialogs by the leaf (SHA-256) with which their connection was set up.

        INBOUND: the one that we served; OUTBOUND with mutual TLS: the one that we presented; otherwise
        `none`.
        """
        calls: dict[str, int] = {}
        for agent in [*self._inbound, *self._shared.agents()]:
            if agent.active_calls:
                leaf = agent.leaf or NO_CERTIFICATE
                calls[leaf] = calls.get(leaf, 0) + agent.active_calls
        return calls

    @property
    def waiting_calls(self) -> int:
        """Dialogs whose connection has closed: on no certificate, until their next request opens another one."""
        return len(self._dialogs.waiting)

    async def close_connections(self, sha256: str) -> int:
        """Closes in an orderly way what was set up with this leaf, and returns how many connections that were.

        INBOUND: where we served it; OUTBOUND: where we presented it. Each closes in a moment in which nothing is under
        way on it, after 2 s at the latest; its confirmed dialogs live on.
        """
        agents = [one for one in [*self._inbound, *self._shared.agents()] if one.leaf == sha256 and one.usable]
        await asyncio.gather(*(agent.close_orderly() for agent in agents))
        return len(agents)

    async def place_call(
        self,
        target_host: str,
        target_port: int,
        *,
        server_name: str,
        hold_s: float,
        reinvite: bool,
        bye_from: Side,
        new_connection: bool,
    ) -> CallResult:
        """An outbound call, from the platform to the carrier, held for `hold_s` seconds. Losses are results.

        The carrier's certificate is verified against the trust store and `server_name`. Without
        `new_connection` the call may share a connection with other calls to the same target.
        """
        if not self._running:
            return CallResult(None, "edge stopped")

        async def choose() -> tuple[Hashable, Dial]:
            return (target_host, target_port, server_name), dial

        async def dial() -> UserAgent:
            presented = first_valid(self._served.pool) if self.mutual else None
            if self.mutual and presented is None:
                raise DialFailure("no valid certificate")
            return await self._dial(target_host, target_port, server_name, presented)

        line = Line(self._shared, choose, new=new_connection)
        try:
            agent = await line.open()
        except DialFailure as failure:
            return CallResult(None, failure.cause)
        try:
            return await agent.call(
                to_domain=server_name,
                hold_s=hold_s,
                reinvite=reinvite,
                bye_from=bye_from,
                redial=line.redial,
            )
        finally:
            await line.close()

    async def _dial(
        self,
        host: str,
        port: int,
        server_name: str,
        presented: ServedCertificate | None,
    ) -> UserAgent:
        context, leaf = self._clients[presented], presented.sha256 if presented else None

        def count(cause: str | None) -> None:
            if leaf is not None:  # without mutual TLS none of our certificates is used
                self.ledger.handshake("OUTBOUND", leaf, host, cause)

        reader, writer = await connect_tcp(host, port, source=ADDRESS)
        try:
            stream = await TlsStream.connect(reader, writer, context, server_name=server_name)
        except TlsFailure as failure:
            count(failure.cause)
            raise DialFailure(f"tls {failure.cause}") from failure
        # The server may still refuse our certificate: good is counted at the first SIP answer.
        good = functools.partial(count, None)
        return self._user_agent(stream, "OUTBOUND", leaf, host, on_answered=good, on_unanswered=count)

    def _user_agent(
        self,
        stream: TlsStream,
        direction: Direction,
        leaf: str | None,
        peer: str,
        *,
        on_answered: Callable[[], None] = lambda: None,
        on_unanswered: Callable[[str], None] = lambda cause: None,
    ) -> UserAgent:
        return UserAgent(
            stream,
            domain=self.fqdn,
            leaf=leaf,
            screen=lambda: 403 if leaf in self.reject_invites_on else 200,
            on_setup=lambda status: self.ledger.call_setup(direction, leaf, peer, status),
            on_answered=on_answered,
            on_unanswered=on_unanswered,
            dialogs=self._dialogs,
        )

    def _listener(self, port: Port, number: int) -> Listener:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._answer(port, reader, writer)

        return Listener(ADDRESS, number, serve)

    async def _answer(self, port: Port, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One inbound connection, from its handshake to its end."""
        if time.monotonic() - self._fronts_made > self._served.ticket_lifetime_s:
            self.flush_tickets()
        peer = str(writer.get_extra_info("peername")[0])
        try:
            stream = await TlsStream.accept(reader, writer, self._context_of(port))
        except TlsFailure as failure:
            if failure.client_hello:
                self.ledger.handshake("INBOUND", failure.local_leaf, peer, failure.cause)
            return
        if not stream.resumed:
            self.ledger.handshake("INBOUND", stream.local_leaf, peer)
        agent = self._user_agent(stream, "INBOUND", stream.local_leaf, peer)
        self._inbound.add(agent)
        try:
            await agent.connection.ended()
        finally:
            await agent.close()
            self._inbound.discard(agent)

    def _identity(self, one: ServedCertificate) -> ssl.SSLContext:
        context = server_context(self._flaws.shown(one), client_trust_pem=self._trust_pem if self.mutual else None)
        self._flaws.restrict(context, one)
        return context

    def _client(self, one: ServedCertificate) -> ssl.SSLContext:
        context = client_context(self._trust_pem, identity=self._flaws.shown(one))
        self._flaws.restrict(context, one)
        return context

    def _context_of(self, port: Port) -> TlsContext:
        """What a handshake on the port starts with: the usual front, or a flawed server of its certificate."""
        certificate, front = self._served.certificate(port, None), self._fronts[port]
        if certificate is None:
            return front
        front.minimum_version = self._flaws.least_version(certificate)
        if not self._flaws.need_own_server(certificate):
            return front
        if certificate not in self._strange:
            trust = self._trust_pem if self.mutual else None
            self._strange[certificate] = self._flaws.own_server(certificate, trust)
        return self._strange[certificate]

    def _front(self, port: Port) -> ssl.SSLContext:
        """What a port's handshakes start with: it holds the ticket keys, and hands over to a certificate."""

        def choose(tls: ssl.SSLObject, server_name: str | None, front: ssl.SSLContext) -> int | None:
            assert isinstance(tls, HandshakeObject)
            certificate = self._served.certificate(port, server_name)
            if certificate is None:
                tls.refusal = "handshake_failure"
                return ssl.ALERT_DESCRIPTION_HANDSHAKE_FAILURE
            tls.local_leaf = certificate.sha256
            tls.context = self._identities[certificate]
            return None

        front = server_context(None, client_trust_pem=self._trust_pem if self.mutual else None)
        front.sni_callback = choose
        return front
