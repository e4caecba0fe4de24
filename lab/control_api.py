"""The lab's control API: what is going on, and switches for faults, load and metrics. Loopback only, no login."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab import lab_view
from lab.events_api import EventsApi
from lab.faults import FAULTS
from lab.ledger import Ledger
from lab.strict_fields import FLAG, FieldRefused, exactly, optional, read_object, read_query
from lab.tap import Taps
from lab.tap_api import TapApi
from lab.world_parts import World


class ControlApi:
    """Every answer is JSON; a request that is not understood gets 400 and `{"error": …}`."""

    def __init__(self, world: World, taps: Taps | None = None) -> None:
        self._world = world
        self._trunk_name = exactly(*world.trunks)
        self.application = Starlette(
            routes=[
                Route("/lab/state", self._state, methods=["GET"]),
                Route("/lab/inbox", self._inbox, methods=["GET"]),
                Route("/lab/requests", self._requests, methods=["GET"]),
                Route("/lab/faults", self._list_faults, methods=["GET"]),
                Route("/lab/faults", self._switch_fault, methods=["POST"]),
                Route("/lab/quiet", self._quiet, methods=["POST"]),
                Route("/lab/metrics", self._metrics, methods=["POST"]),
                Route("/lab/settle", self._settle, methods=["POST"]),
                Route("/lab/expire-tokens", self._expire_tokens, methods=["POST"]),
                *EventsApi(world).routes,
                *(TapApi(taps).routes if taps is not None else ()),
            ],
            exception_handlers={FieldRefused: _refused, HTTPException: _refused},
        )

    async def _state(self, request: Request) -> Response:
        read_query(request)
        return JSONResponse(lab_view.state(self._world))

    async def _inbox(self, request: Request) -> Response:
        read_query(request)
        return JSONResponse(lab_view.inbox(self._world))

    async def _requests(self, request: Request) -> Response:
        read_query(request)
        return JSONResponse(lab_view.requests(list(self._world.log.entries)))

    async def _list_faults(self, request: Request) -> Response:
        read_query(request)
        armed = self._world.faults.armed
        return JSONResponse(
            {
                name: {"description": description, "armed": name in armed, "active": armed.get(name, False)}
                for name, description in FAULTS.items()
            }
        )

    async def _switch_fault(self, request: Request) -> Response:
        body = await read_object(request, {"name": exactly(*FAULTS), "on": FLAG})
        self._world.faults.switch(body["name"], on=body["on"])
        return JSONResponse({"faults": self._world.faults.armed})

    async def _quiet(self, request: Request) -> Response:
        body = await read_object(request, {"trunk": self._trunk_name, "on": FLAG})
        self._world.carrier.set_quiet(body["trunk"], body["on"])
        return JSONResponse(body)

    async def _metrics(self, request: Request) -> Response:
        body = await read_object(
            request,
            {
                "trunk": self._trunk_name,
                "frozen": optional(FLAG),
                "reset": optional(FLAG),
                "reporter": optional(exactly("platform", "carrier")),
            },
        )
        ledger = self._ledger(body["trunk"], body.get("reporter", "platform"))
        if "frozen" in body:
            ledger.frozen = body["frozen"]
        if body.get("reset"):
            ledger.reset()
        return JSONResponse(body)

    async def _settle(self, request: Request) -> Response:
        read_query(request)
        return JSONResponse(lab_view.settled(self._world, quiet=await self._world.settle()))

    async def _expire_tokens(self, request: Request) -> Response:
        read_query(request)
        for tokens in self._world.tokens.values():
            tokens.expire_all()
        return JSONResponse({})

    def _ledger(self, trunk: str, reporter: str) -> Ledger:
        if reporter == "carrier":
            return self._world.carrier.ledger(trunk)
        return self._world.trunks[trunk].ledger


async def _refused(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": "there is no such resource"}, error.status_code)
    return JSONResponse({"error": str(error)}, 400)
