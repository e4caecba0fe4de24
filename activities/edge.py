"""Side effects on trunks: upload, bind, prefer, remove, restore, and the way back to A.

Each looks first, acts on the difference and reads back; each may be repeated after a lost response.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from temporalio import activity

from activities.baseline import EndpointRequest
from adapters.dns.base import SrvSet
from adapters.edges.base import Canary, Edge, TrunkChange, TrunkSettings, TrunkState
from adapters.probe.base import ProbeResult, ProbeTarget
from adapters.registry import Adapters
from domain.errors import NotAsWritten, RequestRefused, ServerFailed, Unreachable
from domain.handshakes import Record
from domain.plan import Endpoint, SrvPreference, Topology
from domain.rotation import SideEffect, served_on, short


class Reverted(Record):
    """The outcome of going back to A on one endpoint. `kept_b` gives the reason when A cannot serve any more.

    `unread` names nodes that could not be reached: they serve nobody now, and are read when they are back.
    """

    effect: SideEffect
    kept_b: str | None = None
    unread: tuple[str, ...] = ()


def pool_text(state: TrunkState) -> str:
    """A pool for people, preferred first, with the shares of new connections where the edge has weights."""
    canary = f", canary {short(state.canary)}" if state.canary else ""
    shares = [""] * len(state.pool) if state.shares is None else [f" {share} %" for share in state.shares]
    pool = ", ".join(short(sha256) + share for sha256, share in zip(state.pool, shares, strict=True))
    return f"[{pool}]{canary}"


def settings_text(settings: TrunkSettings) -> str:
    """Trunk settings for people."""
    timeout = settings.retransmission_timeout_s
    suppressed = "not suppressed" if timeout is None else f"suppressed for {timeout} s"
    return f"retransmission {suppressed}, suites {', '.join(settings.cipher_suites)}"


def preferring(srv: SrvPreference, records: SrvSet) -> SrvSet:
    """The record set with the target of B at the preferred priority, everything else as it is."""
    return _with_priorities(records, {srv.target_b: srv.preferred_priority, srv.target_a: srv.other_priority})


def as_recorded(srv: SrvPreference, records: SrvSet, recorded: SrvSet) -> SrvSet:
    """The record set with both targets' priorities as PREFLIGHT recorded them; what others changed meanwhile stays."""
    before = {r.target: r.priority for r in recorded.records if r.target in (srv.target_a, srv.target_b)}
    return _with_priorities(records, before)


def _with_priorities(records: SrvSet, priorities: Mapping[str, int]) -> SrvSet:
    wanted = [r.model_copy(update={"priority": priorities.get(r.target, r.priority)}) for r in records.records]
    return records.model_copy(update={"records": tuple(sorted(wanted, key=lambda r: (r.priority, r.weight, r.target)))})


def srv_text(records: SrvSet) -> str:
    """An SRV record set for people, preferred first."""
    return ", ".join(f"{r.priority} {r.weight} {r.port} {r.target}" for r in records.records)


def _preferred(request: EndpointRequest) -> TrunkChange:
    """All of B, or the share of a ramp's step: then the larger part stands first."""
    a, b, share = request.baseline.trunk.pool, request.sha256_b, request.share
    if share is None or share >= 100:
        return TrunkChange(pool=(b, *a))
    of_a = (100 - share, *(0 for _ in a[1:]))
    if share >= 50:
        return TrunkChange(pool=(b, *a), shares=(share, *of_a))
    return TrunkChange(pool=(*a, b), shares=(*of_a, share))


class EdgeActivities:
    """Everything that changes a trunk or its SRV preference."""

    def __init__(self, adapters: Adapters, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._adapters = adapters
        self._clock = clock

    @activity.defn
    async def upload(self, request: EndpointRequest) -> SideEffect:
        """Step 2: chain and key to the platform. The key goes custody → platform inside this activity."""
        endpoint, edge = self._endpoint(request)
        custodian = self._adapters.custodian(request.plan.certificate.custody)
        chain = await custodian.chain(request.run.key)
        if chain is None:
            raise RequestRefused("custody holds no chain for this run", where=request.plan.certificate.custody)
        found = await edge.find_certificate(request.sha256_b)
        if found is None:
            key = await custodian.private_key(request.run.key)
            stored = await edge.upload(request.run.key, chain, key)
        else:
            stored = found
        if not stored.valid:
            raise RequestRefused(
                "the platform calls the uploaded certificate invalid",
                where=endpoint.name,
                seen=stored.reason or "no reason given",
                action="compare the chain with the platform's trust store",
            )
        before = f"already there as {found.id}" if found else "not there"
        return self._effect("upload", endpoint, before, f"{stored.id} ({stored.name}), valid", found is None)

    @activity.defn
    async def bind(self, request: EndpointRequest) -> SideEffect:
        """Step 3: B beside A, A preferred; retransmission suppressed, cipher order set (guide section 3)."""
        endpoint, edge = self._endpoint(request)
        tls = request.plan.tls
        before = await edge.read_trunk(endpoint.trunk)
        window = TrunkSettings(
            retransmission_timeout_s=int(tls.retransmission_timeout.total_seconds()), cipher_suites=tls.cipher_suites
        )
        change = TrunkChange(
            pool=(*request.baseline.trunk.pool, request.sha256_b),
            canary=None if edge.capabilities.canary is Canary.NONE else request.sha256_b,
            settings=window if edge.capabilities.trunk_settings else None,
        )
        after = await edge.update_trunk(endpoint.trunk, change)
        await self._every_node_serves(endpoint, after)
        return self._trunk_effect("bind", endpoint, before, after)

    @activity.defn
    async def prefer(self, request: EndpointRequest) -> SideEffect:
        """Step 6: pool order, weights or the SRV record prefer B; what is preferred is probed and serves B."""
        endpoint, edge = self._endpoint(request)
        before = await edge.read_trunk(endpoint.trunk)
        if request.sha256_b not in before.pool:
            raise RequestRefused(
                "B is not in the pool, so it cannot be preferred", where=endpoint.name, seen=pool_text(before)
            )
        if endpoint.topology is Topology.SEPARATE_SRV_TARGETS:
            return await self._write_srv("prefer", request, b=True)
        after = await edge.update_trunk(endpoint.trunk, _preferred(request))
        await self._every_node_serves(endpoint, after)
        return self._trunk_effect("prefer", endpoint, before, after)

    @activity.defn
    async def close_connections(self, request: EndpointRequest) -> SideEffect:
        """ADOPT and DRAIN, where the plan says so: connections set up with A are closed in an orderly way.

        Calls on them live on: a dialog is not bound to a connection, and its next request goes over a new one. Refuses
        while A is preferred, since whoever connects again would be served A again.
        """
        endpoint, edge = self._endpoint(request)
        state = await edge.read_trunk(endpoint.trunk)
        if endpoint.topology is not Topology.SEPARATE_SRV_TARGETS and state.pool[:1] != (request.sha256_b,):
            raise RequestRefused("B is not preferred: connections stay", where=endpoint.name, seen=pool_text(state))
        closed = await edge.close_connections(endpoint.trunk, request.sha256_a)
        return self._effect("close connections on A", endpoint, f"{closed} open", "closed in order", closed > 0)

    @activity.defn
    async def remove(self, request: EndpointRequest) -> SideEffect:
        """Step 9: A leaves the pool, the tickets are flushed, every node serves B.

        Refuses under a live call on A, and while a node cannot be reached: it would come back with A.
        """
        endpoint, edge = self._endpoint(request)
        before = await edge.read_trunk(endpoint.trunk)
        await self._every_node_serves(endpoint, before)
        if request.sha256_a in before.pool:
            health = await edge.health(endpoint.trunk)
            calls = health.active_calls.get(request.sha256_a)
            if calls != 0:
                raise NotAsWritten(
                    "A is not removed under a live call",
                    where=endpoint.name,
                    seen=f"{'an unknown number of' if calls is None else calls} calls on {short(request.sha256_a)}",
                    action="wait for the calls to end",
                )
        kept = tuple(sha256 for sha256 in before.pool if sha256 != request.sha256_a)
        if request.sha256_b not in kept:
            raise RequestRefused(
                "B is not in the pool, so A cannot be removed", where=endpoint.name, seen=pool_text(before)
            )
        after = await edge.update_trunk(endpoint.trunk, TrunkChange(pool=kept, canary=""))
        if edge.capabilities.ticket_flush:
            await edge.flush_tickets(endpoint.trunk)
        await self._every_node_serves(endpoint, after)
        return self._trunk_effect("remove A", endpoint, before, after)

    @activity.defn
    async def restore(self, request: EndpointRequest) -> SideEffect:
        """RESTORE: trunk settings and SRV order as PREFLIGHT recorded them, B staying the only certificate."""
        return await self._settings_and_dns_back(request, "restore settings")

    @activity.defn
    async def delete_a(self, request: EndpointRequest) -> SideEffect:
        """Step 10: A is deleted from the platform; the platform refuses while a trunk uses it."""
        return await self._delete(request, request.sha256_a, "delete A")

    @activity.defn
    async def serve_a_alone(self, request: EndpointRequest) -> Reverted:
        """Rollback, first and last: A served and probed, then A alone read back. Make before break."""
        endpoint, edge = self._endpoint(request)
        wanted = request.baseline.trunk.pool
        before = await edge.read_trunk(endpoint.trunk, reachable_only=not request.every_node)
        others = tuple(sha256 for sha256 in before.pool if sha256 not in wanted)
        if others:
            if self._clock() >= request.baseline.a_not_after:
                effect = self._trunk_effect("serve A alone", endpoint, before, before)
                return Reverted(effect=effect, kept_b=f"A expired at {request.baseline.a_not_after:%Y-%m-%d %H:%M} UTC")
            await edge.update_trunk(
                endpoint.trunk,
                TrunkChange(pool=(*wanted, *others), canary="", reachable_only=not request.every_node),
            )
            served = [p for p in await self._probe_nodes(endpoint) if p.leaf_sha256 == request.sha256_a]
            refused = next((probe for probe in served if probe.chain_verified is False), None)
            if refused is not None:
                state = await edge.update_trunk(
                    endpoint.trunk, TrunkChange(pool=(*others, *wanted), reachable_only=not request.every_node)
                )
                effect = self._trunk_effect("serve A alone", endpoint, before, state)
                return Reverted(effect=effect, kept_b=f"A cannot serve: {refused.text()}")
            if not served:
                raise NotAsWritten(
                    "A stands first in the pool and no node serves it; B stays until one does", where=endpoint.name
                )
        # Always a write: the trunk's version moves on, and a request of ours that is still in flight is refused.
        after = await edge.update_trunk(
            endpoint.trunk,
            TrunkChange(
                pool=wanted,
                canary=request.baseline.trunk.canary or "",
                always=True,
                reachable_only=not request.every_node,
            ),
        )
        # Always, too: had the answer to the write been lost, this attempt would find A alone and the tickets unflushed.
        if edge.capabilities.ticket_flush:
            await edge.flush_tickets(endpoint.trunk)
        silent = await self._every_node_serves(endpoint, after, unreachable_too=not request.every_node)
        unread = tuple(dict.fromkeys((*after.unread, *silent)))
        return Reverted(effect=self._trunk_effect("serve A alone", endpoint, before, after), unread=unread)

    @activity.defn
    async def settings_back(self, request: EndpointRequest) -> SideEffect:
        """Rollback: DNS and settings as PREFLIGHT recorded them."""
        return await self._settings_and_dns_back(request, "settings and DNS back")

    @activity.defn
    async def delete_b(self, request: EndpointRequest) -> SideEffect:
        """Rollback, last: B is deleted from the platform; the platform refuses while a trunk uses it."""
        return await self._delete(request, request.sha256_b, "delete B")

    # -- parts ---------------------------------------------------------------------------------------------------

    def _endpoint(self, request: EndpointRequest) -> tuple[Endpoint, Edge]:
        endpoint = request.plan.endpoint(request.endpoint)
        return endpoint, self._adapters.edge(endpoint.platform)

    async def _settings_and_dns_back(self, request: EndpointRequest, action: str) -> SideEffect:
        endpoint, edge = self._endpoint(request)
        before = await edge.read_trunk(endpoint.trunk)
        after = before
        if edge.capabilities.trunk_settings:
            after = await edge.update_trunk(endpoint.trunk, TrunkChange(settings=request.baseline.trunk.settings))
        text_before, text_after = settings_text(before.settings), settings_text(after.settings)
        changed = before.settings != after.settings
        if endpoint.srv is not None:
            effect = await self._write_srv(action, request, b=False)
            text_before += f"; SRV {effect.before}"
            text_after += f"; SRV {effect.after}"
            changed = changed or effect.changed
        return self._effect(action, endpoint, text_before, text_after, changed)

    async def _write_srv(self, action: str, request: EndpointRequest, *, b: bool) -> SideEffect:
        endpoint, _ = self._endpoint(request)
        srv, recorded = endpoint.srv, request.baseline.srv
        if srv is None or recorded is None:
            raise RequestRefused("no SRV record set was recorded at PREFLIGHT", where=endpoint.name)
        zone = self._adapters.zone(srv.dns)
        current = await zone.read(srv.name)
        wanted = preferring(srv, current) if b else as_recorded(srv, current, recorded)
        after = await zone.replace(current, wanted)
        if b:
            nodes = [node for node in endpoint.nodes if node.target == srv.target_b]
            state = await self._adapters.edge(endpoint.platform).read_trunk(endpoint.trunk)
            await self._every_node_serves(endpoint, state, [node.port for node in nodes])
        return self._effect(action, endpoint, srv_text(current), srv_text(after), current != after)

    async def _delete(self, request: EndpointRequest, sha256: str, action: str) -> SideEffect:
        endpoint, edge = self._endpoint(request)
        await edge.read_trunk(endpoint.trunk)
        using = await edge.trunks_presenting(sha256)
        if using:
            raise NotAsWritten(
                f"{short(sha256)} is not deleted while a trunk uses it", where=endpoint.name, seen=", ".join(using)
            )
        deleted = await edge.delete_certificate(sha256)
        left = await edge.find_certificate(sha256)
        if left is not None:
            raise NotAsWritten("the certificate is still on the platform", where=endpoint.name, seen=left.id)
        return self._effect(action, endpoint, "there" if deleted else "not there", "not there", deleted)

    async def _probe_nodes(self, endpoint: Endpoint, ports: Sequence[int] | None = None) -> list[ProbeResult]:
        prober = self._adapters.prober()
        return await asyncio.gather(
            *(
                prober.probe(
                    ProbeTarget(address=node.address, port=node.port, server_name=endpoint.fqdn, identity=endpoint.fqdn)
                )
                for node in endpoint.nodes
                if ports is None or node.port in ports
            )
        )

    async def _every_node_serves(
        self,
        endpoint: Endpoint,
        state: TrunkState,
        ports: Sequence[int] | None = None,
        *,
        unreachable_too: bool = False,
    ) -> tuple[str, ...]:
        """Probes the nodes; raises when one serves something else than the trunk's state says, or fails.

        With `unreachable_too`, nodes that cannot be reached are returned by address, unless it is all of them.
        """
        unread: list[str] = []
        for node, probe in zip(
            [n for n in endpoint.nodes if ports is None or n.port in ports],
            await self._probe_nodes(endpoint, ports),
            strict=True,
        ):
            expected = served_on(endpoint, node, state.pool, state.presented)
            if probe.leaf_sha256 is None and unreachable_too:
                unread.append(f"{node.address}:{node.port}")
                continue
            if probe.leaf_sha256 is None:
                raise Unreachable("a node could not be probed", where=endpoint.name, seen=probe.text())
            if probe.leaf_sha256 not in expected:
                raise NotAsWritten(
                    "a node serves another certificate than its pool says",
                    where=endpoint.name,
                    seen=f"{probe.text()}; expected {' or '.join(short(sha256) for sha256 in expected)}",
                    action="look at the node: it may not have taken the configuration yet",
                )
            if not probe.good:
                raise ServerFailed(
                    "a node serves the certificate but its probe fails", where=endpoint.name, seen=probe.text()
                )
        if unread and len(unread) == len(endpoint.nodes):
            raise Unreachable("no node could be probed", where=endpoint.name, seen=", ".join(unread))
        return tuple(unread)

    def _trunk_effect(self, action: str, endpoint: Endpoint, before: TrunkState, after: TrunkState) -> SideEffect:
        texts = [f"{pool_text(state)}; {settings_text(state.settings)}" for state in (before, after)]
        compared = [(s.pool, s.shares, s.canary, s.settings) for s in (before, after)]
        changed = compared[0] != compared[1]
        return self._effect(action, endpoint, texts[0], texts[1], changed)

    def _effect(self, action: str, endpoint: Endpoint, before: str, after: str, changed: bool) -> SideEffect:
        return SideEffect(
            action=action, where=endpoint.name, before=before, after=after, changed=changed, at=self._clock()
        )
