"""Datadog's query API v2, as far as a metric source needs it: the trunks' counts in intervals, and the check of keys.

Written from Datadog's own documentation. It knows four count metrics and one gauge, each of one trunk, and refuses any
query, field or header beyond them:

- `sum:sip.handshakes.ok{trunk:NAME} by {…}.as_count()`, `sip.handshakes.failed`, `sip.calls.ok`, `sip.calls.failed`,
  grouped by some of direction, certificate, peer and cause;
- `max:sip.start_time{trunk:NAME} by {host}`: since when the trunk's counters count.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.api_guard import RequestFaults, RequestLog
from lab.ledger import Counts, Direction, Group, Ledger
from lab.strict_fields import (
    TEXT,
    Field,
    FieldRefused,
    check_object,
    exactly,
    list_of,
    no_body,
    optional,
    read_object,
    read_query,
    shaped,
    whole_number,
)

Ledgers = Mapping[str, tuple[Ledger, tuple[Direction, ...]]]
"""By trunk: what its platform counts, and the directions in which our certificates play a part."""

MOST_POINTS = 1500
_LATEST = 4_102_444_800_000
_COUNT = re.compile(
    r"sum:sip\.(?P<metric>(?:handshakes|calls)\.(?:ok|failed))\{trunk:(?P<trunk>[a-z0-9_\-:./]+)\}"
    r"(?: by \{(?P<tags>[a-z_,]+)\})?\.as_count\(\)"
)
_START = re.compile(r"max:sip\.start_time\{trunk:(?P<trunk>[a-z0-9_\-:./]+)\} by \{host\}")
_TAGS = ("direction", "certificate", "peer", "cause")
_QUERY = Field(lambda value: isinstance(value, str) and 0 < len(value) <= 4096, "a query")
_ATTRIBUTES: Mapping[str, Field] = {
    "from": whole_number(0, _LATEST),
    "to": whole_number(0, _LATEST),
    "interval": optional(whole_number(1, 86_400_000)),
    "queries": list_of(
        shaped({"data_source": exactly("metrics"), "name": optional(TEXT), "query": _QUERY}), at_least=1
    ),
    "formulas": optional(list_of(shaped({"formula": TEXT}), at_least=1)),
}
_REQUEST: Mapping[str, Field] = {"type": exactly("timeseries_request"), "attributes": shaped(_ATTRIBUTES)}


class _Refused(Exception):
    def __init__(self, status: int, *errors: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__("; ".join(errors))
        self.status, self.errors, self.headers = status, errors, dict(headers or {})


@dataclass(frozen=True)
class _Asked:
    since: int
    until: int
    interval: int
    queries: tuple[str, ...]
    """In the order of `query_index`."""


class DatadogApi:
    """The API for one organisation's two keys. While not `permitted`, the application key lacks `timeseries_query`."""

    def __init__(
        self, ledgers: Ledgers, *, api_key: str, application_key: str, log: RequestLog, faults: RequestFaults
    ) -> None:
        self._ledgers, self._log, self._faults = ledgers, log, faults
        self._keys = {"dd-api-key": api_key, "dd-application-key": application_key}
        self.permitted = True
        self.application = Starlette(
            routes=[
                Route("/api/v2/query/timeseries", self._timeseries, methods=["POST"]),
                Route("/api/v2/validate_keys", self._validate, methods=["GET"]),
            ],
            exception_handlers={HTTPException: self._http_error},
        )

    async def _timeseries(self, request: Request) -> Response:
        try:
            self._strike()
            self._authorise(request)
            if not self.permitted:
                raise _Refused(403, "Forbidden", "Failed permission authorization checks")
            read_query(request)
            asked = _asked(await read_object(request, {"data": shaped(_REQUEST)}))
            found = [self._series(index, query, asked) for index, query in enumerate(asked.queries)]
        except (_Refused, FieldRefused) as refused:
            return self._logged(request, _error(refused))
        return self._logged(request, JSONResponse(_answer(found), media_type="application/vnd.api+json"))

    async def _validate(self, request: Request) -> Response:
        try:
            self._authorise(request)
            await no_body(request)
            read_query(request)
        except (_Refused, FieldRefused) as refused:
            return self._logged(request, _error(refused))
        return self._logged(request, JSONResponse({"status": "ok"}))

    def _strike(self) -> None:
        match self._faults.request_fault("datadog"):
            case 429:
                reset = {"Limit": "300", "Period": "60", "Remaining": "0", "Reset": "7"}
                headers = {f"X-RateLimit-{name}": value for name, value in reset.items()}
                raise _Refused(429, "Rate limit of 300 requests in 60 seconds reached.", headers=headers)
            case 500:
                raise _Refused(500, "Internal Server Error")

    def _authorise(self, request: Request) -> None:
        sent = {name: request.headers.get(name) for name in self._keys}
        if None in sent.values():
            raise _Refused(401, "Unauthorized")
        if not all(hmac.compare_digest(str(sent[name]).encode(), key.encode()) for name, key in self._keys.items()):
            raise _Refused(403, "Forbidden")

    def _series(self, index: int, query: str, asked: _Asked) -> dict[tuple[int, tuple[str, ...]], dict[int, float]]:
        """The points of each group, by query and tags. What counted nothing in an interval has no point there."""
        if (count := _COUNT.fullmatch(query)) is not None:
            tags = count["tags"].split(",") if count["tags"] else []
            if len(set(tags)) < len(tags) or not set(tags) <= set(_TAGS):
                raise _Refused(400, f"Error parsing query: unknown or repeated tag in by {{{count['tags']}}}")
            return self._counted(index, count["metric"], count["trunk"], tags, asked)
        if (start := _START.fullmatch(query)) is not None:
            return self._started(index, start["trunk"], asked)
        raise _Refused(400, "Error parsing query: Rule 'scope_expr' didn't match")

    def _counted(
        self, index: int, metric: str, trunk: str, tags: list[str], asked: _Asked
    ) -> dict[tuple[int, tuple[str, ...]], dict[int, float]]:
        found: dict[tuple[int, tuple[str, ...]], dict[int, float]] = {}
        if trunk not in self._ledgers:
            return found
        ledger, directions = self._ledgers[trunk]
        for at in _intervals(asked):
            counted = ledger.counts(_moment(at), _moment(at + asked.interval))
            for group, counts in counted.items():
                if group.direction in directions:
                    for cause, number in _numbers(metric, counts).items():
                        points = found.setdefault((index, _group_tags(tags, group, cause)), {})
                        points[at] = points.get(at, 0) + number
        return found

    def _started(self, index: int, trunk: str, asked: _Asked) -> dict[tuple[int, tuple[str, ...]], dict[int, float]]:
        """A point in each interval up to now, or to when the trunk's figures froze."""
        if trunk not in self._ledgers:
            return {}
        ledger = self._ledgers[trunk][0]
        begun, read_at = ledger.counters_since, ledger.read_at
        alive = [at for at in _intervals(asked) if begun < _moment(at + asked.interval) and _moment(at) <= read_at]
        return {(index, (f"host:edge-of-{trunk}",)): dict.fromkeys(alive, begun.timestamp())} if alive else {}

    def _logged(self, request: Request, response: Response) -> Response:
        self._log.add("datadog", request, response.status_code)
        return response

    async def _http_error(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self._logged(request, JSONResponse({"errors": ["Not Found"]}, status))


def _asked(body: Mapping[str, Any]) -> _Asked:
    attributes = check_object(body["data"]["attributes"], _ATTRIBUTES)
    since, until = attributes["from"], attributes["to"]
    if since >= until:
        raise FieldRefused("from must be before to")
    interval = attributes.get("interval", 20_000)
    if interval % 1000 or (until - since) / interval > MOST_POINTS:
        raise FieldRefused(f"interval must be in whole seconds and give at most {MOST_POINTS} points")
    by_name = {query.get("name", ""): query["query"] for query in attributes["queries"]}
    if len(by_name) < len(attributes["queries"]):
        raise FieldRefused("two queries have the same name, or none")
    wanted = [formula["formula"] for formula in attributes.get("formulas", ())] or list(by_name)
    if not set(wanted) <= set(by_name):
        raise FieldRefused("a formula names no query")
    return _Asked(since, until, interval, tuple(by_name[name] for name in wanted))


def _answer(found: list[dict[tuple[int, tuple[str, ...]], dict[int, float]]]) -> dict[str, object]:
    """Series beside one another on the times at which any of them has a point; null where another one has none."""
    series = [(key, points) for of_query in found for key, points in of_query.items()]
    times = sorted({at for _, points in series for at in points})
    return {
        "data": {
            "id": "0",
            "type": "timeseries_response",
            "attributes": {
                "series": [
                    {"group_tags": list(tags), "query_index": index, "unit": None} for (index, tags), _ in series
                ],
                "times": times,
                "values": [[points.get(at) for at in times] for _, points in series],
            },
        }
    }


def _intervals(asked: _Asked) -> range:
    """Their beginnings, aligned to the interval as Datadog does it."""
    return range(-(-asked.since // asked.interval) * asked.interval, asked.until, asked.interval)


def _numbers(metric: str, counts: Counts) -> dict[str | None, int]:
    """Counts by cause; only what has happened."""
    kind, _, outcome = metric.partition(".")
    tally = counts.handshakes if kind == "handshakes" else counts.call_setups
    if outcome == "ok":
        return {None: tally.successes} if tally.successes else {}
    return {str(cause): number for cause, number in tally.failures.items()}


def _group_tags(tags: list[str], group: Group, cause: str | None) -> tuple[str, ...]:
    values = {
        "direction": group.direction.lower(),
        "certificate": group.sha256,
        "peer": group.peer,
        "cause": cause,
    }
    return tuple(f"{tag}:{values[tag] or 'N/A'}" for tag in tags)


def _error(refused: _Refused | FieldRefused) -> Response:
    if isinstance(refused, _Refused):
        return JSONResponse({"errors": list(refused.errors)}, refused.status, refused.headers)
    return JSONResponse({"errors": [str(refused)]}, 400)


def _moment(milliseconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
