"""The rows of the table of losses: which edge, which change, and how one is measured."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.changes import Changed, replaced_and_restarted, rotated
from bench.figures import (
    CallFigures,
    HandshakeFigures,
    Second,
    drain_seconds,
    handshake_figures,
    seconds,
    together,
)
from bench.load import Pace, load
from lab.temporal_server import TemporalServer
from tests.sip.rotation_rig import EdgeWanted, Rig, rotation_rig
from tests.sip.trunk_path import haproxy_path, kamailio_path

LEAD_S = 10.0
"""Traffic on A alone before anything is changed."""
TAIL_S = 10.0
"""Traffic after the change, at least."""
_LAB = ("--call-rate", "4")
"""The lab's carrier, the trunk's other peer, calls so often per second; what it costs is taken from the edges."""


@dataclass(frozen=True, slots=True)
class Row:
    """One way of changing the certificate of one edge. `key` names it on the command line."""

    key: str
    edge: EdgeWanted
    title: str
    change: Callable[[Rig], Awaitable[Changed]]
    is_rotation: bool


_HAPROXY, _KAMAILIO = EdgeWanted("haproxy", haproxy_path), EdgeWanted("kamailio", kamailio_path)
ROWS = (
    Row("haproxy-rotation", _HAPROXY, "HAProxy, rotation", rotated, is_rotation=True),
    Row("kamailio-rotation", _KAMAILIO, "Kamailio, rotation", rotated, is_rotation=True),
    Row("haproxy-restart", _HAPROXY, "HAProxy, files replaced, restart", replaced_and_restarted, is_rotation=False),
    Row("kamailio-restart", _KAMAILIO, "Kamailio, files replaced, restart", replaced_and_restarted, is_rotation=False),
)


@dataclass(frozen=True, slots=True)
class RowSize:
    """How much one row is: calls, handshakes, and the pace at which they come, per second."""

    calls: int
    handshakes: int
    rate: float

    @property
    def seconds(self) -> float:
        """How long its traffic lasts at that pace."""
        return self.calls / self.rate

    @property
    def pace(self) -> Pace:
        """At which the handshakes last as long as the calls."""
        return Pace(self.rate, self.handshakes / self.seconds)


@dataclass(frozen=True, slots=True)
class Measured:
    """A row's figures. `begun` is the Unix time of the traffic's start; `phases` and `timeline` count from there."""

    key: str
    title: str
    is_rotation: bool
    begun: float
    seconds: float
    ended: str
    trouble: str | None
    calls: Mapping[str, CallFigures]
    other_peer: CallFigures
    handshakes: HandshakeFigures
    drain_s: float | None
    phases: Mapping[str, float]
    timeline: tuple[Second, ...]
    load_average: tuple[float, float]

    @property
    def total(self) -> CallFigures:
        """All SIPp callers together."""
        return together([*self.calls.values()])

    @property
    def nothing_lost(self) -> bool:
        """It ended as wanted, with every call and every handshake."""
        calls = self.total
        lost = calls.lost + self.other_peer.lost + self.handshakes.failed + self.handshakes.other
        return self.trouble is None and calls.exit_code == 0 and lost == 0


async def measure(row: Row, size: RowSize) -> Measured:
    """Everything fresh – lab, edge, Temporal, worker – then the traffic, and the change in the middle of it."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        temporal_folder = Path(folder) / "temporal"
        temporal_folder.mkdir()
        with TemporalServer(temporal_folder) as temporal:
            async with rotation_rig(
                temporal.address, Path(folder), [row.edge], close_after=None, lab_arguments=_LAB
            ) as rig:
                return await _measured(row, size, rig)


async def _measured(row: Row, size: RowSize, rig: Rig) -> Measured:
    load_before = os.getloadavg()[0]
    async with load(rig.path, size.pace) as traffic:
        await asyncio.sleep(LEAD_S if row.is_rotation else max(LEAD_S, size.seconds / 3))
        changed = await row.change(rig)
        done = time.time() - traffic.begun
        await traffic.until(max(size.seconds, done + TAIL_S), size.calls, size.handshakes)
        lasted = time.time() - traffic.begun
        calls = await traffic.finish()
        seen = traffic.handshakes()
    phases = {phase: at - traffic.begun for phase, at in changed.phases.items()}
    return Measured(
        key=row.key,
        title=row.title,
        is_rotation=row.is_rotation,
        begun=traffic.begun,
        seconds=lasted,
        ended=changed.ended,
        trouble=changed.trouble,
        calls=calls,
        other_peer=await _other_peer(rig, row.edge.name),
        handshakes=handshake_figures(seen, rig.sha256_a, changed.sha256_b),
        drain_s=drain_seconds(phases),
        phases=phases,
        timeline=tuple(seconds(seen, traffic.begun)),
        load_average=(load_before, os.getloadavg()[0]),
    )


async def _other_peer(rig: Rig, edge: str) -> CallFigures:
    """The calls of the lab's carrier, the trunk's second peer; they have all ended, or should have."""
    final: Mapping[str, Any] = await asyncio.to_thread(rig.lab.post, "/lab/settle")
    calls = final["external"][edge]["calls"]
    return CallFigures(calls["placed"], calls["completed"], retransmissions=0, exit_code=0)
