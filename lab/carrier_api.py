"""The carrier's SIP health endpoint and notice inbox, and the operations team's alert inbox."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from datetime import datetime

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.api_guard import RequestLog
from lab.inbox import Inbox
from lab.ledger import CallSetupCount, Counts, Direction, HandshakeCount, Ledger
from lab.strict_fields import (
    TEXT,
    Field,
    FieldRefused,
    exactly,
    list_of,
    no_body,
    read_object,
    read_query,
)
from lab.wire_time import parse_time, time_text

CARRIER_KINDS = (
    "flush_ocsp_and_pause_resumption",
    "resume_resumption",
    "rotation_turned_back",
)
OPERATIONS_KINDS = (
    "breach",
    "nodes_unread",
    "history_filling",
    "expiry_near",
    "expiry_imminent",
    "blind",
    "watching_again",
    "inconclusive",
    "waiting_for_approval",
    "preflight_warning",
    "turning_back",
    "rolled_back",
    "rollback_over_budget",
    "cannot_roll_back",
    "aborted",
    "action_failing",
    "certificate_handed_over",
    "notice_undelivered",
    "completed",
)


def _is_time(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(parse_time(value))
    except ValueError:
        return False


_LONG_TEXT = Field(lambda value: isinstance(value, str) and len(value) <= 4096, "a string")
_DETAILS = Field(
    lambda value: isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()),
    "an object of strings",
)


def _notice_fields(*kinds: str) -> dict[str, Field]:
    return {
        "id": TEXT,
        "severity": exactly("info", "warning", "critical"),
        "kind": exactly(*kinds),
        "rotation": TEXT,
        "phase": TEXT,
        "trunks": list_of(TEXT),
        "summary": _LONG_TEXT,
        "details": _DETAILS,
        "action": _LONG_TEXT,
        "link": Field(
            lambda value: isinstance(value, str) and (not value or value.startswith("http")), "a URL, or nothing"
        ),
        "sentAt": Field(_is_time, "a UTC time with milliseconds"),
    }


class _Refused(Exception):
    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


class CarrierApi:
    """One service for both: `/v1/trunks/…` and `/v1/notices` are the carrier's, `/v1/alerts` operations'."""

    def __init__(
        self,
        ledgers: Mapping[str, tuple[Ledger, tuple[Direction, ...]]],
        *,
        carrier_token: str,
        operations_token: str,
        log: RequestLog,
        trunk_up: Callable[[str], bool],
        health_down: Callable[[], bool],
    ) -> None:
        """`ledgers` has each trunk's counts, and the directions in which our certificates play a part."""
        self.notices, self.alerts = Inbox(), Inbox()
        self._ledgers, self._log = ledgers, log
        self._carrier_token, self._operations_token = carrier_token, operations_token
        self._trunk_up, self._health_down = trunk_up, health_down
        self.application = Starlette(
            routes=[
                Route("/v1/trunks/{trunk}/tls-health", self._health, methods=["GET"]),
                Route("/v1/notices", self._notice, methods=["POST"]),
                Route("/v1/alerts", self._alert, methods=["POST"]),
            ],
            exception_handlers={HTTPException: self._http_error},
        )

    async def _health(self, request: Request) -> Response:
        return self._logged(request, await self._health_answer(request))

    async def _health_answer(self, request: Request) -> Response:
        try:
            self._authorise(request, self._carrier_token)
            if self._health_down():
                raise _Refused(503, "the health service is down")
            await no_body(request)
            query = read_query(request, "since", "until")
            if request.path_params["trunk"] not in self._ledgers:
                raise _Refused(404, "there is no such trunk")
            since, until = _period(query)
        except (_Refused, FieldRefused) as refused:
            return _error(refused)
        name = request.path_params["trunk"]
        ledger, directions = self._ledgers[name]
        groups: dict[tuple[str | None, Direction], Counts] = {}
        for group, counts in ledger.counts(since, until).items():
            if group.direction in directions:
                _add(groups.setdefault((group.sha256, group.direction), Counts()), counts)
        return JSONResponse(
            {
                "trunk": name,
                "timestamp": time_text(ledger.read_at),
                "since": query["since"],
                "until": query["until"],
                "status": "UP" if self._trunk_up(name) else "DOWN",
                "certificates": [
                    {
                        "sha256": sha256,
                        "direction": direction,
                        "handshakes": _tally(counts.handshakes),
                        "callSetups": _tally(counts.call_setups),
                    }
                    for (sha256, direction), counts in groups.items()
                ],
            }
        )

    async def _notice(self, request: Request) -> Response:
        fields = _notice_fields(*CARRIER_KINDS)
        return self._logged(request, await self._take(request, self.notices, fields, self._carrier_token))

    async def _alert(self, request: Request) -> Response:
        fields = _notice_fields(*OPERATIONS_KINDS)
        return self._logged(request, await self._take(request, self.alerts, fields, self._operations_token))

    async def _take(self, request: Request, inbox: Inbox, fields: Mapping[str, Field], token: str) -> Response:
        try:
            self._authorise(request, token)
            read_query(request)
            key = request.headers.get("idempotency-key", "")
            if not 0 < len(key) <= 255:
                raise FieldRefused("the header Idempotency-Key is missing")
            body = await read_object(request, fields)
        except (_Refused, FieldRefused) as refused:
            return _error(refused)
        received, new = inbox.take(key, body)
        return JSONResponse({"noticeId": received.id}, 202 if new else 200)

    def _authorise(self, request: Request, token: str) -> None:
        kind, _, sent = request.headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not hmac.compare_digest(sent.encode(), token.encode()):
            raise _Refused(401, "the bearer token is missing or wrong")

    def _logged(self, request: Request, response: Response) -> Response:
        self._log.add("carrier", request, response.status_code)
        return response

    async def _http_error(self, request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return self._logged(request, JSONResponse({"error": "there is no such resource"}, status))


def _error(refused: _Refused | FieldRefused) -> Response:
    return JSONResponse({"error": str(refused)}, refused.status if isinstance(refused, _Refused) else 400)


def _period(query: Mapping[str, str]) -> tuple[datetime, datetime]:
    try:
        since, until = parse_time(query.get("since", "")), parse_time(query.get("until", ""))
    except ValueError:
        raise FieldRefused("since and until must be UTC times with milliseconds") from None
    if since >= until:
        raise FieldRefused("since must lie before until")
    return since, until


def _add(total: Counts, counts: Counts) -> None:
    total.handshakes.attempts += counts.handshakes.attempts
    total.handshakes.successes += counts.handshakes.successes
    for cause, count in counts.handshakes.failures.items():
        total.handshakes.failures[cause] = total.handshakes.failures.get(cause, 0) + count
    total.call_setups.attempts += counts.call_setups.attempts
    total.call_setups.successes += counts.call_setups.successes
    for status, count in counts.call_setups.failures.items():
        total.call_setups.failures[status] = total.call_setups.failures.get(status, 0) + count


def _tally(count: HandshakeCount | CallSetupCount) -> dict[str, object]:
    return {
        "attempts": count.attempts,
        "successes": count.successes,
        "failures": {str(cause): number for cause, number in count.failures.items()},
    }
