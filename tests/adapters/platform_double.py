"""What the strict in-memory doubles of both platforms share: recording, tokens, and faults on chosen requests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

Handler = Callable[[httpx.Request], httpx.Response]


@dataclass(frozen=True)
class Sent:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: httpx.Headers
    content: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.content)


@dataclass
class PlatformDouble:
    """Routes requests to `answer`. `lose` names requests that take effect and whose answer never arrives."""

    sent: list[Sent] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    logins: int = 0
    lose: list[tuple[str, str]] = field(default_factory=list)
    instead: dict[tuple[str, str], list[httpx.Response]] = field(default_factory=dict)
    before: dict[tuple[str, str], Callable[[], None]] = field(default_factory=dict)

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._handle)

    def requests(self, method: str, path: str | None = None) -> list[Sent]:
        """The requests of that method, all or on one path."""
        return [one for one in self.sent if one.method == method and path in (None, one.path)]

    def revoke_tokens(self) -> None:
        self.tokens.clear()

    def token_path(self) -> str:
        raise NotImplementedError

    def log_in(self, request: httpx.Request) -> httpx.Response:
        raise NotImplementedError

    def refuse(self, status: int, code: str, message: str = "no") -> httpx.Response:
        raise NotImplementedError

    def answer(self, request: httpx.Request) -> httpx.Response:
        raise NotImplementedError

    def _handle(self, request: httpx.Request) -> httpx.Response:
        route = (request.method, request.url.path)
        query = dict(request.url.params.multi_items())
        self.sent.append(Sent(request.method, request.url.path, query, request.headers, request.content))
        if request.url.path == self.token_path():
            self.logins += 1
            return self.log_in(request)
        if route in self.before:
            self.before.pop(route)()
        if self.instead.get(route):
            return self.instead[route].pop(0)
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            return self.refuse(401, "authentication.required")
        response = self.answer(request)
        if route in self.lose:
            self.lose.remove(route)
            raise httpx.ReadTimeout("the answer is lost", request=request)
        return response
