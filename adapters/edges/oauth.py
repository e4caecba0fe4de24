"""Bearer tokens: logged in once, renewed before they expire, logged in once more when the platform refuses one.

OAuth 2.0 client credentials (RFC 6749 section 4.4), bearer use (RFC 6750); CXone's access keys answer alike.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, Field, SecretStr

from adapters.http import Http
from adapters.http_failures import error_code, place, stated
from domain.errors import CredentialsRefused

RENEWAL_MARGIN_S = 60.0
"""Seconds before its end at which a token is renewed; half of the lifetime when that is shorter."""

_NOT_KNOWN = frozenset({"invalid_client", "invalid_grant", "unauthorized_client"})


class TokenAnswer(BaseModel):
    """The answer of a login (RFC 6749 section 5.1); `expires_in` in seconds."""

    access_token: SecretStr = Field(min_length=1)
    expires_in: float = Field(gt=0)
    scope: str = ""


@dataclass(frozen=True)
class Grant:
    """A token, what it allows, and when (on the monotonic clock) it is renewed."""

    token: SecretStr
    scopes: frozenset[str]
    renew_at: float

    def header(self) -> dict[str, str]:
        """The `Authorization` header."""
        return {"Authorization": f"Bearer {self.token.get_secret_value()}"}


class Tokens:
    """The token of one profile. Of concurrent callers one logs in and the others wait for it."""

    def __init__(
        self, login: Callable[[], Awaitable[TokenAnswer]], *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._login = login
        self._monotonic = monotonic
        self._lock = asyncio.Lock()
        self._grant: Grant | None = None

    async def current(self) -> Grant:
        """A grant that is not due for renewal. Raises what the login raises."""
        return await self._unless(lambda grant: self._monotonic() < grant.renew_at)

    async def instead_of(self, refused: Grant) -> Grant:
        """Another grant than the one that the platform refused. Raises what the login raises."""
        return await self._unless(lambda grant: grant is not refused)

    async def fresh(self) -> Grant:
        """A grant from a login that is made now. Raises what the login raises."""
        async with self._lock:
            return await self._log_in()

    async def _unless(self, usable: Callable[[Grant], bool]) -> Grant:
        async with self._lock:
            if self._grant is not None and usable(self._grant):
                return self._grant
            return await self._log_in()

    async def _log_in(self) -> Grant:
        started = self._monotonic()
        answer = await self._login()
        margin = min(RENEWAL_MARGIN_S, answer.expires_in / 2)
        self._grant = Grant(
            token=answer.access_token,
            scopes=frozenset(answer.scope.split()),
            renew_at=started + answer.expires_in - margin,
        )
        return self._grant


class AuthorizedHttp:
    """`Http` with a bearer token. A 401 is answered by one new login and one repetition: nothing was done yet."""

    def __init__(self, http: Http, tokens: Tokens) -> None:
        self._http = http
        self._tokens = tokens

    async def send(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
    ) -> httpx.Response:
        """As `Http.send`. Raises `CredentialsRefused` when a new token is refused too."""
        grant = await self._tokens.current()
        response = await self._once(grant, method, url, params, json, headers, {*accept, 401})
        if response.status_code != 401:
            return response
        grant = await self._tokens.instead_of(grant)
        return await self._once(grant, method, url, params, json, headers, accept)

    async def _once(
        self,
        grant: Grant,
        method: str,
        url: str,
        params: Mapping[str, str] | None,
        json: object,
        headers: Mapping[str, str] | None,
        accept: Collection[int],
    ) -> httpx.Response:
        sent = {"Accept": "application/json", **(headers or {}), **grant.header()}
        return await self._http.send(method, url, params=params, json=json, headers=sent, accept=accept)


async def client_credentials(http: Http, url: str, client_id: str, client_secret: SecretStr) -> TokenAnswer:
    """Logs in at an OAuth token endpoint with HTTP Basic.

    Raises `CredentialsRefused` for 401, and for 400 with `invalid_client`, as RFC 6749 section 5.2 leaves open.
    """
    response = await http.send(
        "POST",
        url,
        form={"grant_type": "client_credentials"},
        headers={"Accept": "application/json"},
        auth=httpx.BasicAuth(client_id, client_secret.get_secret_value()),
        accept={400},
    )
    if response.status_code == 400:
        if error_code(response) not in _NOT_KNOWN:
            raise http.refusal(response)
        raise CredentialsRefused(
            "the credentials are not accepted",
            where=place(http.label, response.request),
            seen=stated(response),
            action=f"check client_id and client_secret of {http.label}",
        )
    return http.parse(response, TokenAnswer)


async def access_key(http: Http, url: str, key_id: str, key_secret: SecretStr) -> TokenAnswer:
    """Logs in with a CXone access key. Raises `CredentialsRefused` for `invalid_access_key` (401)."""
    response = await http.send(
        "POST",
        url,
        json={"accessKeyId": key_id, "accessKeySecret": key_secret.get_secret_value()},
        headers={"Accept": "application/json"},
    )
    return http.parse(response, TokenAnswer)
