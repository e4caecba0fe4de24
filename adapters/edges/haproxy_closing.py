"""Closing the connections that were set up with one certificate, in the current worker and in those before it.

HAProxy knows no transactions. So a connection is closed when nothing has passed over it between two looks; one that
never rests is closed at the last look all the same: whoever asks for it knows that the peer connects again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from adapters.edges import haproxy_answers as answers
from adapters.edges.haproxy_node import NodeView
from adapters.edges.haproxy_runtime import CURRENT, Command, Runtime, old_worker
from adapters.edges.haproxy_slots import SLOTS

LOOKS: Final = 6
APART_S: Final = 0.3
"""Seconds between two looks; all of them fit into an activity."""

_NO_SUCH: Final = ("No such session", "Can't find the target PID")


async def close_connections(runtime: Runtime, view: NodeView, listener: str, sha256: str) -> int:
    """How many connections with that leaf were closed on the node: with close_notify towards the other side of TLS.

    `shutdown session` and not `shutdown sessions server`: an old worker refuses the latter.
    """
    places = _places(view, listener, sha256)
    if not places:
        return 0
    before: Mapping[tuple[str, str], int] = {}
    closed = 0
    for look in range(LOOKS):
        if look:
            await asyncio.sleep(APART_S)
        now = await _open(runtime, places)
        last = look == LOOKS - 1
        rest = [key for key, worked in now.items() if last or before.get(key) == worked]
        if rest:
            said = await runtime.change([Command(f"shutdown session {session}", worker) for worker, session in rest])
            closed += sum(not answer.startswith(_NO_SUCH) for answer in said)
        before = {key: worked for key, worked in now.items() if key not in rest}
        if not before:
            break
    return closed


def _places(view: NodeView, listener: str, sha256: str) -> dict[str, list[tuple[str, str]]]:
    """Worker → pairs of frontend and backend whose sessions are the connections with that leaf."""
    sha1 = next(slot.file.sha1 for slot in view.slots.values() if slot.file is not None and slot.leaf == sha256)
    memories = {CURRENT: {slot: view.slots[slot].memory for slot in SLOTS}}
    memories.update({old_worker(worker.pid): dict(worker.memory) for worker in view.old})
    places: dict[str, list[tuple[str, str]]] = {}
    for worker, memory in memories.items():
        for slot in SLOTS:
            loaded = memory[slot]
            if loaded is not None and loaded.sha1 == sha1:
                inbound = (f"{listener}-tls-{slot}", f"{listener}-sip-{slot}")
                outbound = (f"{listener}-out-{slot}", f"{listener}-carrier-{slot}")
                places.setdefault(worker, []).extend([inbound, outbound])
    return places


async def _open(runtime: Runtime, places: Mapping[str, list[tuple[str, str]]]) -> dict[tuple[str, str], int]:
    """(worker, session) → how often it was worked on so far."""
    said = await runtime.ask([Command("show sess", worker) for worker in places])
    return {
        (worker, session): worked
        for worker, answer in zip(places, said, strict=True)
        for session, worked in answers.sessions(answer, places[worker]).items()
    }
