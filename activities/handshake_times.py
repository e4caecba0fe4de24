"""How long our own full handshakes took lately, by endpoint and certificate; a worker's memory that decides nothing."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from adapters.probe.base import ProbeResult
from domain.latency import Latency, latency
from domain.rotation import Run

KEPT = 200
"""Handshakes of one certificate on one endpoint."""

SERIES = 64
"""Certificates and endpoints; the ones that were noted longest ago are forgotten."""


class HandshakeTimes:
    """The last times in milliseconds. Another worker has its own, so that a few may be missing."""

    def __init__(self) -> None:
        self._times: OrderedDict[tuple[str, str, str], deque[float]] = OrderedDict()

    def note(self, run: Run, endpoint: str, probes: Iterable[ProbeResult]) -> None:
        """Keeps the times of those that were good."""
        for probe in probes:
            if probe.good and probe.leaf_sha256 is not None and probe.handshake_ms is not None:
                key = (run.key, endpoint, probe.leaf_sha256)
                self._times.setdefault(key, deque(maxlen=KEPT)).append(probe.handshake_ms)
                self._times.move_to_end(key)
        while len(self._times) > SERIES:
            self._times.popitem(last=False)

    def of(self, run: Run, endpoint: str, sha256: str) -> Latency:
        """The distribution of what is kept."""
        return latency(self._times.get((run.key, endpoint, sha256), ()))
