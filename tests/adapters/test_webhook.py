"""The webhook: one JSON notice, delivered with its idempotency key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from adapters.notify.webhook import WebhookNotifier
from domain.errors import CredentialsRefused, ServerFailed, SettingsInvalid, UnexpectedAnswer, Unreachable
from settings import WebhookProfile
from tests.adapters.notices import LINK, NOTICE

AT = datetime(2026, 11, 23, 18, 41, 7, 250_000, tzinfo=UTC)


def notifier(answer: Callable[[httpx.Request], httpx.Response], **changes: Any) -> WebhookNotifier:
    """The adapter in front of one answer."""
    profile = WebhookProfile.model_validate(
        {"kind": "webhook", "base_url": "https://ops.example.com/hooks/sip?team=a", **changes}
    )
    return WebhookNotifier("ops", profile, transport=httpx.MockTransport(answer), clock=lambda: AT)


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_a_notice_is_posted_as_the_contract_says_and_any_2xx_is_a_delivery(status: int) -> None:
    sent: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(status)

    await notifier(take).send(NOTICE, LINK)
    (request,) = sent
    assert (request.method, str(request.url)) == ("POST", "https://ops.example.com/hooks/sip?team=a")
    assert request.headers["Idempotency-Key"] == "rotation-eu/breach/1"
    assert request.headers["Content-Type"] == "application/json"
    assert "Authorization" not in request.headers
    assert json.loads(request.content) == {
        "id": "rotation-eu/breach/1",
        "severity": "critical",
        "kind": "breach",
        "rotation": "rotation-eu",
        "phase": "SOAK",
        "trunks": ["eu-1.example.com", "us-1.example.com"],
        "summary": "eu-1: 91.20 % of handshakes succeeded – below 98 %",
        "details": {"unknown_ca": "44", "attempts": "500"},
        "action": "nothing: the rotation turns back",
        "link": LINK,
        "sentAt": "2026-11-23T18:40:00.000Z",
    }


async def test_a_token_is_sent_where_the_settings_name_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_HOOK_TOKEN", "h00k")
    sent: list[str] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["Authorization"])
        return httpx.Response(401, json={"error": "unknown token"})

    with pytest.raises(CredentialsRefused) as raised:
        await notifier(refuse, token={"env": "TEST_HOOK_TOKEN"}).send(NOTICE)
    assert sent == ["Bearer h00k"]
    assert "h00k" not in str(raised.value)


@pytest.mark.parametrize(("status", "expected"), [(500, ServerFailed), (302, UnexpectedAnswer)])
async def test_what_is_no_2xx_is_no_delivery(status: int, expected: type[Exception]) -> None:
    with pytest.raises(expected, match=r"\[notify.ops\] POST https://ops\.example\.com/hooks/sip"):
        await notifier(lambda request: httpx.Response(status)).send(NOTICE)


async def test_a_repetition_carries_the_same_key() -> None:
    keys: list[str] = []

    def lose_the_first(request: httpx.Request) -> httpx.Response:
        keys.append(request.headers["Idempotency-Key"])
        if len(keys) == 1:
            raise httpx.ReadTimeout("lost", request=request)
        return httpx.Response(200)

    hook = notifier(lose_the_first)
    with pytest.raises(Unreachable):
        await hook.send(NOTICE)
    await hook.send(NOTICE)
    await hook.close()
    assert keys == ["rotation-eu/breach/1"] * 2


@pytest.mark.parametrize("key", ["whsec_" + base64.b64encode(b"0123456789abcdef01234567").decode(), "any text"])
async def test_a_signed_message_proves_its_id_its_time_and_its_bytes(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the Standard Webhooks specification has the receiver compute it."""
    monkeypatch.setenv("TEST_HOOK_KEY", key)
    sent: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(202)

    await notifier(take, signing_key={"env": "TEST_HOOK_KEY"}).send(NOTICE)
    (request,) = sent
    assert request.headers["webhook-id"] == request.headers["Idempotency-Key"] == NOTICE.id
    assert request.headers["webhook-timestamp"] == "1795459267"
    secret = b"0123456789abcdef01234567" if key.startswith("whsec_") else b"any text"
    signed = f"{NOTICE.id}.1795459267.".encode() + request.content
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    assert request.headers["webhook-signature"] == f"v1,{expected}"


async def test_a_key_that_is_not_base64_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_HOOK_KEY", "whsec_n0t-base64!")
    with pytest.raises(SettingsInvalid, match=r"notify\.ops\.signing_key") as raised:
        await notifier(lambda request: httpx.Response(200), signing_key={"env": "TEST_HOOK_KEY"}).send(NOTICE)
    assert "n0t" not in str(raised.value)
