"""What every request to a platform stand-in passes: the request log, armed faults, the token and its scopes.

A handler raises `Refusal`; the platform renders it in its own error body.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from lab.strict_fields import FieldRefused
from lab.tokens import Tokens
from lab.wire_time import now

_logger = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


@dataclass(frozen=True)
class Dialect:
    """How a platform words the refusals that all requests share, and the body of any refusal."""

    render: Callable[[Refusal], dict[str, object]]
    bad_request: str
    unauthenticated: str
    forbidden: str
    not_found: str
    method_not_allowed: str
    too_many_requests: str
    internal_error: str


@dataclass(frozen=True)
class LoggedRequest:
    """One request as the control API shows it: no query, no headers, no body."""

    at: datetime
    service: str
    method: str
    path: str
    status: int


class RequestLog:
    """The last 5000 requests of all services, and counts of all."""

    def __init__(self) -> None:
        self.entries: deque[LoggedRequest] = deque(maxlen=5000)
        self.counts: Counter[tuple[str, int]] = Counter()

    def add(self, service: str, request: Request, status: int) -> None:
        """Note one answered request."""
        self.entries.append(LoggedRequest(now(), service, request.method, request.url.path, status))
        self.counts[service, status] += 1


class RequestFaults(Protocol):
    """Faults that strike any API request of a platform."""

    def request_fault(self, service: str) -> int | None:
        """429 or 500 when this request is to be refused with it, otherwise None."""


@dataclass(frozen=True)
class Operation:
    """One method of one path. Without a scope it is a token request: no token needed, no fault strikes."""

    handler: Handler
    scope: str | None


@dataclass
class ApiGuard:
    """Builds the routes of one platform's API."""

    service: str
    dialect: Dialect
    tokens: Tokens
    log: RequestLog
    faults: RequestFaults
    routes: list[Route] = field(default_factory=list)

    def route(self, path: str, **operations: Operation) -> None:
        """Serve `path` with one operation per method, for example `GET=Operation(…)`."""

        async def endpoint(request: Request) -> Response:
            return await self._answer(request, operations)

        self.routes.append(Route(path, endpoint, methods=["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"]))

    def application(self) -> Starlette:
        """The API as an ASGI application; unknown paths too are refused in its words, and logged."""

        async def refused(request: Request, error: Exception) -> Response:
            status = error.status_code if isinstance(error, HTTPException) else 500
            code = self.dialect.not_found if status == 404 else self.dialect.method_not_allowed
            response = self._refuse(Refusal(status, code, "there is no such resource"))
            self.log.add(self.service, request, status)
            return response

        application = Starlette(routes=self.routes, exception_handlers={404: refused, 405: refused})
        application.router.redirect_slashes = False
        return application

    async def _answer(self, request: Request, operations: Mapping[str, Operation]) -> Response:
        try:
            response = await self._handle(request, operations)
        except Refusal as refusal:
            response = self._refuse(refusal)
        except FieldRefused as refused:
            response = self._refuse(Refusal(400, self.dialect.bad_request, str(refused)))
        except Exception:
            _logger.exception("%s %s failed unexpectedly", request.method, request.url.path)
            response = self._refuse(Refusal(500, self.dialect.internal_error, "an internal error occurred"))
        self.log.add(self.service, request, response.status_code)
        return response

    async def _handle(self, request: Request, operations: Mapping[str, Operation]) -> Response:
        operation = operations.get(request.method)
        if operation is None:
            raise Refusal(405, self.dialect.method_not_allowed, f"{request.method} is not allowed here")
        if operation.scope is not None:
            self._strike()
            self._authorise(request, operation.scope)
        return await operation.handler(request)

    def _strike(self) -> None:
        match self.faults.request_fault(self.service):
            case 429:
                message = "rate limit exceeded"
                raise Refusal(429, self.dialect.too_many_requests, message, {"Retry-After": "1"})
            case 500:
                raise Refusal(500, self.dialect.internal_error, "an internal error occurred")

    def _authorise(self, request: Request, scope: str) -> None:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        scopes = self.tokens.scopes(token) if kind.lower() == "bearer" else None
        if scopes is None:
            raise Refusal(401, self.dialect.unauthenticated, "the bearer token is missing, unknown or expired")
        if scope not in scopes:
            raise Refusal(403, self.dialect.forbidden, f"the token lacks the scope {scope}")

    def _refuse(self, refusal: Refusal) -> Response:
        return JSONResponse(self.dialect.render(refusal), refusal.status, refusal.headers)
