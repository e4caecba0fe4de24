"""Tokens: one login for many callers, renewed in time, replaced once when refused."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest
from pydantic import SecretStr

from adapters.edges.oauth import AuthorizedHttp, TokenAnswer, Tokens, access_key, client_credentials
from adapters.http import Http
from domain.errors import CredentialsRefused, RequestRefused, ServerFailed, UnexpectedAnswer
from settings import HttpProfile


class Clock:
    """A monotonic clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Platform:
    """Issues token-1, token-2, …"""

    def __init__(self, expires_in: float = 3600) -> None:
        self.logins = 0
        self.expires_in = expires_in
        self.gate = asyncio.Event()
        self.gate.set()

    async def log_in(self) -> TokenAnswer:
        self.logins += 1
        number = self.logins
        await self.gate.wait()
        return TokenAnswer(
            access_token=SecretStr(f"token-{number}"),
            expires_in=self.expires_in,
            scope="admin:api telephony:trunk:edit",
        )


def http(handler: Callable[[httpx.Request], httpx.Response]) -> Http:
    profile = HttpProfile(base_url="https://api.example.com")
    return Http("[platforms.eu]", profile, transport=httpx.MockTransport(handler))


async def test_a_token_is_used_until_a_minute_before_it_expires() -> None:
    platform, clock = Platform(expires_in=3600), Clock()
    tokens = Tokens(platform.log_in, monotonic=clock)
    first = await tokens.current()
    clock.now += 3539
    assert await tokens.current() is first
    clock.now += 1
    assert (await tokens.current()).token.get_secret_value() == "token-2"


async def test_a_short_lived_token_is_renewed_after_half_of_its_life() -> None:
    platform, clock = Platform(expires_in=20), Clock()
    tokens = Tokens(platform.log_in, monotonic=clock)
    await tokens.current()
    clock.now += 9.9
    await tokens.current()
    assert platform.logins == 1
    clock.now += 0.1
    await tokens.current()
    assert platform.logins == 2


async def test_of_many_concurrent_callers_one_logs_in() -> None:
    platform = Platform()
    platform.gate.clear()
    tokens = Tokens(platform.log_in)
    callers = [asyncio.create_task(tokens.current()) for _ in range(10)]
    await asyncio.sleep(0)
    platform.gate.set()
    grants = await asyncio.gather(*callers)
    assert platform.logins == 1
    assert len({id(grant) for grant in grants}) == 1


async def test_of_many_callers_with_a_refused_token_one_logs_in_again() -> None:
    platform = Platform()
    tokens = Tokens(platform.log_in)
    refused = await tokens.current()
    grants = await asyncio.gather(*(tokens.instead_of(refused) for _ in range(10)))
    assert platform.logins == 2
    assert all(grant.token.get_secret_value() == "token-2" for grant in grants)


async def test_a_caller_that_is_cancelled_leaves_the_login_to_the_next() -> None:
    platform = Platform()
    platform.gate.clear()
    tokens = Tokens(platform.log_in)
    first = asyncio.create_task(tokens.current())
    await asyncio.sleep(0)
    first.cancel()
    platform.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (await tokens.current()).token.get_secret_value() == "token-2"


async def test_a_failed_login_is_not_remembered() -> None:
    answers: list[TokenAnswer | ServerFailed] = [
        ServerFailed("down"),
        TokenAnswer(access_token=SecretStr("late"), expires_in=60),
    ]

    async def log_in() -> TokenAnswer:
        answer = answers.pop(0)
        if isinstance(answer, ServerFailed):
            raise answer
        return answer

    tokens = Tokens(log_in)
    with pytest.raises(ServerFailed):
        await tokens.current()
    assert (await tokens.current()).token.get_secret_value() == "late"


async def test_granted_scopes_come_from_the_answer() -> None:
    grant = await Tokens(Platform().log_in).current()
    assert grant.scopes == {"admin:api", "telephony:trunk:edit"}


async def test_a_token_is_in_no_repr() -> None:
    grant = await Tokens(Platform().log_in).current()
    assert "token-1" not in repr(grant)
    assert "token-1" not in repr(TokenAnswer(access_token=SecretStr("token-1"), expires_in=1))


@pytest.mark.parametrize(("good_token", "expected_logins"), [("token-1", 1), ("token-2", 2)])
async def test_a_refused_token_is_replaced_once_and_the_request_repeated(good_token: str, expected_logins: int) -> None:
    platform, bodies = Platform(), []

    def api(request: httpx.Request) -> httpx.Response:
        bodies.append(request.content)
        good = request.headers["Authorization"] == f"Bearer {good_token}"
        return httpx.Response(200 if good else 401, json={})

    authorized = AuthorizedHttp(http(api), Tokens(platform.log_in))
    response = await authorized.send("PUT", "https://api.example.com/x", json={"a": 1})
    assert response.status_code == 200
    assert platform.logins == expected_logins
    assert bodies == [b'{"a":1}'] * expected_logins


async def test_a_new_token_that_is_refused_too_ends_in_credentials_refused() -> None:
    platform, sent = Platform(), []

    def api(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(401, json={"code": "authentication.required", "message": "token unknown"})

    with pytest.raises(CredentialsRefused, match=r"401 authentication.required: token unknown") as raised:
        await AuthorizedHttp(http(api), Tokens(platform.log_in)).send("GET", "https://api.example.com/x")
    assert (len(sent), platform.logins) == (2, 2)
    assert "token-" not in str(raised.value)


async def test_client_credentials_are_sent_as_the_contract_says() -> None:
    sent = []

    def login(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json={"access_token": "t", "expires_in": 86400, "token_type": "bearer"})

    answer = await client_credentials(http(login), "https://login.example.com/oauth/token", "id", SecretStr("pw"))
    assert answer.access_token.get_secret_value() == "t"
    assert sent[0].headers["Authorization"] == "Basic aWQ6cHc="
    assert sent[0].headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert sent[0].content == b"grant_type=client_credentials"


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"error": "invalid_client", "description": "client not found"}, CredentialsRefused),
        (401, {"error": "invalid_client", "description": "wrong secret"}, CredentialsRefused),
        (400, {"error": "unsupported_grant_type"}, RequestRefused),
        (200, {"access_token": "", "expires_in": 1}, UnexpectedAnswer),
        (200, {"access_token": "t0ps3cret", "expires_in": "soon"}, UnexpectedAnswer),
        (200, {"access_token": "t0ps3cret", "expires_in": 0}, UnexpectedAnswer),
    ],
)
async def test_a_login_that_fails_says_why_without_a_secret(
    status: int, body: dict[str, object], expected: type[Exception]
) -> None:
    client = http(lambda request: httpx.Response(status, json=body))
    with pytest.raises(expected) as raised:
        await client_credentials(client, "https://login.example.com/oauth/token", "id", SecretStr("hunter2"))
    assert "hunter2" not in str(raised.value)
    assert "t0ps3cret" not in str(raised.value)
    assert "login.example.com" in str(raised.value)


async def test_an_access_key_is_sent_as_the_contract_says_and_refused_as_credentials() -> None:
    sent = []

    def login(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(401, json={"error": "invalid_access_key", "error_description": "unknown"})

    with pytest.raises(CredentialsRefused, match="invalid_access_key: unknown") as raised:
        await access_key(http(login), "https://auth.example.com/token", "key-1", SecretStr("hunter2"))
    assert sent[0].content == b'{"accessKeyId":"key-1","accessKeySecret":"hunter2"}'
    assert "hunter2" not in str(raised.value)
