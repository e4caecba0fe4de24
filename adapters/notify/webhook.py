"""Notices and alerts to a webhook as JSON; the notice's id is the idempotency key."""

from __future__ import annotations

import httpx

from adapters.http import Http
from adapters.notify.base import Notice
from adapters.wire_time import utc_text
from settings import WebhookProfile


class WebhookNotifier:
    """One webhook. Implements `adapters.notify.base.Notifier`; `base_url` is the whole URL."""

    def __init__(
        self, profile_name: str, profile: WebhookProfile, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.profile = profile_name
        self._settings = profile
        self._http = Http(f"[notify.{profile_name}]", profile, transport=transport)

    async def send(self, notice: Notice) -> None:
        """Delivers the notice; any 2xx is a delivery. The receiver drops a second notice of the same id."""
        headers = {"Idempotency-Key": notice.id}
        if self._settings.token is not None:
            token = self._settings.token.read(f"notify.{self.profile}.token")
            headers["Authorization"] = f"Bearer {token.get_secret_value()}"
        await self._http.send("POST", self._settings.base_url, json=body_of(notice), headers=headers)

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.close()


def body_of(notice: Notice) -> dict[str, object]:
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
        "sentAt": utc_text(notice.sent_at),
    }
