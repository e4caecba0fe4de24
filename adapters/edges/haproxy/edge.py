"""HAProxy as the TLS edge in front of a SIP server: a true pool, one terminator per certificate behind one listener.

Two slots have a terminator with a certificate each; weights say what part of the new connections it gets
(deploy/haproxy). Everything is changed at run time through the master's command line and stands in files as well, so
that a restart at any moment comes up as it was. Figures of a window come from Prometheus (docs/edge-metrics.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from cryptography import x509
from pydantic import SecretStr

from adapters.access_check import access_problems
from adapters.edges.base import (
    Canary,
    Capabilities,
    CertificateHealth,
    EdgeHealth,
    PlatformCertificate,
    TrunkChange,
    TrunkState,
)
from adapters.edges.haproxy.change import arranged, emptied, presents, stapled, uploaded
from adapters.edges.haproxy.closing import close_connections
from adapters.edges.haproxy.node import HaproxyNode, NodeView
from adapters.edges.haproxy.problems import access_level, node_problems, scrape_problems, slot_problems
from adapters.edges.haproxy.runtime import Runtime
from adapters.edges.haproxy.slots import SlotFile, sealed, slot_file
from adapters.edges.haproxy.state import (
    arrangement_wanted,
    counting_since,
    farthest_clock,
    listens,
    live_calls,
    node_shares,
    shares_wanted,
    trunk_state,
)
from adapters.edges.nodes import on_every, on_reachable
from adapters.edges.own_hosts import ensure_this_trunk, ensure_unused, trust_anchors
from adapters.edges.scraped import scraped_reading
from adapters.files.base import Files
from adapters.files.building import files_of
from adapters.metrics.series import START_METRIC, Series
from domain.errors import (
    CapabilityMissing,
    NotAsWritten,
    RequestRefused,
    UnexpectedAnswer,
    Unreachable,
)
from domain.handshakes import Reading
from domain.plan import Endpoint
from settings import FilesSource, HaproxyProfile


class HaproxyEdge:
    """One listener on one or more nodes. Implements `adapters.edges.base.Edge`; its trunk is the listener's name."""

    def __init__(
        self,
        profile_name: str,
        profile: HaproxyProfile,
        *,
        open_files: Callable[[FilesSource], Files] = files_of,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.profile = profile_name
        self.capabilities = Capabilities(
            pool=True,
            prefer=True,
            canary=Canary.NONE if profile.canary_port is None else Canary.PORT,
            weights=True,
            drain=True,
            per_certificate_handshakes=True,
            active_calls=True,
            close_connections=True,
            stapling=True,
            call_setups=profile.call_setups,
            trunk_settings=False,
        )
        self._settings = profile
        self._label = f"[platforms.{profile_name}]"
        self._clock = clock
        self._nodes = tuple(
            HaproxyNode(
                host.name,
                profile.listener,
                profile.pool_file,
                open_files(host.files),
                Runtime(host, profile.timeout.total_seconds(), f"{self._label} node {host.name}"),
            )
            for host in profile.nodes
        )
        self._series = Series(f"[platforms.{profile_name}.metrics]", profile.metrics)

    def physical_trunk(self, trunk: str) -> str:
        """`<directories of the nodes>/<listener>`, in an order that does not depend on the settings'."""
        self._check(trunk)
        return f"{'+'.join(sorted(node.files.where for node in self._nodes))}/{trunk}"

    async def check_access(self) -> tuple[str, ...]:
        """What keeps us from a node's files or from its command line at level `admin`; empty when all is open."""

        async def check(node: HaproxyNode) -> tuple[str, ...]:
            return await access_problems(lambda: access_level(node.runtime), node.files.names)

        return tuple(problem for found in await on_every(self._nodes, check) for problem in found)

    async def configuration_problems(self, trunk: str) -> tuple[str, ...]:
        """What the nodes lack of deploy/haproxy or do in an unsafe way (adapters/edges/haproxy/problems.py)."""
        self._check(trunk)
        nodes: dict[str, NodeView | UnexpectedAnswer] = {}

        async def problems(node: HaproxyNode) -> Sequence[str]:
            try:
                view, names = await asyncio.gather(node.look(), node.files.names())
            except UnexpectedAnswer as strange:
                nodes[node.name] = strange
                return [str(strange)]
            nodes[node.name] = view
            return node_problems(view, names, self._settings)

        found, starts = await asyncio.gather(
            on_every(self._nodes, problems),
            self._series.instant(f'{START_METRIC}{{trunk="{trunk}"}}'),
        )
        views = [view for view in nodes.values() if isinstance(view, NodeView)]
        return (
            *(problem for node in found for problem in node),
            *slot_problems(views),
            *scrape_problems(views, starts),
        )

    async def read_trunk(self, trunk: str, *, reachable_only: bool = False) -> TrunkState:
        """The trunk of all nodes together, as it is at run time; what a file would bring back counts too."""
        views, unread = await self._looked(trunk, reachable_only=reachable_only)
        return self._state(views, unread)

    async def trunks_presenting(self, sha256: str) -> tuple[str, ...]:
        """The listener if its pool has the leaf, and `file:<path>` for what else HAProxy has loaded with that leaf."""
        views, _ = await self._looked(self._settings.listener)
        ours = [self._settings.listener] if any(presents(view, sha256) for view in views) else []
        sha1 = next((one.sha1 for one in _files(views) if one.leaf == sha256), None)
        if sha1 is None:
            return tuple(ours)
        others = await on_every(self._nodes, lambda node: node.other_files_with(sha1))
        return (*ours, *sorted({f"file:{path}" for paths in others for path in paths}))

    async def find_certificate(self, sha256: str) -> PlatformCertificate | None:
        """The certificate if every node serves it from a slot; one of them lacking, the upload is to be repeated."""
        views, _ = await self._looked(self._settings.listener)
        slots = [(view, view.slot_of(sha256)) for view in views]
        found = [view.slots[slot].file for view, slot in slots if slot is not None]
        if len(found) < len(views) or found[0] is None:
            return None
        return self._certificate(slots[0][1] or "", found[0])

    async def certificates(self) -> tuple[PlatformCertificate, ...]:
        """Every leaf that is in a slot's file of any node, each once."""
        views, _ = await self._looked(self._settings.listener)
        found: dict[str, PlatformCertificate] = {}
        for view in views:
            for slot, held in view.slots.items():
                if held.file is not None and held.file.leaf is not None:
                    found.setdefault(held.file.leaf, self._certificate(slot, held.file))
        return tuple(found.values())

    async def upload(self, name: str, chain_pem: str, private_key: SecretStr) -> PlatformCertificate:
        """Into the free slot of every node: file, then memory. What could not serve is refused, and nothing is sent."""
        content = sealed(name, chain_pem, private_key, self._anchors(), self._clock(), self._label)
        await on_every(self._nodes, lambda node: uploaded(node, content))
        leaf = slot_file(content.get_secret_value().encode()).leaf or ""
        found = await self.find_certificate(leaf)
        if found is None:
            raise NotAsWritten("the certificate is not served as it was uploaded", where=self._label, seen=leaf)
        return found

    async def update_trunk(self, trunk: str, change: TrunkChange) -> TrunkState:
        """Brings every node to the change: its file and then run time, what gets more connections first.

        A change that says pool and canary needs no look at what else is in use: it takes that away.
        """
        if change.settings is not None:
            raise CapabilityMissing("the settings of a HAProxy trunk are its configuration's", where=self._label)
        views, away = await self._looked(trunk, reachable_only=True)
        if change.pool is None or change.canary is None:
            state = self._state(views, away)
            if change.pool is None:
                change = change.model_copy(update={"pool": state.pool, "shares": change.shares or state.shares})
            if change.canary is None:
                change = change.model_copy(update={"canary": state.canary or ""})
        shares, canary = shares_wanted(change, f"{self._label} trunk {trunk}"), change.canary or None
        version = max(view.arranged.version for view in views) + 1
        wanted = {view.name: (view, arrangement_wanted(view, shares, canary, version)) for view in views}
        after, lost = await on_reachable(
            [node for node in self._nodes if node.name in wanted],
            lambda node: arranged(node, *wanted[node.name], trunk, always=change.always),
        )
        unread = (*away, *lost)
        if unread and not change.reachable_only:
            raise Unreachable(
                "a node could not be written; the others are as wanted",
                where=f"{self._label} trunk {trunk}",
                seen=", ".join(unread),
                action="bring the node back, or take it out of the settings",
            )
        return self._state(after, unread)

    async def health(self, trunk: str) -> EdgeHealth:
        """Whether every node takes connections, what its certificates are worth, and what lives on each of them."""
        views, _ = await self._looked(trunk)
        read_at, anchors = self._clock(), self._anchors()
        pool = dict.fromkeys(leaf for view in views for leaf in node_shares(view))
        certificates = []
        for sha256 in pool:
            file = next(one for one in _files(views) if one.leaf == sha256)
            wrong = file.defects(anchors, read_at)
            certificates.append(
                CertificateHealth(sha256=sha256, valid=not wrong, reason="; ".join(wrong.values()) or None)
            )
        return EdgeHealth(
            listener_up=all(listens(view, trunk) and any(node_shares(view).values()) for view in views),
            certificates=tuple(certificates),
            active_calls=dict.fromkeys(pool, 0) | live_calls(views, trunk),
            clock=farthest_clock(views, read_at),
            read_at=read_at,
            counting_since=counting_since(views),
        )

    async def reading(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """The trunk's counts in (since, until] from Prometheus, by the leaves that are in the slots now.

        What a node that cannot be reached has counted is in the figures; those that can be have to be scraped.
        """
        views, _ = await self._looked(endpoint.trunk, reachable_only=True)
        return await scraped_reading(
            self._series,
            endpoint,
            since,
            until,
            where=f"{self._label} trunk {endpoint.trunk}",
            leaf_of=self._leaf_by_slot(views).get,
            call_setups=self._settings.call_setups,
            targets=len(views) + self._settings.call_setups,
        )

    async def flush_tickets(self, trunk: str) -> None:
        """Raises `CapabilityMissing`: the configuration that is shipped has neither tickets nor a session cache."""
        raise CapabilityMissing(
            "there is nothing to flush: sessions are not resumed", where=f"{self._label} trunk {trunk}"
        )

    async def close_connections(self, trunk: str, sha256: str) -> int:
        """Closes what is connected with that leaf, in old workers too: TLS says so (close_notify), nothing is reset."""
        views, _ = await self._looked(trunk)
        if not any(view.slot_of(sha256) for view in views):
            raise RequestRefused(
                "the connections of a certificate that is not in a slot cannot be told apart",
                where=f"{self._label} trunk {trunk}",
                seen=f"no slot with leaf SHA-256 {sha256}",
            )
        seen = {view.name: view for view in views}
        closed = await on_every(
            self._nodes, lambda node: close_connections(node.runtime, seen[node.name], trunk, sha256)
        )
        return sum(closed)

    async def staple(self, sha256: str, response: bytes) -> None:
        """Staples an OCSP response (DER) to the leaf on every node, and keeps it for a restart (RFC 6066 section 8).

        To be repeated with a fresh one before its nextUpdate: HAProxy stops sending one that is too old. Raises
        `RequestRefused` for a response that does not call the leaf good now (RFC 6960), and when a node does not serve
        the leaf.
        """
        now = self._clock()
        await on_every(self._nodes, lambda node: stapled(node, sha256, response, now))

    async def delete_certificate(self, sha256: str) -> bool:
        """A placeholder into its slot, in memory and in the file. Raises `RequestRefused` while a pool has it."""
        ensure_unused(await self.trunks_presenting(sha256), self._label)

        return any(await on_every(self._nodes, lambda node: emptied(node, sha256)))

    async def close(self) -> None:
        """Closes the connections."""
        for node in self._nodes:
            await node.close()
        await self._series.close()

    # -- parts ---------------------------------------------------------------------------------------------------

    def _check(self, trunk: str) -> None:
        ensure_this_trunk(trunk, self._settings.listener, where=self._label, setting="listener")

    async def _looked(self, trunk: str, *, reachable_only: bool = False) -> tuple[Sequence[NodeView], tuple[str, ...]]:
        self._check(trunk)
        if reachable_only:
            return await on_reachable(self._nodes, HaproxyNode.look)
        return await on_every(self._nodes, HaproxyNode.look), ()

    def _state(self, views: Sequence[NodeView], unread: tuple[str, ...]) -> TrunkState:
        return trunk_state(
            self._settings.listener,
            views,
            canary_port=self._settings.canary_port,
            mutual_tls=self._settings.mutual_tls,
            unread=unread,
        )

    def _leaf_by_slot(self, views: Sequence[NodeView]) -> Mapping[str, str]:
        """What a slot means on all nodes. Raises `UnexpectedAnswer` when they differ: figures name the slot alone."""
        wrong = slot_problems(views)
        if wrong:
            raise UnexpectedAnswer("figures cannot be told apart", where=self._label, seen="; ".join(wrong))
        return {slot: held.leaf for view in views for slot, held in view.slots.items() if held.leaf is not None}

    def _certificate(self, slot: str, file: SlotFile) -> PlatformCertificate:
        assert file.leaf is not None, "who asks has seen to that"
        wrong = file.defects(self._anchors(), self._clock())
        return PlatformCertificate(
            id=f"{self._settings.listener}-{slot}.pem",
            name=file.name or f"{self._settings.listener}-{slot}.pem",
            sha256=file.leaf,
            valid=not wrong,
            reason="; ".join(wrong.values()) or None,
        )

    def _anchors(self) -> list[x509.Certificate]:
        return trust_anchors(self._settings.trust_anchor_file, self._label)


def _files(views: Sequence[NodeView]) -> list[SlotFile]:
    return [held.file for view in views for held in view.slots.values() if held.file is not None]
