"""What an HAProxy node lacks of deploy/haproxy, or does in an unsafe way: one sentence each, with what to do.

What is missing would show itself in the middle of a rotation; PREFLIGHT shows it before. The node is asked, not its
configuration file: what runs counts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from adapters.edges.haproxy.node import STAPLE, NodeView
from adapters.edges.haproxy.pool_file import CANARY, OUTBOUND, POOL, Weights
from adapters.edges.haproxy.runtime import Command, Runtime
from adapters.edges.haproxy.slots import SLOTS
from adapters.metrics.series import Instant
from domain.errors import PermissionMissing
from settings import HaproxyProfile

OLDEST: Final = (2, 6)
"""What is used here was measured from there on."""


async def access_level(runtime: Runtime) -> None:
    """Raises `PermissionMissing` unless commands of level `admin` are accepted."""
    (level,) = await runtime.ask([Command("show cli level")])
    if level.strip() != "admin":
        raise PermissionMissing(
            "the command line does not take commands of level admin",
            where=runtime.where,
            seen=level or "no level",
            action="give -S no level, or level,admin",
        )


def node_problems(view: NodeView, names: Collection[str], settings: HaproxyProfile) -> list[str]:
    """Everything that is wrong with one node. `names` are the files of its directory."""
    found = [
        *_version(view),
        *_sections(view, settings),
        *_pools(view, settings),
        *_slots(view, names, settings),
        *_safety(view, settings),
    ]
    return [f"node {view.name}: {problem}" for problem in found]


def slot_problems(views: Sequence[NodeView]) -> list[str]:
    """Where a slot means one certificate on one node and another on the next: figures name the slot alone."""
    found = []
    for slot in SLOTS:
        leaves = {view.name: leaf for view in views if (leaf := view.slots[slot].leaf) is not None}
        if len(set(leaves.values())) > 1:
            seen = ", ".join(f"{leaf[:12]} on {name}" for name, leaf in leaves.items())
            found.append(
                f"slot {slot} holds different certificates ({seen}): give each certificate the same slot on all nodes"
            )
    return found


def scrape_problems(views: Sequence[NodeView], starts: Sequence[Instant]) -> list[str]:
    """Nodes that Prometheus does not scrape: their failures would be seen by nobody."""
    if len(starts) >= len(views):
        return []
    seen = ", ".join(start.labels.get("instance", "?") for start in starts) or "none"
    return [
        f"Prometheus scrapes {len(starts)} of {len(views)} nodes ({seen}): add the frontend sip-edge-metrics of each "
        "to its targets (docs/edge-metrics.md)"
    ]


def _version(view: NodeView) -> Iterator[str]:
    if view.process.version < OLDEST:
        yield f"HAProxy {'.'.join(map(str, view.process.version))} is too old: use 2.6 or newer"


def _sections(view: NodeView, settings: HaproxyProfile) -> Iterator[str]:
    listener = settings.listener
    frontends = {one.proxy for one in view.statistics if one.server == "FRONTEND"}
    backends = {one.proxy for one in view.statistics if one.server != "FRONTEND"}
    wanted = [(listener, frontends), *((f"{listener}-{pool}", backends) for pool in (POOL, CANARY))]
    if settings.canary_port is not None:
        wanted.append((f"{listener}-canary", frontends))
    for slot in SLOTS:
        wanted += [(f"{listener}-{stage}-{slot}", frontends) for stage in ("try", "tls")]
        wanted += [(f"{listener}-{stage}-{slot}", backends) for stage in ("sip", "attempts", "sessions")]
    if _calls_out(view, listener):
        wanted += [(f"{listener}-out", frontends), (f"{listener}-{OUTBOUND}", backends)]
        wanted += [(f"{listener}-out-{slot}", frontends) for slot in SLOTS]
        wanted += [(f"{listener}-carrier-{slot}", backends) for slot in SLOTS]
    for name, there in wanted:
        if name not in there:
            kind = "frontend" if there is frontends else "backend"
            yield f"the {kind} {name} is missing: add it as in deploy/haproxy"


def _calls_out(view: NodeView, listener: str) -> bool:
    """Whether any part of the outbound sections is there: then all of it has to be."""
    parts = (f"{listener}-out", f"{listener}-{OUTBOUND}", *(f"{listener}-carrier-{slot}" for slot in SLOTS))
    return OUTBOUND in view.arranged.pools or any(one.proxy in parts for one in view.statistics)


def _pools(view: NodeView, settings: HaproxyProfile) -> Iterator[str]:
    for pool, weights in view.pools.items():
        name = f"{settings.listener}-{pool}"
        if set(weights) != set(SLOTS):
            yield f"the servers of {name} are {', '.join(sorted(weights)) or 'none'}: name them {' and '.join(SLOTS)}"
        filed = view.arranged.pools.get(pool)
        if filed is None:
            yield f"{name} does not stand in {settings.pool_file}: move it there, or a restart would undo every change"
        elif dict(filed) != dict(weights):
            yield (
                f"{name} is {_text(weights)} at run time and {_text(filed)} in {settings.pool_file}: start HAProxy "
                "with -f of that very file, and reload it after editing it"
            )


def _slots(view: NodeView, names: Collection[str], settings: HaproxyProfile) -> Iterator[str]:
    for slot in SLOTS:
        held, name = view.slots[slot], f"{settings.listener}-{slot}.pem"
        if held.path is None:
            yield f"{name} is not loaded: bind {settings.listener}-tls-{slot} with ssl crt and that file"
        elif held.file is None:
            yield f"{name} is not in the directory of the settings: HAProxy has {held.path}; let both be the same"
        elif held.leaf is None and not held.is_empty:
            yield f"slot {slot} has {held.text()}: reload HAProxy, or put back what it serves"
        if held.is_empty and name + STAPLE in names:
            yield f"{name}{STAPLE} belongs to no certificate, and HAProxy does not start with it: remove it"
        if [file.rpartition("/")[2] for file in view.loaded.files].count(name) > 1:
            yield f"{name} is loaded from several directories: load it from one"


def _safety(view: NodeView, settings: HaproxyProfile) -> Iterator[str]:
    listener = settings.listener
    resumed = sum(one.resumed for one in view.statistics if one.proxy in {f"{listener}-tls-{slot}" for slot in SLOTS})
    if resumed:
        yield (
            f"{resumed} TLS sessions were resumed, under whatever certificate they began: set no-tls-tickets and "
            "tune.ssl.cachesize 0"
        )
    if view.loaded.uncommitted:
        yield (
            f"a transaction on {', '.join(view.loaded.uncommitted)} is open, and keeps others from changing "
            "certificates: commit or abort it (abort ssl cert)"
        )


def _text(weights: Weights) -> str:
    return ", ".join(f"{slot} {'out' if weight is None else weight}" for slot, weight in sorted(weights.items()))
