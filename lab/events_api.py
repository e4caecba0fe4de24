"""What can happen to the lab's world beside faults: nodes, connections, clocks, an operator, a second carrier."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab import lab_view
from lab.lab_names import CXONE, GENESYS
from lab.strict_fields import (
    FLAG,
    TEXT,
    Field,
    FieldRefused,
    check_object,
    exactly,
    list_of,
    nullable,
    optional,
    read_object,
    whole_number,
)
from lab.world_parts import World

EDITABLE = {
    GENESYS: {
        "name": optional(TEXT),
        "inboundSite": optional(TEXT),
        "maxConcurrentCalls": optional(whole_number(0, 100_000)),
    },
    CXONE: {"name": optional(TEXT), "routingProfile": optional(TEXT), "tags": optional(list_of(TEXT))},
}
"""What an operator changes in the platform's own pages: fields that a rotation does not know."""

_ANY_OBJECT = Field(lambda value: isinstance(value, dict), "an object")
_OFFSET = whole_number(-86_400, 86_400)
_SECONDS = Field(
    lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 3600,
    "seconds from 0 to 3600",
)
_TARGET = Field(
    lambda value: isinstance(value, str) and re.fullmatch(r"\d+(\.\d+){3}:\d{1,5}", value) is not None,
    "an IPv4 address and a port, with a colon between them",
)


class EventsApi:
    """A part of the control API: every request is a POST with a JSON object."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._trunk_name = exactly(*world.trunks)
        self.routes = [
            Route("/lab/node", self._node, methods=["POST"]),
            Route("/lab/persistent", self._persistent, methods=["POST"]),
            Route("/lab/clock", self._clock, methods=["POST"]),
            Route("/lab/ntp", self._ntp, methods=["POST"]),
            Route("/lab/operator-edit", self._operator_edit, methods=["POST"]),
            Route("/lab/dormant", self._dormant, methods=["POST"]),
            Route("/lab/observer", self._observer, methods=["POST"]),
            Route("/lab/external", self._external, methods=["POST"]),
        ]

    async def _node(self, request: Request) -> Response:
        """A node goes away, comes back with what it had, or takes the current configuration at once (`resync`)."""
        fields = {"trunk": self._trunk_name, "node": TEXT, "up": optional(FLAG), "resync": optional(FLAG)}
        body = await read_object(request, {**fields, "resync_after_s": optional(nullable(_SECONDS))})
        trunk = self._world.trunks[body["trunk"]]
        try:
            node = trunk.node(body["node"])
        except KeyError:
            raise FieldRefused(f"field 'node' must be one of {', '.join(one.name for one in trunk.nodes)}") from None
        if body.get("up") is True:
            await trunk.node_comes_back(node, body.get("resync_after_s"))
        elif body.get("up") is False:
            await trunk.node_goes_away(node)
        if body.get("resync"):
            trunk.resync(node)
        return JSONResponse(lab_view.node(node))

    async def _persistent(self, request: Request) -> Response:
        body = await read_object(request, {"trunk": self._trunk_name, "on": FLAG})
        self._world.set_persistent(body["trunk"], body["on"])
        return JSONResponse(body)

    async def _clock(self, request: Request) -> Response:
        """Puts the clock of one service ahead (or, below zero, behind) by so many seconds."""
        service = exactly(*self._world.trunks, "carrier")
        body = await read_object(request, {"service": service, "ahead_s": _OFFSET})
        self._world.set_skew(body["service"], timedelta(seconds=body["ahead_s"]))
        return JSONResponse(body)

    async def _ntp(self, request: Request) -> Response:
        """Puts the NTP server's clock ahead or behind, or has it say that it is not synchronised, or nothing."""
        fields = {
            "ahead_s": optional(_OFFSET),
            "stratum": optional(whole_number(0, 16)),
            "leap": optional(whole_number(0, 3)),
            "answers": optional(FLAG),
        }
        body = await read_object(request, fields)
        manners = self._world.ntp.manners = replace(self._world.ntp.manners, **body)
        return JSONResponse({name: getattr(manners, name) for name in fields})

    async def _operator_edit(self, request: Request) -> Response:
        """Changes fields of a trunk as an operator would: now, or between the next writer's read and its write."""
        fields = {"trunk": self._trunk_name, "changes": _ANY_OBJECT, "before_next_put": optional(FLAG)}
        body = await read_object(request, fields)
        check_object(body["changes"], EDITABLE[body["trunk"]])
        trunk = self._world.trunks[body["trunk"]]
        if body.get("before_next_put"):
            trunk.edit_before_put(body["changes"])
        else:
            trunk.edit(body["changes"])
        return JSONResponse({"version": trunk.settings["version"]})

    async def _dormant(self, request: Request) -> Response:
        """Tells the dormant peer to place calls, or to stop."""
        body = await read_object(request, {"on": FLAG})
        if self._world.dormant is None:
            raise FieldRefused("this lab has no dormant peer: start it with --dormant-peer")
        self._world.dormant.set_quiet(GENESYS, not body["on"])
        return JSONResponse(body)

    async def _observer(self, request: Request) -> Response:
        """Cuts the trunk for who sees it from its other side, takes our root from them, or silences their reports."""
        fields = {"connected": optional(FLAG), "trusts": optional(FLAG), "reports": optional(FLAG)}
        body = await read_object(request, fields)
        observer = self._world.observer
        if observer is None:
            raise FieldRefused("this lab has no observer: start it with --observed")
        if "connected" in body:
            observer.trunk.cut(not body["connected"])
        if "trusts" in body:
            observer.trusts_our_root(body["trusts"])
        if "reports" in body:
            observer.trunk.freeze(not body["reports"])
        return JSONResponse(body)

    async def _external(self, request: Request) -> Response:
        """Where an external trunk's edge listens (nowhere: no more calls), how it is called, whether B is trusted."""
        external = self._world.external
        name = exactly(*(trunk.name for trunk in external.trunks))
        fields = {"trunk": name, "targets": optional(list_of(_TARGET)), "persistent": optional(FLAG)}
        body = await read_object(request, {**fields, "distrust_b": optional(FLAG)})
        if "persistent" in body:
            external.carrier.set_persistent(body["trunk"], body["persistent"])
        if "distrust_b" in body:
            external.distrust_b(body["trunk"], body["distrust_b"])
        if "targets" in body:
            external.call(body["trunk"], [_target(text) for text in body["targets"]])
        return JSONResponse(body)


def _target(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
