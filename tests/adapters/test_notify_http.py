"""Slack and PagerDuty, sent to a real HTTP server; the shapes are those of their documentation."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from adapters.notify.base import Severity
from adapters.notify.pagerduty import PagerDutyNotifier
from adapters.notify.slack import SlackNotifier
from domain.errors import RequestRefused, Throttled
from settings import PagerDutyProfile, SlackProfile
from tests.adapters.http_receiver import Receiver, receiving
from tests.adapters.notices import LINK, NOTICE

ROUTING_KEY = "0123456789abcdef0123456789abcdef"
SLACK_PATH = "/services/T0/B0/s3cr3t"


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file for a secret."""
    return tmp_path / "secret"


def slack(receiver: Receiver, secret: Path) -> SlackNotifier:
    secret.write_text(SLACK_PATH)
    profile = {"kind": "slack", "base_url": receiver.url, "path": {"file": str(secret)}, "lab": True}
    return SlackNotifier("room", SlackProfile.model_validate(profile))


def pagerduty(receiver: Receiver, secret: Path) -> PagerDutyNotifier:
    secret.write_text(ROUTING_KEY)
    profile = {"kind": "pagerduty", "base_url": receiver.url, "routing_key": {"file": str(secret)}, "lab": True}
    return PagerDutyNotifier("duty", PagerDutyProfile.model_validate(profile))


async def test_slack_gets_a_line_and_an_attachment_without_markup(secret: Path) -> None:
    async with receiving() as receiver:
        room = slack(receiver, secret)
        await room.send(NOTICE.model_copy(update={"summary": "<!channel> a & b"}), LINK)
        await room.close()
    [(path, body)] = receiver.got
    assert path == SLACK_PATH
    assert body == {
        "text": "CRITICAL: &lt;!channel&gt; a &amp; b",
        "attachments": [
            {
                "color": "#c62828",
                "title": "breach – rotation-eu",
                "title_link": LINK,
                "text": "What to do: nothing: the rotation turns back",
                "fields": [
                    {"title": "Trunks", "value": "eu-1.example.com, us-1.example.com", "short": True},
                    {"title": "Rotation", "value": "rotation-eu", "short": True},
                    {"title": "Phase", "value": "SOAK", "short": True},
                    {"title": "unknown_ca", "value": "44", "short": True},
                    {"title": "attempts", "value": "500", "short": True},
                ],
                "ts": 1795459200,
            }
        ],
    }


async def test_slack_without_a_link_has_none_and_a_refusal_does_not_show_the_path(secret: Path) -> None:
    async with receiving() as receiver:
        room = slack(receiver, secret)
        await room.send(NOTICE)
        assert "title_link" not in receiver.got[0][1]["attachments"][0]
        receiver.status, receiver.text = 404, "invalid_token"
        with pytest.raises(RequestRefused, match="invalid_token") as refused:
            await room.send(NOTICE)
        await room.close()
    assert "s3cr3t" not in str(refused.value)
    assert f"{receiver.url}/…" in str(refused.value)


async def test_an_alert_opens_an_incident_under_the_notices_id(secret: Path) -> None:
    async with receiving() as receiver:
        duty = pagerduty(receiver, secret)
        await duty.send(NOTICE, LINK)
        await duty.close()
    [(path, body)] = receiver.got
    assert path == "/v2/enqueue"
    assert body == {
        "routing_key": ROUTING_KEY,
        "event_action": "trigger",
        "dedup_key": "rotation-eu/breach/1",
        "client": "SIP TLS certificate rotator",
        "payload": {
            "summary": "eu-1: 91.20 % of handshakes succeeded – below 98 %",
            "source": "rotation-eu",
            "timestamp": "2026-11-23T18:40:00.000Z",
            "severity": "critical",
            "component": "eu-1.example.com, us-1.example.com",
            "group": "rotation-eu",
            "class": "breach",
            "custom_details": {
                "kind": "breach",
                "phase": "SOAK",
                "trunks": "eu-1.example.com, us-1.example.com",
                "unknown_ca": "44",
                "attempts": "500",
                "what to do": "nothing: the rotation turns back",
            },
        },
        "links": [{"href": LINK, "text": "the rotation in Temporal"}],
    }


async def test_what_is_only_good_to_know_wakes_nobody(secret: Path) -> None:
    async with receiving() as receiver:
        duty = pagerduty(receiver, secret)
        await duty.send(NOTICE.model_copy(update={"severity": Severity.INFO, "summary": "x" * 3000}))
        await duty.close()
    [(path, body)] = receiver.got
    assert path == "/v2/change/enqueue"
    assert set(body) == {"routing_key", "payload", "links"}
    assert body["links"] == []
    assert len(body["payload"]["summary"]) == 1024


async def test_pagerduty_that_is_asked_too_often_is_asked_later(secret: Path) -> None:
    async with receiving() as receiver:
        receiver.status, receiver.text = 429, "rate limit reached"
        duty = pagerduty(receiver, secret)
        with pytest.raises(Throttled) as throttled:
            await duty.send(NOTICE)
        await duty.close()
    assert throttled.value.retryable
    assert ROUTING_KEY not in str(throttled.value)


@pytest.mark.parametrize("model", [SlackProfile, PagerDutyProfile])
def test_both_are_reached_by_https(model: type[SlackProfile | PagerDutyProfile]) -> None:
    secret = {"path": {"env": "X"}} if model is SlackProfile else {"routing_key": {"env": "X"}}
    kind = {"kind": "slack" if model is SlackProfile else "pagerduty"}
    assert model.model_validate({**kind, **secret}).base_url.startswith("https://")
    with pytest.raises(ValidationError, match="https://"):
        model.model_validate({**kind, **secret, "base_url": "http://hooks.example.com"})
