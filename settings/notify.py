"""Profiles of those who are told: webhooks."""

from __future__ import annotations

from typing import Literal

from settings.base import HttpProfile, SecretSource


class WebhookProfile(HttpProfile):
    """A webhook that takes notices and alerts as JSON; `base_url` is the whole URL."""

    kind: Literal["webhook"]
    token: SecretSource | None = None
