"""A platform's metrics, before either API words them (docs/platform-contract.md, counting rules)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from lab.ledger import Counts, Direction
from lab.platform_state import PlatformState
from lab.trunk import Trunk


@dataclass(frozen=True)
class MetricRow:
    """Counts of one certificate, direction and peer; no peer: the statement that nothing happened."""

    certificate_id: str
    direction: Direction
    peer: str | None
    counts: Counts


def metric_rows(platform: PlatformState, trunk: Trunk, since: datetime, until: datetime) -> Iterator[MetricRow]:
    """What happened on each certificate in since <= t < until, and zeros for each bound one without events.

    Events without a registered certificate (a handshake that ended before one was chosen, an outbound call
    without mutual TLS) are not reported.
    """
    id_of = platform.id_of_leaf(trunk)
    seen: set[tuple[str, Direction]] = set()
    for group, counts in trunk.ledger.counts(since, until).items():
        certificate_id = id_of(group.sha256) if group.sha256 is not None else None
        if certificate_id is not None and group.direction in trunk.directions:
            seen.add((certificate_id, group.direction))
            yield MetricRow(certificate_id, group.direction, group.peer, counts)
    for certificate in trunk.pool:
        for direction in trunk.directions:
            if (certificate.id, direction) not in seen:
                yield MetricRow(certificate.id, direction, None, Counts())
