"""Notices and alerts to a webhook as JSON; the notice's id is the idempotency key.

Signed as the Standard Webhooks specification says, where the settings name a key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
from pydantic import SecretStr

from adapters.http import Http
from adapters.notify.base import Notice
from adapters.wire_time import utc_text
from domain.errors import SettingsInvalid
from settings import WebhookProfile

KEY_PREFIX = "whsec_"
"""Before a key in base64; any other text is a key as it is."""


class WebhookNotifier:
    """One webhook. Implements `adapters.notify.base.Notifier`; `base_url` is the whole URL."""

    def __init__(
        self,
        profile_name: str,
        profile: WebhookProfile,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.profile = profile_name
        self._settings = profile
        self._clock = clock
        self._http = Http(f"[notify.{profile_name}]", profile, transport=transport)

    async def send(self, notice: Notice, link: str | None = None) -> None:
        """Delivers the notice; any 2xx is a delivery. The receiver drops a second notice of the same id."""
        headers = {"Idempotency-Key": notice.id, "Content-Type": "application/json"}
        if self._settings.token is not None:
            token = self._settings.token.read(f"notify.{self.profile}.token")
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        body = json.dumps(body_of(notice, link), ensure_ascii=False).encode()
        if self._settings.signing_key is not None:
            field = f"notify.{self.profile}.signing_key"
            headers |= signature(notice.id, body, self._clock(), self._settings.signing_key.read(field), field)
        await self._http.send("POST", self._settings.base_url, content=body, headers=headers)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()


def body_of(notice: Notice, link: str | None) -> dict[str, object]:
    """The notice as the contract writes it (docs/platform-contract.md, "Notices and alerts")."""
    return {
        "id": notice.id,
        "severity": notice.severity.value,
        "kind": notice.kind,
        "rotation": notice.rotation,
        "phase": notice.phase,
        "trunks": list(notice.trunks),
        "summary": notice.summary,
        "details": dict(notice.details),
        "action": notice.action,
        "link": link or "",
        "sentAt": utc_text(notice.sent_at),
    }


def signature(message_id: str, body: bytes, now: datetime, key: SecretStr, field: str) -> dict[str, str]:
    """The three headers of a signed message. Raises `SettingsInvalid` for a key that is no base64."""
    timestamp = str(int(now.timestamp()))
    signed = b".".join([message_id.encode(), timestamp.encode(), body])
    digest = hmac.new(_key_bytes(key.get_secret_value(), field), signed, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }


def _key_bytes(text: str, field: str) -> bytes:
    if not text.startswith(KEY_PREFIX):
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except binascii.Error:
        pass
    raise SettingsInvalid(
        "the signing key is not base64", where=field, action=f"{KEY_PREFIX}<base64>, or any other text"
    )
