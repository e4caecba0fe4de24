"""From nodes as looked at to the trunk, and from a wanted trunk to what a node has to become. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from adapters.edges.base import CanaryPath, TrunkChange, TrunkSettings, TrunkState
from adapters.edges.counting import calls_by_leaf
from adapters.edges.haproxy.answers import Loaded, Statistic
from adapters.edges.haproxy.node import NodeView
from adapters.edges.haproxy.pool_file import CANARY, OUTBOUND, POOL, Arrangement, Weights
from adapters.edges.haproxy.slots import SLOTS
from domain.errors import RequestRefused, UnexpectedAnswer

NO_SETTINGS = TrunkSettings(retransmission_timeout_s=None, cipher_suites=())
"""The retransmission timer is the SIP server's, the suites are the configuration's: none is changed at run time."""

TAKES_CONNECTIONS = "OPEN"


def trunk_state(
    listener: str, views: Sequence[NodeView], *, canary_port: int | None, mutual_tls: bool, unread: tuple[str, ...]
) -> TrunkState:
    """The trunk of all nodes together: what one of them has in its pool is in the pool.

    Raises `UnexpectedAnswer` when a slot in use serves what its file does not hold: nobody could tell what that is.
    """
    shares = [node_shares(view) for view in views]
    leaves = list(dict.fromkeys(leaf for node in shares for leaf in node))
    mean = {leaf: sum(node.get(leaf, 0.0) for node in shares) / len(views) for leaf in leaves}
    pool = tuple(sorted(leaves, key=lambda leaf: -mean[leaf]))
    canary = next((leaf for view in views if (leaf := canary_leaf(view)) is not None), None)
    return TrunkState(
        trunk=listener,
        name=listener,
        enabled=all(listens(view, listener) for view in views),
        pool=pool,
        canary=canary,
        canary_path=None if canary is None or canary_port is None else CanaryPath(port=canary_port),
        settings=NO_SETTINGS,
        mutual_tls=mutual_tls,
        version=max(view.arranged.version for view in views),
        shares=_percent([mean[leaf] for leaf in pool]),
        unread=unread,
    )


def node_shares(view: NodeView) -> dict[str, float]:
    """Leaf → share of new connections (0–1), the first of equal ones first; 0 for one that is only held in the pool."""
    weights = {slot: view.pools.get(POOL, {}).get(slot) or 0 for slot in SLOTS}
    pools = [everywhere.get(pool, {}) for everywhere in (view.pools, view.arranged.pools) for pool in (POOL, OUTBOUND)]
    total = sum(weights.values())
    found: dict[str, float] = {}
    for slot in sorted(SLOTS, key=lambda slot: (-weights[slot], slot != view.arranged.first, slot)):
        held = view.slots[slot]
        in_pool = any(one.get(slot) is not None for one in pools)
        if not in_pool or (held.is_empty and not weights[slot]):
            continue
        found[_known(view, slot)] = weights[slot] / total if total else 0.0
    return found


def canary_leaf(view: NodeView) -> str | None:
    """What the canary path serves, unless it only follows the first of the pool."""
    leads = canary_slot(view)
    if leads is None or view.slots[leads].is_empty or (leads == _first(view) and view.arranged.canary != leads):
        return None
    return _known(view, leads)


def canary_slot(view: NodeView) -> str | None:
    """The slot to which the canary path leads at run time."""
    weights = view.pools.get(CANARY, {})
    return max((slot for slot in SLOTS if weights.get(slot)), key=lambda slot: weights[slot] or 0, default=None)


def used_slots(view: NodeView) -> set[str]:
    """The slots that new connections may get now, or after a restart."""
    pools = [*view.pools.values(), *view.arranged.pools.values()]
    return {slot for weights in pools for slot in SLOTS if weights.get(slot) is not None}


def listens(view: NodeView, listener: str) -> bool:
    """Whether the public frontend takes connections."""
    return any(
        one.proxy == listener and one.server == "FRONTEND" and one.status == TAKES_CONNECTIONS
        for one in view.statistics
    )


# -- what is wanted --------------------------------------------------------------------------------------------------


def shares_wanted(change: TrunkChange, where: str) -> dict[str, int]:
    """Leaf → percent of new connections, in order. Raises `RequestRefused` for a pool that cannot be."""
    pool, given = tuple(dict.fromkeys(change.pool or ())), change.shares
    if not pool:
        raise RequestRefused("an empty pool is never written: the trunk would stand without a certificate", where=where)
    if len(pool) > len(SLOTS):
        raise RequestRefused("a pool has two slots", where=where, seen=f"{len(pool)} certificates: {', '.join(pool)}")
    shares = (100, *(0 for _ in pool[1:])) if given is None else given
    if len(shares) != len(pool) or sum(shares) != 100 or min(shares) < 0:
        raise RequestRefused("shares are percentages of the pool and add up to 100", where=where, seen=str(shares))
    return dict(zip(pool, shares, strict=True))


def arrangement_wanted(view: NodeView, shares: Mapping[str, int], canary: str | None, version: int) -> Arrangement:
    """What a node's pools should be. Raises `RequestRefused` when one of the certificates is not served there."""
    slots = {leaf: _uploaded(view, leaf) for leaf in [*shares, *([canary] if canary else [])]}
    first = max(shares, key=lambda leaf: shares[leaf])
    weights: Weights = {slot: next((shares[leaf] for leaf in shares if slots[leaf] == slot), None) for slot in SLOTS}
    leads = slots[canary or first]
    pools = {POOL: weights, CANARY: {slot: 100 if slot == leads else None for slot in SLOTS}, OUTBOUND: weights}
    here = {*view.pools, *view.arranged.pools, POOL, CANARY}
    return Arrangement(
        version=version,
        first=slots[first],
        canary=slots[canary] if canary else None,
        pools={pool: wanted for pool, wanted in pools.items() if pool in here},
    )


def filed_as(view: NodeView, wanted: Arrangement) -> bool:
    """Whether the node's file says so, whatever its version."""
    there = view.arranged
    return (there.first, there.canary) == (wanted.first, wanted.canary) and not _differences(there.pools, wanted.pools)


def commands_for(view: NodeView, wanted: Arrangement, listener: str) -> list[str]:
    """What makes run time as wanted: what gets more before what gets less, and nobody leaves before others serve."""
    more, less, out = [], [], []
    for pool, weights in wanted.pools.items():
        there = view.pools.get(pool, {})
        for slot, weight in weights.items():
            server, now = f"{listener}-{pool}/{slot}", there.get(slot)
            if weight == now:
                continue
            if weight is None:
                out += [f"set server {server} weight 0", f"set server {server} state maint"]
            elif now is None or weight > now:
                more += [f"set server {server} weight {weight}", f"set server {server} state ready"]
            else:
                less.append(f"set server {server} weight {weight}")
    return [*more, *less, *out]


def not_as_wanted(view: NodeView, wanted: Arrangement, listener: str) -> list[str]:
    """In which way a node is not as written: at run time, and in its file."""
    found = [f"run time {text}" for text in _differences(view.pools, wanted.pools)]
    if view.arranged.version < wanted.version or not filed_as(view, wanted):
        found.append(f"the file: {view.arranged}")
    return [f"node {view.name}: {text}" for text in found]


def _differences(there: Mapping[str, Weights], wanted: Mapping[str, Weights]) -> list[str]:
    return [
        f"{pool}/{slot} {there.get(pool, {}).get(slot)}, not {weight}"
        for pool, weights in wanted.items()
        for slot, weight in weights.items()
        if there.get(pool, {}).get(slot) != weight
    ]


# -- calls -----------------------------------------------------------------------------------------------------------


def live_calls(views: Sequence[NodeView], listener: str) -> dict[str, int]:
    """Leaf → connections set up with it that live, on all nodes, in old workers too, inbound and outbound.

    A connection counts as a call: without one there is none. Every certificate that is served has a figure. Raises
    `UnexpectedAnswer` when connections live on a certificate that nobody knows any more.
    """
    known = {
        slot.file.sha1: slot.leaf
        for view in views
        for slot in view.slots.values()
        if slot.file is not None and slot.leaf
    }
    counted: list[tuple[str, str | None, int]] = [(leaf, leaf, 0) for leaf in known.values()]
    for view in views:
        for slot in SLOTS:
            memory = view.slots[slot].memory
            counted.append(_calls(view, slot, memory, view.statistics, known, listener))
            for worker in view.old:
                counted.append(_calls(view, slot, worker.memory[slot], worker.statistics, known, listener))
    return calls_by_leaf(f"listener {listener}", [one for one in counted if one[2] or one[1] in known.values()])


def _calls(
    view: NodeView,
    slot: str,
    memory: Loaded | None,
    statistics: Iterable[Statistic],
    known: Mapping[str | None, str],
    listener: str,
) -> tuple[str, str | None, int]:
    """What is in a slot, which leaf that is, and how many connections live on it.

    A placeholder is told by its SHA-1: connections that outlived their certificate are on none of the pool's.
    """
    frontends = (f"{listener}-tls-{slot}", f"{listener}-out-{slot}")
    count = sum(one.sessions for one in statistics if one.server == "FRONTEND" and one.proxy in frontends)
    if memory is None:
        return f"slot {slot} of node {view.name}", None, count
    leaf = f"placeholder:{memory.sha1}" if memory.is_placeholder else known.get(memory.sha1)
    return f"slot {slot} of node {view.name} (serial {memory.serial})", leaf, count


def counting_since(views: Sequence[NodeView]) -> datetime:
    """When the latest of the counting workers had started for certain: HAProxy tells its start to the second."""
    return max(view.process.started_at for view in views) + timedelta(seconds=1)


def farthest_clock(views: Sequence[NodeView], now: datetime) -> datetime:
    """The clock of the node that is off by most."""
    return max((view.process.clock for view in views), key=lambda clock: abs(clock - now))


# -- parts -----------------------------------------------------------------------------------------------------------


def _known(view: NodeView, slot: str) -> str:
    leaf = view.slots[slot].leaf
    if leaf is None:
        raise UnexpectedAnswer(
            "a slot in use does not serve what its file holds",
            where=f"{view.where} slot {slot}",
            seen=view.slots[slot].text(),
            action="put the certificate that is served back into its file, or reload HAProxy",
        )
    return leaf


def _uploaded(view: NodeView, leaf: str) -> str:
    slot = view.slot_of(leaf)
    if slot is None:
        raise RequestRefused(
            "a certificate is not uploaded",
            where=f"{view.where}",
            seen=f"no slot of node {view.name} serves leaf SHA-256 {leaf}",
            action="upload it before it is bound",
        )
    return slot


def _first(view: NodeView) -> str | None:
    """The slot that gets most of the new connections at run time."""
    weights = view.pools.get(POOL, {})
    return max(
        (slot for slot in SLOTS if weights.get(slot)),
        key=lambda slot: (weights[slot] or 0, slot == view.arranged.first),
        default=None,
    )


def _percent(shares: Sequence[float]) -> tuple[int, ...]:
    """Shares of what is served at all as whole percentages that add up to 100; one that is above 0 stays so."""
    total = sum(shares)
    if not total:
        return tuple(0 for _ in shares)
    scaled = [share / total * 100 for share in shares]
    whole = [max(int(share + 1e-9), 1) if share else 0 for share in scaled]
    order = sorted(range(len(shares)), key=lambda index: whole[index] - scaled[index])
    for index in order[: max(100 - sum(whole), 0)]:
        whole[index] += 1
    largest = max(range(len(whole)), key=lambda index: whole[index])
    whole[largest] -= sum(whole) - 100
    return tuple(whole)
