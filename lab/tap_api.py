"""The taps' part of the control API: what passed, and rules for what is to happen to a request."""

from __future__ import annotations

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.strict_fields import TEXT, Field, FieldRefused, exactly, read_object, read_query, whole_number
from lab.tap import Action, Passage, Rule, State, Taps
from lab.wire_time import time_text

_LONGEST_WAIT_S = 30.0
_OPERATION = Field(lambda value: isinstance(value, str) and 0 < len(value) <= 1000, "an operation's name")


class TapApi:
    """`/lab/taps…`; a lab without taps has none of it."""

    def __init__(self, taps: Taps) -> None:
        self._taps = taps
        self.routes = [
            Route("/lab/taps/journal", self._journal, methods=["GET"]),
            Route("/lab/taps/passages", self._passages, methods=["GET"]),
            Route("/lab/taps/forget", self._forget, methods=["POST"]),
            Route("/lab/taps/rules", self._rules, methods=["GET"]),
            Route("/lab/taps/rules", self._add, methods=["POST"]),
            Route("/lab/taps/rules/{rule_id}", self._rule, methods=["GET"]),
            Route("/lab/taps/rules/{rule_id}", self._decide, methods=["POST"]),
        ]

    async def _journal(self, request: Request) -> Response:
        """The side effects, in the order in which the services answered them."""
        read_query(request)
        return JSONResponse({"journal": [_shown(one) for one in self._taps.journal()]})

    async def _passages(self, request: Request) -> Response:
        """Every request that was answered, reads too."""
        read_query(request)
        return JSONResponse({"passages": [_shown(one) for one in self._taps.passages]})

    async def _forget(self, request: Request) -> Response:
        read_query(request)
        self._taps.forget()
        return JSONResponse({})

    async def _rules(self, request: Request) -> Response:
        read_query(request)
        return JSONResponse({"rules": [_rule(one) for one in self._taps.rules.values()]})

    async def _add(self, request: Request) -> Response:
        body = await read_object(
            request,
            {
                "service": TEXT,
                "operation": _OPERATION,
                "occurrence": whole_number(1, 10_000),
                "action": exactly(*(action.value for action in Action)),
            },
        )
        rule = self._taps.add(body["service"], body["operation"], body["occurrence"], Action(body["action"]))
        return JSONResponse(_rule(rule))

    async def _rule(self, request: Request) -> Response:
        """The rule as it stands; with `left=armed&wait_s=10` not before it has left that state, or the time is up."""
        query = read_query(request, "left", "wait_s")
        rule = self._found(request)
        if "left" in query:
            await _has_left(rule, query["left"], _seconds(query.get("wait_s", "0")))
        return JSONResponse(_rule(rule))

    async def _decide(self, request: Request) -> Response:
        """Release or drop; a released request has been answered by its service when this answers."""
        rule = self._found(request)
        body = await read_object(request, {"decision": exactly("release", "drop")})
        was_reached, release = rule.state is State.REACHED, body["decision"] == "release"
        self._taps.decide(rule, release=release)
        if was_reached and release and rule.action is Action.HOLD_BEFORE:
            await rule.answered.wait()
        return JSONResponse(_rule(rule))

    def _found(self, request: Request) -> Rule:
        rule = self._taps.rules.get(request.path_params["rule_id"])
        if rule is None:
            raise HTTPException(404)
        return rule


async def _has_left(rule: Rule, state: str, within_s: float) -> None:
    try:
        async with asyncio.timeout(within_s):
            while rule.state.value == state:
                await rule.changed.wait()
    except TimeoutError:
        return


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise FieldRefused("query parameter 'wait_s' must be a number") from None
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)


def _shown(one: Passage) -> dict[str, object]:
    return {
        "at": time_text(one.at),
        "service": one.service,
        "operation": one.operation,
        "number": one.number,
        "success": one.success,
        "side_effect": one.side_effect,
    }


def _rule(rule: Rule) -> dict[str, object]:
    return {
        "id": rule.id,
        "service": rule.service,
        "operation": rule.operation,
        "occurrence": rule.occurrence,
        "action": rule.action.value,
        "state": rule.state.value,
        "seen": rule.seen,
        "delivered": rule.delivered,
    }
