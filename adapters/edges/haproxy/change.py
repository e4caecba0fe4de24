"""What one node of an HAProxy edge has to become: its pools, a certificate more, a staple, a certificate less."""

from __future__ import annotations

import base64
from datetime import datetime

from pydantic import SecretStr

from adapters.edges.haproxy.node import HaproxyNode, NodeView
from adapters.edges.haproxy.pool_file import Arrangement
from adapters.edges.haproxy.slots import SLOTS, slot_file
from adapters.edges.haproxy.state import canary_leaf, commands_for, filed_as, not_as_wanted, used_slots
from adapters.pki.revocation import read_ocsp
from domain.errors import NotAsWritten, RequestRefused


async def arranged(node: HaproxyNode, view: NodeView, wanted: Arrangement, listener: str, *, always: bool) -> NodeView:
    """The node with those pools, read back. Nothing is sent when it is as wanted, unless `always` moves the version on.

    Raises `ConcurrentEdit`, and `NotAsWritten` when the node says something else afterwards.
    """
    commands, filed = commands_for(view, wanted, listener), filed_as(view, wanted)
    if not (always or commands or not filed):
        return view
    goal = view.arranged if filed and not always else wanted
    await node.arrange(view, goal, commands)
    after = await node.look()
    wrong = not_as_wanted(after, goal, listener)
    if wrong:
        raise NotAsWritten(
            "the pools are not as written",
            where=view.where,
            seen="; ".join(wrong),
            action="find out who else changes this listener",
        )
    return after


async def uploaded(node: HaproxyNode, content: SecretStr) -> None:
    """The certificate in a slot of the node. Raises `RequestRefused` when both slots are taken by others."""
    view, leaf = await node.look(), slot_file(content.get_secret_value().encode()).leaf
    assert leaf is not None, "a placeholder does not lead to a trust anchor"
    if view.slot_of(leaf) is None:
        await node.load(view, _slot_for(view, leaf), content)


async def stapled(node: HaproxyNode, sha256: str, response: bytes, now: datetime) -> None:
    """The OCSP response goes with every handshake on that leaf. Raises `RequestRefused` unless it calls it good."""
    view = await node.look()
    slot = view.slot_of(sha256)
    file = None if slot is None else view.slots[slot].file
    if slot is None or file is None:
        raise RequestRefused(
            "a certificate is not uploaded", where=view.where, seen=f"no slot with leaf SHA-256 {sha256}"
        )
    verdict = None if len(file.chain) < 2 else read_ocsp(response, file.chain[0], file.chain[1], now)
    if verdict is None or verdict.revoked is not False:
        raise RequestRefused(
            "the response is not stapled",
            where=view.where,
            seen="the chain is sent without the leaf's issuer" if verdict is None else verdict.detail,
        )
    await node.staple(view, slot, response, base64.b64encode(response).decode())


async def emptied(node: HaproxyNode, sha256: str) -> bool:
    """No slot of the node holds the leaf any more; False when none did."""
    view = await node.look()
    slots = view.slots_with(sha256)
    for slot in slots:
        await node.clear(view, slot)
    return bool(slots)


def presents(view: NodeView, sha256: str) -> bool:
    """Whether a new connection may get the leaf, now or after a restart."""
    used = used_slots(view)
    return canary_leaf(view) == sha256 or any(slot in used for slot in view.slots_with(sha256))


def _slot_for(view: NodeView, sha256: str) -> str:
    """The slot whose file holds the leaf already, or one that is free. Raises `RequestRefused` when there is none."""
    used = used_slots(view)
    half = [slot for slot in view.slots_with(sha256) if slot not in used]
    free = [slot for slot in SLOTS if view.slots[slot].is_empty and slot not in used]
    if half or free:
        return [*half, *free][0]
    raise RequestRefused(
        "both slots are taken, and there is no third",
        where=view.where,
        seen="; ".join(f"slot {slot}: {view.slots[slot].text()}" for slot in SLOTS),
        action="delete the certificate that no pool has",
    )
