"""OAuth clients and bearer tokens of a platform stand-in."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

CERTIFICATE_SCOPE = "platform:certificate:manage"
TRUNK_SCOPE = "telephony:trunk:edit"
HEALTH_SCOPE = "telephony:health:read"
SCOPES = (TRUNK_SCOPE, CERTIFICATE_SCOPE, "admin:api", HEALTH_SCOPE)
"""The guide's four scopes, in its order."""


@dataclass(frozen=True)
class ApiClient:
    """Who may ask for tokens, and with which scopes."""

    id: str
    secret: str = field(repr=False)
    scopes: tuple[str, ...] = SCOPES


class Tokens:
    """Issues and checks tokens. `lifetime_s` may be changed while running; `clock` gives seconds."""

    def __init__(
        self, clients: Iterable[ApiClient], lifetime_s: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.lifetime_s = lifetime_s
        self._clients = {client.id: client for client in clients}
        self._clock = clock
        self._tokens: dict[str, tuple[ApiClient, float]] = {}

    def client(self, client_id: str, secret: str) -> ApiClient | None:
        """The client with that id and secret, if any."""
        client = self._clients.get(client_id)
        if client is None or not hmac.compare_digest(client.secret.encode(), secret.encode()):
            return None
        return client

    def issue(self, client: ApiClient) -> str:
        """A new token that lives `lifetime_s` seconds from now."""
        now = self._clock()
        self._tokens = {token: entry for token, entry in self._tokens.items() if entry[1] > now}
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (client, now + self.lifetime_s)
        return token

    def scopes(self, token: str) -> tuple[str, ...] | None:
        """The token's scopes; None when it is unknown or expired."""
        entry = self._tokens.get(token)
        if entry is None or entry[1] <= self._clock():
            return None
        return entry[0].scopes

    def expire_all(self) -> None:
        """From now on no token that was ever issued is good."""
        self._tokens.clear()
