"""Kamailio as an edge that ends TLS itself: one certificate per listener, so to prefer B is to switch to it.

A node keeps chains, keys and tls.cfg in one directory; `tls.reload` makes a new tls.cfg count for new connections, at
most once per change. What runs is read by handshakes, calls and connections per certificate come from rotation.cfg
(deploy/kamailio), figures of a window from Prometheus (docs/edge-metrics.md).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import httpx
from cryptography import x509
from pydantic import SecretStr

from adapters.access_check import access_problems
from adapters.edges.base import (
    Canary,
    CanaryPath,
    Capabilities,
    CertificateHealth,
    EdgeHealth,
    PlatformCertificate,
    TrunkChange,
    TrunkSettings,
    TrunkState,
)
from adapters.edges.counting import calls_by_leaf
from adapters.edges.kamailio.change import bring
from adapters.edges.kamailio.checks import problems_of
from adapters.edges.kamailio.host import KamailioNode
from adapters.edges.kamailio.look import Look
from adapters.edges.kamailio.store import Kept, leaf_by_serial
from adapters.edges.nodes import on_every, on_reachable
from adapters.edges.own_hosts import ensure_this_trunk, ensure_unused, trust_anchors
from adapters.edges.scraped import scraped_reading
from adapters.edges.servable import defects, key_spki_sha256
from adapters.files.base import Files
from adapters.files.building import files_of
from adapters.metrics.series import Series
from domain.certificates import parse_chain
from domain.errors import (
    CapabilityMissing,
    CertificateRefused,
    RequestRefused,
    UnexpectedAnswer,
    Unreachable,
)
from domain.handshakes import Reading
from domain.plan import Endpoint
from settings import FilesSource, KamailioProfile, PortCanary, SniCanary

NO_SETTINGS = TrunkSettings(retransmission_timeout_s=None, cipher_suites=())
"""Both stand in configuration files that are the operator's."""


class KamailioEdge:
    """One Kamailio edge on one or more nodes. Implements `adapters.edges.base.Edge`; its trunk is TRUNK_NAME."""

    def __init__(
        self,
        profile_name: str,
        profile: KamailioProfile,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        open_files: Callable[[FilesSource], Files] = files_of,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.profile = profile_name
        self.capabilities = Capabilities(
            pool=False,
            prefer=True,
            canary=Canary.NONE if profile.canary is None else Canary(profile.canary.kind),
            active_calls=True,
            close_connections=True,
            call_setups=True,
            trunk_settings=False,
        )
        self._settings = profile
        self._label = f"[platforms.{profile_name}]"
        self._clock = clock
        self._nodes = tuple(
            KamailioNode(self._label, host, profile, open_files(host.files), transport=transport)
            for host in profile.nodes
        )
        self._series = Series(f"[platforms.{profile_name}.metrics]", profile.metrics)

    def physical_trunk(self, trunk: str) -> str:
        """`<control listeners>/<trunk>`, in an order that does not depend on the settings'."""
        self._check(trunk)
        hosts = sorted(httpx.URL(host.base_url).netloc.decode() for host in self._settings.nodes)
        return f"{'+'.join(hosts)}/{trunk}"

    async def check_access(self) -> tuple[str, ...]:
        """What keeps us from a node's files; empty when all is open. Raises `CredentialsRefused` for the token."""

        async def check(node: KamailioNode) -> tuple[str, ...]:
            with contextlib.suppress(RequestRefused, UnexpectedAnswer):  # configuration_problems says it in full
                await node.state()
            return await access_problems(node.tls)

        return tuple(problem for found in await on_every(self._nodes, check) for problem in found)

    async def configuration_problems(self, trunk: str) -> tuple[str, ...]:
        """What the nodes lack or do in an unsafe way (adapters/edges/kamailio/checks.py)."""
        self._check(trunk)
        found = await on_every(self._nodes, lambda node: problems_of(node, self._settings))
        return tuple(problem for problems in found for problem in problems)

    async def read_trunk(self, trunk: str, *, reachable_only: bool = False) -> TrunkState:
        """The trunk as its nodes serve it."""
        self._check(trunk)
        looks, unread = await self._on(reachable_only, _serving)
        return self._state(looks, unread)

    async def trunks_presenting(self, sha256: str) -> tuple[str, ...]:
        """The trunk if its pool holds the leaf, and `section:<name>` for every other section that names it."""
        looks = await on_every(self._nodes, _serving)
        ours = {section.name for look in looks for section in look.owned.all()}
        others = {name for look in looks for name in look.uses(sha256)} - ours
        pool = [self._settings.trunk] if any(sha256 in (*look.pool, look.canary) for look in looks) else []
        return (*pool, *(f"section:{name}" for name in sorted(others)))

    async def find_certificate(self, sha256: str) -> PlatformCertificate | None:
        """The certificate if every node has it with its key; one of them lacking, the upload is to be repeated."""
        found = await on_every(self._nodes, lambda node: self._stored(node, sha256))
        there = [stored for stored in found if stored is not None]
        if len(there) < len(found):
            return None
        return next((stored for stored in there if not stored.valid), there[0])

    async def certificates(self) -> tuple[PlatformCertificate, ...]:
        """Every leaf that is in the directory of a node, each once."""
        found: dict[str, PlatformCertificate] = {}
        for looks in await on_every(self._nodes, lambda node: node.store.kept()):
            for kept in looks:
                found.setdefault(kept.sha256, self._certificate(kept, kept.spki))
        return tuple(found.values())

    async def upload(self, name: str, chain_pem: str, private_key: SecretStr) -> PlatformCertificate:
        """Chain and key as files on every node. Raises `RequestRefused` for what could not serve, writing nothing."""
        sent = Kept(name, _chain_of(chain_pem, self._label))
        key_spki = key_spki_sha256(private_key.get_secret_value().encode())
        wrong = defects(sent.chain, self._anchors(), key_spki, self._clock())
        if wrong:
            raise RequestRefused(
                "the certificate could not serve; Kamailio would take it all the same",
                where=self._label,
                seen="; ".join(wrong.values()),
                action="correct the chain, the PKI role, or trust_anchor_file",
            )

        async def write(node: KamailioNode) -> PlatformCertificate:
            await node.state()  # the right host, and one that knows us
            there = await self._stored(node, sent.sha256)
            if there is not None:
                return there
            return self._certificate(await node.store.write(name, chain_pem, private_key), key_spki)

        return (await on_every(self._nodes, write))[0]

    async def update_trunk(self, trunk: str, change: TrunkChange) -> TrunkState:
        """Brings every node to the change, each with at most one write of tls.cfg and one reload."""
        self._check(trunk)

        async def update(node: KamailioNode) -> Look:
            return await bring(node, self._settings.tls_config, await node.look(), change, self._clock())

        looks, unread = await self._on(change.reachable_only, update)
        return self._state(looks, unread)

    async def health(self, trunk: str) -> EdgeHealth:
        """Whether every node serves, what its certificates are worth, and the calls that live on each."""
        self._check(trunk)
        looks = await on_every(self._nodes, KamailioNode.look)
        read_at, anchors = self._clock(), self._anchors()
        pool = dict.fromkeys(leaf for look in looks for leaf in look.pool)
        kept = {one.sha256: one for look in looks for one in look.kept}
        clocks = [datetime.fromtimestamp(look.state.now, UTC) for look in looks]
        certificates = []
        for sha256 in pool:
            if sha256 in kept:
                wrong = defects(kept[sha256].chain, anchors, kept[sha256].spki, read_at)
                reason = "; ".join(wrong.values()) or None
                certificates.append(CertificateHealth(sha256=sha256, valid=not wrong, reason=reason))
        return EdgeHealth(
            listener_up=all(look.served is not None for look in looks),
            certificates=tuple(certificates),
            active_calls=dict.fromkeys(pool, 0) | _calls(looks),
            clock=max(clocks, key=lambda clock: abs(clock - read_at)),
            read_at=read_at,
            counting_since=datetime.fromtimestamp(max(look.state.started for look in looks), UTC),
        )

    async def reading(self, endpoint: Endpoint, since: datetime, until: datetime) -> Reading:
        """The trunk's counts in [since, until), from Prometheus; serials that no node's files explain have no leaf."""
        self._check(endpoint.trunk)
        kept = await on_every(self._nodes, lambda node: node.store.kept())
        leaves = leaf_by_serial([one for found in kept for one in found])
        return await scraped_reading(
            self._series,
            endpoint,
            since,
            until,
            where=f"{self._label} trunk {endpoint.trunk}",
            leaf_of=leaves.get,
            call_setups=True,
            targets=len(self._nodes),
        )

    async def flush_tickets(self, trunk: str) -> None:
        """Raises `CapabilityMissing`: no command does it, and every switch has done it (a reload makes new keys)."""
        raise CapabilityMissing(
            "Kamailio has no command that flushes tickets; those of a certificate die with the switch away from it",
            where=f"{self._label} trunk {trunk}",
        )

    async def close_connections(self, trunk: str, sha256: str) -> int:
        """Has every connection with that leaf closed as soon as it rests: no transaction under way, or 32 s over."""
        self._check(trunk)

        async def close(node: KamailioNode) -> int:
            state, kept = await asyncio.gather(node.state(), node.store.kept())
            leaves = leaf_by_serial(kept)
            if sha256 not in leaves.values():
                raise RequestRefused(
                    "the connections of a certificate that the node does not hold cannot be told apart",
                    where=node.where,
                    seen=f"no certificate with leaf SHA-256 {sha256}",
                )
            serials = [one.serial for one in state.certificates if leaves.get(one.serial) == sha256 and one.connections]
            return sum([await node.close_connections(serial) for serial in serials])

        return sum(await on_every(self._nodes, close))

    async def delete_certificate(self, sha256: str) -> bool:
        """Removes key and chain from every node. Raises `RequestRefused` while a section or the pool has it."""
        ensure_unused(await self.trunks_presenting(sha256), self._label)

        async def remove(node: KamailioNode) -> bool:
            return await node.store.remove(sha256, await node.files_in_use())

        return any(await on_every(self._nodes, remove))

    async def close(self) -> None:
        """Closes the connections."""
        for node in self._nodes:
            await node.close()
        await self._series.close()

    # -- parts ---------------------------------------------------------------------------------------------------

    def _check(self, trunk: str) -> None:
        ensure_this_trunk(trunk, self._settings.trunk, where=self._label, setting="trunk")

    async def _on(
        self, reachable_only: bool, act: Callable[[KamailioNode], Awaitable[Look]]
    ) -> tuple[tuple[Look, ...], tuple[str, ...]]:
        if reachable_only:
            return await on_reachable(self._nodes, act)
        return await on_every(self._nodes, act), ()

    def _state(self, looks: Sequence[Look], unread: tuple[str, ...]) -> TrunkState:
        """Where nodes differ, everything that any of them serves or notes is in the pool."""
        canary = next((look.canary for look in looks if look.canary is not None), None)
        return TrunkState(
            trunk=self._settings.trunk,
            name=self._settings.trunk,
            enabled=True,
            pool=tuple(dict.fromkeys(leaf for look in looks for leaf in look.pool)),
            canary=canary,
            canary_path=None if canary is None else self._canary_path(),
            settings=NO_SETTINGS,
            mutual_tls=all(look.owned.demands_certificate for look in looks),
            version=max(look.tls.note.version for look in looks),
            unread=unread,
        )

    def _canary_path(self) -> CanaryPath | None:
        match self._settings.canary:
            case SniCanary(server_name=name):
                return CanaryPath(server_name=name)
            case PortCanary(port=port):
                return CanaryPath(port=port)
            case _:
                return None

    async def _stored(self, node: KamailioNode, sha256: str) -> PlatformCertificate | None:
        """The certificate with its key on one node. The key's own file is read to be sure, and forgotten."""
        for kept in await node.store.kept():
            if kept.sha256 == sha256 and await node.store.key_file(kept) is not None:
                return self._certificate(kept, kept.spki)
        return None

    def _certificate(self, kept: Kept, key_spki: str | None) -> PlatformCertificate:
        wrong = defects(kept.chain, self._anchors(), key_spki, self._clock())
        return PlatformCertificate(
            id=kept.file,
            name=kept.name,
            sha256=kept.sha256,
            valid=not wrong,
            reason="; ".join(wrong.values()) or None,
        )

    def _anchors(self) -> list[x509.Certificate]:
        return trust_anchors(self._settings.trust_anchor_file, self._label)


async def _serving(node: KamailioNode) -> Look:
    """The node, its listener answering. Raises `Unreachable` where it does not: what it serves is not known."""
    look = await node.look()
    if look.served is None:
        raise Unreachable("the TLS listener presents no certificate", where=node.where, action="check that it runs")
    return look


def _chain_of(chain_pem: str, where: str) -> tuple[x509.Certificate, ...]:
    try:
        return parse_chain(chain_pem)
    except CertificateRefused as refused:
        violations = "; ".join(refused.violations.values())
    raise RequestRefused("the chain cannot be read", where=where, seen=violations)


def _calls(looks: Sequence[Look]) -> dict[str, int]:
    """Live calls by leaf, over all nodes. Raises `UnexpectedAnswer` for calls on a certificate that is not known.

    A call is on the certificate of its setup for as long as any connection with that is open. Afterwards it is on none:
    its next request comes over a connection that is served what is preferred then. So a call whose end nobody told,
    because the connection under its BYE was gone, keeps no certificate.
    """
    counted = [
        (one.serial, leaf_by_serial(look.kept).get(one.serial), one.calls if one.connections > 0 else 0)
        for look in looks
        for one in look.state.certificates
    ]
    return calls_by_leaf(looks[0].where, counted)
