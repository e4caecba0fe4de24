"""Closing the connections that were set up with one certificate, in the current worker and in those before it.

HAProxy knows no transactions. So a connection is closed when nothing has passed over it between two looks; one that
never rests is closed at the last look all the same: whoever asks for it knows that the peer connects again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from adapters.edges.haproxy import answers
from adapters.edges.haproxy.answers import Loaded
from adapters.edges.haproxy.node import NodeView
from adapters.edges.haproxy.runtime import Command, Runtime
from adapters.edges.haproxy.slots import SLOTS
from adapters.fence import ensure_in_time

LOOKS: Final = 6
APART_S: Final = 0.3
"""Seconds between two looks; all of them fit into an activity."""

Pairs = Sequence[tuple[str, str]]
"""Frontend and backend between which a session is."""


@dataclass(frozen=True)
class _Worker:
    """A worker, `pid` None for the current one, and where its connections with the leaf are."""

    runtime: Runtime
    pid: int | None
    pairs: Pairs

    async def ask(self, texts: Sequence[str]) -> list[str]:
        """Nothing from a worker that has ended."""
        if self.pid is None:
            return await self.runtime.ask([Command(text) for text in texts])
        return await self.runtime.ask_old(self.pid, texts) or []

    async def open(self) -> dict[str, int]:
        """Session → how often it was worked on so far."""
        return {
            session: worked
            for answer in await self.ask(["show sess"])
            for session, worked in answers.sessions(answer, self.pairs).items()
        }

    async def shut(self, sessions: Sequence[str]) -> int:
        """`shutdown session` and not `shutdown sessions server`, which an old worker refuses."""
        ensure_in_time(self.runtime.where)
        said = await self.ask([f"shutdown session {session}" for session in sessions])
        return sum(not answer for answer in said)


async def close_connections(runtime: Runtime, view: NodeView, listener: str, sha256: str) -> int:
    """How many connections with that leaf were closed on the node: with close_notify towards the other side of TLS."""
    return sum(await asyncio.gather(*(_closed(worker) for worker in _workers(runtime, view, listener, sha256))))


async def _closed(worker: _Worker) -> int:
    before: Mapping[str, int] = {}
    closed = 0
    for look in range(LOOKS):
        if look:
            await asyncio.sleep(APART_S)
        now, last = await worker.open(), look == LOOKS - 1
        resting = [session for session, worked in now.items() if last or before.get(session) == worked]
        if resting:
            closed += await worker.shut(resting)
        before = {session: worked for session, worked in now.items() if session not in resting}
        if not before:
            break
    return closed


def _workers(runtime: Runtime, view: NodeView, listener: str, sha256: str) -> list[_Worker]:
    """Those that have the leaf in a slot."""
    sha1s = {slot.file.sha1 for slot in view.slots.values() if slot.file is not None and slot.leaf == sha256}
    memories: dict[int | None, Mapping[str, Loaded | None]] = {None: {slot: view.slots[slot].memory for slot in SLOTS}}
    memories.update({worker.pid: worker.memory for worker in view.old})
    found = []
    for pid, memory in memories.items():
        slots = [slot for slot, loaded in memory.items() if loaded is not None and loaded.sha1 in sha1s]
        pairs = [
            (f"{listener}-{front}-{slot}", f"{listener}-{back}-{slot}")
            for slot in slots
            for front, back in (("tls", "sip"), ("out", "carrier"))
        ]
        if pairs:
            found.append(_Worker(runtime, pid, pairs))
    return found
