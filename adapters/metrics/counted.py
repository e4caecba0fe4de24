"""Counts with labels, from whatever source, as the samples of a reading: one place that says what labels mean."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from adapters.edges.counting import tally
from domain.errors import UnexpectedAnswer
from domain.handshakes import Reporter, Sample, Tally
from domain.plan import Direction, Endpoint
from settings import LabelNames, MetricMeaning, MetricName

_WHOLE_WITHIN = 1e-6


class Count(NamedTuple):
    """What one series counted in the window."""

    metric: MetricName
    labels: Mapping[str, str]
    number: int


class _Key(NamedTuple):
    sha256: str | None
    direction: Direction
    peer: str | None


def whole(figure: float, *, where: str, metric: MetricName) -> int:
    """A count that was counted. Raises `UnexpectedAnswer` when it is below 0 or a fraction: a rate, or an average."""
    number = round(figure)
    if number < 0 or abs(figure - number) > _WHOLE_WITHIN:
        raise UnexpectedAnswer(
            "a figure is no count",
            where=where,
            seen=f"{figure!r} for {metric}",
            action=f"let the query of {metric} count, without rates and averages",
        )
    return number


def estimated(figure: float, metric: MetricName) -> int:
    """A count that was extrapolated: of failures the next whole number above, of successes the one below.

    So rounding makes no trunk better than it is.
    """
    failed = metric.endswith("_failed")
    return math.ceil(figure - _WHOLE_WITHIN) if failed else math.floor(figure + _WHOLE_WITHIN)


def absent(metric: MetricName, query: str, *, where: str) -> UnexpectedAnswer:
    """Nothing at all for a metric: its failures may not be counted at all, so it is no 0."""
    return UnexpectedAnswer(
        f"there is no series of {metric}: no data is not 0",
        where=where,
        seen=f"nothing for {query}",
        action=f"check the query; if the counter appears with its first count, list {metric} in may_be_absent",
    )


def samples_of(
    endpoint: Endpoint, counts: Iterable[Count], meaning: MetricMeaning, names: LabelNames, *, where: str
) -> tuple[Sample, ...]:
    """One sample per certificate, direction and peer, in that order.

    Raises `UnexpectedAnswer` for a direction that is unknown, or absent without a default.
    """
    tallies: dict[_Key, dict[MetricName, dict[str, int]]] = {}
    for count in counts:
        label = count.labels.get(names.direction)
        direction = meaning.direction_of(label)
        if direction is None:
            raise UnexpectedAnswer(
                f"a series of {count.metric} does not tell its direction",
                where=where,
                seen=f"{names.direction} is {label!r} in {dict(count.labels)}",
                action="name the label, add its value to directions, or set default_direction",
            )
        key = _Key(
            meaning.leaf_of(count.labels.get(names.certificate)), direction, count.labels.get(names.peer) or None
        )
        causes = tallies.setdefault(key, {}).setdefault(count.metric, {})
        cause = _cause(count, names, meaning.default_cause)
        causes[cause] = causes.get(cause, 0) + count.number
    return tuple(
        Sample(
            endpoint=endpoint.name,
            reporter=Reporter.PLATFORM,
            direction=key.direction,
            sha256=key.sha256,
            peer=key.peer,
            synthetic=key.peer is not None and key.peer in endpoint.probe_addresses,
            handshakes=_tally(where, by_metric.get("handshakes_ok", {}), by_metric.get("handshakes_failed", {})),
            call_setups=_tally(where, by_metric.get("calls_ok", {}), by_metric.get("calls_failed", {})),
        )
        for key, by_metric in sorted(tallies.items(), key=lambda one: (one[0][0] or "", one[0][1], one[0][2] or ""))
    )


def _cause(count: Count, names: LabelNames, default: str) -> str:
    """The TLS alert as RFC 8446 writes it (`unknown_ca`), or the SIP status."""
    text = count.labels.get(names.cause, "").strip()
    return text.lower().replace(" ", "_").replace("-", "_") or default


def _tally(where: str, good: Mapping[str, int], bad: Mapping[str, int]) -> Tally:
    successes, failures = sum(good.values()), sum(bad.values())
    return tally(where, successes + failures, successes, bad.items())
