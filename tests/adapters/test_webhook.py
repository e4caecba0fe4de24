"""The webhook: one JSON notice, delivered with its idempotency key."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from adapters.notify.base import Notice, Severity
from adapters.notify.webhook import WebhookNotifier
from domain.errors import CredentialsRefused, ServerFailed, UnexpectedAnswer, Unreachable
from settings import WebhookProfile

NOTICE = Notice(
    id="rotation-eu/breach/1",
    severity=Severity.CRITICAL,
    kind="breach",
    rotation="rotation-eu",
    phase="SOAK",
    trunks=("eu-1", "us-1"),
    summary="eu-1: 91.20 % of handshakes succeeded – below 98 %",
    details={"unknown_ca": "44"},
    action="nothing: the rotation turns back",
    sent_at=datetime(2026, 11, 23, 18, 40, tzinfo=UTC),
)


def notifier(answer: Callable[[httpx.Request], httpx.Response], **changes: Any) -> WebhookNotifier:
    """The adapter in front of one answer."""
    profile = WebhookProfile.model_validate(
        {"kind": "webhook", "base_url": "https://ops.example.com/hooks/sip?team=a", **changes}
    )
    return WebhookNotifier("ops", profile, transport=httpx.MockTransport(answer))


@pytest.mark.parametrize("status", [200, 202, 204])
async def test_a_notice_is_posted_as_the_contract_says_and_any_2xx_is_a_delivery(status: int) -> None:
    sent: list[httpx.Request] = []

    def take(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(status)

    await notifier(take).send(NOTICE)
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
        "trunks": ["eu-1", "us-1"],
        "summary": "eu-1: 91.20 % of handshakes succeeded – below 98 %",
        "details": {"unknown_ca": "44"},
        "action": "nothing: the rotation turns back",
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
