"""Figures of an edge that counts for Prometheus, as a reading (docs/edge-metrics.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final, Literal

from adapters.edges.counting import one_each, platform_sample, tally
from adapters.metrics.increase import Increase, counted_since
from adapters.metrics.series import START_METRIC, Series, quoted
from domain.errors import UnexpectedAnswer
from domain.handshakes import Reading, Reporter, Tally
from domain.plan import Endpoint

HANDSHAKES: Final = "sip_edge_handshakes_total"
CALLS: Final = "sip_edge_calls_total"

_DIRECTIONS: Final[dict[str, Literal["INBOUND", "OUTBOUND"]]] = {"inbound": "INBOUND", "outbound": "OUTBOUND"}

Key = tuple[str, str, str]
"""Certificate, direction and peer as the edge writes them."""


async def scraped_reading(
    series: Series,
    endpoint: Endpoint,
    since: datetime,
    until: datetime,
    *,
    where: str,
    leaf_of: Callable[[str], str | None],
    call_setups: bool,
    targets: int = 1,
) -> Reading:
    """What the edge counted on the endpoint's trunk in (since, until], all nodes together.

    `leaf_of` gives the leaf SHA-256 behind a label `certificate`, None where there is none any more; without
    `call_setups` calls are not asked for. `counters_since` tells when the latest of the counting processes started, if
    that lies in the window: what its predecessor counted after its last scrape is in no figure. At most five requests,
    all at once. Raises what `Series` raises, and `UnexpectedAnswer` when no node is scraped, fewer than `targets` of
    them are, or a label is unknown.
    """
    selector = f'{{trunk="{quoted(endpoint.trunk)}"}}'
    (handshakes, heard), (calls, heard_of_calls), starts = await asyncio.gather(
        series.increases(HANDSHAKES + selector, since, until),
        series.increases(CALLS + selector, since, until) if call_setups else _nothing(),
        series.instant(START_METRIC + selector),
    )
    if heard is None:
        raise UnexpectedAnswer(
            "Prometheus has no figures of the trunk",
            where=where,
            seen=f"nothing for {START_METRIC}{selector}",
            action="let Prometheus scrape every node of the edge (docs/edge-metrics.md)",
        )
    if len(starts) < targets:
        raise UnexpectedAnswer(
            "Prometheus does not scrape every node of the trunk",
            where=where,
            seen=f"{len(starts)} of {targets}: {', '.join(start.labels.get('instance', '?') for start in starts)}",
            action="compare its targets with the nodes of the settings",
        )
    handshakes_by, calls_by = _by_key(handshakes, where), _by_key(calls, where)
    return Reading(
        endpoint=endpoint.name,
        reporter=Reporter.PLATFORM,
        since=since,
        until=until,
        read_at=heard if heard_of_calls is None else min(heard, heard_of_calls),
        counters_since=counted_since((*handshakes, *calls), (start.value for start in starts), since, until),
        samples=one_each(
            platform_sample(
                endpoint,
                sha256=leaf_of(certificate),
                direction=_DIRECTIONS[direction],
                peer=peer or None,
                handshakes=_tally(where, handshakes_by.get((certificate, direction, peer), {})),
                call_setups=_tally(where, calls_by.get((certificate, direction, peer), {})),
            )
            for certificate, direction, peer in sorted({*handshakes_by, *calls_by})
        ),
    )


async def _nothing() -> tuple[tuple[Increase, ...], None]:
    return (), None


def _by_key(increases: Iterable[Increase], where: str) -> dict[Key, dict[str, int]]:
    """Counts by result, of each certificate, direction and peer."""
    found: dict[Key, dict[str, int]] = {}
    for one in increases:
        try:
            key = (one.labels["certificate"], one.labels["direction"], one.labels.get("peer", ""))
            result = one.labels["result"]
        except KeyError as missing:
            raise _strange(where, f"no label {missing}") from None
        if key[1] not in _DIRECTIONS:
            raise _strange(where, f"direction {key[1]!r}")
        counts = found.setdefault(key, {})
        counts[result] = counts.get(result, 0) + round(one.increase)
    return found


def _strange(where: str, seen: str) -> UnexpectedAnswer:
    return UnexpectedAnswer(
        "a counter of the edge does not have the labels of its contract",
        where=where,
        seen=seen,
        action="compare what the edge exports with docs/edge-metrics.md",
    )


def _tally(where: str, counts: dict[str, int]) -> Tally:
    good = counts.get("ok", 0)
    bad = [(result, count) for result, count in counts.items() if result != "ok"]
    return tally(where, sum(counts.values()), good, bad)
