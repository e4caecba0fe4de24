"""A strict stand-in of Prometheus' query API (v1) that holds samples, as if it had scraped what it is given."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

_LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
_MATCHER = re.compile(r'(\w+)\s*(!?=)\s*"((?:[^"\\]|\\.)*)"')
_SELECTOR = r"([a-zA-Z_:][\w:]*)(?:\{(.*?)\})?"
_RANGE = re.compile(_SELECTOR + r"\[([0-9]+)ms\]")
_INSTANT = re.compile(
    r'label_replace\((.+), "sip_rotate_part", "value", "", ""\) '
    r'or label_replace\(timestamp\((.+)\), "sip_rotate_part", "at", "", ""\)'
)

Labels = tuple[tuple[str, str], ...]


@dataclass
class PrometheusDouble:
    """`series` by labels, with the metric's name as `__name__`; `vectors` are the results of whole expressions.

    Everything that was in the newest scrape is there now; `clock` gives the time of an instant query without one.
    """

    clock: Callable[[], float]
    series: dict[Labels, list[tuple[float, float]]] = field(default_factory=dict)
    vectors: dict[str, list[tuple[dict[str, str], str]]] = field(default_factory=dict)
    requests: list[dict[str, str]] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    """Further fields of every answer."""
    _newest: float = 0.0

    def add(self, name: str, labels: dict[str, str], *points: tuple[float, float]) -> None:
        """Samples of one series."""
        self.series.setdefault(tuple(sorted({"__name__": name, **labels}.items())), []).extend(points)
        self._newest = max([self._newest, *(at for at, _ in points)])

    def scrape(self, text: str, at: float, **target: str) -> None:
        """One scrape of a target's exposition."""
        self._newest = max(self._newest, at)
        for line in text.splitlines():
            if not line.startswith("#"):
                found = _LINE.fullmatch(line)
                assert found, line
                labels = {name: unescaped(value) for name, _, value in _MATCHER.findall(found[2] or "")}
                self.add(found[1], {**{n: v for n, v in labels.items() if v}, **target}, (at, float(found[3])))

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert (request.method, request.url.path) == ("GET", "/api/v1/query")
        asked = dict(request.url.params)
        assert set(asked) <= {"query", "time"}
        self.requests.append(asked)
        query, at = asked["query"], float(asked["time"]) if "time" in asked else self.clock()
        if ranged := _RANGE.fullmatch(query):
            return self._answer("matrix", self._matrix(ranged[1], ranged[2], at - int(ranged[3]) / 1000, at))
        if now := _INSTANT.fullmatch(query):
            assert now[1] == now[2]
            return self._answer("vector", self._now(now[1], at))
        if query in self.vectors:
            return self._answer("vector", [{"metric": m, "value": [at, text]} for m, text in self.vectors[query]])
        return httpx.Response(400, json={"status": "error", "errorType": "bad_data", "error": f"unknown {query}"})

    def _answer(self, kind: str, result: list[Any]) -> httpx.Response:
        return httpx.Response(
            200, json={"status": "success", "data": {"resultType": kind, "result": result}, **self.more}
        )

    def _matrix(self, name: str, matchers: str | None, since: float, until: float) -> list[Any]:
        return [
            {"metric": dict(labels), "values": within}
            for labels, points in self.series.items()
            if matches(dict(labels), name, matchers)
            and (within := [[at, repr(value)] for at, value in points if since <= at <= until])
        ]

    def _now(self, selector: str, at: float) -> list[Any]:
        parsed = re.fullmatch(_SELECTOR, selector)
        assert parsed, selector
        found: list[Any] = []
        for labels, points in self.series.items():
            told_at, value = max(points)
            if matches(dict(labels), parsed[1], parsed[2]) and told_at >= self._newest and told_at <= at:
                for part, shown in (("value", value), ("at", told_at)):
                    found.append({"metric": {**dict(labels), "sip_rotate_part": part}, "value": [at, repr(shown)]})
        return found


def matches(labels: dict[str, str], name: str, matchers: str | None) -> bool:
    """Whether a series belongs to a selector of = and !=."""
    wanted = _MATCHER.findall(matchers or "")
    assert re.sub(r"[\s,]", "", _MATCHER.sub("", matchers or "")) == "", matchers
    return labels["__name__"] == name and all(
        (labels.get(label, "") == unescaped(value)) == (sign == "=") for label, sign, value in wanted
    )


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], text)
