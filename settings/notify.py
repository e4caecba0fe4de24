"""Profiles of those who are told: webhooks, Slack and what understands it, PagerDuty, and people with e-mail."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from settings.base import HttpProfile, SecretSource, SettingsModel, Timeout

Mailbox = Annotated[str, Field(pattern=r"^[^\s<>@,;]+@[^\s<>@,;]+$")]
"""An address alone, without a name."""


class WebhookProfile(HttpProfile):
    """A webhook that takes notices and alerts as JSON; `base_url` is the whole URL."""

    kind: Literal["webhook"]
    token: SecretSource | None = None
    signing_key: SecretSource | None = Field(default=None, description="whsec_…, or any text; signs every message")


class SlackProfile(HttpProfile):
    """An incoming webhook of Slack, or of what understands its messages (Mattermost, Rocket.Chat)."""

    kind: Literal["slack"]
    base_url: str = "https://hooks.slack.com"
    path: SecretSource = Field(description="what comes after base_url; whoever knows it can post")


class PagerDutyProfile(HttpProfile):
    """A service of PagerDuty: Events API v2. Alerts become incidents, notices change events."""

    kind: Literal["pagerduty"]
    base_url: str = "https://events.pagerduty.com"
    routing_key: SecretSource = Field(description="the service's integration key, 32 characters")


class SmtpProfile(SettingsModel):
    """A mail server that takes messages for people."""

    kind: Literal["smtp"]
    host: str
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    password: SecretSource | None = None
    sender: Mailbox
    to: Annotated[tuple[Mailbox, ...], Field(min_length=1)]
    ca_file: Path | None = Field(default=None, description="CA bundle that signs the server's certificate")
    timeout: Timeout = timedelta(seconds=6)
    lab: bool = False

    @model_validator(mode="after")
    def _safe(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("user and password come together")
        if self.security == "none" and not (self.lab or _is_this_host(self.host)):
            raise ValueError('security = "none" is for a server on this host, or for profiles marked lab = true')
        return self


def _is_this_host(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


NotifyProfile = Annotated[WebhookProfile | SlackProfile | PagerDutyProfile | SmtpProfile, Field(discriminator="kind")]
